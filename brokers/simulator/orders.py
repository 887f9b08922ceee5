"""Orders and executions as the broker keeps them: terms, states, and their stored form. No I/O."""

from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any

from .answers import now_ms
from .exchange import CLOSING, OPENING

WORKING = ("PreSubmitted", "Submitted", "PendingCancel", "PendingSubmit")
DONE = ("Filled", "Cancelled", "Inactive")
STOPS = ("STP", "STOP_LIMIT", "TRAIL", "TRAILLMT")
TOUCHES = ("MIT", "LIT")
TRIGGERED = STOPS + TOUCHES
ON_CLOSE = ("MOC", "LOC")
PEGGED = ("MIDPRICE", "REL")
ORDER_TYPES = ("LMT", "MKT", *PEGGED, *TRIGGERED, *ON_CLOSE)
LIMITED = ("LMT", "STOP_LIMIT", "TRAILLMT", "LIT", "LOC")
TIME_IN_FORCE = ("DAY", "GTC", "OPG", "IOC", "OVT", "OND")
# Who submits the broker's own forced sales.
LIQUIDATION = "LIQUIDATION"
_DECIMALS = ("quantity", "limit_price", "stop_price", "trailing", "offset", "filled", "spent", "commission")


@dataclass
class Order:
    """One order. `spent` is the sum of quantity × price over its fills; times are epoch milliseconds."""

    order_id: int
    account: str
    conid: int
    side: str
    order_type: str
    quantity: Decimal
    tif: str = "DAY"
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trailing: Decimal | None = None
    trailing_percent: bool = False
    offset: Decimal | None = None
    conidex: str = ""
    client_order_id: str | None = None
    parent_id: int | None = None
    oca_group: str | None = None
    outside_rth: bool = False
    submitter: str = "API"
    status: str = "PreSubmitted"
    triggered: bool = False
    filled: Decimal = Decimal(0)
    spent: Decimal = Decimal(0)
    commission: Decimal = Decimal(0)
    reason: str = ""
    arrived_ms: int = field(default_factory=now_ms)
    updated_ms: int = field(default_factory=now_ms)
    history: list[list[Any]] = field(default_factory=list)
    modifications: int = 0

    @property
    def remaining(self) -> Decimal:
        return self.quantity - self.filled

    @property
    def average_price(self) -> Decimal | None:
        return self.spent / self.filled if self.filled else None

    @property
    def working(self) -> bool:
        return self.status in WORKING

    @property
    def sign(self) -> int:
        return 1 if self.side == "BUY" else -1

    @property
    def auction(self) -> str:
        """The auction that it waits for; empty for none."""
        if self.tif == "OPG":
            return OPENING
        return CLOSING if self.order_type in ON_CLOSE else ""

    @property
    def live(self) -> bool:
        """In continuous trading and able to fill: no auction's order, no untriggered stop, no waiting child."""
        return (
            self.status in ("Submitted", "PendingCancel")
            and not self.auction
            and (self.triggered or self.order_type not in TRIGGERED)
        )

    def move(self, status: str) -> None:
        """Change the status and note when."""
        self.status, self.updated_ms = status, now_ms()
        self.history.append([status, self.updated_ms])

    def to_json(self) -> dict[str, Any]:
        return _stored(self)

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> "Order":
        return cls(**_loaded(body, _DECIMALS))


@dataclass
class Execution:
    """One fill. `position` is what the account holds after it."""

    execution_id: str
    order_id: int
    account: str
    conid: int
    side: str
    quantity: Decimal
    price: Decimal
    commission: Decimal
    position: Decimal
    executed_ms: int
    exchange: str
    client_order_id: str | None = None
    submitter: str = "API"

    @property
    def signed_quantity(self) -> Decimal:
        return self.quantity if self.side == "BUY" else -self.quantity

    def to_json(self) -> dict[str, Any]:
        return _stored(self)

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> "Execution":
        return cls(**_loaded(body, ("quantity", "price", "commission", "position")))


def _stored(row: Any) -> dict[str, Any]:
    values = {f.name: getattr(row, f.name) for f in fields(row)}
    return {name: str(v) if isinstance(v, Decimal) else v for name, v in values.items()}


def _loaded(body: dict[str, Any], decimals: tuple[str, ...]) -> dict[str, Any]:
    return {k: Decimal(v) if k in decimals and v is not None else v for k, v in body.items()}


def plain(number: Decimal | None) -> str:
    """A decimal without trailing zeros or exponent: "150", "0.5"; "" for None."""
    if number is None:
        return ""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
