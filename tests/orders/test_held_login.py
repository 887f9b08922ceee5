"""A login whose new orders are held while its keys are swapped: what waits is left alone, and leaves afterwards."""

from decimal import Decimal

from brokers.holding import hold_sending, release_sending
from cerbero import access
from orders import submission
from orders.models import Attempt

ME = access.system("orders")


def test_whoever_waits_behind_an_order_when_the_login_is_held_is_sent_after_the_release(floor, monkeypatch):
    price = (floor.near() * Decimal("0.98")).quantize(Decimal("0.01"))
    first, second = (floor.approved(limit_price=price) for _ in range(2))
    submit = submission.submit

    def and_hold(**about) -> None:
        submit(**about)
        hold_sending(floor.login, actor=ME, seconds=30, because="its keys are being swapped")

    monkeypatch.setattr(submission, "submit", and_hold)
    floor.turn()
    monkeypatch.undo()
    assert [each.ticket_id for each in Attempt.objects.all()] == [first.pk]

    floor.turn()
    second.refresh_from_db()
    assert (second.status, second.held_for) == ("allowed", "login_held")
    release_sending(floor.login, actor=ME)
    floor.turn()
    assert len(floor.at_broker()) == 2
