"""`manage.py rotate_keys`: what the admin's stepper does, at a terminal. Everybody who acts is named."""

from getpass import getpass
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from brokers.models import Login
from cerbero import access
from cerbero.access import Actor
from cerbero.errors import BadInput, CerberoError
from cerbero.models import User
from keyrotation import services, swapping
from keyrotation.lifecycle import Kind
from keyrotation.models import Rotation
from keyrotation.next_step import next_step
from keyrotation.services import Prime


class Command(BaseCommand):
    """start, status, register, abort, retry, roll-back. Confirming is a decision: that takes a signed-in person.

    `register` asks for the secret without showing it; nothing secret stands on the command line. The person named
    by --as must be an active Administrator; the trail names them, and the door.
    """

    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("step", choices=("start", "status", "register", "abort", "retry", "roll-back"))
        parser.add_argument("login")
        parser.add_argument(
            "--as", dest="username", metavar="NAME", help="who acts; needed for all but status"
        )
        parser.add_argument("--kind", choices=Kind.values, default=Kind.TOKEN)
        parser.add_argument("--prime", choices=[each.value for each in Prime], default=Prime.CURRENT.value)
        parser.add_argument("--reason", default="")
        parser.add_argument(
            "--public-to", type=Path, metavar="FOLDER", help="with start or status: write the public halves"
        )
        parser.add_argument("--consumer-key", default="")
        parser.add_argument("--access-token", default="")

    def handle(self, *, step: str, login: str, **options: Any) -> None:
        found = Login.objects.filter(name=login).first()
        if found is None:
            raise CommandError(f"There is no login {login}.")
        try:
            rotation = self._take(step, found, options)
        except BadInput as wrong:
            problems = [f"  {each['field']}: {each['problem']}" for each in wrong.details.get("fields", [])]
            raise CommandError("\n".join([wrong.message, *problems])) from None
        except CerberoError as refusal:
            raise CommandError(f"{refusal.message} ({refusal.code})") from None
        if options["public_to"] and step in {"start", "status"}:
            self._write_public(rotation, options["public_to"])
        self._tell(rotation)

    def _take(self, step: str, login: Login, options: dict[str, Any]) -> Rotation:
        if step == "status":
            return _newest(login)
        actor = _actor(options["username"])
        if step == "start":
            started = services.start_rotation(
                actor=actor,
                login_id=login.pk,
                reason=options["reason"],
                kind=Kind(options["kind"]),
                prime=Prime(options["prime"]),
            )
            return started.rotation
        rotation = _newest(login)
        if step == "register":
            secret = getpass("Access token secret: ")
            entered = {name: options[name] for name in ("consumer_key", "access_token")}
            return services.register_rotation(
                actor=actor, rotation_id=rotation.pk, access_token_secret=secret, **entered
            )
        self._end(step, actor, rotation.pk, options["reason"])
        return _newest(login)

    def _end(self, step: str, actor: Actor, rotation_id: UUID, reason: str) -> None:
        if step == "retry":
            services.retry_rotation(actor=actor, rotation_id=rotation_id)
        elif step == "abort":
            services.abort_rotation(actor=actor, rotation_id=rotation_id, reason=reason)
        else:
            swapping.roll_back_rotation(actor=actor, rotation_id=rotation_id, reason=reason)

    def _write_public(self, rotation: Rotation, folder: Path) -> None:
        halves = services.public_halves(rotation)
        if not halves:
            self.stdout.write("There is nothing to upload: a token alone, or the keys are not made yet.")
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for which, pem in halves.items():
                (folder / services.PUBLIC_FILES[which]).write_text(pem)
        except OSError as problem:
            raise CommandError(
                f"The public halves cannot be written to {folder} ({problem.strerror}); the rotation goes on: name another "
                "folder with status."
            ) from None
        self.stdout.write(f"The public halves are in {folder}; upload them at the broker's portal.")

    def _tell(self, rotation: Rotation) -> None:
        rotation = Rotation.objects.select_related("login", "request").get(pk=rotation.pk)
        coming = next_step(rotation)
        self.stdout.write(
            f"{rotation.login}: {rotation.get_status_display()} ({rotation.get_kind_display()})"
        )
        if rotation.problem:
            self.stdout.write(f"Said last: {rotation.problem}")
        self.stdout.write(f"Next, {coming.who}: {coming.what}")
        if coming.at and not rotation.ended_at:
            self.stdout.write(f"Tried next at {coming.at:%Y-%m-%d %H:%M:%S} UTC.")


def _newest(login: Login) -> Rotation:
    found = Rotation.objects.filter(login=login).order_by("-created_at").first()
    if found is None:
        raise CommandError(f"{login} was never rotated; begin with start.")
    return found


def _actor(username: str | None) -> Actor:
    person = User.objects.filter(username=username, is_active=True).first()
    if person is None:
        raise CommandError("Say with --as who acts: an active Administrator.")
    return access.person(person, door="command")
