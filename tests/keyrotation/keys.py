"""A login with a set of keys in use, carol who may rotate them, and others who may not."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from brokers.credentials import store_credential
from brokers.generation import KeyPair, new_pair
from brokers.models import Credential, Login
from cerbero import access
from cerbero.access import Actor
from keyrotation.models import Rotation
from tests.brokers.logins import SYSTEM, somebody

# Any odd number of enough bits will do where nothing is minted.
PRIME = f"{2**512 + 75:x}"


@dataclass
class Desk:
    """One login with an active set, and who may do what about it."""

    login: Login
    active: Credential
    carol: Actor
    bob: Actor

    def bot(self, *scopes: str, environment: str = "paper") -> Actor:
        return Actor(
            kind="bot",
            id=self.login.pk,
            name="ops",
            scopes=frozenset(scopes),
            environment=environment,
            tag="t",
        )

    def start(self, actor: Actor | None = None, **changes: Any) -> Any:
        from keyrotation import services

        fields: dict[str, Any] = {"actor": actor or self.carol, "login_id": self.login.pk, "reason": "yearly"}
        return services.start_rotation(**fields | changes)

    def abort(self, rotation: Rotation, actor: Actor | None = None, reason: str = "wrong day") -> Rotation:
        from keyrotation import services

        return services.abort_rotation(actor=actor or self.carol, rotation_id=rotation.pk, reason=reason)


def build() -> Desk:
    login = Login.objects.create(name="desk", environment="paper")
    active = store_credential(
        actor=SYSTEM,
        login=login,
        consumer_key="OLDKEYSET",
        access_token="old-token",
        access_token_secret="b2xkLXNlY3JldA==",
        dh_prime=PRIME,
        signature_key_pem=old_pairs()[0].private_pem,
        encryption_key_pem=old_pairs()[1].private_pem,
    )
    people = [somebody(name, group) for name, group in (("carol", "Administrator"), ("bob", "Approver"))]
    return Desk(login, active, *map(access.person, people))


@cache
def old_pairs() -> tuple[KeyPair, KeyPair]:
    return new_pair(), new_pair()
