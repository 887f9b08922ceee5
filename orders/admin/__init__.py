"""The orders' pages in admin: lists that only read, and the views where people decide, cancel and halt."""

from orders.admin import holdings, limiting, lists, own_tokens

__all__ = ["holdings", "limiting", "lists", "own_tokens"]
