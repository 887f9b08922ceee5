"""The web port: console, admin, and all of the tools port, so that one port is enough for a small desk."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from cerbero import console

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="console:queue")),
    path("live/", console.live, name="live"),
    path("live/blotter.json", console.blotter, name="blotter"),
    path("admin/health/", admin.site.admin_view(console.health_page), name="health_page"),
    path("admin/ibkr/", include("keyrotation.api")),
    # Before the admin's own, which ends in a catch-all.
    path("admin/", include("orders.admin.urls")),
    path("admin/", include("cerbero.people.admin.urls")),
    path("admin/", admin.site.urls),
    # Of people only: the bots' port has no such address.
    path("api/", include("orders.api.urls")),
    path("", include("cerbero.tool_urls")),
]
