"""Queries that are built and compiled once: on the gate's path, building one anew costs more than running it.

Nothing that a query reads is kept, only its words; each run asks the database afresh.
"""

from collections.abc import Callable
from copy import copy
from functools import cached_property
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Expression, Field, QuerySet
from django.db.models.sql import UpdateQuery
from django.db.models.sql.compiler import SQLCompiler
from django.db.transaction import TransactionManagementError

Row = TypeVar("Row")
Words = tuple[str, tuple[Any, ...]]


class Given(Expression):
    """A value that every run brings along, as Postgres takes it. None is never equal to anything."""

    def __init__(self, name: str, output_field: Field | None = None) -> None:
        super().__init__(output_field)
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        return "%s", [self]


class Compiled(Generic[Row]):
    """The rows of one queryset, which `build` gives with `Given("name")` where values go.

    Prefetches are not followed, and no key may have several columns.
    """

    def __init__(self, build: Callable[[], QuerySet[Any, Row]]) -> None:
        self._build = build

    @cached_property
    def _made(self) -> tuple[QuerySet[Any, Row], SQLCompiler, Words, Any]:
        queryset = self._build()
        compiler = queryset.query.get_compiler(DEFAULT_DB_ALIAS)
        sql, values = compiler.as_sql()
        converters = compiler.get_converters(each[0] for each in compiler.select[: compiler.col_count])
        return queryset, compiler, (sql, tuple(values)), converters

    def rows(self, **given: Any) -> list[Row]:
        """What it finds now. Raises KeyError for a value that is not given."""
        queryset, compiler, words, converters = self._made
        connection = connections[DEFAULT_DB_ALIAS]
        if queryset.query.select_for_update and connection.get_autocommit():
            raise TransactionManagementError("A lock needs a transaction.")
        run = copy(compiler)
        bound = bind(words, given)
        vars(run).update(connection=connection, as_sql=lambda: bound)
        vars(run).update(get_converters=lambda _: converters, has_composite_fields=lambda _: False)
        # What Django's own readers of rows ask a queryset for.
        source: Any = SimpleNamespace(
            db=DEFAULT_DB_ALIAS,
            query=SimpleNamespace(get_compiler=lambda *_, **__: run),
            _known_related_objects={},
        )
        found: Any = queryset._iterable_class(source)
        return list(found)

    def first(self, **given: Any) -> Row | None:
        """The first of them, in the queryset's order."""
        return next(iter(self.rows(**given)), None)


class CompiledUpdate:
    """An UPDATE of the rows of one queryset, with `Given("name")` where values go."""

    def __init__(self, build: Callable[[], QuerySet[Any]], **changes: Any) -> None:
        self._build, self._changes = build, changes

    @cached_property
    def words(self) -> Words:
        query: Any = self._build().query.chain(UpdateQuery)
        query.clear_ordering(force=True)
        query.add_update_values(self._changes)
        sql, values = query.get_compiler(DEFAULT_DB_ALIAS).as_sql()
        return sql, tuple(values)

    def run(self, **given: Any) -> int:
        """How many rows it changed."""
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute(*bind(self.words, given))
            return cursor.rowcount


def bind(words: Words, given: dict[str, Any]) -> Words:
    """The words with this run's values. Raises KeyError for one that is missing."""
    sql, values = words
    return sql, tuple(given[value.name] if isinstance(value, Given) else value for value in values)
