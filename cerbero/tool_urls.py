"""The bots' plane: tools, health, metrics and the API reference; no road to an operator's page."""

from django.urls import path

from cerbero import health, metrics
from cerbero.api import api

urlpatterns = [
    path("health", health.alive),
    path("health/ready", health.ready),
    path("metrics", metrics.scrape),
    path("", api.urls),
]
