"""A bot at a desk with its session up at a simulator: `ask` calls a tool as a door would."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

AAPL = "265598"


@pytest.fixture
def login(fresh_database, redis_url, simulator) -> Iterator[Any]:
    """A login whose session is up; AAPL is known by its broker's id."""
    from brokers.connections import close_connections
    from brokers.models import BrokerInstrument, Instrument
    from tests.brokers.logins import brought_up

    row = brought_up(simulator)
    aapl = Instrument.objects.create(symbol="AAPL", is_allowed=True)
    BrokerInstrument.objects.create(instrument=aapl, broker="ibkr", broker_instrument_id=AAPL)
    yield row
    close_connections()


@pytest.fixture
def ask(login) -> Callable[..., dict[str, Any]]:
    """Call a tool by its name; its answer as the wire has it."""
    from cerbero.access import DEFAULT_SCOPES, Actor
    from cerbero.models import Bot, User
    from cerbero.tool import TOOLS, call

    bot = Bot.objects.create(
        name="scanner-alpha", owner=User.objects.create_user("alice"), environment="paper"
    )

    def send(name: str, *, scopes: Iterable[str] = DEFAULT_SCOPES, **params: Any) -> dict[str, Any]:
        actor = Actor(kind="bot", id=bot.pk, name=bot.name, scopes=frozenset(scopes), environment="paper")
        return call(TOOLS[name], actor, params).model_dump(mode="json")

    return send
