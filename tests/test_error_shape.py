"""Every address that a program may call refuses in one shape."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import URLPattern, URLResolver, get_resolver

from cerbero.errors import CerberoError
from cerbero.refusals import PAGES, one_shape
from tests.doors import DAPHNE, serve
from tests.rig import Database

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
SECURITY_HEADERS = {"Content-Security-Policy", "Referrer-Policy", "X-Content-Type-Options", "X-Frame-Options"}
SAMPLES = {"uuid": "019ab000-0000-7000-8000-000000000000", "int": "1", "str": "x", "slug": "x", "path": "x"}


def kinds(root: type[CerberoError] = CerberoError) -> Iterator[type[CerberoError]]:
    for kind in root.__subclasses__():
        yield kind
        yield from kinds(kind)


def routes(patterns: list, prefix: str = "/") -> Iterator[str]:
    for each in patterns:
        at = prefix + str(each.pattern).lstrip("^").rstrip("$")
        if isinstance(each, URLResolver):
            yield from routes(each.url_patterns, at)
        elif isinstance(each, URLPattern):
            yield at


def program_routes() -> list[str]:
    found = {route.split("<")[0] + "x" * ("<" in route) for route in routes(get_resolver().url_patterns)}
    return sorted(route for route in found if not route.startswith(PAGES) and "(" not in route)


def assert_one_shape(status: int, body: bytes, request_id: str) -> None:
    text = body.decode()
    found = json.loads(text)
    assert set(found) == {"error", "request_id"}, text
    assert found["request_id"] == request_id
    error = found["error"]
    assert set(error) == {"code", "message", "retryable", "verify_first", "details"}, text
    assert error["code"] in {kind.code for kind in kinds()}
    assert {kind.status for kind in kinds() if kind.code == error["code"]} == {status}
    assert error["message"]
    assert "Traceback" not in text


def test_there_are_routes_to_look_at() -> None:
    assert {"/health", "/health/ready", "/metrics", "/openapi.json", "/apidocs"} <= set(program_routes())


@pytest.mark.django_db
@pytest.mark.urls("tests.sample_urls")
@pytest.mark.parametrize("method", METHODS)
def test_no_route_answers_an_anonymous_program_in_another_shape(method: str) -> None:
    client = Client(raise_request_exception=False, enforce_csrf_checks=True)
    for route in [
        *program_routes(),
        "/tools/no_such_tool",
        "/nothing",
        "/health/",
        "/sample/tools/weigh_thing",
    ]:
        response = client.generic(method, route, "{", "application/json", headers={"X-Request-ID": "walk-2"})
        if response.status_code >= 400:
            assert response["Content-Type"] == "application/json", (route, response.content)
            assert_one_shape(response.status_code, response.content, "walk-2")


@pytest.mark.django_db
@pytest.mark.urls("tests.sample_urls")
def test_a_wrong_method_names_the_right_ones() -> None:
    response = Client().get("/sample/tools/weigh_thing")
    assert (response.status_code, response["Allow"]) == (405, "POST")
    assert_one_shape(405, response.content, response["X-Request-ID"])


@pytest.mark.django_db
def test_every_answer_carries_the_security_headers_whoever_gave_it() -> None:
    client = Client(raise_request_exception=False, enforce_csrf_checks=True)
    found = [
        client.get(each) for each in (*program_routes(), "/nothing", "/admin/", "/admin/login/", "/live/")
    ]
    found += [client.get("/static/cerbero/tokens.css"), client.get("/static/nothing.css")]
    found += [client.post("/apidocs"), client.post("/health"), client.get("/", headers={"Host": "elsewhere"})]
    assert {200, 302, 400, 403, 404, 405} <= {answer.status_code for answer in found}
    for answer in found:
        answer.close()
        missing = SECURITY_HEADERS - set(answer.headers)
        assert not missing, (answer.request["PATH_INFO"], answer.status_code, missing)
        assert "unsafe" not in answer["Content-Security-Policy"]


def test_a_foreign_host_is_refused_in_the_shape(client: Client) -> None:
    response = client.get("/health", headers={"Host": "elsewhere.example"})
    assert_one_shape(400, response.content, response["X-Request-ID"])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413, 418, 422, 429, 500, 502, 503])
def test_whatever_a_library_refuses_becomes_the_shape_except_on_pages(status: int) -> None:
    def refuse(request: HttpRequest) -> HttpResponse:
        return HttpResponse("<h1>Traceback of something</h1>", status=status)

    program, page = RequestFactory().get("/tools/x"), RequestFactory().get("/admin/x")
    program.request_id = "r"  # type: ignore[attr-defined]
    answer = one_shape(refuse)(program)
    assert answer["Content-Type"] == "application/json"
    assert json.loads(answer.content)["request_id"] == "r"
    assert (answer.status_code >= 500) == (status >= 500)
    assert b"Traceback" not in answer.content
    assert one_shape(refuse)(page).content.startswith(b"<h1>")


@pytest.mark.django_db
def test_a_post_to_what_takes_none_of_ours_says_so() -> None:
    response = Client(enforce_csrf_checks=True).post("/apidocs")
    assert_one_shape(403, response.content, response["X-Request-ID"])
    assert response.json()["error"]["code"] == "csrf_failed"


@pytest.mark.django_db
def test_a_page_without_its_csrf_token_is_refused_as_a_page() -> None:
    response = Client(enforce_csrf_checks=True).post("/admin/login/", {"username": "alice"})
    assert response.status_code == 403
    assert response["Content-Type"].startswith("text/html")


def test_every_code_stands_for_one_status_and_has_words() -> None:
    seen: dict[str, type[CerberoError]] = {}
    for kind in kinds():
        assert kind.code.islower(), kind
        assert (kind.__doc__ or "").strip().endswith("."), kind
        assert 400 <= kind.status < 600, kind
        assert seen.setdefault(kind.code, kind).status == kind.status, f"{kind.code} has two statuses"


def test_daphne_refuses_in_the_same_shape(fresh_database: Database, tmp_path: Path) -> None:
    with serve(fresh_database, tmp_path, *DAPHNE) as web:
        for path, method, status in (
            ("/nothing", "GET", 404),
            ("/health", "POST", 405),
            ("/tools/x", "POST", 404),
        ):
            got, headers, body = web.ask(path, {} if method == "POST" else None, X_Request_ID="d-1")
            assert got == status
            assert_one_shape(status, body, "d-1")
        assert web.ask("/health")[0] == 200
        status, headers, _ = web.ask("/admin/login/")
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
