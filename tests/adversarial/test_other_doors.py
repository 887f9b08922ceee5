"""The ways in that are no pages: the socket, the queue, Redis, notifications, commands, people's tokens."""

import asyncio
import base64
import json
import pickle
import re
import threading
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.core.management import CommandError, call_command, get_commands
from django.test import Client
from django.utils import timezone

from audit.sparing import Sparing
from cerbero.access import PERSON_SCOPES, issue_person_token
from orders.models import Ticket
from tests.adversarial.hands import bearer, press, signed_in
from tests.source import sources

WORDS = {"type": "approve", "is_yes": True}


def _words(ticket: Ticket) -> dict[str, Any]:
    return WORDS | {"ticket_id": str(ticket.pk), "digest": ticket.request.digest}


def _hearing(monkeypatch: pytest.MonkeyPatch, name: str) -> threading.Event:
    """Set once the trail that a process keeps under this name has entered something."""
    heard = threading.Event()

    class Trail(Sparing):
        def record(self, *words: Any, **named: Any) -> Any:
            try:
                return super().record(*words, **named)
            finally:
                heard.set()

    monkeypatch.setattr(name, Trail(most_a_minute=6))
    return heard


@pytest.mark.parametrize("form", ["text", "bytes", "nonsense", "seen and more"])
def test_the_live_socket_only_tells(siege, attempt, redis_url, settings, form, monkeypatch):
    ticket = attempt.on(siege.place())
    name = settings.SESSION_COOKIE_NAME
    cookie = f"{name}={signed_in(siege, 'bob').cookies[name].value}".encode()
    said = {
        "text": {"text_data": json.dumps(_words(ticket))},
        "bytes": {"bytes_data": pickle.dumps(_words(ticket))},
        "nonsense": {"text_data": "approve"},
        "seen and more": {"text_data": json.dumps({"seen": 1} | _words(ticket))},
    }[form]

    heard = _hearing(monkeypatch, "cerbero.consumers._TRAIL")

    async def talk() -> None:
        from tests.test_live import socket

        async with socket(cookie) as live:
            assert live.is_open
            await live.send_to(**said)
            while not heard.is_set():
                await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(talk(), 60))
    attempt.told("socket.refused")
    attempt.ran_out(ticket)


def test_no_management_command_decides(siege, attempt):
    """The demo decides as a person does, in the console; no other command knows how."""
    knows = r"services\.decide_ticket|decisions\.decide"
    found = [
        name
        for name, path in sources().items()
        if ".management." in name and re.search(knows, path.read_text())
    ]
    assert found in ([], ["cerbero.management.commands.demo"])
    ticket = attempt.on(siege.place())
    ours = [name for name, app in get_commands().items() if not str(app).startswith("django.")]
    for name in {"approve", "approve_ticket", "decide", "allow_ticket", "submit"} - set(ours):
        with pytest.raises(CommandError):
            call_command(name, str(ticket.pk), digest=ticket.request.digest)
    attempt.ran_out(ticket)


def test_a_forged_celery_message_carries_no_order(siege, attempt, redis_url):
    """JSON only, known names only, and no task takes a ticket or an amount."""
    from kombu.exceptions import ContentDisallowed
    from kombu.serialization import loads

    from cerbero.celery import app

    ticket = attempt.on(siege.place())
    with pytest.raises(ContentDisallowed):
        loads(
            pickle.dumps({"x": 1}), "application/x-python-serialize", "binary", accept=app.conf.accept_content
        )
    app.loader.import_default_modules()
    own = [task for name, task in app.tasks.items() if not name.startswith("celery.")]
    assert own
    for task in own:
        result = task.apply(args=[str(ticket.pk)], kwargs={"digest": ticket.request.digest, "is_yes": True})
        assert isinstance(result.result, TypeError), task.name
        attempt.told("task.refused", arguments=3)
    attempt.ran_out(ticket)


def _frame(kind: str, settings: Any) -> bytes:
    from brokers.frames import seal

    now = timezone.now()
    body = {"kind": "quotes", "sender": "relay", "sequence": 7, "at": now, "quotes": {}, "login": "desk-1"}
    body |= {"feed_alive_at": now}
    if kind == "no key":
        return b"\0" * 32 + json.dumps({"at": now.isoformat(), "sender": "relay", "sequence": 8}).encode()
    if kind == "another key":
        known = settings.QUOTE_FRAME_KEY
        settings.QUOTE_FRAME_KEY = base64.urlsafe_b64encode(b"x" * 32).decode()
        sealed = seal(body)
        settings.QUOTE_FRAME_KEY = known
        return sealed
    return seal(body | ({"at": now - timedelta(minutes=1)} if kind == "old" else {}))


@pytest.mark.parametrize("kind", ["no key", "another key", "replayed", "old", "an order"])
def test_a_forged_frame_in_redis_is_no_news(siege, attempt, settings, redis_url, kind, monkeypatch):
    """A web process reads its channel; nothing there may reach a page, and nothing there is an order."""
    from brokers import quotes
    from brokers.frames import CHANNEL

    ticket, heard = attempt.on(siege.place()), _hearing(monkeypatch, "brokers.quotes._TRAIL")
    frame = _frame(kind, settings) if kind != "an order" else pickle.dumps(_words(ticket))
    news: list[Any] = []

    async def collect() -> None:
        async for each in quotes.subscribe():
            news.append(each)

    async def read() -> None:
        reader = asyncio.create_task(collect())
        with redis.Redis.from_url(redis_url) as sender:
            while not heard.is_set():
                sender.publish(CHANNEL, frame)
                await asyncio.sleep(0.02)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)

    asyncio.run(asyncio.wait_for(read(), 60))
    assert len(news) == (1 if kind == "replayed" else 0)
    attempt.told("frame.refused")
    attempt.ran_out(ticket)


def test_a_forged_notification_only_wakes(siege, attempt):
    ticket = attempt.on(siege.place())
    for channel in ("cerbero_orders", "cerbero_hints"):
        siege.sql("SELECT pg_notify(%s, %s)", channel, f"ticket:{ticket.pk}:allowed")
    siege.turn()
    attempt.ran_out(ticket)


# People's programs


def _program(siege: Any, who: str = "bob") -> dict[str, str]:
    token = issue_person_token(siege.desk.people[who], scopes=tuple(PERSON_SCOPES), days=1)
    return {"Authorization": f"Bearer {token}"}


def _call(path: str, headers: dict[str, str], **body: Any) -> Any:
    client = Client(raise_request_exception=False)
    return client.post(f"/api/{path}", body, content_type="application/json", headers=headers)


@pytest.mark.parametrize("path", ["approvals/{ticket}/approve", "approvals/{ticket}/signature"])
@pytest.mark.parametrize("who", ["a person's token", "a bot's token", "nobody"])
def test_a_program_says_yes(siege, attempt, path, who):
    """A person's token with every scope that there is, in the name of somebody who might."""
    ticket = attempt.on(siege.place())
    headers = {"a person's token": _program(siege), "a bot's token": bearer(siege), "nobody": {}}[who]
    answer = _call(path.format(ticket=ticket.pk), headers, digest=ticket.request.digest)
    assert answer.status_code in {401, 403}
    attempt.told("access.refused", status=answer.status_code)


def test_a_program_proposes(siege, attempt):
    body = {"account": siege.desk.account.broker_account_id, "symbol": "AAPL", "side": "buy", "quantity": "1"}
    body |= {"order_type": "market", "idempotency_key": "by-token"}
    assert _call("orders", _program(siege), **body).status_code == 403
    siege.turn()
    attempt.told("access.refused", status=403)


def test_a_program_resumes_what_was_halted(siege, attempt):
    from orders.models import TradingState

    ticket = attempt.on(siege.approved())
    TradingState.objects.filter(scope="1-everything").update(state="halted")
    answer = _call("trading-states/resume", _program(siege), scope="1-everything", reason="on we go")
    assert answer.status_code == 403
    siege.turn()
    attempt.told("access.refused", status=403)
    attempt.held(ticket, "trading_halted")


def test_a_session_says_yes_by_the_api_for_its_own_bot(siege, attempt):
    ticket = attempt.on(siege.place())
    client = signed_in(siege, "alice")
    path = f"/api/approvals/{ticket.pk}/approve"
    answer = client.post(path, {"digest": ticket.request.digest}, content_type="application/json")
    assert answer.json()["error"]["code"] == "self_approval"
    attempt.told("decision.refused", code="self_approval")


def test_another_site_calls_the_api_in_somebodys_browser(siege, attempt):
    ticket = attempt.on(siege.place())
    client = signed_in(siege, "bob", enforce_csrf_checks=True)
    path = f"/api/approvals/{ticket.pk}/approve"
    answer = client.post(path, {"digest": ticket.request.digest}, content_type="application/json")
    assert answer.json()["error"]["code"] == "csrf_failed"
    attempt.told("access.refused", status=403)


# Without the code that a shift begins with


POWERS = (
    "admin:token_issue",
    "console:new_policy",
    "console:new_mandate",
    "console:resume",
    "people:begin_passkey",
    "admin:webhook_new",
)


@pytest.mark.asks
@pytest.mark.parametrize("also", ["", "disable"])
def test_what_gives_power_is_not_done_without_stepping_up(siege, attempt, also):
    """Each address that asks for a code, by its name, also with the word that only takes a clearance away."""
    from django.urls import reverse

    client = signed_in(siege, "bob")
    for name in POWERS:
        answer = client.post(reverse(name), {"do": also} if also else {})
        assert answer.status_code == 302, name
        assert "/step-up/" in answer["Location"], name
    attempt.told("access.refused", code="permission_missing")


@pytest.mark.asks
@pytest.mark.parametrize("said", [{"do": "sign"}, {}])
def test_a_mandate_is_not_signed_without_stepping_up(siege, attempt, said):
    from django.urls import reverse

    from orders.models import Mandate
    from tests.orders.budgets import proposed

    mandate = proposed(siege.desk, "carol")
    path = reverse("console:decide_mandate", args=[mandate.pk])
    signed_in(siege, "bob").post(path, {"digest": mandate.digest, **said})
    assert Mandate.objects.get(pk=mandate.pk).status == "proposed"
    attempt.told("access.refused", code="permission_missing")


def test_a_press_by_somebody_who_was_never_let_in(siege, attempt):
    ticket = attempt.on(siege.place())
    type(siege.desk.people["bob"]).objects.filter(username="bob").update(is_staff=False)
    press(signed_in(siege, "bob"), ticket)
    type(siege.desk.people["bob"]).objects.filter(username="bob").update(is_staff=True)
    attempt.told("access.refused")
