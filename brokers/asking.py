"""Through which login a bot's question goes, and which instrument it means. Nothing is guessed between two."""

from collections.abc import Callable
from typing import TypeVar

from brokers.answers import Known, Memory
from brokers.base import Broker, InstrumentRecord
from brokers.instruments import only_one
from brokers.models import Account, BrokerInstrument, Login, SessionState
from brokers.occ import canonical, option_symbol
from brokers.services import broker_for
from cerbero.access import Actor
from cerbero.errors import BadInput, ContractAmbiguous, EnvironmentMismatch, NotFound, SessionExpired

T = TypeVar("T")
A_DAY = 86_400
CANDIDATES = Memory("candidates", list[InstrumentRecord], seconds=A_DAY, stands_seconds=7 * A_DAY)


def login_for(actor: Actor, account: str | None) -> Login:
    """The login of that account, or the first of the actor's environment whose session is up.

    Raises NotFound, BadInput (ambiguous), EnvironmentMismatch or SessionExpired.
    """
    if account is not None:
        return account_for(actor, account).login
    logins = Login.objects.filter(is_enabled=True, environment=actor.environment).order_by("name")
    found = logins.filter(state=SessionState.UP).first()
    if found is None:
        raise SessionExpired(
            "No login of your environment has its session up.", environment=actor.environment
        )
    return found


def account_for(actor: Actor, broker_account_id: str) -> Account:
    """An account that this actor may read. Raises NotFound, BadInput (ambiguous) or EnvironmentMismatch."""
    rows = list(Account.objects.select_related("login").filter(broker_account_id=broker_account_id)[:2])
    if not rows:
        raise NotFound(account=broker_account_id)
    if len(rows) > 1:
        raise BadInput("Two logins list this account; name one login only.", account=broker_account_id)
    if rows[0].environment != actor.environment:
        raise EnvironmentMismatch(token=actor.environment, account=rows[0].environment)
    return rows[0]


def broker_ids(login: Login, symbols: list[str]) -> dict[str, str]:
    """The broker's id of each symbol that Cerbero knows, and of any option by its OCC symbol.

    Raises NotFound, or ContractAmbiguous with the candidates.
    """
    found: dict[str, list[BrokerInstrument]] = {canonical(symbol): [] for symbol in symbols}
    rows = BrokerInstrument.objects.select_related("instrument").filter(
        broker=login.broker, instrument__symbol__in=found
    )
    for row in rows:
        found[row.instrument.symbol].append(row)
    options = [symbol for symbol, each in found.items() if not each and option_symbol(symbol)]
    if unknown := sorted(symbol for symbol, each in found.items() if not each and symbol not in options):
        words = "Cerbero has no broker's id for this; resolve_contract finds one."
        raise NotFound(words, symbols=unknown)
    asked = {symbol: _asked_for(login, symbol) for symbol in options}
    return {symbol: asked.get(symbol) or _only(symbol, each) for symbol, each in found.items()}


def candidates_of(login: Login, symbol: str, asset_class: str) -> Known[list[InstrumentRecord]]:
    """All contracts that a symbol may mean, as the broker describes them."""
    key = f"{asset_class}:{symbol}"
    return ask(login, CANDIDATES, key, lambda broker: broker.find_instruments(symbol, asset_class))


def _asked_for(login: Login, symbol: str) -> str:
    found = candidates_of(login, symbol, "option").value
    return only_one(symbol, found, found).broker_instrument_id


def _only(symbol: str, rows: list[BrokerInstrument]) -> str:
    if len(rows) > 1:
        candidates = [
            {
                "broker_instrument_id": row.broker_instrument_id,
                "asset_class": row.instrument.asset_class,
                "currency": row.instrument.currency,
            }
            for row in rows
        ]
        words = "Several instruments have this symbol; name one by its broker_instrument_id."
        raise ContractAmbiguous(words, symbol=symbol, candidates=candidates)
    return rows[0].broker_instrument_id


def ask(login: Login, memory: Memory[T], key: str, read: Callable[[Broker], T]) -> Known[T]:
    """What is remembered of a question, or the broker's answer now; the broker is opened only if it must be."""

    def anew() -> T:
        with broker_for(login) as broker:
            return read(broker)

    return memory.ask(login, key, anew)
