"""Logins, accounts, instruments, quotes and raw reports in admin: to read. What people own has a page that calls a service."""

from brokers.admin import accounts, logins, markets

__all__ = ["accounts", "logins", "markets"]
