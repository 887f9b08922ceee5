"""The orders' pages in admin: lists that only read, and the views where people decide, cancel and halt."""

from orders.admin import holdings, lists, own_tokens

__all__ = ["holdings", "lists", "own_tokens"]
