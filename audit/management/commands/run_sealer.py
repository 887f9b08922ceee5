"""The sealer: chains committed entries, signs the head at most once a second, and anchors it."""

import logging
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import InterfaceError, OperationalError, connection

from audit import sealing
from audit.anchors import Anchor, KeyMismatch
from cerbero.checks import refuse_half_set_flags
from cerbero.errors import CannotStart
from cerbero.stopping import StopSignal

log = logging.getLogger("audit.sealer")
POLL_SECONDS, POLL_SECONDS_MAX = 0.5, 2.0
SIGN_EVERY_SECONDS = 1.0
RETRY_SECONDS, RETRY_SECONDS_MAX = 0.5, 10.0


class Command(BaseCommand):
    help = "Seal the audit trail: chain entries in the order of their commits, sign and anchor the head."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="seal what is committed, sign, anchor, end")
        parser.add_argument("--anchor", type=Path, default=settings.ANCHOR_PATH, help="default: ANCHOR_PATH")

    def handle(self, *, once: bool, anchor: Path, **options: Any) -> None:
        signer, former = _signers()
        file = Anchor(anchor)
        try:
            refuse_half_set_flags()
            if file.prepare(signer.verifier_key, former.verifier_key if former else "") and former:
                _hand_over(former, signer, file)
        except (KeyMismatch, OSError) as error:
            raise CommandError(f"The anchor cannot be used: {error}") from None
        except CannotStart as refusal:
            raise CommandError(refusal.message) from None
        if once:
            while sealing.seal_batch():
                pass
            _sign_and_anchor(signer, file)
            return
        stop = StopSignal()
        log.info("sealing, anchored at %d in %s", file.position, file.path)
        _run(signer, file, stop)
        log.info("sealer ended")


def _signers() -> tuple[sealing.Signer, sealing.Signer | None]:
    """The key that signs, and the one that it replaces where that still stands behind it."""
    try:
        signer, *former = [sealing.Signer.from_hex(seed) for seed in settings.SEAL_KEY.split()[:2]]
    except ValueError:
        raise CommandError("SEAL_KEY must be 32 bytes in hex; only the sealer needs it.") from None
    return signer, former[0] if former else None


def _hand_over(former: sealing.Signer, signer: sealing.Signer, anchor: Anchor) -> None:
    """Anchor what the former key signed, and let it name the new one: verify_audit follows."""
    newest = sealing.newest_checkpoint()
    if newest and newest[0] >= anchor.position:
        anchor.append(*newest)
    position = max(newest[0] if newest else 0, anchor.position)
    anchor.hand_over(sealing.handover(former, signer, position))
    log.warning("the seal key was replaced at position %d", position)


def _run(signer: sealing.Signer, anchor: Anchor, stop: StopSignal) -> None:
    """Seal until told to stop; a database or a disk that is away is waited for, and said once a try."""
    pause, retry, signed_at = POLL_SECONDS, RETRY_SECONDS, 0.0
    while not stop.is_set():
        try:
            count = sealing.seal_batch()
            if time.monotonic() - signed_at >= SIGN_EVERY_SECONDS:
                _sign_and_anchor(signer, anchor)
                signed_at = time.monotonic()
        except (OperationalError, InterfaceError, OSError) as error:
            connection.close()
            log.warning("cannot seal, trying again in %.1f s: %s", retry, str(error).split("\n")[0])
            stop.wait(retry)
            retry = min(retry * 2, RETRY_SECONDS_MAX)
            continue
        retry = RETRY_SECONDS
        pause = POLL_SECONDS if count else min(pause * 1.5, POLL_SECONDS_MAX)
        if count < sealing.BATCH_SIZE:
            stop.wait(pause)
    connection.close()


def _sign_and_anchor(signer: sealing.Signer, anchor: Anchor) -> None:
    sealing.sign_head(signer)
    newest = sealing.newest_checkpoint()
    position = newest[0] if newest else 0
    if position < anchor.position:
        log.error(
            "the database's head %d is behind its anchor %d: restored or cut", position, anchor.position
        )
    if newest:
        anchor.append(*newest)
    sealing.mark_success()
