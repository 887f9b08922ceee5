"""What a broker tells of markets, contracts and accounts beside the order path, and how it is asked.

As in `brokers.base`: money and sizes are Decimal, times aware UTC, and what the broker did not say is None.
"""

from typing import Protocol

from brokers.schedules import Schedule


class Reads(Protocol):
    """What an adapter reads beside the order path; each raises a BrokerError, and nothing is sent twice."""

    def schedule(self, broker_instrument_id: str) -> Schedule:
        """The trading days around today of one instrument's exchange."""
        ...
