"""The restore drill: a database behind its anchor starts halted, shows what it lost, and is resumed by two."""

import re
from decimal import Decimal

import pytest
from django.db import connection, connections

from audit import sealing
from audit.anchors import Anchor
from cerbero import access
from cerbero.embedded import SEALER
from cerbero.errors import StateConflict
from orders import adopting, restoring, resuming, trading
from orders.models import Drift, Order, TradingState
from tests.audit.trail import acting_as
from tests.orders.world import until
from tests.rig import django_uses

SYSTEM = access.system("restore")


def anchor_now(database, anchor):
    signer = sealing.Signer.from_hex("07" * 32)
    with acting_as(database, SEALER):
        while sealing.seal_batch():
            pass
        sealing.sign_head(signer)
        anchor.append(*sealing.newest_checkpoint())


def send_one(floor):
    ticket = floor.approved(limit_price=(floor.near() * Decimal("0.98")).quantize(Decimal("0.01")))
    until(lambda: floor.turn() or floor.order(ticket).broker_order_id)
    return floor.order(ticket)


@pytest.fixture
def anchor(tmp_path):
    file = Anchor(tmp_path / "anchors" / "checkpoints.log")
    file.prepare(sealing.Signer.from_hex("07" * 32).verifier_key)
    return file


def test_a_database_that_is_whole_is_not_halted(floor, fresh_database, anchor):
    assert restoring.hold_if_behind(SYSTEM, anchor.path) is None, "there is no anchor yet"
    send_one(floor)
    anchor_now(fresh_database, anchor)
    assert restoring.hold_if_behind(SYSTEM, anchor.path) is None
    assert not TradingState.objects.exclude(state="active").exists()


def test_a_restored_database_starts_halted_and_is_resumed_by_two_people(floor, fresh_database, anchor):
    kept = send_one(floor)
    anchor_now(fresh_database, anchor)
    connections.close_all()
    connection.close_pool()
    backup = fresh_database.servers.create_database(fresh_database.name)
    lost = send_one(floor)
    anchor_now(fresh_database, anchor)

    with django_uses(backup):
        floor.__dict__.pop("_holds", None)
        assert not Order.objects.filter(pk=lost.pk).exists()
        found = restoring.hold_if_behind(SYSTEM, anchor.path)
        assert found is not None
        state = TradingState.objects.get(scope="1-everything")
        assert (state.state, state.needs_two) == ("halted", True)
        assert re.fullmatch(r"restored: .* head \d+", state.reason)
        assert restoring.hold_if_behind(SYSTEM, anchor.path) is None, "the same loss halts once"

        case = until(lambda: floor.reconcile() or floor.turn() or Drift.objects.first())
        assert (case.kind, case.cause) == ("unknown_order", "lost_record")
        assert case.evidence["record"]["broker_order_id"] == lost.broker_order_id
        adopting.settle_drift(
            actor=floor.person("bob"), drift_id=case.pk, wanted="adopted", reason="the loss"
        )
        assert list(Order.objects.values_list("pk", flat=True)) == [kept.pk], "nothing is made up"

        dora, egon = floor.administrator("dora"), floor.administrator("egon")
        with pytest.raises(StateConflict):
            trading.resume_trading(actor=dora, reason="all is looked at")
        request = resuming.request_resume(actor=dora, scope="1-everything", reason="all is looked at")
        resuming.decide_resume(actor=egon, request_id=request.pk, digest=request.digest, is_yes=True)
        state.refresh_from_db()
        assert (state.state, state.needs_two) == ("active", False)
        assert len(floor.at_broker()) == 2, "nothing was sent again"
    fresh_database.servers.drop_database(backup.name)
