"""The addresses below /api/: mounted on the web port only."""

from django.urls import include, path
from drf_spectacular.views import SpectacularJSONAPIView
from rest_framework.routers import SimpleRouter

from orders.api import groups, unsettled, views

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
for name, view, converter in (
    ("approvals", views.Approvals, "uuid"),
    ("orders", views.Orders, "uuid"),
    ("groups", groups.Groups, "uuid"),
    ("amendments", unsettled.Amendments, "uuid"),
    ("attempts", unsettled.Attempts, "uuid"),
    ("changes", unsettled.Changes, "uuid"),
    ("settlings", unsettled.Settlings, "uuid"),
    ("executions", views.Executions, "uuid"),
    ("positions", views.Positions, "int"),
    ("drift", views.Drifts, "uuid"),
    ("day-reports", views.DayReports, "uuid"),
    ("limits", views.LimitsOfAccounts, "uuid"),
    ("policies", views.Policies, "uuid"),
    ("mandates", views.Mandates, "uuid"),
    ("trading-states", views.TradingStates, "int"),
):
    view.lookup_value_converter = converter
    router.register(name, view, basename=name)

urlpatterns = [
    path("schema", SpectacularJSONAPIView.as_view(throttle_classes=[]), name="api_schema"),
    path("", include(router.urls)),
]
