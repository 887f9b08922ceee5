"""A tool of the tests' own, with a door over it, so that the platform is tested apart from any room."""

from decimal import Decimal
from uuid import UUID

from django.db import OperationalError

from cerbero.access import Actor
from cerbero.errors import TradingHalted
from cerbero.tool import WRITE, Out, Params, Tool


class Weigh(Params):
    weight: Decimal
    label: str = ""


class Weighed(Out):
    weight: Decimal
    bot: UUID


def weigh_thing(actor: Actor, params: Weigh) -> Weighed:
    """Weigh a thing; it answers what it was told.

    A second paragraph that no table shows.
    """
    if params.label == "halted":
        raise TradingHalted(scope="everything", limit=Decimal("1E+2"))
    if params.label == "database":
        raise OperationalError("connection to server at 10.0.0.5 failed")
    if params.label == "crash":
        raise RuntimeError("secret inside a crash")
    assert actor.id
    return Weighed(weight=params.weight, bot=actor.id)


SAMPLE = Tool.of(weigh_thing, scope="orders:read", effect=WRITE)
