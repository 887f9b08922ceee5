"""What bots may read of the broker: parse, call, return. The modules register their tools."""

from brokers.tools import (  # noqa: F401
    accounts,
    activity,
    calendar,
    contracts,
    currencies,
    market,
    not_offered,
    options,
    portfolio,
    scanning,
    session,
    streaming,
)
