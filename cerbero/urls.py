"""The web port: console, admin, and all of the tools port, so that one port is enough for a small desk."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("cerbero.tool_urls")),
]
