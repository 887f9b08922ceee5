"""People's programs: who may what below /api/, in which shape, and that no token ever decides."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import Resolver404, resolve, reverse
from django.utils import timezone

from audit.models import Entry
from cerbero.access import PERSON_SCOPES, Actor, issue_person_token, issue_token, person
from cerbero.errors import CerberoError, ScopeMissing, SignInRequired
from cerbero.management.commands.prepare_database import ensure_groups
from cerbero.models import Decision, PersonToken, User
from tests.test_error_shape import assert_one_shape

NOBODY = "019ab000-0000-7000-8000-000000000000"
GROUPS = ("Operator", "Approver", "Auditor", "Administrator")
ALL = tuple(PERSON_SCOPES)


@pytest.fixture
def desk(db: None) -> Any:
    from tests.orders import world

    return world.build()


@pytest.fixture
def floor(fresh_database: Any, fresh_simulator: Any, redis_url: str) -> Iterator[Any]:
    """The desk with a broker of its own that fills quickly and asks nothing."""
    from brokers.connections import close_connections
    from tests.orders import world

    fresh_simulator.config(fill_delay=[0.01, 0.02], questions=[])
    yield world.connect(fresh_simulator)
    close_connections()


@pytest.fixture
def rows(desk: Any) -> dict[str, str]:
    """One row behind each list; ids by list."""
    ticket = fill(desk, 1)
    ensure_groups()
    from orders.models import DayReport, Drift, Execution, Limits, Order, Position, TradingState
    from orders.standing import PolicyVersion

    case = Drift.objects.create(account=desk.account, kind="cash_difference", subject="c:USD:1", amount=-480)
    report = DayReport.objects.create(account=desk.account, day="2026-11-20", is_clean=False, body={})
    ids = {
        "drift": str(case.pk),
        "day-reports": str(report.pk),
        "approvals": str(ticket.pk),
        "orders": str(Order.objects.get().pk),
        "executions": str(Execution.objects.get().pk),
        "positions": str(Position.objects.get().pk),
        "limits": str(Limits.objects.get().pk),
        "policies": str(PolicyVersion.objects.get().pk),
        "mandates": str(mandate(desk).pk),
        "trading-states": str(TradingState.objects.get(scope="1-everything").pk),
        **unsettled(desk),
    }
    return ids | {"groups": str(desk.place_group(desk.bracket()).pk)}


def unsettled(desk: Any) -> dict[str, str]:
    """An amendment, a sending, a cancel and a settling that waits; ids by list."""
    from cerbero import access, decisions
    from orders import hand_settling
    from orders.models import Amendment, ChangeAttempt
    from tests.orders.world import put_order

    order = put_order(desk, sent_ago=timedelta(0))
    was = {"was_quantity": order.quantity, "was_limit_price": order.limit_price, "filled_quantity": 0}
    terms = {"quantity": order.quantity + 1, "limit_price": order.limit_price, "tightens": False}
    amendment = Amendment.objects.create(order=order, bot=desk.bot, digest="d" * 64, **was, **terms)
    cancel = ChangeAttempt.objects.create(
        kind="cancel", account=desk.account, order=order, broker_order_id="17", asked_by="bob"
    )
    settling = decisions.ask(
        actor=access.system("test"),
        subject_kind=hand_settling.KIND,
        subject_id=cancel.pk,
        summary="Settle",
        digest="d" * 64,
        facts={},
        quorum=1,
        group="Approver",
        seconds=900,
        excluded_user_ids=[],
    )
    return {
        "amendments": str(amendment.pk),
        "attempts": str(order.ticket.attempts.get().pk),
        "changes": str(cancel.pk),
        "settlings": str(settling.pk),
    }


def fill(desk: Any, count: int) -> Any:
    """So many proposed orders of different sizes, each too large to pass unasked, with an execution and a position."""
    from orders.models import Execution, Position, Ticket

    for number in range(count):
        ticket = desk.place(reason="breakout", quantity=Decimal(20 + Ticket.objects.count()))
        order = desk.order(ticket)
        facts = {"account": desk.account, "instrument": desk.aapl, "side": "buy", "quantity": Decimal("1.50")}
        Execution.objects.create(
            execution_id=f"e-{ticket.pk}",
            order=order,
            broker_instrument_id="265598",
            price=Decimal("190.10"),
            executed_at=timezone.now(),
            **facts,
        )
        Position.objects.create(
            account=desk.account,
            broker_instrument_id=f"{ticket.pk}"[-12:] + str(number),
            symbol="AAPL",
            quantity=Decimal("10"),
            market_value=Decimal("1900"),
            currency="USD",
            as_of=timezone.now(),
        )
    return ticket


def mandate(desk: Any, **changes: Any) -> Any:
    """A mandate that carol proposed for the desk's bot, of AAPL."""
    from orders.standing import Mandate

    fields = {
        "account": desk.account,
        "bot": desk.bot,
        "instrument_ids": [desk.aapl.pk],
        "sides": ["buy"],
        "order_types": ["limit"],
        "order_notional_max": Decimal("1000.50"),
        "notional_max": Decimal("5000"),
        "count_max": 5,
        "expires_at": timezone.now() + timedelta(hours=1),
        "digest": "d" * 64,
        "reason": "the morning",
        "proposed_by": desk.people["carol"],
    }
    return Mandate.objects.create(**fields | changes)


def someone(name: str, *groups: str) -> User:
    user = User.objects.create_user(name, is_staff=True)
    user.groups.set(Group.objects.filter(name__in=groups))
    return user


class Program:
    """A client that sends JSON as a program would: CSRF token and all, or a bearer token."""

    def __init__(self, user: User | None = None, token: str = "") -> None:
        self.client = Client(enforce_csrf_checks=True, raise_request_exception=False)
        self.headers: dict[str, str] = {"X-Request-ID": "api-1"}
        if token:
            self.headers["Authorization"] = f"Bearer {token}"
        elif user is not None:
            self.client.force_login(user)
            self.client.cookies["csrftoken"] = "a" * 32
            self.headers["X-CSRFToken"] = "a" * 32

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        named = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        text = "" if body is None else body if isinstance(body, str) else json.dumps(body)
        return self.client.generic(method, path, text, "application/json", headers=named)

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(path, query, headers=self.headers)

    def post(self, path: str, body: Any = None) -> Any:
        return self.ask("POST", path, {} if body is None else body)


def as_role(role: str, name: str = "dora") -> Program:
    """`Operator`, `Auditor+all` (that person's token with every scope), `Approver+read`, `bot`, `nobody` …"""
    group, _, scopes = role.partition("+")
    if group == "nobody":
        return Program()
    if group == "bot":
        from cerbero.models import Bot

        return Program(token=issue_token(Bot.objects.get()))
    user = someone(name, *([group] if group in GROUPS else []))
    if scopes:
        carried = ALL if scopes == "all" else (scopes,)
        return Program(token=issue_person_token(user, scopes=carried, days=1))
    return Program(user)


def code(response: Any) -> str:
    return response.json()["error"]["code"]


# What each address answers each role. Reads are the same for all lists; an empty body is enough for the rest: 422 says
# that the caller was let in, 403 that they were not.
LISTS = (
    *("approvals", "orders", "executions", "positions", "drift", "day-reports", "limits", "policies"),
    *("groups", "mandates", "trading-states", "amendments", "attempts", "changes", "settlings"),
)
READ = [(name, "GET", f"/api/{name}") for name in LISTS] + [
    (name, "GET", f"/api/{name}/ID") for name in LISTS
]
ACTS = {
    "approve": ("approvals", "POST", "/api/approvals/ID/approve"),
    "signature": ("approvals", "POST", "/api/approvals/ID/signature"),
    "reject": ("approvals", "POST", "/api/approvals/ID/reject"),
    "counter": ("approvals", "POST", "/api/approvals/ID/counter"),
    "sign": ("mandates", "POST", "/api/mandates/ID/sign"),
    "decline": ("mandates", "POST", "/api/mandates/ID/decline"),
    "revoke": ("mandates", "POST", "/api/mandates/ID/revoke"),
    "sign amendment": ("amendments", "POST", "/api/amendments/ID/signature"),
    "sign mandate": ("mandates", "POST", "/api/mandates/ID/signature"),
    "approve amendment": ("amendments", "POST", "/api/amendments/ID/approve"),
    "reject amendment": ("amendments", "POST", "/api/amendments/ID/reject"),
    "approve settling": ("settlings", "POST", "/api/settlings/ID/approve"),
    "reject settling": ("settlings", "POST", "/api/settlings/ID/reject"),
    "settle sending": ("attempts", "POST", "/api/attempts/ID/settle"),
    "settle change": ("changes", "POST", "/api/changes/ID/settle"),
    "amend": ("orders", "POST", "/api/orders/NOBODY/amend"),
    "propose": ("orders", "POST", "/api/orders"),
    "cancel": ("orders", "POST", "/api/orders/NOBODY/cancel"),
    "cancel set": ("groups", "POST", "/api/groups/NOBODY/cancel"),
    "cancel all": ("orders", "POST", "/api/orders/cancel-all"),
    "close": ("positions", "POST", "/api/positions/close"),
    "close all": ("positions", "POST", "/api/positions/close-all"),
    "halt": ("trading-states", "POST", "/api/trading-states/halt"),
    "resume": ("trading-states", "POST", "/api/trading-states/resume"),
}
REDUCES = {"reject", "reject amendment", "cancel", "cancel set", "cancel all", "close", "close all", "halt"}
MAY = {
    "Operator": {
        "propose",
        "amend",
        "cancel",
        "cancel set",
        "cancel all",
        "close",
        "close all",
        "halt",
        "revoke",
    },
    "Approver": {
        *(
            "sign amendment",
            "sign mandate",
            "approve amendment",
            "reject amendment",
            "approve settling",
            "reject settling",
        ),
        *("settle sending", "settle change", "amend"),
        *("approve", "signature", "reject", "counter", "sign", "decline", "revoke"),
        *("propose", "cancel", "cancel set", "cancel all", "close", "close all", "halt"),
    },
    "Auditor": set(),
    "Administrator": {"halt", "resume", "revoke"},
    "no group": set(),
}
READERS = ("Operator", "Approver", "Auditor", "Administrator", "Approver+all", "Auditor+read")
STRANGERS = {"nobody": 401, "bot": 401, "no group": 403, "Approver+cancel": 403, "no group+all": 403}


@pytest.mark.parametrize("role", [*READERS, *STRANGERS])
def test_who_may_read(rows: dict[str, str], role: str) -> None:
    program = as_role(role)
    for name, method, path in READ:
        response = program.ask(method, path.replace("ID", rows[name]))
        assert response.status_code == STRANGERS.get(role, 200), (path, response.content)


def acting() -> Iterator[tuple[str, str, int]]:
    """Role, act and status: 422 for a body that was read, 404 for a cancel of nothing, else the refusal."""
    let_in = {"cancel": 404, "cancel set": 404}
    for role, may in MAY.items():
        for act in ACTS:
            yield role, act, let_in.get(act, 422) if act in may else 403
            by_token = act in may and act in REDUCES
            yield f"{role}+all", act, let_in.get(act, 422) if by_token else 403
            yield f"{role}+read", act, 403
    for act in sorted(REDUCES):
        yield f"Approver+{act.split()[0]}", act, let_in.get(act, 422)
    for act in ACTS:
        yield "nobody", act, 401
        yield "bot", act, 401


@pytest.mark.parametrize("role", sorted({role for role, _, _ in acting()}))
def test_who_may_act(rows: dict[str, str], role: str) -> None:
    program = as_role(role)
    for act, status in [(act, status) for each, act, status in acting() if each == role]:
        name, method, path = ACTS[act]
        # What one act changed is undone before the next.
        before = transaction.savepoint()
        response = program.ask(method, path.replace("ID", rows[name]).replace("NOBODY", NOBODY), {})
        transaction.savepoint_rollback(before)
        assert response.status_code == status, (act, response.content)
        assert_one_shape(status, response.content, "api-1")


def test_the_table_names_every_act_that_there_is() -> None:
    assert set(acts_of_schema()) == {
        path.replace("NOBODY", "{id}").replace("ID", "{id}") for _, _, path in ACTS.values()
    }


def acts_of_schema() -> list[str]:
    schema = Client().get("/api/schema").json()
    return [
        path
        for path, methods in schema["paths"].items()
        if path.startswith("/api/") and set(methods) - {"get", "parameters"}
    ]


def test_no_route_decides_by_token(desk: Any) -> None:
    """Every address, with every method and the best body, for a token that carries every scope of a person who may all."""
    ticket = desk.place()
    user = someone("dora", *GROUPS)
    program = Program(token=issue_person_token(user, scopes=ALL, days=1))
    body = {"digest": ticket.request.digest, "reason": "sure", "scope": "everything", "is_yes": True}
    body |= order_of(desk)
    for path in Client().get("/api/schema").json()["paths"]:
        address = path.replace("{id}", str(ticket.pk))
        if path.endswith(
            ("reject", "cancel", "halt", "close", "-all", "rotate-keys/start", "rotate-keys/abort")
        ):
            continue
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert program.ask(method, address, body).status_code in {403, 404, 405}, (method, path)
    ticket.refresh_from_db()
    assert ticket.status == "proposed"
    assert not Decision.objects.exists()
    assert desk.account.tickets.count() == 1
    assert code(program.post(f"/api/approvals/{ticket.pk}/approve", body)) == "sign_in_required"
    assert Entry.objects.filter(event="access.refused", actor_name="dora").exists()


def test_no_service_decides_by_token_either(desk: Any) -> None:
    """Past every door: the services know who a token is."""
    from orders import halting, services, trading

    ticket = desk.place()
    desk.people["bob"].groups.set(Group.objects.filter(name__in=GROUPS))
    bob = person(desk.people["bob"])
    token = Actor(**{**vars(bob), "door": "token", "scopes": frozenset(ALL)})
    yes = {"ticket_id": ticket.pk, "digest": ticket.request.digest, "is_yes": True}
    for act in (
        lambda: services.decide_ticket(actor=token, **yes),
        lambda: services.place_order(actor=token, proposal=desk.proposal()),
        lambda: trading.resume_trading(actor=token, reason="go"),
    ):
        with pytest.raises(SignInRequired):
            act()
    read = Actor(**{**vars(token), "scopes": frozenset({"read"})})
    with pytest.raises(ScopeMissing):
        halting.halt_trading(actor=read, reason="stop")
    assert Entry.objects.filter(event="decision.refused", details__code="sign_in_required").exists()


def order_of(desk: Any, **changes: Any) -> dict[str, Any]:
    return {
        "account": desk.account.broker_account_id,
        "symbol": "AAPL",
        "side": "buy",
        "quantity": "10",
        "order_type": "limit",
        "limit_price": "190.00",
        "idempotency_key": "mine-1",
    } | changes


def test_a_person_approves_what_the_digest_names_and_nothing_else(desk: Any) -> None:
    ticket, bob = desk.place(), Program(desk.people["bob"])
    seen = bob.get(f"/api/approvals/{ticket.pk}").json()
    assert (seen["status"], seen["digest"], seen["bot"]) == (
        "pending",
        ticket.request.digest,
        "scanner-alpha",
    )
    assert seen["orders"][0]["limit_price"] == "190"
    address = f"/api/approvals/{ticket.pk}/approve"
    assert code(bob.post(address, {"digest": "0" * 64})) == "digest_mismatch"
    done = bob.post(address, {"digest": seen["digest"]})
    assert (done.status_code, done.json()["status"], done.json()["ticket_status"]) == (
        200,
        "approved",
        "allowed",
    )
    assert [(each["person"], each["is_yes"]) for each in done.json()["decisions"]] == [("bob", True)]
    assert code(bob.post(address, {"digest": seen["digest"]})) == "already_decided"
    called = Entry.objects.filter(event="api.called", subject_id="approvals.approve").order_by("id")
    assert [entry.details["outcome"] for entry in called] == ["digest_mismatch", "ok", "already_decided"]
    assert {entry.request_id for entry in called} == {"api-1"}


def test_a_person_counters_and_another_decides_on_the_new_terms(desk: Any) -> None:
    ticket, bob, carol = desk.place(), Program(desk.people["bob"]), Program(desk.people["carol"])
    said = {"digest": ticket.request.digest, "reason": "smaller first"}
    address = f"/api/approvals/{ticket.pk}/counter"
    worse = bob.post(address, said | {"quantity": "11"})
    assert (worse.status_code, code(worse)) == (422, "bad_input")
    stale = bob.post(address, said | {"quantity": "4", "digest": "0" * 64})
    assert (stale.status_code, code(stale)) == (409, "digest_mismatch")
    made = bob.post(address, said | {"quantity": "6", "limit_price": "189.50"})
    assert made.status_code == 201, made.content
    told = made.json()
    assert (told["orders"][0]["quantity"], told["orders"][0]["limit_price"]) == ("6", "189.5")
    ticket.refresh_from_db()
    assert (ticket.status, ticket.refusal_code) == ("denied", "countered")
    yes = {"digest": told["digest"], "is_confirmed": True}
    assert code(bob.post(f"/api/approvals/{told['id']}/approve", yes)) == "self_approval"
    assert carol.post(f"/api/approvals/{told['id']}/approve", yes).json()["status"] == "approved"
    again = carol.post(address, said | {"quantity": "5"})
    assert (again.status_code, code(again)) == (409, "already_decided")


def test_a_person_signs_declines_and_revokes_a_mandate(fresh_database: Any) -> None:
    from orders import mandates
    from tests.orders import world
    from tests.orders.budgets import terms as _terms

    desk = world.build()
    ensure_groups()
    first, second = (
        mandates.propose_mandate(actor=desk.person("bob"), terms=_terms(desk, count_max=count))
        for count in (1, 2)
    )
    bob, carol = Program(desk.people["bob"]), Program(desk.people["carol"])
    shown, other = {"digest": first.digest}, {"digest": second.digest}
    assert code(bob.post(f"/api/mandates/{first.pk}/sign", shown)) == "self_approval"
    assert code(carol.post(f"/api/mandates/{first.pk}/sign", other)) == "digest_mismatch"
    signed = carol.post(f"/api/mandates/{first.pk}/sign", shown)
    assert (signed.status_code, signed.json()["status"]) == (200, "active")
    missing = carol.post(f"/api/mandates/{second.pk}/decline", other)
    assert (missing.status_code, code(missing)) == (422, "bad_input")
    no = carol.post(f"/api/mandates/{second.pk}/decline", other | {"reason": "one is enough"})
    assert no.json()["status"] == "declined"
    over = carol.post(f"/api/mandates/{first.pk}/revoke", {"reason": "done for today"})
    assert (over.status_code, over.json()["status"], over.json()["revoked_by"]) == (200, "revoked", "carol")
    called = Entry.objects.filter(event="api.called", subject_id="mandates.sign")
    assert list(called.values_list("details__outcome", flat=True)) == [
        "self_approval",
        "digest_mismatch",
        "ok",
    ]
    token = issue_person_token(desk.people["carol"], scopes=ALL, days=1)
    refused = Program(token=token).post(f"/api/mandates/{first.pk}/sign", shown)
    assert code(refused) == "sign_in_required"


def test_an_amendment_is_asked_for_decided_and_settled_here(floor: Any) -> None:
    from orders.models import ChangeAttempt

    ensure_groups()
    price = (floor.near() * Decimal("0.98")).quantize(Decimal("0.01"))
    ticket = floor.approved(limit_price=price)
    floor.turn()
    order, bob, carol = floor.order(ticket), Program(floor.people["bob"]), Program(floor.people["carol"])
    wanted = {"quantity": "12", "quantity_is": "total", "reason": "more of it"}
    made = bob.post(f"/api/orders/{order.pk}/amend", wanted)
    assert (made.status_code, made.json()["status"], made.json()["tightens"]) == (201, "proposed", False)
    (row,) = carol.get("/api/amendments", waiting="true", symbol="aapl").json()["results"]
    assert (row["was_quantity"], row["quantity"], row["person"]) == ("10", "12", "bob")
    assert "total 10 → 12" in row["summary"]
    address, shown = f"/api/amendments/{row['id']}", {"digest": row["digest"]}
    assert code(bob.post(f"{address}/approve", shown)) == "self_approval"
    assert code(carol.post(f"{address}/approve", {"digest": "0" * 64})) == "digest_mismatch"
    assert carol.post(f"{address}/approve", shown).json()["status"] == "allowed"
    floor.sim.fault("drop_after", path=r"/order/\d+", method="POST", times=1)
    floor.turn()
    (change,) = carol.get("/api/changes", status="in_doubt", kind="amend").json()["results"]
    assert change["amendment_id"] == row["id"]
    settle = f"/api/changes/{change['id']}/settle"
    assert code(carol.post(settle, {"verdict": "never_arrived", "reason": "a guess"})) == "bad_input"
    done = carol.post(settle, {"verdict": "arrived", "reason": "seen in TWS"}).json()
    assert (done["status"], done["settling"]) == ("settled", None)
    assert carol.get(address).json()["status"] == "done"
    assert ChangeAttempt.objects.get().outcome["by"] == "carol"


def test_the_bots_owner_is_refused_here_too(desk: Any) -> None:
    ticket = desk.place()
    answer = Program(desk.people["alice"]).post(
        f"/api/approvals/{ticket.pk}/approve", {"digest": ticket.request.digest}
    )
    assert (answer.status_code, code(answer)) == (403, "self_approval")


def test_the_approver_sets_the_drift_of_one_ticket(desk: Any) -> None:
    ticket, bob = desk.place(), Program(desk.people["bob"])
    address, body = f"/api/approvals/{ticket.pk}/approve", {"digest": ticket.request.digest}
    assert code(bob.post(address, body | {"drift_percent": "1000"})) == "bad_input"
    assert bob.post(address, body | {"drift_percent": "0.5"}).json()["status"] == "approved"
    assert Decision.objects.get().conditions == {"drift_percent": "0.5"}


def test_a_token_closes_what_the_broker_holds(floor: Any) -> None:
    from tests.orders.world import until

    floor.near()
    token = issue_person_token(floor.people["bob"], scopes=("close",), days=1)
    program = Program(token=token)
    body = {"account": floor.account.broker_account_id, "symbol": "AAPL", "idempotency_key": "close-1"}
    assert code(program.post("/api/positions/close", body)) == "nothing_to_close"
    ticket = floor.approved(limit_price=floor.near() + 1)
    floor.turn()
    until(lambda: floor.reconcile() or floor.turn() or floor.order(ticket).status == "filled")
    closed = program.post("/api/positions/close", body | {"quantity": "4"})
    assert (closed.status_code, closed.json()["side"], closed.json()["quantity"]) == (201, "sell", "4")
    assert closed.json()["ticket_status"] == "allowed"
    rest = {"account": body["account"], "idempotency_key": "all"}
    (all_,) = program.post("/api/positions/close-all", rest).json()
    assert (all_["held"], all_["order"]["quantity"], all_["refusal_code"]) == ("10", "6", "")
    (again,) = program.post("/api/positions/close-all", rest | {"idempotency_key": "other"}).json()
    assert (again["order"], again["refusal_code"]) == (None, "nothing_to_close")


def test_a_token_cancels_all_of_an_account(desk: Any) -> None:
    token = issue_person_token(desk.people["bob"], scopes=("cancel",), days=1)
    desk.place(), desk.place_group(desk.bracket())
    body = {"account": desk.account.broker_account_id}
    done = Program(token=token).post("/api/orders/cancel-all", body).json()
    assert [each["order"]["status"] for each in done] == ["canceled"] * 4
    assert Program(token=token).post("/api/orders/cancel-all", body).json() == []


def test_a_token_rejects_with_a_reason_that_the_bot_reads(desk: Any) -> None:
    ticket = desk.place()
    token = issue_person_token(desk.people["bob"], scopes=("reject",), days=1)
    program, address = Program(token=token), f"/api/approvals/{ticket.pk}/reject"
    assert code(program.post(address, {"digest": ticket.request.digest, "reason": " "})) == "bad_input"
    done = program.post(address, {"digest": ticket.request.digest, "reason": "too large"})
    assert (done.json()["status"], done.json()["ticket_status"]) == ("rejected", "denied")
    ticket.refresh_from_db()
    assert ticket.refusal == {"reason": "too large"}
    entry = Entry.objects.get(event="api.called")
    assert (entry.actor_name, entry.details["door"]) == ("bob", "token")
    assert entry.details["tag"] == f"cbp_{token.split('_')[1]}_…"


def test_a_person_proposes_through_the_same_gate_and_cannot_decide_on_it(desk: Any) -> None:
    user = someone("dora", "Approver")
    dora = Program(user)
    made = dora.post("/api/orders", order_of(desk, limit_price="189.50"))
    assert (made.status_code, made.json()["ticket_status"]) == (201, "proposed")
    assert (made.json()["person"], made.json()["limit_price"]) == ("dora", "189.5")
    again = dora.post("/api/orders", order_of(desk, limit_price="189.50"))
    assert again.json()["id"] == made.json()["id"]
    assert code(dora.post("/api/orders", order_of(desk, limit_price="189.40"))) == "idempotency_conflict"
    ticket = made.json()["ticket_id"]
    digest = dora.get(f"/api/approvals/{ticket}").json()["digest"]
    assert code(dora.post(f"/api/approvals/{ticket}/approve", {"digest": digest})) == "self_approval"
    canceled = dora.post(f"/api/orders/{made.json()['id']}/cancel")
    assert (canceled.json()["ticket_status"], canceled.json()["status"]) == ("withdrawn", "canceled")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"quantity": "NaN"}, "quantity"),
        ({"quantity": True}, "quantity"),
        ({"side": "hold"}, "side"),
        ({"limit_price": None}, "limit_price"),
        ({"colour": "red"}, "colour"),
        ({"account": "DU 1; --"}, "account"),
    ],
)
def test_a_proposal_that_is_wrong_names_the_field(desk: Any, changes: dict, field: str) -> None:
    answer = Program(someone("dora", "Operator")).post("/api/orders", order_of(desk, **changes))
    assert (answer.status_code, code(answer)) == (422, "bad_input")
    assert [each["field"] for each in answer.json()["error"]["details"]["fields"]] == [field]


@pytest.mark.parametrize("changes", [{"quantity": "0"}, {"stop_price": "1"}])
def test_a_proposal_that_no_order_can_have_names_the_field(desk: Any, changes: dict) -> None:
    answer = Program(someone("dora", "Operator")).post("/api/orders", order_of(desk, **changes))
    assert (answer.status_code, code(answer)) == (422, "impossible_order")
    assert [each["field"] for each in answer.json()["error"]["details"]["problems"]] == list(changes)


def test_a_halt_by_token_holds_and_only_a_session_resumes(desk: Any) -> None:
    user = someone("dora", "Administrator")
    program = Program(token=issue_person_token(user, scopes=("halt", "read"), days=1))
    done = program.post("/api/trading-states/halt", {"reason": "drill"})
    assert (done.status_code, done.json()["state"]) == (200, "halted")
    halted = program.get("/api/trading-states", state="halted").json()["results"]
    assert [(row["scope"], row["changed_by"], row["reason"]) for row in halted] == [
        ("everything", "dora", "drill")
    ]
    with pytest.raises(CerberoError):
        desk.place()
    assert code(program.post("/api/trading-states/resume", {"reason": "go"})) == "sign_in_required"
    assert Program(user).post("/api/trading-states/resume", {"reason": "go"}).json()["state"] == "active"


def test_a_session_without_its_csrf_token_changes_nothing(desk: Any) -> None:
    ticket = desk.place()
    bob = Program(desk.people["bob"])
    del bob.headers["X-CSRFToken"]
    body = {"digest": ticket.request.digest, "reason": "no"}
    for act in ("approve", "reject"):
        answer = bob.post(f"/api/approvals/{ticket.pk}/{act}", body)
        assert (answer.status_code, code(answer)) == (403, "csrf_failed")
    assert bob.get("/api/approvals").status_code == 200
    assert not Decision.objects.exists()


@pytest.mark.parametrize("ended", ["revoked", "expired", "inactive", "no staff"])
def test_a_token_that_ended_opens_nothing_even_beside_a_session(desk: Any, ended: str) -> None:
    user = someone("dora", "Approver")
    program = Program(token=issue_person_token(user, scopes=ALL, days=1))
    assert program.get("/api/orders").status_code == 200
    if ended == "revoked":
        PersonToken.objects.update(revoked_at=timezone.now())
    elif ended == "expired":
        PersonToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    else:
        User.objects.filter(pk=user.pk).update(**{"is_active" if ended == "inactive" else "is_staff": False})
    assert program.get("/api/orders").status_code == 401
    program.client.force_login(desk.people["bob"])
    assert program.get("/api/orders").status_code == 401


def test_a_persons_token_opens_no_tool(desk: Any) -> None:
    token = issue_person_token(someone("dora", *GROUPS), scopes=ALL, days=1)
    headers = {"Authorization": f"Bearer {token}", "X-Bot-Tag": "a"}
    answer = Client().post("/tools/list_orders", {}, content_type="application/json", headers=headers)
    assert (answer.status_code, code(answer)) == (401, "not_authenticated")


def test_the_bots_port_has_no_such_address() -> None:
    for path in ("/api/orders", "/api/schema", "/api/trading-states/halt"):
        assert resolve(path)
        with pytest.raises(Resolver404):
            resolve(path, "cerbero.tool_urls")


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "found"),
    [
        ("GET", "/api/orders/x", "", {}, 404, "not_found"),
        ("GET", f"/api/orders/{NOBODY}", "", {}, 404, "not_found"),
        ("GET", "/api/nothing", "", {}, 404, "not_found"),
        ("DELETE", "/api/orders", "", {}, 405, "method_not_allowed"),
        ("OPTIONS", "/api/orders", "", {}, 405, "method_not_allowed"),
        ("GET", "/api/orders", "", {"Accept": "text/html"}, 406, "not_acceptable"),
        (
            "POST",
            "/api/orders",
            "a=b",
            {"Content_Type": "application/x-www-form-urlencoded"},
            415,
            "unsupported_media_type",
        ),
        ("POST", "/api/orders", "{", {}, 400, "malformed_request"),
        ("POST", "/api/orders", "[]", {}, 400, "malformed_request"),
        ("POST", "/api/orders", '{"quantity": NaN}', {}, 400, "malformed_request"),
        ("POST", "/api/orders", '{"side": "buy", "side": "sell"}', {}, 400, "malformed_request"),
        ("POST", "/api/orders", json.dumps({"reason": "x" * 70_000}), {}, 413, "payload_too_large"),
        ("GET", "/api/orders?acount=DU1", "", {}, 422, "bad_input"),
        ("GET", "/api/orders?limit=201", "", {}, 422, "bad_input"),
        ("GET", "/api/orders?limit=0", "", {}, 422, "bad_input"),
        ("GET", "/api/orders?status=lost", "", {}, 422, "bad_input"),
        ("GET", "/api/orders?since=yesterday", "", {}, 422, "bad_input"),
        ("GET", "/api/orders?ordering=text", "", {}, 422, "bad_input"),
        ("GET", "/api/orders?cursor=zzz", "", {}, 422, "bad_input"),
        ("GET", "/api/orders?cursor=cD1nYXJiYWdl", "", {}, 422, "bad_input"),
        ("GET", "/api/orders?symbol=%00", "", {}, 422, "bad_input"),
    ],
)
def test_every_refusal_has_the_one_shape(
    desk: Any, method: str, path: str, body: str, headers: dict, status: int, found: str
) -> None:
    program = Program(someone("dora", "Approver"))
    kind = headers.pop("Content_Type", "application/json")
    response = program.client.generic(method, path, body, kind, headers=program.headers | headers)
    assert (response.status_code, response["Content-Type"]) == (status, "application/json"), response.content
    assert code(response) == found
    assert_one_shape(status, response.content, "api-1")


def test_a_crash_says_nothing_but_the_request_id(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from orders import services

    def crash(**_: Any) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr(services, "cancel_order", crash)
    response = Program(desk.people["bob"]).post(f"/api/orders/{NOBODY}/cancel")
    assert_one_shape(500, response.content, "api-1")
    assert b"secret inside" not in response.content
    assert Entry.objects.get(event="api.called").details["outcome"] == "internal_error"


def test_too_many_questions_wait_and_what_reduces_risk_never_does(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orders.api.callers import Pace

    monkeypatch.setattr(Pace, "rate", "3/min")
    program = Program(someone("dora", "Approver"))
    assert [program.get("/api/orders").status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = program.get("/api/orders")
    assert_one_shape(429, refused.content, "api-1")
    assert int(refused["Retry-After"]) > 0
    for _ in range(5):
        assert program.post("/api/trading-states/halt", {"reason": "stop"}).status_code == 200
        assert program.post(f"/api/orders/{NOBODY}/cancel").status_code == 404


def test_pages_are_capped_and_lose_nothing(desk: Any) -> None:
    fill(desk, 7)
    program = Program(someone("dora", "Auditor"))
    for name in ("orders", "approvals", "executions", "positions"):
        seen, address = [], f"/api/{name}?limit=3"
        while address:
            page = program.ask("GET", address).json()
            assert len(page["results"]) <= 3
            seen += [row["id"] for row in page["results"]]
            address = page["next"] and page["next"].replace("http://testserver", "")
        assert len(seen) == len(set(seen)) == 7, name
    newest = [row["created_at"] for row in program.get("/api/orders").json()["results"]]
    oldest = [
        row["created_at"] for row in program.get("/api/orders", ordering="created_at").json()["results"]
    ]
    assert newest == sorted(newest, reverse=True) == oldest[::-1]


def test_a_list_without_a_limit_is_capped(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from orders.api.listing import Pages

    monkeypatch.setattr(Pages, "page_size", 2)
    fill(desk, 3)
    assert len(Program(someone("dora", "Auditor")).get("/api/orders").json()["results"]) == 2


def test_filters_narrow(desk: Any) -> None:
    fill(desk, 2)
    desk.decide(desk.place())
    program = Program(someone("dora", "Auditor"))
    between = (timezone.now() + timedelta(hours=1)).isoformat()

    def count(name: str, **query: Any) -> int:
        return len(program.get(f"/api/{name}", **query).json()["results"])

    account = desk.account.broker_account_id
    for name, found in (("orders", 3), ("approvals", 3), ("executions", 2)):
        for query in ({"account": account}, {"bot": "scanner-alpha"}, {"symbol": "aapl"}, {"until": between}):
            assert count(name, **query) == found, (name, query)
        for query in ({"account": "DU9"}, {"bot": "other"}, {"symbol": "SPY"}, {"since": between}):
            assert count(name, **query) == 0, (name, query)
    assert (count("orders", status="pending"), count("orders", status="filled")) == (3, 0)
    assert (count("approvals", status="approved"), count("approvals", waiting="true")) == (1, 2)
    assert count("approvals", waiting="false") == 1
    assert (count("positions", symbol="AAPL"), count("positions", account="DU9")) == (2, 0)
    assert (count("limits", account=account), count("limits", account="DU9")) == (1, 0)
    assert count("trading-states", scope="bot") == 1


def test_a_longer_list_asks_no_more_of_the_database(desk: Any) -> None:
    program = Program(someone("dora", "Auditor"))

    def asked(name: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert program.get(f"/api/{name}").status_code == 200
        return len(captured)

    def queries() -> dict[str, int]:
        return {name: asked(name) for name in LISTS}

    fill(desk, 2)
    mandate(desk)
    desk.decide(desk.place())
    desk.place_group(desk.bracket())
    queries()  # The first one notes the session.
    few = queries()
    fill(desk, 5)
    mandate(desk, instrument_ids=[])
    desk.decide(desk.place())
    desk.decide(desk.place(), "carol")
    desk.place_group(desk.bracket())
    assert queries() == few


def test_a_group_is_read_whole_and_canceled_by_token(desk: Any) -> None:
    ticket = desk.place_group(desk.bracket())
    program = Program(token=issue_person_token(desk.people["bob"], scopes=("read", "cancel"), days=1))
    row = program.get("/api/groups", group="bracket", symbol="aapl").json()["results"][0]
    assert (row["id"], row["group"], row["bot"]) == (str(ticket.pk), "bracket", "scanner-alpha")
    assert [each["role"] for each in row["orders"]] == ["entry", "take_profit", "stop_loss"]
    assert (row["open_quantity"], row["is_naked"]) == ("0", False)
    assert program.get("/api/groups", group="oco").json()["results"] == []
    done = program.post(f"/api/groups/{ticket.pk}/cancel").json()
    assert (done["status"], program.get(f"/api/groups/{ticket.pk}").json()["status"]) == ("withdrawn",) * 2


def test_policies_and_mandates_are_read(desk: Any) -> None:
    made = mandate(desk)
    program = Program(someone("dora", "Auditor"))
    policy = program.get("/api/policies", status="active").json()["results"][0]
    assert (policy["number"], policy["rules"][-1]["then"]["do"]) == (1, "refuse")
    row = program.get("/api/mandates", symbol="aapl", bot="scanner-alpha").json()["results"][0]
    assert (row["id"], row["symbols"], row["order_notional_max"]) == (str(made.pk), ["AAPL"], "1000.5")
    assert (row["used_notional"], row["used_count"], row["proposed_by"]) == ("0", 0, "carol")
    for query in ({"symbol": "SPY"}, {"status": "active"}, {"account": "DU9"}):
        assert program.get("/api/mandates", **query).json()["results"] == []


def test_decimals_are_plain_text(desk: Any) -> None:
    fill(desk, 1)
    program = Program(someone("dora", "Auditor"))
    fill_row = program.get("/api/executions").json()["results"][0]
    assert (fill_row["quantity"], fill_row["price"], fill_row["commission"]) == ("1.5", "190.1", None)
    limits = program.get("/api/limits").json()["results"][0]
    assert (limits["notional_max"], limits["account"]) == ("100000", desk.account.broker_account_id)


def test_the_schema_names_every_address_with_its_filters_and_who_may_call() -> None:
    schema = Client().get("/api/schema")
    assert schema.status_code == 200
    paths = schema.json()["paths"]
    assert {f"/api/{name}" for name in LISTS} <= set(paths)
    named = {parameter["name"] for parameter in paths["/api/orders"]["get"]["parameters"]}
    assert named == {"account", "bot", "cursor", "limit", "ordering", "since", "status", "symbol", "until"}
    assert paths["/api/approvals/{id}/approve"]["post"]["requestBody"]["required"]
    assert {"PersonToken": []} in paths["/api/orders"]["get"]["security"]
    order = schema.json()["components"]["schemas"]["OrderRow"]["properties"]
    assert order["quantity"]["type"] == "string"


def token_page(client: Client, **form: Any) -> str:

    sent = {"label": "laptop", "scopes": ["read", "halt"], "days": "30"} | form
    found = re.search(r"cbp_[\w-]+", client.post(reverse("admin:person_token_issue"), sent).content.decode())
    return found[0] if found else ""


def test_a_person_issues_their_own_token_once_and_revokes_it(desk: Any) -> None:
    user, client = someone("dora", "Auditor"), Client()
    client.force_login(user)
    token = token_page(client)
    program = Program(token=token)
    assert program.get("/api/orders").status_code == 200
    # A scope adds nothing to what its person may.
    assert code(program.post("/api/trading-states/halt", {"reason": "x"})) == "permission_missing"
    assert token not in client.get(reverse("admin:cerbero_persontoken_changelist")).content.decode()
    issued = Entry.objects.get(event="persontoken.issued")
    assert (issued.actor_name, issued.details["scopes"]) == ("dora", ["halt", "read"])
    assert token.split("_", 2)[2] not in str(issued.details)
    address = reverse("admin:person_token_revoke", args=[PersonToken.objects.get().pk])
    assert client.get(address).status_code == 200
    client.post(address)
    assert program.get("/api/orders").status_code == 401
    client.post(address)
    assert Entry.objects.filter(event="persontoken.revoked", actor_name="dora").count() == 1


def test_others_neither_see_nor_revoke_a_token_and_administrators_do(desk: Any) -> None:
    token = issue_person_token(someone("dora", "Operator"), scopes=("read",), days=1)
    row = PersonToken.objects.get()
    revoke = reverse("admin:person_token_revoke", args=[row.pk])
    listed = reverse("admin:cerbero_persontoken_changelist")
    for name, group, sees, revokes in (
        ("erin", "Operator", False, 403),
        ("frank", "Auditor", True, 403),
        ("grace", "Administrator", True, 302),
    ):
        client = Client()
        client.force_login(someone(name, group))
        assert (row.prefix in client.get(listed).content.decode()) == sees, name
        assert client.post(revoke).status_code == revokes, name
        assert (Program(token=token).get("/api/orders").status_code == 200) == (revokes == 403)


@pytest.mark.parametrize("wrong", [{"scopes": ["approve"]}, {"scopes": []}, {"days": "0"}, {"days": "366"}])
def test_a_token_that_would_be_wrong_is_not_issued(desk: Any, wrong: dict) -> None:
    client = Client()
    client.force_login(desk.people["bob"])
    assert token_page(client, **wrong) == ""
    assert not PersonToken.objects.exists()


def test_the_database_keeps_no_token_that_decides(desk: Any) -> None:
    with pytest.raises(IntegrityError, match="person_token_never_decides"):
        PersonToken.objects.create(
            person=desk.people["bob"],
            prefix="0" * 8,
            digest="d",
            scopes=["read", "approve"],
            expires_at=timezone.now() + timedelta(days=1),
        )
