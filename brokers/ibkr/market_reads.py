"""IBKR's market data beside the order path: tickers, greeks, bars, scans (ibkr-web-api.md §4)."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from brokers.ibkr import market_messages as said
from brokers.ibkr.asking import Asking
from brokers.ibkr.ids import instrument_id
from brokers.ibkr.snapshots import snapshots
from brokers.ibkr.values import rows
from brokers.market_records import Bars, Greeks, Scan, Scanned, Ticker

SCANNED_MAX = 50


class MarketReads(Asking):
    """The reads of §4."""

    def tickers(self, broker_instrument_ids: Sequence[str]) -> list[Ticker]:
        """One without any data is left out."""
        return snapshots(
            self._wire,
            [instrument_id(each) for each in broker_instrument_ids],
            said.TICKER_FIELDS,
            lambda row: said.ticker(row, datetime.now(UTC)),
            # A field that nobody asked for before comes later than one that is streamed already.
            lambda ticker: None not in (ticker.quote.bid, ticker.quote.ask, ticker.high, ticker.change),
            self._wait,
        )

    def greeks(self, broker_instrument_ids: Sequence[str]) -> list[Greeks]:
        """Of options whose symbol was searched in this session; one without any data is left out."""
        return snapshots(
            self._wire,
            [instrument_id(each) for each in broker_instrument_ids],
            said.OPTION_FIELDS,
            lambda row: said.greeks(row, datetime.now(UTC)),
            lambda option: option.delta is not None,
            self._wait,
        )

    def bars(
        self,
        broker_instrument_id: str,
        period: str,
        bar: str,
        *,
        outside_hours: bool = False,
        until: datetime | None = None,
    ) -> Bars:
        """§4.4; `brokers.bars` says which period takes which bar."""
        params = {
            "conid": instrument_id(broker_instrument_id),
            "period": period,
            "bar": bar,
            "outsideRth": str(outside_hours).lower(),
        }
        if until is not None:
            params["startTime"] = f"{until.astimezone(UTC):%Y%m%d-%H:%M:%S}"
        return said.bars(self._object("GET", "/iserver/marketdata/history", params=params))

    def scan_choices(self) -> Scan:
        return said.scan(self._object("GET", "/iserver/scanner/params"))

    def scan(
        self, scan_type: str, instrument: str, location: str, filters: Mapping[str, Decimal]
    ) -> list[Scanned]:
        """Up to fifty rows, the first ranked highest."""
        body: dict[str, Any] = {
            "instrument": instrument,
            "type": scan_type,
            "location": location,
            "filter": [{"code": code, "value": value} for code, value in filters.items()],
        }
        data = self._object("POST", "/iserver/scanner/run", body=body)
        found = [each for row in rows(data.get("contracts")) if (each := said.scanned(row))]
        return found[:SCANNED_MAX]
