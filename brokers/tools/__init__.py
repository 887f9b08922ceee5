"""What bots may read of the broker: parse, call, return. The modules register their tools."""

from brokers.tools import calendar  # noqa: F401
