"""Queries that are built and compiled once: on the gate's path, building one anew costs more than running it.

Nothing that a query reads is kept, only its words; each run asks the database afresh.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Expression, Field, Model, QuerySet
from django.db.models.base import ModelState
from django.db.models.query import ModelIterable
from django.db.models.sql import InsertQuery, UpdateQuery
from django.db.transaction import TransactionManagementError

Row = TypeVar("Row")
Words = tuple[str, tuple[Any, ...]]
_INSERT = "INSERT INTO {table} ({columns}) VALUES ({places}) RETURNING {returned}"


class Given(Expression):
    """A value that every run brings along, as Postgres takes it. None is never equal to anything."""

    def __init__(self, name: str, output_field: Field | None = None) -> None:
        super().__init__(output_field)
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        return "%s", [self]


class Compiled(Generic[Row]):
    """The rows of one queryset, which `build` gives with `Given("name")` where values go: objects, or one column's values.

    Prefetches are not followed, and no key may have several columns.
    """

    def __init__(self, build: Callable[[], QuerySet[Any, Row]]) -> None:
        self._build = build

    @cached_property
    def _made(self) -> "_Made":
        queryset = self._build()
        query = queryset.query
        compiler = query.get_compiler(DEFAULT_DB_ALIAS)
        sql, values = compiler.as_sql()
        converters = compiler.get_converters(each[0] for each in compiler.select[: compiler.col_count])
        gives_objects = issubclass(queryset._iterable_class, ModelIterable)
        reader = _Reader(compiler.klass_info, compiler.select) if gives_objects else None
        return _Made(
            words=(sql, tuple(values)),
            locks=bool(query.select_for_update),
            converters=tuple(converters.items()),
            annotations=tuple((compiler.annotation_col_map or {}).items()),
            reader=reader,
        )

    def asked(self, **given: Any) -> "Asked[Row]":
        """The query with this run's values. Raises KeyError for one that is not given."""
        made = self._made
        return Asked(*bind(made.words, given), made.read, made.locks)

    def rows(self, **given: Any) -> list[Row]:
        """What it finds now. Raises KeyError for a value that is not given."""
        (found,) = together(self.asked(**given))
        return found

    def first(self, **given: Any) -> Row | None:
        """The first of them, in the queryset's order."""
        return next(iter(self.rows(**given)), None)


def _as_it_is(row: Sequence[Any], _: Any) -> Any:
    return row


@dataclass(frozen=True)
class Asked(Generic[Row]):
    """A statement with its values; `read` makes what it finds of a row and the connection."""

    sql: str
    values: Any = ()
    read: Callable[[Sequence[Any], Any], Row] = _as_it_is
    locks: bool = False


def together(*asked: Asked[Any]) -> list[list[Any]]:
    """What each statement finds, in one round trip. They run one after the other, and each sees what is committed by then."""
    connection = connections[DEFAULT_DB_ALIAS]
    if any(each.locks for each in asked) and connection.get_autocommit():
        raise TransactionManagementError("A lock needs a transaction.")
    with ExitStack() as stack:
        cursors = [stack.enter_context(connection.cursor()) for _ in asked]
        with _one_trip(connection) if len(asked) > 1 else nullcontext():
            for cursor, each in zip(cursors, asked, strict=True):
                cursor.execute(each.sql, each.values)
        return [
            [each.read(row, connection) for row in cursor.fetchall()]
            for cursor, each in zip(cursors, asked, strict=True)
        ]


@contextmanager
def _one_trip(connection: Any) -> Iterator[None]:
    with connection.wrap_database_errors, connection.connection.pipeline():
        yield


@dataclass(frozen=True)
class _Made:
    """A query's words, and how its rows become what it finds."""

    words: Words
    locks: bool
    converters: tuple[Any, ...]
    annotations: tuple[tuple[str, int], ...]
    reader: "_Reader | None"

    def read(self, found_row: Sequence[Any], connection: Any) -> Any:
        row = list(found_row)
        for at, (converters, expression) in self.converters:
            for convert in converters:
                row[at] = convert(row[at], expression, connection)
        if self.reader is None:
            return row[0]
        found = self.reader.read(row)
        for name, at in self.annotations:
            setattr(found, name, row[at])
        return found


class _Reader:
    """Some columns of a row as an object, with the objects that were selected beside it.

    As Django's own reader leaves them; that one prepares itself anew for each query, and sets field by field.
    """

    def __init__(self, info: dict[str, Any], select: Any) -> None:
        places = info["select_fields"]
        self._model = info["model"]
        self._columns = slice(places[0], places[-1] + 1)
        self._names = [select[at][0].target.attname for at in places]
        self._key = places[self._names.index(self._model._meta.pk.attname)]
        self._beside = [
            (_Reader(each, select), each["local_setter"], each["remote_setter"])
            for each in info.get("related_klass_infos", [])
        ]

    def read(self, row: list[Any]) -> Any:
        if row[self._key] is None:
            return None
        found = self._model.__new__(self._model)
        found._state = ModelState()
        found._state.db, found._state.adding = DEFAULT_DB_ALIAS, False
        vars(found).update(zip(self._names, row[self._columns], strict=True))
        for reader, set_on_this, set_on_that in self._beside:
            other = reader.read(row)
            set_on_this(found, other)
            if other is not None:
                set_on_that(other, found)
        return found


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


@dataclass(frozen=True)
class Insert:
    """An INSERT of one new row, in words and values; what the database fills in is taken back into the row."""

    row: Model
    words: Words
    returned: tuple[str, ...]

    @classmethod
    def of(cls, row: Model) -> "Insert":
        connection = connections[DEFAULT_DB_ALIAS]
        given, computed = {}, {}
        for field in row._meta.concrete_fields:
            value = field.pre_save(row, True)
            if hasattr(value, "resolve_expression"):
                computed[field.attname] = value
            elif value is not None or field.has_db_default():
                given[field.attname] = field.get_db_prep_save(value, connection)
        words, returned = _insert_words(type(row), tuple(given), tuple(computed.items()))
        return cls(row, bind(words, given), returned)

    def run(self) -> None:
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute(*self.words)
            self.take(cursor.fetchone())

    def take(self, found: Sequence[Any]) -> None:
        """The row is stored, with these values."""
        vars(self.row).update(zip(self.returned, found, strict=True))
        self.row._state.adding, self.row._state.db = False, DEFAULT_DB_ALIAS


def insert_all(rows: Sequence[Model]) -> None:
    """Insert new rows in one round trip."""
    inserts = [Insert.of(row) for row in rows]
    for insert, (found,) in zip(inserts, together(*(Asked(*each.words) for each in inserts)), strict=True):
        insert.take(found)


@lru_cache(maxsize=256)
def _insert_words(
    model: type[Model], given: tuple[str, ...], computed: tuple[tuple[str, Any], ...]
) -> tuple[Words, tuple[str, ...]]:
    """What the database computes is returned, with the key; a column that is not named stays empty."""
    query: Any = InsertQuery(model)
    compiler = query.get_compiler(DEFAULT_DB_ALIAS)
    quote, fields = (
        compiler.connection.ops.quote_name,
        {each.attname: each for each in model._meta.concrete_fields},
    )
    places: list[str] = []
    values: list[Any] = []
    for name in given:
        values.append(Given(name))
        holder = getattr(fields[name], "get_placeholder", None)
        places.append(holder(values[-1], compiler, compiler.connection) if holder else "%s")
    for _, expression in computed:
        place, needs = compiler.compile(expression.resolve_expression(query, for_save=True))
        places.append(place)
        values += needs
    names = [*given, *(name for name, _ in computed)]
    returned = (str(model._meta.pk.attname), *(name for name, _ in computed))
    sql = _INSERT.format(
        table=quote(model._meta.db_table),
        columns=", ".join(quote(fields[name].column) for name in names),
        places=", ".join(places),
        returned=", ".join(quote(fields[name].column) for name in returned),
    )
    return (sql, tuple(values)), returned


def bind(words: Words, given: dict[str, Any]) -> Words:
    """The words with this run's values. Raises KeyError for one that is missing."""
    sql, values = words
    return sql, tuple(given[value.name] if isinstance(value, Given) else value for value in values)
