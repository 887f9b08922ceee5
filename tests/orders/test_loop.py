"""The way of an order: its queries are built once, not each time."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from django.db.models.sql.compiler import SQLCompiler, SQLInsertCompiler, SQLUpdateCompiler

from orders import services


@contextmanager
def built() -> Iterator[list[str]]:
    """The tables of which a query is built in this block."""
    tables: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for kind in (SQLCompiler, SQLInsertCompiler, SQLUpdateCompiler):
            patch.setattr(kind, "as_sql", _noted(kind.as_sql, tables))
        yield tables


def _noted(build: Any, tables: list[str]) -> Any:
    def as_sql(compiler: Any, *words: Any, **more: Any) -> Any:
        tables.append(compiler.query.get_meta().db_table)
        return build(compiler, *words, **more)

    return as_sql


def test_a_pass_with_nothing_to_do_builds_no_query(floor: Any) -> None:
    """It comes every second and at every notification, ahead of what waits to be sent."""
    floor.turn()
    with built() as tables:
        floor.turn()
    assert tables == []


def test_from_proposal_to_the_brokers_answer_no_query_is_built(floor: Any) -> None:
    """By the second order on each of its ways has been gone."""
    price = (floor.near() * Decimal("0.98")).quantize(Decimal("0.01"))
    for _ in range(2):
        proposal, bob = floor.proposal(limit_price=price), floor.person("bob")
        with built() as tables:
            ticket = services.place_order(actor=floor.scanner, proposal=proposal)
        digest = ticket.request.digest
        with built() as more:
            services.decide_ticket(actor=bob, ticket_id=ticket.pk, digest=digest, is_yes=True)
            floor.turn()
        tables += more
    assert floor.order(ticket).status == "accepted"
    assert tables == []
