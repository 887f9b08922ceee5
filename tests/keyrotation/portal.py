"""A login whose session is up at a simulator, the portal where new keys are registered, and the people who rotate."""

from dataclasses import dataclass
from typing import Any

from brokers.credentials import load_credentials, open_credential
from brokers.generation import public_half
from brokers.models import Credential, Login
from cerbero import access
from cerbero.access import Actor
from cerbero.models import DecisionRequest
from keyrotation import services
from keyrotation.lifecycle import Kind
from keyrotation.models import Rotation
from keyrotation.sweep import sweep
from tests.brokers.logins import brought_up, fresh, somebody
from tests.simulator_process import SimulatorProcess

SWEEPER = access.system("rotation")
NEW_KEY = "NEWKEYSET"


@dataclass
class Portal:
    """One login in use, carol and dora who may rotate its keys, and what the broker is told and shows."""

    sim: SimulatorProcess
    login: Login
    carol: Actor
    dora: Actor

    def start(self, kind: Kind = Kind.KEYS, **changes: Any) -> Rotation:
        fields = {"actor": self.carol, "login_id": self.login.pk, "reason": "yearly", "kind": kind}
        return services.start_rotation(**fields | changes).rotation

    def upload(self, rotation: Rotation, **more: Any) -> dict[str, str]:
        """What a person does at the broker's portal; returns what it shows."""
        rotation.refresh_from_db()
        if rotation.kind == Kind.TOKEN:
            issued = {"renews": load_credentials(self.login).access_token}
            shown = {"consumer_key": load_credentials(self.login).consumer_key}
        else:
            keys = open_credential(Credential.objects.select_related("login").get(rotation=rotation))
            issued = {
                "consumer_key": NEW_KEY,
                "signature_public_key": public_half(keys.signature_key_pem).pem,
                "encryption_public_key": public_half(keys.encryption_key_pem).pem,
                "dh_prime": f"{keys.dh_prime:x}",
            }
            shown = {"consumer_key": NEW_KEY}
        return shown | self.sim.control("POST", "/_sim/keys", issued | more)

    def register(self, rotation: Rotation, **more: Any) -> Rotation:
        """Upload at the broker, and enter what it shows."""
        shown = self.upload(rotation, **more)
        return services.register_rotation(actor=self.carol, rotation_id=rotation.pk, **shown)

    def registered(self, kind: Kind = Kind.KEYS, **more: Any) -> Rotation:
        return self.register(self.start(kind), **more)

    def proven(self, kind: Kind = Kind.KEYS, **more: Any) -> Rotation:
        rotation = self.registered(kind, **more)
        self.sweep()
        assert self.now(rotation).status == "proven", self.now(rotation).problem
        return self.now(rotation)

    def say(self, rotation: Rotation, actor: Actor | None = None, **changes: Any) -> DecisionRequest:
        request = self.now(rotation).request
        assert request is not None
        fields = {"actor": actor or self.dora, "request_id": request.pk, "digest": request.digest}
        return services.decide_rotation(**fields | {"is_yes": True} | changes)

    def swapped(self, kind: Kind = Kind.KEYS, **more: Any) -> Rotation:
        rotation = self.proven(kind, **more)
        self.say(rotation)
        self.sweep()
        return self.now(rotation)

    def revoke(self, credential: Credential) -> None:
        """The broker ends a set, and the sessions that it opened."""
        self.sim.control("DELETE", f"/_sim/keys/{credential.access_token}")

    def sweep(self) -> None:
        """What beat asks for, without waiting for whatever was postponed."""
        Rotation.objects.update(next_try_at=self.login.state_changed_at)
        sweep(SWEEPER)

    def now(self, rotation: Rotation) -> Rotation:
        return Rotation.objects.select_related("credential", "previous", "request", "login").get(
            pk=rotation.pk
        )

    def in_use(self) -> Credential:
        return Credential.objects.get(login=self.login, status="active")

    @property
    def state(self) -> str:
        return fresh(self.login).state


def open_portal(sim: SimulatorProcess) -> Portal:
    carol, dora = (access.person(somebody(name, "Administrator")) for name in ("carol", "dora"))
    return Portal(sim, brought_up(sim), carol, dora)
