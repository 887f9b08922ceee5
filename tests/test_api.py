"""The HTTP door of the tools."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.test import Client

from audit.models import Entry
from cerbero.access import issue_token
from cerbero.models import Bot, User
from cerbero.tool import TOOLS
from tests.doors import GRANIAN, serve
from tests.rig import Database

WEIGH = "/sample/tools/weigh_thing"
sample = pytest.mark.urls("tests.sample_urls")


def make_bot() -> Bot:
    owner = User.objects.create_user("alice")
    return Bot.objects.create(name="scanner-alpha", owner=owner, environment="paper")


@pytest.fixture
def bot(db: None) -> Bot:
    return make_bot()


@pytest.fixture
def token(bot: Bot) -> str:
    return issue_token(bot)


@pytest.fixture
def post(token: str) -> Callable[..., Any]:
    client = Client(
        raise_request_exception=False, headers={"Authorization": f"Bearer {token}", "X-Bot-Tag": "alpha-1"}
    )

    def send(body: str | dict, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.post(WEIGH, body, content_type="application/json", headers=named)

    return send


@sample
def test_a_tool_is_one_post_and_answers_its_schema(post: Callable, bot: Bot) -> None:
    response = post({"weight": "1.50"})
    assert response.status_code == 200, response.content
    assert response["Content-Type"] == "application/json"
    assert response.json() == {"weight": "1.5", "bot": str(bot.pk)}


@sample
@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        ("0.1", "0.1"),
        ("1e5", "100000"),
        ("1E-12", "0.000000000001"),
        ('"12345678901234567890.123456789012345678"', "12345678901234567890.123456789012345678"),
        ("12345678901234567890.123456789012345678", "12345678901234567890.123456789012345678"),
    ],
)
def test_a_decimal_passes_the_door_exactly(post: Callable, sent: str, answered: str) -> None:
    response = post(f'{{"weight": {sent}}}')
    assert response.json()["weight"] == answered
    assert f'"weight":"{answered}"' in response.content.decode()


@sample
def test_an_unknown_field_is_bad_input_that_names_it(post: Callable) -> None:
    response = post({"weight": "1", "colour": "red"})
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["code"] == "bad_input"
    assert [problem["field"] for problem in error["details"]["fields"]] == ["colour"]
    assert Entry.objects.get(event="tool.called").details["outcome"] == "bad_input"


@sample
@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "not_authenticated"),
        ({"Authorization": "Bearer cbr_00000000_wrong", "X-Bot-Tag": "a"}, 401, "not_authenticated"),
        ({"Authorization": "Basic YTpi", "X-Bot-Tag": "a"}, 401, "not_authenticated"),
        ({"Authorization": "Bearer TOKEN"}, 400, "bot_tag_missing"),
        ({"Authorization": "Bearer TOKEN", "X-Bot-Tag": ""}, 400, "bot_tag_missing"),
        ({"Authorization": "Bearer TOKEN", "X-Bot-Tag": "two words"}, 400, "bot_tag_missing"),
        ({"Authorization": "Bearer TOKEN", "X-Bot-Tag": "x" * 65}, 400, "bot_tag_missing"),
        ({"Authorization": "Bearer TOKEN", "X-Bot-Tag": "x" * 64}, 200, ""),
    ],
)
def test_a_caller_shows_a_token_and_a_tag(
    token: str, headers: dict[str, str], status: int, code: str
) -> None:
    shown = {name: value.replace("TOKEN", token) for name, value in headers.items()}
    response = Client().post(WEIGH, {"weight": "1"}, content_type="application/json", headers=shown)
    assert response.status_code == status
    if code:
        assert response.json()["error"]["code"] == code
    assert response.has_header("WWW-Authenticate") == (status == 401)


@sample
def test_a_person_who_is_signed_in_has_no_road_to_a_tool(bot: Bot, client: Client) -> None:
    client.force_login(bot.owner)
    response = client.post(
        WEIGH, {"weight": "1"}, content_type="application/json", headers={"X-Bot-Tag": "a"}
    )
    assert response.status_code == 401


@sample
def test_a_token_without_the_scope_is_refused_with_the_scope_named(bot: Bot) -> None:
    headers = {"Authorization": f"Bearer {issue_token(bot, scopes=('trading:halt',))}", "X-Bot-Tag": "a"}
    response = Client().post(WEIGH, {"weight": "1"}, content_type="application/json", headers=headers)
    assert response.status_code == 403
    assert response.json()["error"]["details"] == {"scope": "orders:read"}


@sample
@pytest.mark.parametrize("body", ["", "{", "[]", '"text"', '{"weight": NaN}', '{"weight": 1, "weight": 2}'])
def test_what_is_not_one_json_object_is_malformed(post: Callable, body: str) -> None:
    response = post(body)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "malformed_request")


@sample
def test_a_body_over_the_limit_is_too_large(post: Callable) -> None:
    response = post(json.dumps({"weight": "1", "label": "x" * 70_000}))
    assert response.status_code == 413
    assert response.json()["error"]["details"] == {"bytes_max": 65536}


@sample
def test_a_refusal_carries_what_the_caller_needs(post: Callable) -> None:
    response = post({"weight": "1", "label": "halted"}, X_Request_ID="mine-1")
    assert response.status_code == 409
    assert response["X-Request-ID"] == "mine-1"
    assert response.json() == {
        "error": {
            "code": "trading_halted",
            "message": "Trading is halted here; only cancels pass, and people's closes.",
            "retryable": False,
            "verify_first": False,
            "details": {"scope": "everything", "limit": "100"},
        },
        "request_id": "mine-1",
    }


@sample
def test_a_lost_database_is_said_as_such_and_nothing_of_where_it_stands(post: Callable) -> None:
    response = post({"weight": "1", "label": "database"})
    assert response.status_code == 503
    error = response.json()["error"]
    assert (error["code"], error["retryable"], error["verify_first"]) == ("database_unavailable", True, True)
    assert "10.0.0.5" not in response.content.decode()


@sample
@pytest.mark.parametrize("debug", [False, True])
def test_a_crash_says_nothing_but_the_request_id(
    post: Callable, settings, caplog: pytest.LogCaptureFixture, debug: bool
) -> None:
    settings.DEBUG = debug
    with caplog.at_level(logging.ERROR):
        response = post({"weight": "1", "label": "crash"}, X_Request_ID="crash-1")
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert response.json()["error"]["verify_first"] is True
    assert "secret inside" not in response.content.decode()
    assert "Traceback" not in response.content.decode()
    assert "secret inside" in caplog.text


@sample
@pytest.mark.parametrize("given", ["bad id", "x" * 65, "a\nb", ""])
def test_a_request_id_that_is_not_well_formed_is_replaced(post: Callable, given: str) -> None:
    response = post({"weight": "1"}, X_Request_ID=given)
    assert response["X-Request-ID"] != given
    assert len(response["X-Request-ID"]) == 32


@sample
def test_the_token_is_in_no_log(post: Callable, token: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        post({"weight": "1", "label": "crash"})
        post({"weight": "1"})
    assert "POST /sample/tools/weigh_thing 200" in caplog.text
    assert token not in caplog.text
    assert token.split("_", 2)[2] not in caplog.text


@sample
def test_openapi_names_each_tool_with_its_schemas_and_refusals() -> None:
    schema = Client().get("/sample/openapi.json").json()
    operation = schema["paths"]["/tools/weigh_thing"]["post"]
    assert operation["operationId"] == "weigh_thing"
    assert operation["security"] == [{"BotToken": []}]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["X-Bot-Tag"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    params = schema["components"]["schemas"][body["$ref"].rsplit("/", 1)[1]]
    assert params["additionalProperties"] is False
    assert params["required"] == ["weight"]
    assert {"type": "string"}.items() <= params["properties"]["weight"]["anyOf"][1].items()
    for status in ("400", "401", "403", "404", "409", "413", "422", "500", "503"):
        refusal = operation["responses"][status]["content"]["application/json"]["schema"]
        assert refusal["$ref"] == "#/components/schemas/Refusal"
    out = schema["components"]["schemas"]["Weighed"]
    assert out["properties"]["weight"]["type"] == "string"


def test_openapi_covers_every_registered_tool_and_nothing_else() -> None:
    schema = Client().get("/openapi.json").json()
    assert set(schema["paths"]) == {f"/tools/{name}" for name in TOOLS}
    assert json.dumps(schema).count('"$ref"') == sum(
        json.dumps(schema).count(f'"#/components/schemas/{name}"') for name in schema["components"]["schemas"]
    )


def test_the_api_reference_obeys_our_content_security_policy(client: Client) -> None:
    page = client.get("/apidocs")
    assert page.status_code == 200
    assert "script-src 'self'" in page["Content-Security-Policy"]
    text = page.content.decode()
    assert text.count("<script") == text.count("<script src=") + text.count('<script type="application/json"')
    assert "https://" not in text
    for address in ("/static/ninja/swagger-ui-bundle.js", "/static/ninja/swagger-ui-init.js"):
        assert address in text
        assert finders.find(address.removeprefix("/static/"))


def test_granian_serves_tools_and_no_page(fresh_database: Database, tmp_path: Path) -> None:
    headers = {"Authorization": f"Bearer {issue_token(make_bot())}", "X_Bot_Tag": "alpha-1"}
    with serve(fresh_database, tmp_path, *GRANIAN, "tests.sample_wsgi:application") as tools:
        status, named, body = tools.ask(WEIGH, {"weight": "2.50"}, X_Request_ID="walk-1", **headers)
        assert (status, json.loads(body)["weight"]) == (200, "2.5")
        assert named["x-request-id"] == "walk-1"
        assert named["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in named
        for path in ("/admin/", "/admin/login/", "/live/", "/", "/nothing"):
            status, named, body = tools.ask(path, **headers)
            assert (status, json.loads(body)["error"]["code"]) == (404, "not_found"), path
            assert (named["x-content-type-options"], named["x-frame-options"]) == ("nosniff", "DENY"), path
            assert "default-src 'none'" in named["content-security-policy"]
        status, _, body = tools.ask("/openapi.json")
        assert (status, json.loads(body)["openapi"][:2]) == (200, "3.")
        assert tools.ask("/apidocs")[0] == 200
        assert tools.ask("/static/ninja/swagger-ui-init.js")[0] == 200
        status, _, body = tools.ask(WEIGH, {"weight": "1", "label": "crash"}, **headers)
        assert (status, json.loads(body)["error"]["code"]) == (500, "internal_error")
    log = tools.log.read_text()
    assert headers["Authorization"].split("_", 2)[2] not in log
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert [line for line in lines if line.get("request_id") == "walk-1"]
    with fresh_database.connect() as other:
        found = other.execute(
            "SELECT details->>'outcome' FROM audit_entry WHERE event = 'tool.called' ORDER BY id"
        )
        assert found.fetchall() == [("ok",), ("internal_error",)]
