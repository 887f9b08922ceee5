"""The bots' plane with the sample tool mounted before it."""

from django.urls import path

from cerbero.api import build
from cerbero.tool_urls import urlpatterns as real
from tests.sample_tool import SAMPLE

urlpatterns = [path("sample/", build([SAMPLE], namespace="sample").urls), *real]
