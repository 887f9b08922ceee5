"""What bots may ask of orders: parse, call, return. The modules register their tools."""

from orders.tools import groups, orders, reducing, trading  # noqa: F401
