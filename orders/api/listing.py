"""Lists: pages by cursor with a cap, and filters that refuse what they do not know."""

from collections.abc import Callable
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from rest_framework import exceptions, serializers
from rest_framework.filters import BaseFilterBackend
from rest_framework.pagination import CursorPagination

from cerbero.errors import BadInput

PAGE_MAX = 200
# A lookup by its name, or what to do with the rows.
Narrow = str | Callable[[QuerySet, Any], QuerySet]


class Filters(serializers.Serializer):
    """What every list takes. Each subclass names its own, and where each looks."""

    narrow: ClassVar[dict[str, Narrow]] = {}
    orderings: ClassVar[tuple[str, ...]] = ("-created_at", "created_at")

    limit = serializers.IntegerField(
        min_value=1, max_value=PAGE_MAX, required=False, help_text="rows a page; 50"
    )
    cursor = serializers.CharField(required=False, help_text="out of `next` or `previous`")
    ordering = serializers.CharField(required=False, help_text="a time, with `-` for the newest first")

    def validate_ordering(self, value: str) -> str:
        if value not in self.orderings:
            raise serializers.ValidationError(f"one of {', '.join(self.orderings)}")
        return value

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        # A filter that is misspelt would answer with everything.
        if unknown := set(self.initial_data) - set(self.fields):
            raise serializers.ValidationError(dict.fromkeys(sorted(unknown), "there is no such filter"))
        return values


def asked(request: Any, view: Any) -> dict[str, Any]:
    """The list's own query, read by its filters. Raises ValidationError, naming each field."""
    query = view.narrowed_by(data=request.query_params.dict())
    query.is_valid(raise_exception=True)
    return query.validated_data


class Narrowing(BaseFilterBackend):
    """Applies a view's `filters` to its list; a single row is found by its id alone."""

    def filter_queryset(self, request: Any, queryset: QuerySet, view: Any) -> QuerySet:
        if view.action != "list":
            return queryset
        values = asked(request, view)
        for name, by in view.narrowed_by.narrow.items():
            if name in values:
                value = values[name]
                queryset = by(queryset, value) if callable(by) else queryset.filter(**{by: value})
        return queryset

    def get_ordering(self, request: Any, queryset: QuerySet, view: Any) -> tuple[str, ...]:
        first = asked(request, view).get("ordering", view.narrowed_by.orderings[0])
        return (first, "-pk" if first.startswith("-") else "pk")

    def get_schema_operation_parameters(self, view: Any) -> list[Any]:
        return []  # Each list names its filters by itself.


class Pages(CursorPagination):
    """`next` and `previous` are addresses; rows that arrive between two pages move nothing."""

    page_size, max_page_size, page_size_query_param = 50, PAGE_MAX, "limit"

    def paginate_queryset(self, queryset: QuerySet, request: Any, view: Any = None) -> Any:
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValueError, ValidationError):  # A cursor whose place is no value of the column.
            raise BadInput(fields=[{"field": "cursor", "problem": "not one of ours"}]) from None

    def decode_cursor(self, request: Any) -> Any:
        try:
            return super().decode_cursor(request)
        except exceptions.NotFound:
            raise BadInput(fields=[{"field": "cursor", "problem": "not one of ours"}]) from None
