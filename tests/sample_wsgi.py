"""The bots' plane as granian serves it, with the sample tool mounted."""

from cerbero.wsgi import ToolsHandler, ToolsRequest


class SampleRequest(ToolsRequest):
    urlconf = "tests.sample_urls"


class SampleHandler(ToolsHandler):
    request_class = SampleRequest


application = SampleHandler()
