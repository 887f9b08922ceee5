"""Planted defects, each in the harness's own child processes: the judge must see every one."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A defect: how it is planted, what the judge must see of it, and in which case."""

    breaks: Callable[[], None]
    sees: str
    case: str


MUTANTS: dict[str, Mutant] = {}


def plant(name: str) -> None:
    """Break this process in that way."""
    MUTANTS[name].breaks()


def mutant(name: str, sees: str, case: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Keep a defect under its name."""

    def keep(breaks: Callable[[], None]) -> Callable[[], None]:
        MUTANTS[name] = Mutant(breaks, sees, case)
        return breaks

    return keep


@mutant("resend after a timeout", "duplicates", "place | timeout, taken")
def resend() -> None:
    from brokers.ibkr.client import IbkrClient
    from cerbero.errors import OutcomeUnknown

    place = IbkrClient.place

    def again(self, account, legs, **named):
        try:
            return place(self, account, legs, **named)
        except OutcomeUnknown:
            return place(self, account, legs, **named)

    IbkrClient.place = again


@mutant("a new client order id on a retry", "duplicates", "place | timeout, taken")
def new_id() -> None:
    from dataclasses import replace
    from uuid import uuid4

    from brokers.ibkr.client import IbkrClient
    from cerbero.errors import OutcomeUnknown

    place = IbkrClient.place

    def again(self, account, legs, **named):
        try:
            return place(self, account, legs, **named)
        except OutcomeUnknown:
            return place(self, account, [replace(legs[0], client_order_id=uuid4().hex), *legs[1:]], **named)

    IbkrClient.place = again


@mutant("timeout means rejected", "lost", "place | timeout, taken")
def timeout_rejected() -> None:
    from cerbero.errors import BrokerRejected

    _replace_outcome(lambda problem: BrokerRejected(**problem.details))


@mutant("absent once means rejected", "lost", "place | taken, listed once it was looked for")
def absent_rejected() -> None:
    from datetime import timedelta

    from orders import doubts, reconciliation

    doubts.ABSENT_TIMES = 1
    for asks in (reconciliation.reconcile, reconciliation.reconcile_account):
        asks.__kwdefaults__["grace"] = timedelta(0)


@mutant("429 and 503 mean not sent", "duplicates", "place | 503, taken")
def busy_not_sent() -> None:
    from cerbero.errors import BrokerUnavailable, OutcomeUnknown

    def hopeful(problem: OutcomeUnknown) -> Exception:
        busy = problem.details.get("http_status") in {429, 503}
        return BrokerUnavailable(**problem.details) if busy else problem

    _replace_outcome(hopeful)


@mutant("a duplicate id means rejected", "lost", "place | duplicate answer")
def duplicate_rejected() -> None:
    from brokers.ibkr import refusals

    refusals.REFUSALS = tuple(each for each in refusals.REFUSALS if each.reason != "duplicate_order_id")


@mutant(
    "the approval is not looked at before the sending", "unapproved", "approval | runs out before the sending"
)
def unapproved() -> None:
    from django.db.models.functions import Now

    from cerbero.models import DecisionRequest
    from orders import submission

    def use(actor, ticket, granted):
        DecisionRequest.objects.filter(pk=granted.pk).update(status="consumed", consumed_at=Now())

    submission.look_again = submission.look_at_proof = lambda *_: None
    submission.judging.use = use


@mutant(
    "the halt is not read in the sending transaction",
    "sent_after_halt",
    "halt | stop_new at attempt.prepared.committed",
)
def unhalted() -> None:
    from orders import recheck, submission, trading

    trading.require_open = lambda *_, **__: None
    recheck.may_pass = submission.may_pass = lambda *_, **__: True


@mutant("the lease is not fenced", "duplicates", "paused past its lease | attempt.prepared.committed")
def unfenced() -> None:
    from django.db.models.functions import Now

    from cerbero import leases
    from orders import submission
    from orders.models import Attempt

    def arm(actor, attempt, hold, broker=None):
        Attempt.objects.filter(pk=attempt.pk, status="prepared").update(status="sent", sent_at=Now())
        attempt.status = "sent"
        return True

    leases.check = lambda *_: None
    submission.arm, submission.require_ours = arm, lambda *_: None


@mutant("sent before the commit", "duplicates", "place, killed | place.after_answer")
def sent_first() -> None:
    from dataclasses import replace

    from orders import submission
    from orders.canonical import client_order_id
    from orders.tickets import terms_of

    def submit(*, actor, ticket, broker, hold):
        order = ticket.orders.select_related("instrument").get(number=1)
        moment = submission.read_moment(ticket, order, broker)
        coid = client_order_id(ticket, ticket.attempts.count() + 1)
        terms = replace(terms_of(order, moment.facts.broker_instrument_id), client_order_id=coid)
        answer = broker.place(ticket.account.broker_account_id, [terms])
        attempt = submission.prepare(actor, ticket, order, moment, hold)
        if attempt is not None and submission.arm(actor, attempt, hold):
            submission._answered(actor, attempt, answer, [], broker)

    submission.submit = submit


@mutant("the outcome is lost", "stuck", "place | no fault")
def outcome_lost() -> None:
    from orders import submission

    submission._answered = lambda *_: None
    submission.doubt = lambda *_, **__: None


@mutant("doubts are never settled", "stuck", "place | reset before")
def never_asked() -> None:
    from orders import doubts

    doubts.settle_absent = lambda *_, **__: None


@mutant("every question is answered yes", "unapproved", "question nobody allowed | no fault")
def always_yes() -> None:
    from orders import submission

    submission.allowed_questions = lambda *_: {"o403"}


@mutant("a cancel that was taken is a cancel that won", "lost", "cancel | a fill wins")
def cancel_believed() -> None:
    from cerbero.lifecycle import transition
    from orders import services
    from orders.lifecycle import ORDER

    send_cancel = services.send_cancel

    def hasty(actor, order):
        send_cancel(actor, order)
        order.refresh_from_db()
        transition(order, "canceled", moves=ORDER, actor=actor, event="order.canceled")

    services.send_cancel = hasty


@mutant("what is in doubt is sent again", "duplicates", "place | taken, not listed yet")
def sent_again() -> None:
    from cerbero.lifecycle import transition
    from orders import submission
    from orders.lifecycle import ATTEMPT

    def retry(actor, attempt, problem, **more):
        transition(attempt, "prepared", moves=ATTEMPT, actor=actor, event="attempt.not_sent")

    submission.doubt = retry


def _replace_outcome(judge: Callable[..., Exception]) -> None:
    """What the client makes of a placement whose outcome is not known."""
    from brokers.ibkr.client import IbkrClient
    from cerbero.errors import OutcomeUnknown

    place = IbkrClient.place

    def placing(self, account, legs, **named):
        try:
            return place(self, account, legs, **named)
        except OutcomeUnknown as problem:
            raise judge(problem) from None

    IbkrClient.place = placing
