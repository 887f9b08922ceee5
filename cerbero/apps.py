"""Composition: Cerbero's own admin site, and the registrations that must run at start."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class CerberoConfig(AppConfig):
    name = "cerbero"

    def ready(self) -> None:
        from cerbero import checks  # noqa: F401


class CerberoAdminConfig(AdminConfig):
    default_site = "cerbero.admin.CerberoAdminSite"
