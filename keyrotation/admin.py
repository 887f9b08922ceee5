"""Rotations to read: who asked, how far they have come, and the fingerprints to compare at the broker."""

from django.contrib import admin

from cerbero.site import ReadOnlyAdmin
from keyrotation.models import Rotation


@admin.register(Rotation)
class RotationPage(ReadOnlyAdmin):
    list_display = ("login", "status", "requested_by", "reason", "created_at", "ended_at")
    list_filter = ("status", "login")
    search_fields = ("login__name", "requested_by", "reason")
    list_select_related = ("login",)
    ordering = ("-created_at",)
    fields = (*list_display, "signature_fingerprint", "encryption_fingerprint")
    readonly_fields = fields

    @admin.display(description="Signature key (SHA-256)")
    def signature_fingerprint(self, row: Rotation) -> str:
        return row.credential.signature_fingerprint if row.credential else ""

    @admin.display(description="Encryption key (SHA-256)")
    def encryption_fingerprint(self, row: Rotation) -> str:
        return row.credential.encryption_fingerprint if row.credential else ""
