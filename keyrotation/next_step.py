"""What a rotation waits for, who must do it, and when it is tried again: for the stepper, the tools and the command."""

from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from brokers.primes import TYPICAL_TRIES
from cerbero.models import DecisionStatus, Environment
from keyrotation import proving
from keyrotation.lifecycle import Kind, Mode, RotationStatus
from keyrotation.models import Rotation
from keyrotation.swapping import HOLD_SECONDS

CERBERO, PERSON, SECOND, BROKER = "Cerbero", "a person", "a second person", "the broker"


@dataclass(frozen=True)
class NextStep:
    """One sentence of what comes next. `at` is when Cerbero tries again; None where it waits for people or is done.

    `share` is how much of a usual search for a prime is done, in per cent.
    """

    who: str
    what: str
    at: datetime | None = None
    share: int | None = None


@dataclass(frozen=True)
class Step:
    """One step of the way, for people: `state` is done, now or later."""

    name: str
    state: str


WAY = (
    (RotationStatus.GENERATED, "Keys made"),
    (RotationStatus.REGISTERED, "Registered at the broker"),
    (RotationStatus.PROVEN, "Proven, not in use"),
    (RotationStatus.ACTIVE, "In use"),
    (RotationStatus.RETIRED, "Old set destroyed"),
)


def next_step(rotation: Rotation) -> NextStep:
    """What comes next, for whom."""
    if rotation.stopped_at:
        otherwise = "put the old set back" if rotation.status == RotationStatus.ACTIVE else "abort"
        return NextStep(
            PERSON,
            "It has stopped and asks for you; the keys in use stay in use. "
            f"See why, then try again or {otherwise}.",
        )
    return _NEXT[RotationStatus(rotation.status)](rotation)


def steps(rotation: Rotation) -> list[Step]:
    """The way from asking to the old set's end, and how far it has come."""
    reached = {status: index for index, (status, _) in enumerate(WAY)}
    done = reached.get(RotationStatus(rotation.status), -1)
    if rotation.status == RotationStatus.ROLLED_BACK:
        done = reached[RotationStatus.PROVEN]
    if rotation.status == RotationStatus.ABORTED:
        done = reached[RotationStatus.REGISTERED] if rotation.registered_at else -1
    is_open = rotation.ended_at is None
    return [
        Step(name, "done" if index <= done else "now" if is_open and index == done + 1 else "later")
        for index, (_, name) in enumerate(WAY)
    ]


def _requested(rotation: Rotation) -> NextStep:
    share = min(99, 100 * rotation.primes_tried // (2 * TYPICAL_TRIES))
    words = (
        f"Searching for a Diffie-Hellman prime of your own: {rotation.primes_tried:,} candidates tried, "
        f"about {share} % of a usual search. It takes some minutes."
    )
    return NextStep(CERBERO, words, rotation.next_try_at, share)


def _generated(rotation: Rotation) -> NextStep:
    if rotation.kind == Kind.TOKEN:
        words = (
            "At the broker's portal generate a new access token, and enter token and secret here. "
            "It works within about a minute."
        )
    else:
        words = (
            "Download the public keys, upload them at the broker's portal, generate a token, and enter what it shows "
            "here. Do it at a weekend or with nothing open: the portal may end the old set on Save, and the new one "
            "may work only after the nightly reset. Until then this login would be dark: if you save now, until about "
            f"{proving.next_reset(timezone.now()):%Y-%m-%d %H:%M} UTC. You are paged when it takes longer than a day."
        )
    return NextStep(PERSON, words)


def _registered(rotation: Rotation) -> NextStep:
    reset = f"{proving.next_reset(rotation.next_try_at):%Y-%m-%d %H:%M} UTC"
    dark = (
        " The old set no longer works: this login is dark until the new one does."
        if rotation.dark_since
        else ""
    )
    return NextStep(
        BROKER if rotation.failures else CERBERO,
        f"The new set is tried until the broker takes it, usually after its nightly reset (next about {reset}).{dark}",
        rotation.next_try_at,
    )


def _proven(rotation: Rotation) -> NextStep:
    request = rotation.request
    if request is not None and request.status == DecisionStatus.APPROVED:
        words = (
            f"The swap: new orders wait for at most {HOLD_SECONDS:.0f} s, then the new set is proven in use."
        )
        return NextStep(CERBERO, words, rotation.next_try_at)
    is_live = rotation.login.environment == Environment.LIVE
    who = SECOND if is_live else PERSON
    mode = {
        Mode.OVERLAP: "Both sets work, so trading goes on and there is a way back.",
        Mode.TOKEN_ONLY: "Both tokens work, so trading goes on and there is a way back.",
        Mode.BLACKOUT: "The old set no longer works: the login is dark until this is confirmed, and there is no way back.",
    }[Mode(rotation.mode)]
    return NextStep(who, f"Confirm the swap. {mode}")


def _active(rotation: Rotation) -> NextStep:
    if rotation.settled_at is None:
        return NextStep(
            CERBERO, "The new set is in use and is being proven; if it fails, the old one comes back."
        )
    when = f"{rotation.retire_at:%Y-%m-%d %H:%M} UTC" if rotation.retire_at else "soon"
    words = f"The old set is kept for the way back, and destroyed at {when}. Then end it at the broker's portal too."
    return NextStep(CERBERO, words, rotation.retire_at)


def _ended(words: str) -> NextStep:
    return NextStep(PERSON, words)


_NEXT = {
    RotationStatus.REQUESTED: _requested,
    RotationStatus.GENERATED: _generated,
    RotationStatus.REGISTERED: _registered,
    RotationStatus.PROVEN: _proven,
    RotationStatus.ACTIVE: _active,
    RotationStatus.RETIRED: lambda _: _ended("Nothing. Seal a new break-glass bundle, if you keep one."),
    RotationStatus.ABORTED: lambda _: _ended(
        "Nothing here. Remove what was registered from the broker's portal."
    ),
    RotationStatus.ROLLED_BACK: lambda _: _ended(
        "The old set is in use again and the new one is destroyed. Remove that from the portal, and start anew."
    ),
}
