"""What the orders of a group are to each other. Values in, sentences out.

The kind and the number of a leg say what it is: nothing else binds it, and both are in the ticket's digest.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Protocol

from brokers.base import OrderType, Side, TimeInForce
from cerbero.errors import GroupImpossible
from orders.lifecycle import Group

ENTRY, TAKE_PROFIT, STOP_LOSS, EXIT, ALTERNATIVE = "entry", "take_profit", "stop_loss", "exit", "alternative"
EXITS = frozenset({TAKE_PROFIT, STOP_LOSS, EXIT})
ROLES: dict[str, tuple[str, ...]] = {
    Group.BRACKET: (ENTRY, TAKE_PROFIT, STOP_LOSS),
    Group.OCO: (ALTERNATIVE, ALTERNATIVE),
    Group.OTO: (ENTRY, EXIT),
}
STOPS = frozenset({OrderType.STOP, OrderType.STOP_LIMIT})
# What protects a position: at a price that is named, or that follows the market from where its entry fills.
GUARDS = STOPS | {OrderType.TRAILING_STOP, OrderType.TRAILING_STOP_LIMIT}
# What may travel as which part. An exit at market would leave with its entry's fill, whatever the price.
TYPES: dict[str, frozenset[OrderType]] = {
    ENTRY: frozenset({OrderType.MARKET, OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT}),
    TAKE_PROFIT: frozenset({OrderType.LIMIT}),
    STOP_LOSS: GUARDS,
    EXIT: GUARDS | {OrderType.LIMIT},
    ALTERNATIVE: STOPS | {OrderType.LIMIT},
}
NAMES = {
    ENTRY: "entry",
    TAKE_PROFIT: "take profit",
    STOP_LOSS: "stop loss",
    EXIT: "exit",
    ALTERNATIVE: "alternative",
}
RESTS = frozenset({TimeInForce.DAY, TimeInForce.GTC})


class Leg(Protocol):
    """The terms of one leg, proposed or stored."""

    @property
    def side(self) -> str: ...
    @property
    def quantity(self) -> Decimal | None: ...
    @property
    def order_type(self) -> str: ...
    @property
    def limit_price(self) -> Decimal | None: ...
    @property
    def stop_price(self) -> Decimal | None: ...
    @property
    def time_in_force(self) -> str: ...


def role(group: str, number: int) -> str:
    """What the leg of this number is; empty where there is no group, and for what was sent to complete one."""
    roles = ROLES.get(group, ())
    return roles[number - 1] if number <= len(roles) else ""


def is_exit(group: str, number: int) -> bool:
    """Whether the broker holds it until its entry fills; it only takes back what that opens."""
    return role(group, number) in EXITS


def problems(
    group: str, legs: Sequence[Leg], mid: Decimal | None = None, *, is_open: bool = False
) -> list[str]:
    """Every reason why these orders cannot be this group, as sentences; empty when they can.

    `mid` stands for the price of an entry at market. Where the entry `is_open` already, its price binds its exits no more.
    """
    roles = ROLES[group]
    if len(legs) != len(roles):
        return [f"{_a(group)} has {len(roles)} orders, not {len(legs)}."]
    found = [each for part, leg in zip(roles, legs, strict=True) for each in _part_problems(part, leg)]
    if group == Group.OCO:
        return found + _alternatives(*legs)
    entry, *exits = legs
    return (
        found
        + [
            each
            for part, leg in zip(roles[1:], exits, strict=True)
            for each in [
                *_exit_problems(part, leg, entry),
                *_limit_problems(part, leg),
                *([] if is_open else _price_problems(part, leg, entry, mid)),
            ]
        ]
        + (_between(*exits) if len(exits) > 1 else [])
    )


def require_group(group: str, legs: Sequence[Leg], mid: Decimal | None = None) -> None:
    """Raises GroupImpossible with every problem."""
    if found := problems(group, legs, mid):
        raise GroupImpossible(problems=found)


def _part_problems(part: str, leg: Leg) -> list[str]:
    found = []
    if leg.order_type not in TYPES[part]:
        *others, last = sorted(str(each).replace("_", "-") for each in TYPES[part])
        words = f"{', '.join(others)} or {last}" if others else last
        found.append(f"The {NAMES[part]} is a {words} order, not {leg.order_type.replace('_', '-')}.")
    if leg.time_in_force not in RESTS:
        found.append(
            f"The {NAMES[part]} must rest: its time in force is day or gtc, not {leg.time_in_force}."
        )
    return found


def _exit_problems(part: str, leg: Leg, entry: Leg) -> list[str]:
    found = []
    if leg.side == entry.side:
        found.append(f"The {NAMES[part]} must {_other(entry.side)}: it closes what the entry {entry.side}s.")
    if leg.quantity and entry.quantity and leg.quantity > entry.quantity:
        found.append(f"The {NAMES[part]} is for more than the entry: it would open the other way.")
    if entry.time_in_force == TimeInForce.GTC and leg.time_in_force == TimeInForce.DAY:
        found.append(f"The {NAMES[part]} ends with the day, and the entry may fill later: make it gtc too.")
    return found


def _limit_problems(part: str, leg: Leg) -> list[str]:
    """A stop-limit exit fills at its stop or somewhat worse; one that asks for better is no protection."""
    limit, stop = leg.limit_price, leg.stop_price
    if leg.order_type not in GUARDS or limit is None or stop is None:
        return []
    if not _beyond(_other(leg.side), limit, stop):
        return []
    words = _word(_other(leg.side), up=True)
    return [
        f"The {NAMES[part]}'s limit must not be {words} its stop: it would rest unfilled when the stop is met."
    ]


def _price_problems(part: str, leg: Leg, entry: Leg, mid: Decimal | None) -> list[str]:
    """A take profit lies beyond the entry's price, a stop loss before it."""
    at, named = entry.limit_price or entry.stop_price or mid, leg.stop_price or leg.limit_price
    if at is None or named is None:
        return []
    gains = _beyond(entry.side, named, at)
    if leg.order_type == OrderType.LIMIT and not gains:
        return [f"The {NAMES[part]}'s limit must be {_word(entry.side, up=True)} the entry's price."]
    if leg.order_type in GUARDS and (gains or named == at):
        return [f"The {NAMES[part]}'s stop must be {_word(entry.side, up=False)} the entry's price."]
    return []


def _between(profit: Leg, stop: Leg) -> list[str]:
    """Where the entry is at market, the exits still enclose a price."""
    if profit.limit_price is None or stop.stop_price is None or profit.side != stop.side:
        return []
    opened = Side.BUY if profit.side == Side.SELL else Side.SELL
    if _beyond(opened, profit.limit_price, stop.stop_price):
        return []
    return [f"The take profit must be {_word(opened, up=True)} the stop loss."]


def _alternatives(one: Leg, other: Leg) -> list[str]:
    found = []
    if one.side != other.side:
        found.append("Both orders of an OCO are on one side: two entries, or two exits.")
    if one.quantity != other.quantity:
        found.append("Both orders of an OCO are for the same quantity: one stands for the other.")
    limit = next((leg for leg in (one, other) if leg.order_type == OrderType.LIMIT), None)
    stop = next((leg for leg in (one, other) if leg.order_type in STOPS), None)
    if limit is None or stop is None:
        return [
            *found,
            "One order of an OCO is a limit and the other a stop: else the nearer always comes first.",
        ]
    if limit.limit_price is None or stop.stop_price is None:
        return found
    # A sale takes its profit above and stops below; a purchase the other way round.
    if not _beyond(_other(limit.side), limit.limit_price, stop.stop_price):
        words = _word(_other(limit.side), up=True)
        found.append(f"The limit must be {words} the stop: else one of the two would fill at once.")
    return found


def _beyond(side: str, price: Decimal, than: Decimal) -> bool:
    """Whether the price is a gain for whoever took this side at `than`."""
    return price > than if side == Side.BUY else price < than


def _word(side: str, *, up: bool) -> str:
    return "above" if (side == Side.BUY) == up else "below"


def _other(side: str) -> str:
    return Side.SELL if side == Side.BUY else Side.BUY


def _a(group: str) -> str:
    return {Group.BRACKET: "A bracket", Group.OCO: "An OCO", Group.OTO: "An OTO"}[Group(group)]
