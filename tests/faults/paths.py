"""The other paths of an order: questions, cancels, reports, reconciliation."""

import signal
import time

from tests.faults.cases import FAULTS, OUTCOMES, PLACE_POINTS, Play, add, hit
from tests.faults.nest import PATIENCE
from tests.faults.stage import Stage

ASKED = "o403"
REPLY_POINTS = ("reply.before_send", "reply.half_sent", "reply.after_send", "reply.after_answer")
CANCEL_POINTS = (
    *("cancel.requested", "cancel.requested.committed", "cancel.asked", "cancel.asked.committed"),
    *("cancel.before_send", "cancel.half_sent", "cancel.after_send", "cancel.after_answer"),
    *("cancel.answered", "cancel.answered.committed"),
)
AMEND_POINTS = (
    *("amend.prepared", "amend.prepared.committed", "amend.sent", "amend.sent.committed"),
    *("amend.before_send", "amend.half_sent", "amend.after_send", "amend.after_answer"),
    *("amend.answered", "amend.answered.committed"),
)
KEEPER_POINTS = (
    *("reconcile.before_asking", "reconcile.listed", "reports.poll", "reports.poll.committed"),
    *("attempt.settled", "attempt.settled.committed"),
)


def replying(crash: str, fault: str) -> Play:
    """The broker asks what the account allows; the yes meets a crash, or a fault."""

    def play(stage: Stage) -> None:
        stage.config(questions=[ASKED])
        stage.allow_questions(ASKED)
        stage.arm("orders", crash)
        if fault == "refused":
            stage.fault("refuse", "/orders$", "POST", seconds=0.3)
        else:
            hit(stage, fault, "/reply/")
        stage.order()

    return play


def refusing(crash: str, fault: str) -> Play:
    """The broker asks what nobody allowed: answered no, and back to people."""

    def play(stage: Stage) -> None:
        stage.config(questions=[ASKED])
        stage.arm("orders", crash)
        hit(stage, fault, "/reply/")
        stage.order()

    return play


def asked_and_approved(stage: Stage) -> None:
    """Refused, shown to people, approved with the question, and sent with it accepted."""
    from orders.models import Ticket

    stage.config(questions=[ASKED])
    intent = stage.order()
    again = Ticket.objects.filter(pk=intent.ticket_id, status="proposed", attempts__isnull=False)
    stage.until(again.exists)
    stage.approve(intent)


def left_open(stage: Stage) -> None:
    """The asker dies, and another order makes the question stale: the first may go live by itself."""
    stage.config(questions=[ASKED], stale_reply_goes_live=True)
    stage.allow_questions(ASKED)
    stage.arm("orders", "reply.before_send")
    first = stage.order()
    second = stage.order()
    first.accepted, second.accepted = {ASKED}, {ASKED}


def canceling(crash: str, fault: str) -> Play:
    """A person cancels what rests."""

    def play(stage: Stage) -> None:
        intent = stage.order()
        stage.until_order(intent, "accepted")
        if fault == "refused":
            stage.shut_the_door(0.6)
        else:
            hit(stage, fault, "/order/", "DELETE")
        stage.cancel(intent, f"SIGKILL {crash} 1" if crash else "")

    return play


def filled_instead(stage: Stage) -> None:
    """A fill crosses the cancel, and wins."""
    stage.config(cancel_delay=PATIENCE)
    intent = stage.order()
    order = stage.until_order(intent, "accepted")
    stage.cancel(intent)
    stage.until_order(intent, "pending_cancel")
    stage.fill(order)
    stage.config(cancel_delay=0.1)


def cancel_refused(stage: Stage) -> None:
    """It was filled before we knew: the broker refuses the cancel."""
    intent = stage.order()
    order = stage.until_order(intent, "accepted")
    stage.tell("keeper", signal.SIGSTOP)
    stage.fill(order)
    stage.cancel(intent)
    stage.tell("keeper", signal.SIGCONT)


def canceled_meanwhile(place: str) -> Play:
    """Canceled by a person while the sender stands between two steps."""

    def play(stage: Stage) -> None:
        stage.arm("orders", place, how="SIGSTOP")
        intent = stage.order()
        stage.until_stopped("orders")
        stage.cancel(intent)
        stage.tell("orders", signal.SIGCONT)

    return play


def amending(crash: str, fault: str, *, asks: bool = False) -> Play:
    """The price of what rests is changed."""

    def play(stage: Stage) -> None:
        intent = stage.order()
        stage.until_order(intent, "accepted")
        if asks:
            stage.config(questions=[ASKED])
            stage.allow_questions(ASKED)
        stage.arm("orders", crash)
        if fault == "refused":
            stage.fault("refuse", "/order/status/", seconds=0.3)
        else:
            hit(stage, fault, r"/order/\d+$")
        stage.amend(intent, tightens=stage.rng.random() < 0.7)

    return play


def amended_and_filled(stage: Stage) -> None:
    """A part fills while the amendment is on its way."""
    intent = stage.order()
    order = stage.until_order(intent, "accepted")
    stage.arm("orders", "amend.before_send", how="SIGSTOP")
    stage.amend(intent)
    stage.until_stopped("orders")
    stage.fill(order, quantity=1, price=str(intent.price))
    stage.tell("orders", signal.SIGCONT)


def bracketing(crash: str, fault: str, *, fills: bool = False, refused: str = "") -> Play:
    """A bracket, sent at once: its entry rests or fills, and one of its exits may be refused."""

    def play(stage: Stage) -> None:
        allow_exits(stage)
        stage.config(fills="normal" if fills else "never", refused_in_groups=[refused] if refused else [])
        stage.arm("orders", crash)
        # The broker asks of every stop, so that it takes the group with the answer to its question.
        hit(stage, fault, "/reply/" if fault.endswith("taken") or "after" in fault else "/orders$")
        stage.bracket(fills=fills)

    return play


def taken_away(crash: str, fault: str = "") -> Play:
    """The rest of a half-filled entry is canceled, and its exits go with it: its stop comes back for what is open."""

    def play(stage: Stage) -> None:
        allow_exits(stage)
        stage.cover_shorts()
        entry = stage.bracket()
        stage.fill(stage.until_order(entry, "accepted"), quantity=1, price=str(entry.price))
        stage.until_order(entry, "partially_filled")
        stage.arm("orders", crash)
        hit(stage, fault, "/reply/")
        stage.cancel(entry)
        stage.completion(entry)

    return play


def allow_exits(stage: Stage) -> None:
    """The broker asks of stops, and of nothing else, and is answered yes."""
    stage.config(price_limit_percent=90)
    stage.allow_questions("o10331")


def arm_both(stage: Stage, crash: str) -> None:
    """What is found is settled by whoever comes first: reconciliation, or the orders process with its report."""
    stage.arm("keeper", crash)
    if ".settled" in crash:
        stage.arm("orders", crash)


def keeping(crash: str, fault: str) -> Play:
    """Reconciliation dies while it settles what another fault left in doubt."""

    def play(stage: Stage) -> None:
        stage.config(fills="normal")
        hit(stage, fault, "/orders$")
        arm_both(stage, crash)
        stage.order(fills=True)

    return play


def keeping_amended(crash: str, fault: str) -> Play:
    """The same while an amendment is in doubt."""

    def play(stage: Stage) -> None:
        intent = stage.order()
        stage.until_order(intent, "accepted")
        hit(stage, fault, r"/order/\d+$")
        arm_both(stage, crash)
        stage.amend(intent)

    return play


def applying(crash: str) -> Play:
    """The orders process dies while it brings a report into the ledger."""

    def play(stage: Stage) -> None:
        is_part = stage.rng.random() < 0.3 and "filled" not in crash
        stage.config(fills="partial" if is_part else "normal")
        stage.arm("orders", crash)
        stage.order(fills=True)

    return play


def streaming(crash: str, job: str, *, lost: str = "", late: bool = False) -> Play:
    """The stream alone tells: reconciliation stands still until the end of it."""

    def play(stage: Stage) -> None:
        stage.until_heard()
        stage.config(fills="normal")
        stage.tell("keeper", signal.SIGSTOP)
        stage.arm(job, crash)
        if late:
            stage.fault("late_answer", "/orders$", "POST", seconds=0.3)
        if lost == "stalled":
            stage.fault("stalled_stream", "", times=1000, lasts_seconds=0.5)
        stage.order(fills=True)
        if lost == "dropped":
            stage.lane.sim.control("POST", "/_sim/session", {"drop": "streams"})
        time.sleep(0.6)
        stage.tell("keeper", signal.SIGCONT)

    return play


def _questions() -> None:
    for fault in ("", "refused", *FAULTS):
        add("question", fault or "no fault", replying("", fault))
    for crash in REPLY_POINTS:
        for fault in ("", "reset after", "timeout, never taken", "503, not taken", "503, taken"):
            add("question, killed", f"{crash}, {fault or 'no fault'}", replying(crash, fault))
    for fault in ("", "reset before", "reset after", "timeout, never taken", "timeout, taken", "503, taken"):
        add("question nobody allowed", fault or "no fault", refusing("", fault))
    for crash in REPLY_POINTS:
        add("question nobody allowed", f"killed {crash}", refusing(crash, ""))
    add("question nobody allowed", "approved by people, then sent", asked_and_approved)
    add("question", "left open, goes live by itself", left_open)


def _cancels() -> None:
    for fault in ("", "refused", *FAULTS):
        add("cancel", fault or "no fault", canceling("", fault))
    for crash in CANCEL_POINTS:
        add("cancel, killed", crash, canceling(crash, ""))
    for fault in ("reset before", "reset after", "timeout, never taken", "503, taken", "429, not taken"):
        for crash in ("cancel.after_answer", "cancel.doubted", "cancel.doubted.committed"):
            add("cancel, killed", f"{fault}, {crash}", canceling(crash, fault))
    add("cancel", "a fill wins", filled_instead)
    add("cancel", "refused: filled before we knew", cancel_refused)
    for place in ("place.before_claim", "attempt.prepared.committed", "attempt.sent.committed"):
        add("cancel", f"meanwhile, at {place}", canceled_meanwhile(place))


def _amendments() -> None:
    for fault in ("", "refused", *(each for each in FAULTS if each != "duplicate answer")):
        add("amend", fault or "no fault", amending("", fault))
    for crash in AMEND_POINTS:
        add("amend, killed", crash, amending(crash, ""))
    for fault in ("reset before", "reset after", "timeout, taken", "503, taken"):
        for crash in ("amend.after_answer", "amend.doubted", "amend.doubted.committed"):
            add("amend, killed", f"{fault}, {crash}", amending(crash, fault))
    for crash in ("", "reply.before_send", "reply.after_answer"):
        add("amend", f"a question, {crash or 'answered yes'}", amending(crash, "", asks=True))
    add("amend", "a part fills meanwhile", amended_and_filled)


def _groups() -> None:
    for fault in ("", "refused", "reset before", "reset after", "timeout, never taken", "timeout, taken",
                  "half an answer", "429, taken", "503, not taken", "503, taken"):  # fmt: skip
        add("bracket", fault or "no fault", bracketing("", fault))
    for crash in (*PLACE_POINTS, *REPLY_POINTS, *OUTCOMES[:2]):
        add("bracket, killed", crash, bracketing(crash, "", fills="after" in crash))
    add("bracket", "its entry fills", bracketing("", "", fills=True))
    add("bracket", "its entry fills, the answer is lost", bracketing("", "reset after", fills=True))
    add("bracket", "its stop refused, its entry rests", bracketing("", "", refused="STP"))
    for fault in ("", "reset after", "timeout, never taken"):
        add(
            "bracket",
            f"its exits go with the cancel of its entry, {fault or 'no fault'}",
            taken_away("", fault),
        )
    for crash in (
        "attempt.prepared.committed",
        "attempt.sent.committed",
        "place.after_answer",
        "attempt.answered",
    ):
        add("bracket, killed", f"its exits go with the cancel of its entry, {crash}", taken_away(crash))


def _reports_and_reconciliation() -> None:
    for crash in KEEPER_POINTS:
        # Of what never arrived there is nothing to record.
        for fault in ("reset after" if "reports" in crash else "reset before", "timeout, taken"):
            add("reconciliation, killed", f"{crash}, {fault}", keeping(crash, fault))
    for crash in ("reconcile.listed", "amend.settled", "amend.settled.committed"):
        for fault in ("reset before", "timeout, taken"):
            add("reconciliation, killed", f"amendment, {crash}, {fault}", keeping_amended(crash, fault))
    for crash in ("ticket.denied", "ticket.denied.committed"):
        add("reconciliation, killed", f"{crash}, reset before", keeping(crash, "reset before"))
    for crash in ("reports.reply", "reports.reply.committed", "reports.applied", "reports.applied.committed",
                  "order.accepted", "order.filled", "order.filled.committed"):  # fmt: skip
        add("reports, killed", crash, applying(crash))
    for crash in ("reports.stream", "reports.stream.committed"):
        add("stream", f"relay killed, {crash}", streaming(crash, "relay"), "relay")
    for crash in ("reports.applied", "reports.applied.committed"):
        add("stream", f"orders killed, {crash}", streaming(crash, "orders"), "relay")
    for lost in ("dropped", "stalled"):
        add("stream", lost, streaming("", "relay", lost=lost), "relay")
    add(
        "stream", "answer out of order: the fill before the reply", streaming("", "relay", late=True), "relay"
    )


_questions()
_cancels()
_amendments()
_groups()
_reports_and_reconciliation()
