"""A pass of the orders loop that finds nothing: how much work that is."""

from typing import Any

from django.db.models.sql.compiler import SQLCompiler


def test_a_pass_with_nothing_to_do_builds_no_query(floor: Any, monkeypatch: Any) -> None:
    """It comes every second and at every notification, ahead of what waits to be sent."""
    floor.turn()
    built: list[str] = []
    build = SQLCompiler.as_sql

    def as_sql(compiler: SQLCompiler, *words: Any, **more: Any) -> Any:
        built.append(compiler.query.get_meta().db_table)
        return build(compiler, *words, **more)

    monkeypatch.setattr(SQLCompiler, "as_sql", as_sql)
    floor.turn()
    assert built == []
