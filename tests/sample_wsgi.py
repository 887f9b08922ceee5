"""The bots' plane as granian serves it, with the sample tool mounted."""

from cerbero.wsgi import ToolsPlane, ToolsRequest


class SampleRequest(ToolsRequest):
    urlconf = "tests.sample_urls"


class SamplePlane(ToolsPlane):
    request_class = SampleRequest


application = SamplePlane()
