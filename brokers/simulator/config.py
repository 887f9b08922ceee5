"""What a test may change while the simulator runs (`POST /_sim/config`)."""

from dataclasses import asdict, dataclass, field, fields
from decimal import Decimal
from typing import Any

FILLS = ("normal", "immediate", "partial", "never")


@dataclass
class Config:
    """Behaviour knobs; the defaults are the everyday broker. Durations are in seconds."""

    fills: str = "normal"  # partial: one part of each order, then it rests
    fill_delay: tuple[float, float] = (0.1, 0.3)
    cancel_delay: float = 0.1
    commission_delay: float = 0.2
    listing_delay: float = 0.0  # from taking an order to showing it in the list
    freeze: bool = False
    tick_seconds: float = 0.2
    depth: int = 500  # shares shown at the touch; no single fill is larger
    questions: list[str] = field(default_factory=list)  # message ids asked of every order
    refused_types: list[str] = field(default_factory=list)  # STP, LMT …: of an order that comes alone
    refused_in_groups: list[str] = field(default_factory=list)  # the rest of the group is taken all the same
    shuffle_answers: bool = False  # else the exits come before their entry
    price_limit_percent: Decimal = Decimal(3)  # o163
    per_side_limit: int = 15  # working orders per contract, account and side
    reply_seconds: float = 60.0
    stale_reply_goes_live: bool = False
    nightly_reset: bool = False  # at 01:00 New York by the exchange's clock; else only when asked for
    day_scoped: bool = False  # what rests from before that reset is in no list any more
    duplicate_id_status: int = 200  # or 400, with the same words (§6.3)
    no_data_conids: list[int] = field(default_factory=list)
    availability: str = "RpB"  # field 6509
    snapshot_warmup: float = 0.0
    derivatives_need_search: bool = False  # of their symbol, in the same session, before a snapshot (§4.1)
    bring_up: float = 0.0  # from ssodh/init until the bridge is there
    session_token_seconds: float = 24 * 3600
    stream_seconds: float = 15 * 60  # an smd stream ends by itself
    heartbeat_seconds: float = 10.0
    conflation_seconds: float = 0.5
    binary_frames: bool = False
    refuse_streams: bool = False  # `unable to subscribe`, as right after a reconnect
    pacing: bool = False  # 10 requests/s, then the penalty box
    penalty_seconds: float = 600.0
    reject_replays: bool = False  # of OAuth nonces
    activation_seconds: float = 0.0  # from Save until a new key set works; a night reset ends the waiting
    save_replaces: bool = False  # a new key set or token ends the earlier ones on Save
    mint_ends_session: bool = False  # a mint by another token ends the running sessions

    def update(self, changes: dict[str, Any]) -> None:
        """Apply several changes or none. Raises ValueError for an unknown name or an impossible value."""
        known = {f.name: getattr(self, f.name) for f in fields(self)}
        clean: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in known:
                raise ValueError(f"unknown setting {name}")
            clean[name] = _like(name, known[name], value)
        if clean.get("fills", self.fills) not in FILLS:
            raise ValueError(f"fills is one of {', '.join(FILLS)}")
        for name, value in clean.items():
            setattr(self, name, value)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def _like(name: str, old: Any, value: Any) -> Any:
    if isinstance(old, tuple):
        pair = value if isinstance(value, list | tuple) else (value, value)
        return (float(pair[0]), float(pair[1]))
    if isinstance(old, bool) != isinstance(value, bool) or isinstance(old, list) != isinstance(value, list):
        raise ValueError(f"{name} needs a {type(old).__name__}")
    if isinstance(old, Decimal):
        return Decimal(str(value))
    return type(old)(value)
