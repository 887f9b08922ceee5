"""Composition: Cerbero's own admin site, and the registrations that must run at start."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig
from django.utils.module_loading import autodiscover_modules


class CerberoConfig(AppConfig):
    name = "cerbero"
    verbose_name = "Bots, people and decisions"

    def ready(self) -> None:
        from cerbero import checks  # noqa: F401

        # Each room's tools register themselves, as its admin does.
        autodiscover_modules("tools")


class KeyRotationConfig(AppConfig):
    name = "keyrotation"
    verbose_name = "Key rotation"


class CerberoAdminConfig(AdminConfig):
    default_site = "cerbero.site.CerberoAdminSite"
