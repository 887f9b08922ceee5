"""From our instruments to the broker's ids, by asking once. What is ambiguous stays unresolved: no order, no quote."""

import logging
from datetime import date, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from audit.services import record
from brokers.base import Broker, InstrumentRecord
from brokers.models import BrokerInstrument, Instrument, Login
from brokers.occ import canonical, option_symbol
from cerbero.access import Actor
from cerbero.errors import BadInput, ContractAmbiguous, NotFound
from cerbero.leases import ClockTime

log = logging.getLogger(__name__)

# Ours → the adapters' words. An ETF is listed as a stock is.
ASSET_CLASSES = {
    "STK": "stock",
    "ETF": "stock",
    "FUT": "future",
    "IND": "index",
    "CASH": "fx",
    "OPT": "option",
    "BOND": "bond",
}
# Each costs two requests or more of the login's ten a second, which orders need too.
EACH_TIME_MAX = 10
TRY_AGAIN_AFTER = timedelta(hours=1)


def resolve_instruments(login: Login, broker: Broker, actor: Actor) -> int:
    """Ask for the ids of up to EACH_TIME_MAX instruments that lack one; returns how many were found.

    Raises a BrokerError when the broker cannot be asked; the rest waits for the next time.
    """
    return sum(_resolve(login, broker, actor, each) for each in unresolved(login)[:EACH_TIME_MAX])


def unresolved(login: Login) -> QuerySet[Instrument]:
    """Instruments without an id at this login's broker that were not tried lately."""
    known = BrokerInstrument.objects.filter(instrument=OuterRef("pk"), broker=login.broker)
    due = Q(resolve_tried_at=None) | Q(resolve_tried_at__lt=ClockTime() - TRY_AGAIN_AFTER)
    return Instrument.objects.filter(due, ~Exists(known)).order_by("-is_allowed", "id")


def choose(instrument: Instrument, found: list[InstrumentRecord]) -> InstrumentRecord | str:
    """The one listing that is meant, or why there is none. Nothing is guessed between two."""
    fitting = narrowed(found, instrument.currency, instrument.exchange)
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        return f"The broker knows no {instrument.symbol} in {instrument.currency}."
    places = sorted({each.exchange or each.symbol for each in fitting})
    if len(places) == 1:
        names = ", ".join(sorted({each.symbol for each in fitting}))
        return f"Several contracts fit; enter one by its own name: {names}."
    return f"Several listings fit ({', '.join(places)}); set the exchange."


def narrowed(
    found: list[InstrumentRecord], currency: str | None, exchange: str | None
) -> list[InstrumentRecord]:
    """Those of a currency and an exchange, where these are named."""
    fitting = [each for each in found if currency in (None, each.currency)]
    if exchange:
        return [each for each in fitting if each.exchange == exchange]
    if currency == "USD" and len(fitting) > 1:
        # One symbol is listed in many places; a USD price of an American share means the American listing.
        return [each for each in fitting if each.is_us]
    return fitting


def front_month(found: list[InstrumentRecord], today: date) -> list[InstrumentRecord]:
    """Those that expire next, today's among them; [] where nothing says when it expires."""
    alive = [each for each in found if each.expires_on and each.expires_on >= today]
    nearest = min((each.expires_on for each in alive if each.expires_on), default=None)
    return [each for each in alive if each.expires_on == nearest]


def only_one(symbol: str, fitting: list[InstrumentRecord], found: list[InstrumentRecord]) -> InstrumentRecord:
    """Raises ContractAmbiguous, or NotFound; each lists what there is to choose from."""
    if len(fitting) == 1:
        return fitting[0]
    shown = ("broker_instrument_id", "symbol", "name", "currency", "exchange", "expires_on", "strike")
    candidates = [{name: getattr(each, name) for name in shown} for each in fitting or found]
    if fitting:
        raise ContractAmbiguous(symbol=symbol, candidates=candidates)
    words = "No contract of this symbol fits; the details list those that there are."
    raise NotFound(words, symbol=symbol, candidates=candidates)


def _resolve(login: Login, broker: Broker, actor: Actor, instrument: Instrument) -> bool:
    try:
        asset_class = ASSET_CLASSES.get(instrument.asset_class, instrument.asset_class)
        chosen = choose(instrument, broker.find_instruments(canonical(instrument.symbol), asset_class))
    except BadInput as refusal:
        chosen = refusal.message
    if isinstance(chosen, InstrumentRecord) and (other := _taken(login, chosen)):
        chosen = f"The broker's id belongs to {other.instrument} already."
    if isinstance(chosen, str):
        log.warning("instrument %s stays unresolved: %s", instrument, chosen)
        Instrument.objects.filter(pk=instrument.pk).update(problem=chosen[:300], resolve_tried_at=ClockTime())
        return False
    _store(login, actor, instrument, chosen)
    return True


def _of_option(instrument: Instrument, chosen: InstrumentRecord) -> dict[str, Any]:
    """Its strike, and what it is written on where Cerbero knows exactly one such: limits count by both."""
    named = option_symbol(instrument.symbol)
    if named is None:
        return {}
    found: dict[str, Any] = {"strike": chosen.strike}
    written_on = Instrument.objects.filter(
        symbol=named.root, asset_class__in=("STK", "ETF"), currency=instrument.currency
    )
    if instrument.underlying_id is None and len(rows := list(written_on[:2])) == 1:
        found["underlying"] = rows[0]
    return found


def _taken(login: Login, chosen: InstrumentRecord) -> BrokerInstrument | None:
    return (
        BrokerInstrument.objects.select_related("instrument")
        .filter(broker=login.broker, broker_instrument_id=chosen.broker_instrument_id)
        .first()
    )


def _store(login: Login, actor: Actor, instrument: Instrument, chosen: InstrumentRecord) -> None:
    with transaction.atomic():
        BrokerInstrument.objects.bulk_create(
            [
                BrokerInstrument(
                    instrument=instrument,
                    broker=login.broker,
                    broker_instrument_id=chosen.broker_instrument_id,
                )
            ],
            ignore_conflicts=True,
        )
        Instrument.objects.filter(pk=instrument.pk).update(
            name=chosen.name[:128],
            exchange=chosen.exchange[:16],
            multiplier=chosen.multiplier,
            price_increment=chosen.price_increment,
            price_magnifier=chosen.price_magnifier,
            price_bands=[[str(edge), str(step)] for edge, step in chosen.price_bands],
            size_increment=chosen.size_increment,
            problem="",
            resolve_tried_at=ClockTime(),
            **_of_option(instrument, chosen),
        )
        record(
            "instrument.resolved",
            actor=actor,
            subject_kind="instrument",
            subject_id=instrument.pk,
            details={"symbol": instrument.symbol, "broker_instrument_id": chosen.broker_instrument_id},
        )
