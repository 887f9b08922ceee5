"""The trail to read, search and filter; nobody changes it here."""

from typing import Any

from django.contrib import admin
from django.db.models import BooleanField, Exists, OuterRef, QuerySet
from django.http import HttpRequest

from audit.models import Checkpoint, Entry, Link
from cerbero.site import ReadOnlyAdmin


class TrailAdmin(ReadOnlyAdmin):
    # Counting all rows for "of N total" would read the whole trail.
    show_full_result_count = False
    list_per_page = 50


@admin.register(Entry)
class EntryAdmin(TrailAdmin):
    list_display = ["at", "event", "actor_kind", "actor_name", "subject_kind", "subject_id", "is_sealed"]
    list_display_links = ["at", "event"]
    list_filter = ["actor_kind", "event", "subject_kind", "at"]
    search_fields = ["event", "actor_name", "subject_id", "request_id"]
    search_help_text = "event, actor, subject or request id"
    ordering = ["-id"]
    fields = [
        "id",
        "at",
        "event",
        "actor_kind",
        "actor_name",
        "actor_id",
        "subject_kind",
        "subject_id",
        "request_id",
        "details",
        "transaction_id",
        "is_sealed",
    ]
    readonly_fields = ["is_sealed"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Entry]:
        sealed = Exists(Link.objects.filter(entry_id=OuterRef("pk")), output_field=BooleanField())
        return super().get_queryset(request).annotate(sealed=sealed)

    @admin.display(boolean=True, description="sealed")
    def is_sealed(self, entry: Any) -> bool:
        return entry.sealed


@admin.register(Checkpoint)
class CheckpointAdmin(TrailAdmin):
    list_display = ["position", "sealed_at", "digest", "epoch"]
    list_filter = ["sealed_at"]
    search_fields = ["=position", "digest"]
    search_help_text = "position or digest"
    ordering = ["-position"]
