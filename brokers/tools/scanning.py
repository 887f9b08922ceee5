"""The broker's scanner, for a closed list of questions."""

import datetime as dt
from decimal import Decimal

from pydantic import Field

from brokers.answers import Memory
from brokers.asking import ask
from brokers.market_records import Scan, Scanned
from brokers.scans import ScanFilter, ScanInstrument, ScanLocation, ScanType
from brokers.tools.contracts import A_DAY
from brokers.tools.shapes import ThroughLogin
from cerbero.access import Actor
from cerbero.errors import BadInput
from cerbero.tool import READ, Out, Params, tool

CHOICES = Memory("scan_choices", Scan, seconds=A_DAY, stands_seconds=7 * A_DAY)
SCANNED = Memory("scan", list[Scanned], seconds=15)
FILTERS_MAX = 7


class FilterIn(Params):
    """One condition; money in millions where the code ends in 1e6."""

    code: ScanFilter
    value: Decimal = Field(max_digits=18)


class RunScanner(ThroughLogin):
    """What to rank, where, and under which conditions; `get_scanner_params` lists the choices."""

    scan_type: ScanType
    instrument: ScanInstrument = ScanInstrument.STOCKS
    location: ScanLocation = ScanLocation.US_MAJOR
    filters: list[FilterIn] = Field(default=[], max_length=FILTERS_MAX)


class ScannedOut(Out):
    """`value` is what it was ranked by, as the broker writes it."""

    broker_instrument_id: str
    symbol: str
    name: str
    exchange: str
    asset_class: str
    value: str


class ScannerOut(Out):
    """Ranked highest first, fifty at most."""

    rows: list[ScannedOut]
    as_of: dt.datetime


class ChoiceOut(Out):
    """`name` is the broker's; empty where it does not offer this choice now."""

    code: str
    name: str
    is_offered: bool


class ScannerChoicesOut(Out):
    scan_types: list[ChoiceOut]
    instruments: list[ChoiceOut]
    locations: list[ChoiceOut]
    filters: list[ChoiceOut]
    as_of: dt.datetime


@tool(scope="market:read", effect=READ)
def get_scanner_params(actor: Actor, params: ThroughLogin) -> ScannerChoicesOut:
    """What `run_scanner` takes, by the broker's names, and whether the broker offers it now."""
    known = ask(params.login(actor), CHOICES, "", lambda broker: broker.reads.scan_choices())
    offered = known.value
    return ScannerChoicesOut(
        scan_types=_choices(ScanType, offered.types),
        instruments=_choices(ScanInstrument, offered.instruments),
        locations=_choices(ScanLocation, offered.locations),
        filters=_choices(ScanFilter, offered.filters),
        as_of=known.as_of,
    )


@tool(scope="market:read", effect=READ)
def run_scanner(actor: Actor, params: RunScanner) -> ScannerOut:
    """Rank instruments by one of the allowed scans: gainers, losers, the most active, and more."""
    filters = {each.code.value: each.value for each in params.filters}
    if len(filters) != len(params.filters):
        raise BadInput("Name each filter once.", filters=[each.code for each in params.filters])
    conditions = ",".join(f"{code}={value:f}" for code, value in sorted(filters.items()))
    known = ask(
        params.login(actor),
        SCANNED,
        f"{params.scan_type}:{params.instrument}:{params.location}:{conditions}"[:200],
        lambda broker: broker.reads.scan(params.scan_type, params.instrument, params.location, filters),
    )
    return ScannerOut(rows=[ScannedOut.model_validate(each) for each in known.value], as_of=known.as_of)


def _choices(
    allowed: type[ScanType | ScanInstrument | ScanLocation | ScanFilter], offered: dict[str, str]
) -> list[ChoiceOut]:
    return [
        ChoiceOut(code=each.value, name=offered.get(each.value, ""), is_offered=each.value in offered)
        for each in allowed
    ]
