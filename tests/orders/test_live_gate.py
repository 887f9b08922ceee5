"""A live account is live by five things at once; with any one missing, no order for it is taken or sent."""

from dataclasses import replace
from typing import Any

import pytest

from brokers import services as brokers
from brokers.models import Account, LiveClearance, Login
from cerbero import access
from cerbero.errors import LiveTradingDenied
from cerbero.models import Bot
from orders import services
from orders.tickets import require_live
from tests.brokers.logins import somebody


@pytest.fixture
def live_desk(desk: Any, settings: Any) -> Any:
    """The desk on an account that is cleared for live in every way."""
    settings.LIVE_TRADING, settings.EMBEDDED_SERVERS = "enabled", False
    Login.objects.update(environment="live", is_paper=False)
    Account.objects.update(environment="live")
    Bot.objects.update(environment="live")
    carol, erin = (access.person(somebody(name, "Administrator")) for name in ("grace", "erin"))
    brokers.enable_live(actor=carol, account=desk.account, checklist=LiveClearance.CHECKLIST)
    brokers.confirm_live(actor=erin, account=desk.account)
    desk.bot.refresh_from_db()
    return desk


def propose(desk: Any) -> Any:
    live = replace(desk.scanner, environment="live")
    return services.place_order(actor=live, proposal=desk.proposal())


MISSING = {
    "the broker calls the login paper": lambda settings: Login.objects.update(is_paper=True),
    "the broker does not say": lambda settings: Login.objects.update(is_paper=None),
    "the login was not entered as live": lambda settings: Login.objects.update(environment="paper"),
    "the environment does not say so": lambda settings: setattr(settings, "LIVE_TRADING", "disabled"),
    "the servers are embedded": lambda settings: setattr(settings, "EMBEDDED_SERVERS", True),
    "no Administrator cleared it": lambda settings: LiveClearance.objects.all().delete(),
    "nobody confirmed it": lambda settings: LiveClearance.objects.update(confirmed_by=None),
} | {
    f"the checklist lacks {item}": lambda settings, item=item: LiveClearance.objects.update(
        confirmed_by=None, **{item: False}
    )
    for item in LiveClearance.CHECKLIST
}


def test_with_all_of_them_a_proposal_waits_for_people(live_desk: Any) -> None:
    assert propose(live_desk).status == "proposed"


@pytest.mark.parametrize("missing", sorted(MISSING))
def test_with_one_missing_nothing_is_taken_and_nothing_would_be_sent(
    live_desk: Any, settings: Any, missing: str
) -> None:
    MISSING[missing](settings)
    with pytest.raises(LiveTradingDenied) as denied:
        propose(live_desk)
    assert denied.value.details["missing"]
    with pytest.raises(LiveTradingDenied):
        require_live(Account.objects.get(pk=live_desk.account.pk))
