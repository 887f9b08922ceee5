"""What stands around an order: halts, pauses, approvals, Postgres, Redis, sessions, and the night."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db import IntegrityError, connection, connections

from tests.faults.cases import Play, add
from tests.faults.nest import LEASE_SECONDS, PATIENCE
from tests.faults.paths import ASKED, allow_exits, hit
from tests.faults.stage import Stage


def halting(place: str, mode: str, *, asks: bool = False) -> Play:
    """Halted while the sender stands between two steps: nothing leaves that had not left."""

    def play(stage: Stage) -> None:
        if asks:
            stage.config(questions=[ASKED])
            stage.allow_questions(ASKED)
        stage.arm("orders", place, how="SIGSTOP")
        stage.order()
        stage.until_stopped("orders")
        stage.halt(mode)
        stage.tell("orders", signal.SIGCONT)

    return play


def halted_before(stage: Stage) -> None:
    """Halted with orders waiting and more coming."""
    stage.tell("orders", signal.SIGSTOP)
    for _ in range(3):
        stage.order()
    stage.halt()
    stage.tell("orders", signal.SIGCONT)


def pausing(place: str, *, asks: bool = False) -> Play:
    """Paused past its lease; another takes over; then it goes on."""

    def play(stage: Stage) -> None:
        if asks:
            stage.config(questions=[ASKED])
            stage.allow_questions(ASKED)
        stage.arm("orders", place, how="SIGSTOP")
        stage.order()
        stage.until_stopped("orders")
        stage.lane.start("orders", "orders-2")
        time.sleep(LEASE_SECONDS * 1.12)
        stage.until_taken_over()
        stage.tell("orders", signal.SIGCONT)

    return play


def keeper_paused(place: str, fault: str) -> Play:
    """Reconciliation is paused past its lease, and another goes on."""

    def play(stage: Stage) -> None:
        hit(stage, fault, "/orders$")
        stage.arm("keeper", place, how="SIGSTOP")
        stage.order()
        stage.until_stopped("keeper")
        stage.lane.start("keeper", "keeper-2")
        time.sleep(LEASE_SECONDS * 1.4)
        stage.tell("keeper", signal.SIGCONT)

    return play


def expired(stage: Stage) -> None:
    """The approval runs out between the decision and the sending."""
    from django.conf import settings

    stage.arm("orders", "place.before_claim", how="SIGSTOP")
    before, settings.APPROVAL_SECONDS = settings.APPROVAL_SECONDS, int(2 * PATIENCE)
    try:
        intent = stage.order()
    finally:
        settings.APPROVAL_SECONDS = before
    stage.until_stopped("orders")
    # Its lease is renewed meanwhile, so that nothing but the approval is too old.
    stage.sql("UPDATE cerbero_lease SET expires_at = now() + interval '60s' WHERE name LIKE 'place:%%'")
    time.sleep(2 * PATIENCE + 0.1)
    intent.is_approved = False
    stage.tell("orders", signal.SIGCONT)


def forged(stage: Stage) -> None:
    """A row is made to say allowed, and nobody allowed it; the database itself refuses that."""
    intent = stage.order(approve=False)
    words = "UPDATE orders_ticket SET status = 'allowed', allowed_at = now() WHERE id = %s"
    with suppress(IntegrityError):
        stage.sql(words, intent.ticket_id)
    stage.sql("SELECT pg_notify('cerbero_orders', '')")


def unheard(stage: Stage) -> None:
    """Notifications are lost: the listener's connection is cut right before they come."""
    stage.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'cerbero-listener' AND datname = current_database()"
    )
    stage.order()


def cut_off(place: str) -> Play:
    """Every connection of ours to Postgres is cut while the sender stands between two steps."""

    def play(stage: Stage) -> None:
        stage.arm("orders", place, how="SIGSTOP")
        stage.order()
        stage.until_stopped("orders")
        stage.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        stage.tell("orders", signal.SIGCONT)

    return play


def night_of_a_bracket(time_in_force: str) -> Play:
    """The same night with a bracket whose entry is half filled."""

    def play(stage: Stage) -> None:
        allow_exits(stage)
        entry = stage.bracket(time_in_force=time_in_force)
        stage.fill(stage.until_order(entry, "accepted"), quantity=1, price=str(entry.price))
        stage.until_order(entry, "partially_filled")
        stage.lane.sim.control("POST", "/_sim/night_reset", {"expire_day_orders": True})

    return play


def restarted(place: str) -> Play:
    """Postgres falls and recovers while the sender stands between two steps: a backend's death takes all with it."""

    def play(stage: Stage) -> None:
        stage.arm("orders", place, how="SIGSTOP")
        stage.order()
        stage.until_stopped("orders")
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            backend = cursor.fetchone()[0]
        os.kill(backend, signal.SIGKILL)
        stage.tell("orders", signal.SIGCONT)
        connections.close_all()
        stage.until(lambda: stage.sql("SELECT 1") or True)

    return play


def session_lost(lost: str) -> Play:
    """The session dies right before the placement."""

    def play(stage: Stage) -> None:
        stage.arm("orders", "place.before_send", how="SIGSTOP")
        stage.order()
        stage.until_stopped("orders")
        if lost == "competing":
            stage.fault("competing", "", lasts_seconds=0.5)
        else:
            stage.lane.sim.control("POST", "/_sim/session", {"drop": lost})
        stage.tell("orders", signal.SIGCONT)

    return play


def two_accounts(stage: Stage) -> None:
    """A question is open on one account while another of the same login wants to place."""
    other = stage.other_account()
    stage.config(questions=[ASKED])
    stage.allow_questions(ASKED)
    stage.lane.start("orders", "orders-2")
    stage.fault("latency", "/reply/", "POST", seconds=0.25)
    stage.order()
    stage.order(account=other)


def night(*, is_half_filled: bool = False, day_scoped: bool = False) -> Play:
    """The broker's night: the session ends, the list begins anew, DAY orders expire and GTC orders stay."""

    def play(stage: Stage) -> None:
        for time_in_force in ("gtc", "day"):
            intent = stage.order(time_in_force=time_in_force)
            order = stage.until_order(intent, "accepted")
            if is_half_filled:
                stage.fill(order, quantity=1, price=str(intent.price))
        body = {"expire_day_orders": True, "day_scoped": day_scoped}
        stage.lane.sim.control("POST", "/_sim/night_reset", body)

    return play


def broker_restarts(stage: Stage) -> None:
    """Everything at the broker answers 503 for a while, from before the placement on."""
    stage.fault("status", "/v1/api/", times=1000, status=503, lasts_seconds=0.8)
    stage.order()


def killed_together(stage: Stage) -> None:
    """Every process of ours is killed at one moment, with orders on their way."""
    for _ in range(3):
        stage.order()
    time.sleep(stage.rng.uniform(0, 0.4))
    for child in stage.lane.children.values():
        child.tell(signal.SIGKILL)


def redis(what: str) -> Play:
    """Redis is emptied, hangs, is gone, or holds what a stranger wrote."""

    def play(stage: Stage) -> None:
        import redis as client
        from django.conf import settings

        server = client.Redis.from_url(settings.REDIS_URL)
        pid = int(server.info("server")["process_id"])
        door = Path(server.connection_pool.connection_kwargs["path"])
        away = door.with_suffix(".away")
        if what == "flushed":
            server.flushall()
        elif what == "hangs":
            os.kill(pid, signal.SIGSTOP)
        elif what == "down":
            door.rename(away)
            server.client_kill_filter(_type="normal", skipme=True)
        else:
            _forge(server)
        try:
            stage.order()
            time.sleep(0.8)
        finally:
            os.kill(pid, signal.SIGCONT)
            if what == "down":
                away.rename(door)

    return play


def _forge(server: Any) -> None:
    for name in ("celery", "quotes", "hints", "cerbero:quotes", "cerbero:hints"):
        server.publish(name, b'{"task": "orders.tasks.reconcile_accounts", "status": "allowed"}')
        server.rpush("celery", b'{"body": "W10=", "headers": {"task": "orders.submission.submit"}}')


def doubted(how: str, then: Callable[[Stage], None]) -> Play:
    """Two faults in a row: what is in doubt by the first meets a second before it is settled."""

    def play(stage: Stage) -> None:
        from orders.models import Attempt, ChangeAttempt

        rows: Any = Attempt.objects
        if how == "bracket":
            allow_exits(stage)
            hit(stage, "reset after", "/reply/")
            stage.bracket()
        elif how == "place":
            hit(stage, "timeout, taken", "/orders$")
            stage.order()
        else:
            intent = stage.order()
            stage.until_order(intent, "accepted")
            hit(stage, "503, taken", r"/order/\d+$", "POST" if how == "amend" else "DELETE")
            rows = ChangeAttempt.objects
            if how == "amend":
                stage.amend(intent)
            else:
                stage.config(cancel_delay=2 * PATIENCE)
                stage.cancel(intent)
        stage.until(rows.filter(status="in_doubt").exists)
        then(stage)
        stage.config(cancel_delay=0.1)

    return play


def _cut(stage: Stage) -> None:
    stage.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


THEN: dict[str, Callable[[Stage], None]] = {
    "everything is halted and canceled": lambda stage: stage.halt("cancel_all"),
    "a person cancels it": lambda stage: stage.cancel(stage.intents[0]),
    "the session is lost": lambda stage: stage.lane.sim.control("POST", "/_sim/session", {"drop": "outer"}),
    "the night resets the broker": lambda stage: stage.lane.sim.control("POST", "/_sim/night_reset", {}),
    "no list can be read": lambda stage: stage.fault(
        "status", "/account/orders", times=1000, lasts_seconds=0.8
    ),
    "every connection to Postgres is cut": _cut,
}


def _two_in_a_row() -> None:
    for how, then in (
        ("place", "no list can be read"),
        ("place", "the night resets the broker"),
        ("place", "every connection to Postgres is cut"),
        ("bracket", "everything is halted and canceled"),
        ("bracket", "the night resets the broker"),
        ("bracket", "a person cancels it"),
        ("amend", "everything is halted and canceled"),
        ("amend", "a person cancels it"),
        ("amend", "the session is lost"),
        ("cancel", "the session is lost"),
        ("cancel", "everything is halted and canceled"),
    ):
        add("two in a row", f"{how} in doubt, then {then}", doubted(how, THEN[then]))


def _halts_and_pauses() -> None:
    for place in ("place.before_claim", "attempt.prepared", "attempt.prepared.committed", "attempt.sent",
                  "attempt.sent.committed", "place.before_send", "place.after_answer"):  # fmt: skip
        for mode in ("stop_new", "cancel_all"):
            add("halt", f"{mode} at {place}", halting(place, mode))
    add("halt", "stop_new at reply.before_send", halting("reply.before_send", "stop_new", asks=True))
    add("halt", "with orders waiting", halted_before)
    for place in ("place.before_claim", "attempt.prepared", "attempt.prepared.committed", "attempt.sent.committed",
                  "place.before_send", "place.after_answer", "attempt.answered"):  # fmt: skip
        add("paused past its lease", place, pausing(place))
    add("paused past its lease", "reply.before_send", pausing("reply.before_send", asks=True))
    for place in ("reconcile.listed", "reports.poll"):
        for fault in ("reset after", "timeout, taken"):
            add("reconciliation, paused", f"{place}, {fault}", keeper_paused(place, fault))


def _around_an_order() -> None:
    add("approval", "runs out before the sending", expired)
    add("approval", "forged row", forged)
    add("database", "notifications lost", unheard)
    for place in ("place.before_claim", "attempt.prepared", "attempt.prepared.committed", "attempt.sent",
                  "attempt.sent.committed", "place.after_answer", "attempt.answered"):  # fmt: skip
        add("database", f"connections cut at {place}", cut_off(place))
        add("database", f"restarted at {place}", restarted(place), is_alone=True)
    for lost in ("brokerage", "outer", "competing"):
        add("session", f"{lost} lost before the placement", session_lost(lost))
    add("session", "the broker is away", broker_restarts)
    add("session", "the night's reset, DAY and GTC", night())
    add("session", "the night's reset, both half filled", night(is_half_filled=True))
    for time_in_force in ("day", "gtc"):
        add("session", f"the night's reset, a half-filled bracket, {time_in_force.upper()}",
            night_of_a_bracket(time_in_force))  # fmt: skip
    add("session", "the night's reset, in no list any more", night(is_half_filled=True, day_scoped=True))
    add("accounts", "a question open on one, an order on the other", two_accounts)
    add("everything", "killed at one moment", killed_together)
    for what in ("flushed", "hangs", "down", "forged"):
        add("redis", what, redis(what), "relay", is_alone=True)


_halts_and_pauses()
_around_an_order()
_two_in_a_row()
