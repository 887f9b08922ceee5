"""`manage.py rotate_secret_key`: another key for sessions and for the proofs of decisions, limits, policy and mandates."""

import secrets

from django.conf import settings

from keyrotation.key_command import KeyCommand
from keyrotation.renewing import BY_SECRET_KEY

KEY_BYTES = 64


class Command(KeyCommand):
    """First a new key goes before the old one in the key's file, and every proof that holds is made anew under it.

    Processes that run take either. After their restart, --finish makes the last ones anew and takes the old key out of
    the file; after the next restart whoever signed in before the rotation signs in again. It can be ended at any moment
    and begun again.
    """

    help = __doc__ or ""
    setting, event, columns = "SECRET_KEY", "proofs.renewed", BY_SECRET_KEY

    def new_key(self) -> str:
        return secrets.token_urlsafe(KEY_BYTES)

    def keys(self) -> list[str]:
        return [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]

    def use(self, keys: list[str]) -> None:
        settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS = keys
