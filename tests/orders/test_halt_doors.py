"""Every door of the kill switch: the console, the tool, the terminal, health."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from cerbero import health
from orders.admin import stopping
from orders.models import Halt, HaltedOrder, TradingState
from orders.tools import trading as tools
from tests.orders.test_halt_run import finish, rest, working
from tests.orders.world import until


@pytest.fixture
def busy(floor):
    rest(floor, 2)
    return floor


@pytest.fixture
def bob(busy):
    bob = busy.people["bob"]
    bob.user_permissions.add(Permission.objects.get(codename="view_tradingstate"))
    client = Client()
    client.force_login(bob)
    return client


def test_the_console_halts_and_shows_each_fate_and_both_claims(busy, bob, monkeypatch):
    monkeypatch.setattr(stopping, "PAGE_SECONDS", 0.0)
    assert b"cancel what opens, keep exits" in bob.get("/admin/halt/").content.lower()
    form = {"scope": "1-everything:", "mode": "cancel_all", "reason": "odd fills"}
    page = bob.post("/admin/halt/", form, follow=True)
    assert b'http-equiv="refresh"' in page.content
    row = Halt.objects.get()
    assert (row.by, row.reason, row.mode) == ("bob", "odd fills", "cancel_all")
    finish(busy, {"halt_id": str(row.pk)})
    page = bob.get(f"/admin/halts/{row.pk}/")
    assert (page.content.count(b"AAPL"), page.content.count(b"proven at")) == (2, 2)
    assert b'http-equiv="refresh"' not in page.content
    assert working(busy) == set()


def test_the_console_drills_one_account(busy, bob):
    form = {
        "scope": f"3-account:{busy.account.pk}",
        "mode": "cancel_all",
        "reason": "monthly",
        "drill": "yes",
    }
    page = bob.post("/admin/halt/", form, follow=True)
    assert page.content.count(b"would cancel") == 2
    assert len(working(busy)) == 2
    assert not TradingState.objects.exclude(state="active").exists()


def test_the_list_tells_of_every_halt_and_drill_with_fates_times_and_claims(desk):
    now, client = timezone.now(), Client()
    desk.people["bob"].user_permissions.add(Permission.objects.get(codename="view_tradingstate"))
    client.force_login(desk.people["bob"])
    assert b"Nothing was ever halted." in client.get("/admin/halts/").content
    fields = {"scope": "3-account", "scope_id": str(desk.account.pk), "mode": "cancel_all", "by": "bob"}
    times = {"started_at": now - timedelta(seconds=3), "halted_at": now - timedelta(seconds=2)}
    ended = {"finished_at": now, "released_at": now, "is_drill": True, "reason": "monthly"}
    drill = Halt.objects.create(**fields, **ended, **times)
    claims = {"finished_at": now, "no_working_orders_at": now, "reason": "odd fills", "started_at": now}
    halt = Halt.objects.create(**fields | times | claims)
    for row, fate in ((drill, "accepted"), (halt, "canceled"), (halt, "canceled"), (halt, "filled")):
        order = {"account": desk.account, "broker_order_id": str(HaltedOrder.objects.count())}
        HaltedOrder.objects.create(
            halt=row, label="Buy 1", effect="opening", action="cancel", fate=fate, **order
        )
    assert b'href="/admin/halts/"' in client.get("/admin/halt/").content
    text = client.get("/admin/halts/").content.decode()
    rows = [" ".join(re.sub("<[^>]+>", " ", row).split()) for row in re.findall("<tr><td>.*?</tr>", text)]
    assert "odd fills bob 2 canceled, 1 filled" in rows[0]
    assert rows[0].endswith("no working orders")
    assert " ago proven " in rows[0]
    assert "drill cancel every order monthly bob 1 would go 1.000 s 3.0 s neither claim" in rows[1]
    assert " ago ended " in rows[1]


def test_the_console_reduces_and_refuses_nonsense(busy, bob):
    bob.post("/admin/reduce/", {"scope": f"2-broker:{busy.login.broker}"}, follow=True)
    assert not TradingState.objects.filter(state="reducing").exists()
    bob.post("/admin/reduce/", {"scope": "2-broker", "scope_id": busy.login.broker, "reason": "thin"})
    assert TradingState.objects.get(scope="2-broker").state == "reducing"
    page = bob.post("/admin/halt/", {"scope": "9-moon:", "mode": "cancel_all"}, follow=True)
    assert b"bad_input" in page.content
    assert not Halt.objects.exists()


def test_a_bot_halts_itself_by_the_tool(busy):
    params = tools.HaltTrading(reason="confused", mode="cancel_all")
    told = tools.halt_trading(busy.scanner, params)
    until(lambda: not working(busy))
    assert [row.action for row in told.orders] == ["cancel", "cancel"]
    assert told.state == "halted"
    assert finish(busy, {"halt_id": str(told.halt_id)})["no_working_orders"]


def test_the_terminal_halts_while_the_web_is_down(busy, fresh_database):
    words = ("halt_trading", "--reason", "odd", "--mode", "cancel_all", "--by", "bob", "--wait", "20")
    done = fresh_database.manage(*words, "--scope", f"account:{busy.account.broker_account_id}")
    assert "No working orders: proven. Flat: proven." in done.stdout
    assert working(busy) == set()


def test_the_terminal_refuses_what_there_is_not(desk):
    with pytest.raises(CommandError, match="0 rows are named nobody"):
        call_command("halt_trading", "--reason", "odd", "--scope", "bot:nobody")


def test_health_names_a_halt_that_is_not_proven_in_time(desk):
    long_ago = timezone.now() - timedelta(seconds=health.HALT_UNPROVEN_SECONDS + 5)
    halt = {"scope": "1-everything", "mode": "cancel_all", "by": "bob", "reason": "x"}
    Halt.objects.create(**halt, started_at=long_ago, halted_at=long_ago)
    (record,) = health._halts(timezone.now())
    assert (record["name"], record["is_ok"]) == ("halt", False)
    Halt.objects.update(finished_at=timezone.now())
    assert health._halts(timezone.now()) == []
