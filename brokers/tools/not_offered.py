"""What bots ask for and the broker does not have: answered so, by a stable code, before anybody is asked."""

from brokers.tools.shapes import OfAccount, OfInstrument
from cerbero.access import Actor
from cerbero.errors import NotOfferedByBroker
from cerbero.tool import READ, Out, tool


class NothingOut(Out):
    """Never answered: the tool refuses."""


@tool(scope="market:read", effect=READ)
def get_news(actor: Actor, params: OfInstrument) -> NothingOut:
    """News of an instrument: IBKR's Web API offers none, so this is always `not_offered_by_broker`."""
    raise NotOfferedByBroker(broker=params.login(actor).broker, what="news")


@tool(scope="market:read", effect=READ)
def get_fundamentals(actor: Actor, params: OfInstrument) -> NothingOut:
    """A company's figures: IBKR's Web API no longer offers them, so this is always `not_offered_by_broker`."""
    raise NotOfferedByBroker(broker=params.login(actor).broker, what="fundamentals")


@tool(scope="market:read", effect=READ)
def get_transfer_history(actor: Actor, params: OfAccount) -> NothingOut:
    """Transfers of money: IBKR's Web API has no such list, so this is always `not_offered_by_broker`.

    What moved one holding is in `get_transactions`.
    """
    raise NotOfferedByBroker(broker=params.login(actor).broker, what="transfers")
