"""The exchanges' calendars as they were last read: for bots that ask, and for people who decide."""

import logging
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.db.models import Exists, OuterRef

from brokers.answers import Known, Memory
from brokers.base import Broker
from brokers.models import BrokerAnswer, BrokerInstrument, Instrument, Login, SessionState
from brokers.schedules import Phase, Schedule
from brokers.services import broker_for
from cerbero.errors import BrokerError
from cerbero.leases import ClockTime

log = logging.getLogger(__name__)

SCHEDULES = Memory("schedule", Schedule, seconds=6 * 3600, stands_seconds=7 * 86_400)
# So long before its auction an exchange takes no more orders for it: the earliest of New York's rules.
BEFORE_OPENING, BEFORE_CLOSING = timedelta(minutes=2), timedelta(minutes=10)
# A round of the session's task reads so many; each costs a request of the login's budget.
EACH_TIME_MAX = 3


def schedule_of(login: Login, broker: Broker, broker_instrument_id: str) -> Known[Schedule]:
    """The calendar of an instrument's exchange. Raises a BrokerError."""
    return SCHEDULES.ask(login, broker_instrument_id, lambda: broker.reads.schedule(broker_instrument_id))


def keep_calendars(login: Login) -> None:
    """Read anew up to EACH_TIME_MAX calendars of instruments that may be ordered; what fails waits for the next round."""
    if not Login.objects.filter(pk=login.pk, is_enabled=True, state=SessionState.UP).exists():
        return
    young = ClockTime() - timedelta(seconds=SCHEDULES.seconds)
    fresh = BrokerAnswer.objects.filter(
        login=login, name=SCHEDULES.name, key=OuterRef("broker_instrument_id"), read_at__gt=young
    )
    known = BrokerInstrument.objects.filter(~Exists(fresh), broker=login.broker, instrument__is_allowed=True)
    wanted = list(known.order_by("pk").values_list("broker_instrument_id", flat=True)[:EACH_TIME_MAX])
    if not wanted:
        return
    with broker_for(login) as broker:
        for each in wanted:
            try:
                schedule_of(login, broker, each)
            except BrokerError as error:
                log.warning("login %s: no calendar of %s: %s", login.name, each, error.message)


def why_closed(login: Login, instrument: Instrument, at: datetime) -> str:
    """That the exchange is closed at that time, as words; empty while it is open, or nothing is known of it."""
    calendar = _known(login, instrument)
    if calendar is None or calendar.phase(at) is not Phase.CLOSED:
        return ""
    opens_at = calendar.opens_after(at)
    if opens_at is None:
        return "The market is closed."
    local = opens_at.astimezone(ZoneInfo(calendar.zone))
    return f"The market is closed; it opens on {local:%a %d %b at %H:%M} {calendar.zone} time."


def takes_orders_until(
    login: Login, instrument: Instrument, at: datetime, *, is_opening: bool
) -> datetime | None:
    """When the next auction that still takes orders takes none any more; None where the calendar does not say."""
    calendar = _known(login, instrument)
    if calendar is None:
        return None
    before = BEFORE_OPENING if is_opening else BEFORE_CLOSING
    auction = calendar.opens_after(at + before) if is_opening else calendar.closes_after(at + before)
    return auction - before if auction else None


def _known(login: Login, instrument: Instrument) -> Schedule | None:
    theirs = BrokerInstrument.objects.filter(instrument=instrument, broker=login.broker).first()
    last = SCHEDULES.last(login, theirs.broker_instrument_id) if theirs else None
    return last.value if last else None
