"""`manage.py rotate_encryption_key`: another key for everything that is stored encrypted, without a moment of darkness."""

import secrets
from base64 import urlsafe_b64encode

from django.conf import settings

from cerbero.encryption import KEY_BYTES
from keyrotation.key_command import KeyCommand
from keyrotation.renewing import BY_ENCRYPTION_KEY


class Command(KeyCommand):
    """First a new key goes before the old one in the key's file, and every ciphertext and seal is put under it.

    Processes that run read by either. After their restart, --finish puts the last ones under the new key and
    takes the old one out of the file. It can be ended at any moment and begun again. Keep a copy of the new key, and
    of the old one for as long as a backup needs it.
    """

    help = __doc__ or ""
    setting, event, columns = "ENCRYPTION_KEY", "encryption.rewrapped", BY_ENCRYPTION_KEY

    def new_key(self) -> str:
        return urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode()

    def keys(self) -> list[str]:
        return settings.ENCRYPTION_KEY.split()

    def use(self, keys: list[str]) -> None:
        settings.ENCRYPTION_KEY = "\n".join(keys)
