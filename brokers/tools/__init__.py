"""What bots may read of the broker: parse, call, return. The modules register their tools."""

from brokers.tools import accounts, activity, calendar, portfolio, session  # noqa: F401
