"""Keys and changes as rows, to read."""

from django.contrib import admin

from cerbero.people.models import LiveBar, Passkey, PersonChange
from cerbero.site import ReadOnlyAdmin


@admin.register(Passkey)
class PasskeyPage(ReadOnlyAdmin):
    """Everybody's passkeys; their public halves only."""

    list_display = (
        "name",
        "person",
        "created_at",
        "usable_from",
        "approved_by",
        "last_used_at",
        "revoked_at",
    )
    list_filter = ("person",)
    list_select_related = ("person", "approved_by")
    fields = readonly_fields = (*list_display, "transports", "sign_count")
    ordering = ("-created_at",)


@admin.register(PersonChange)
class PersonChangePage(ReadOnlyAdmin):
    """Who was to be changed, by whom it was proposed, and what became of it."""

    list_display = ("request", "kind", "person", "proposed_by", "created_at", "applied_at")
    list_filter = ("kind", "person")
    list_select_related = ("request", "person", "proposed_by")
    fields = readonly_fields = list_display
    ordering = ("-created_at",)


@admin.register(LiveBar)
class LiveBarPage(ReadOnlyAdmin):
    """Whose yes does not count on live accounts, until when, and why."""

    list_display = ("person", "why", "created_at", "until")
    list_filter = ("person",)
    list_select_related = ("person",)
    ordering = ("-created_at",)
