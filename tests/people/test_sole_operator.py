"""One person in place of two: by passkey, after a delay, chosen on the server; and two people lose nothing by it."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse

from audit.models import Entry
from brokers import services as brokers
from brokers.models import Account, LiveClearance
from cerbero import access, decisions, health
from cerbero.access import SERVER
from cerbero.errors import (
    BadInput,
    CerberoError,
    DelayRunning,
    PasskeyRefused,
    PermissionMissing,
    SelfApproval,
    SignatureMissing,
    StateConflict,
)
from cerbero.models import DecisionRequest, DecisionStatus, User
from cerbero.people import changes, passkeys, profile, signing
from cerbero.people.models import Announcement, LiveBar, Passkey, PersonChange, Profile
from orders import adopting, limit_changes, mandates, policies, resuming, services, trading
from orders.lifecycle import TicketStatus
from orders.models import Drift, Limits, Mandate, PolicyVersion, Ticket, TradingState
from tests.orders import world
from tests.orders.budgets import terms as _terms
from tests.orders.world import World
from tests.people.authenticator import Authenticator
from tests.people.desk import LiveDesk, administrators, confirm, confirmed_key
from tests.rig import BASE_DIR

PRODUCT = [
    path
    for room in ("cerbero", "orders", "brokers", "keyrotation")
    for path in (BASE_DIR / room).rglob("*.py")
]
RULES = [
    {"name": "all", "then": {"do": "people", "quorum": 2, "group": "Approver"}},
    {"name": "last", "then": {"do": "refuse", "reason": "nothing else"}},
]


class Alone:
    """bob, who owns the bot, holds every group that decides, and has one passkey."""

    def __init__(self, desk: World, device: Authenticator) -> None:
        self.desk, self.device = desk, device
        self.bob, self.actor = desk.people["bob"], desk.person("bob")

    def sign(self, request: DecisionRequest, *, is_live: bool = False) -> dict[str, Any]:
        """What bob's passkey answers to this question."""
        with transaction.atomic():
            asked = signing.ask(
                actor=self.actor, request_id=request.pk, digest=request.digest, is_live=is_live
            )
        return self.device.get(asked)

    def say_yes(self, ticket: Ticket, assertion: dict[str, Any] | None, who: str = "bob") -> Ticket:
        world.hear(self.desk.login)
        return services.decide_ticket(
            actor=self.desk.person(who),
            ticket_id=ticket.pk,
            digest=ticket.request.digest,
            is_yes=True,
            assertion=assertion,
        )

    def propose_policy(self) -> PolicyVersion:
        return policies.propose_policy(actor=self.actor, rules=RULES, reason="mine alone")


def prepare(desk: World, device: Authenticator) -> Alone:
    """bob as he must be to be the sole operator; four eyes are still in force."""
    bob = desk.people["bob"]
    bob.groups.add(Group.objects.get(name="Administrator"))
    type(desk.bot).objects.filter(pk=desk.bot.pk).update(owner=bob)
    desk.bot.owner = bob
    return Alone(desk, device)


def enter(bob: User, **delays: int) -> Profile:
    with transaction.atomic():
        return profile.enter(actor=SERVER, operator=bob, **delays)


@pytest.fixture
def two(fresh_database: Any) -> Alone:
    desk = world.build()
    erin, _ = administrators("erin", "frank")
    return prepare(desk, confirmed_key(desk.people["bob"], erin))


@pytest.fixture
def alone(two: Alone) -> Alone:
    enter(two.bob)
    return two


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """The database's clock, as the profile asks it, this many seconds on."""
    now = profile._now

    def move(seconds: int) -> None:
        monkeypatch.setattr(profile, "_now", lambda: now() + timedelta(seconds=seconds))

    return move


def test_the_owner_decides_on_their_own_bots_order_after_the_delay_by_passkey(
    alone: Alone, later: Callable[[int], None]
) -> None:
    ticket = alone.desk.place()
    request = ticket.request
    assert (request.quorum, request.excluded_user_ids) == (1, [])
    for assertion in (None, {}):
        with pytest.raises(DelayRunning):
            alone.say_yes(ticket, assertion)
    with pytest.raises(DelayRunning):
        alone.sign(request)
    later(profile.ORDER_DELAY_SECONDS)
    with pytest.raises(SignatureMissing):
        alone.say_yes(ticket, None)
    with pytest.raises(PermissionMissing):
        alone.say_yes(ticket, None, who="carol")
    assertion = alone.sign(request)
    with pytest.raises(PasskeyRefused):
        alone.say_yes(ticket, assertion | {"id": "AAAA"})
    alone.say_yes(ticket, assertion)
    ticket.refresh_from_db()
    assert ticket.status == TicketStatus.ALLOWED
    assert Entry.objects.filter(event="decision.signed").exists()


def test_a_no_waits_for_nothing(alone: Alone) -> None:
    for who in ("bob", "carol"):
        ticket = alone.desk.decide(alone.desk.place(), who, is_yes=False, reason="no")
        assert ticket.refusal_code == "rejected_by_person"


def test_the_time_to_decide_is_as_long_as_ever(two: Alone) -> None:
    def seconds(ticket: Ticket) -> float:
        ticket.request.refresh_from_db()
        return (ticket.request.expires_at - ticket.request.created_at).total_seconds()

    before = seconds(two.desk.place())
    enter(two.bob, order_delay_seconds=300)
    assert seconds(two.desk.place()) == before + 300


def test_a_live_order_is_sent_by_one_signature_where_the_policy_asks_for_two(
    live: LiveDesk, later: Callable[[int], None]
) -> None:
    alone = prepare(live.world, live.keys["bob"])
    enter(alone.bob)
    live.a_day_later()
    ticket = live.place(quantity=Decimal(100))
    assert ticket.request.quorum == 1
    later(profile.ORDER_DELAY_SECONDS)
    live.sign(ticket, "bob")
    live.world.turn()
    assert len(live.world.at_broker()) == 1
    ticket.refresh_from_db()
    assert ticket.policy_rule == "live"


def test_a_live_order_that_one_person_approved_is_not_sent_once_two_decide(
    live: LiveDesk, later: Callable[[int], None]
) -> None:
    alone = prepare(live.world, live.keys["bob"])
    enter(alone.bob)
    live.a_day_later()
    ticket = live.place(quantity=Decimal(1))
    later(profile.ORDER_DELAY_SECONDS)
    live.sign(ticket, "bob")
    profile.leave(actor=alone.actor)
    live.world.turn()
    assert live.world.at_broker() == []
    ticket.refresh_from_db()
    assert ticket.status == TicketStatus.PROPOSED
    assert alone.bob.pk in ticket.request.excluded_user_ids
    assert not profile.is_sole(ticket.request)


def test_who_became_the_sole_operator_today_approves_nothing_live(
    live: LiveDesk, later: Callable[[int], None]
) -> None:
    alone = prepare(live.world, live.keys["bob"])
    live.a_day_later()
    enter(alone.bob)
    ticket = live.place(quantity=Decimal(1))
    later(profile.ORDER_DELAY_SECONDS)
    with pytest.raises(CerberoError, match="less than a day ago"):
        live.sign(ticket, "bob")


def test_policy_person_resume_and_mandate_each_wait_and_are_signed(
    alone: Alone, later: Callable[[int], None]
) -> None:
    actor, desk = alone.actor, alone.desk
    version = alone.propose_policy()
    grant = _grant(alone)
    TradingState.objects.filter(scope=TradingState.Scope.EVERYTHING).update(state="halted")
    resume = resuming.request_resume(actor=actor, scope=TradingState.Scope.EVERYTHING, reason="well again")
    mandate = mandates.propose_mandate(actor=actor, terms=_terms(desk))
    case = _asked_drift(alone)
    looser = _asked_limits(alone)
    questions: list[tuple[DecisionRequest, Callable[..., Any]]] = [
        (version.request, lambda **said: policies.decide_policy(version_id=version.pk, **said)),
        (grant.request, lambda **said: changes.decide(change_id=grant.pk, **said)),
        (resume, lambda **said: resuming.decide_resume(request_id=resume.pk, **said)),
        (mandate.request, lambda **said: mandates.decide_mandate(mandate_id=mandate.pk, **said)),
        (case, lambda **said: adopting.decide_drift(request_id=case.pk, **said)),
        (looser, lambda **said: limit_changes.decide_limits(request_id=looser.pk, **said)),
    ]
    for request, decide in questions:
        said = {"actor": actor, "digest": request.digest, "is_yes": True}
        with pytest.raises(DelayRunning):
            decide(**said)
    later(profile.CHANGE_DELAY_SECONDS)
    for request, decide in questions:
        said = {"actor": actor, "digest": request.digest, "is_yes": True}
        for nothing in (None, {}):
            with pytest.raises(SignatureMissing):
                decide(**said, assertion=nothing)
        decide(**said, assertion=alone.sign(request))
        request.refresh_from_db()
        assert request.status == DecisionStatus.CONSUMED
    assert PolicyVersion.objects.get(status="active").pk == version.pk
    assert policies.active()[0].pk == version.pk
    assert desk.people["carol"].groups.filter(name="Operator").exists()
    assert trading.worst_state(desk.account, None) == TradingState.State.ACTIVE
    assert Mandate.objects.get().status == "active"
    settled = Drift.objects.get()
    assert (settled.status, settled.settled_by) == ("adopted", alone.bob)
    assert Limits.objects.get().quantity_max == 50_000


def test_a_sole_operator_tightens_a_limit_at_once_and_loosens_none(alone: Alone) -> None:
    row = Limits.objects.get()
    row.quantity_max = Decimal(5)
    with transaction.atomic():
        assert limit_changes.change_limits(actor=alone.actor, row=row) is None
    assert Limits.objects.get().quantity_max == 5
    asked = _asked_limits(alone)
    assert asked.facts["change"]["after"]["quantity_max"] == "50000"
    assert Limits.objects.get().quantity_max == 5
    said = {"request_id": asked.pk, "digest": asked.digest}
    limit_changes.decide_limits(actor=alone.actor, is_yes=False, reason="I thought better of it", **said)
    assert Limits.objects.get().quantity_max == 5


def _asked_limits(alone: Alone) -> DecisionRequest:
    row = Limits.objects.get()
    row.quantity_max = Decimal(50_000)
    with transaction.atomic():
        asked = limit_changes.change_limits(actor=alone.actor, row=row)
    assert asked is not None
    return asked


def _asked_drift(alone: Alone) -> DecisionRequest:
    """A difference on an account that is not known to be paper, which the sole operator wants adopted."""
    account = alone.desk.account
    Account.objects.filter(pk=account.pk).update(environment="live")
    case = Drift.objects.create(account=account, kind=Drift.Kind.CASH_DIFFERENCE, subject="USD", amount=5)
    adopting.settle_drift(actor=alone.actor, drift_id=case.pk, wanted="adopted", reason="a deposit")
    Account.objects.filter(pk=account.pk).update(environment="paper")
    return DecisionRequest.objects.get(subject_kind="drift")


def _grant(alone: Alone) -> PersonChange:
    carol = alone.desk.people["carol"]
    with transaction.atomic():
        return changes.propose_grant(actor=alone.actor, person=carol, groups=["Operator"])


def test_a_signature_is_good_for_one_question(alone: Alone, later: Callable[[int], None]) -> None:
    version, grant = alone.propose_policy(), _grant(alone)
    later(profile.CHANGE_DELAY_SECONDS)
    assertion = alone.sign(version.request)
    alone.sign(grant.request)
    with pytest.raises(PasskeyRefused):
        changes.decide(
            actor=alone.actor,
            change_id=grant.pk,
            digest=grant.request.digest,
            is_yes=True,
            assertion=assertion,
        )


def test_a_mandate_that_one_person_signed_serves_nothing_once_two_decide(
    alone: Alone, later: Callable[[int], None]
) -> None:
    mandate = mandates.propose_mandate(actor=alone.actor, terms=_terms(alone.desk))
    later(profile.CHANGE_DELAY_SECONDS)
    mandates.decide_mandate(
        actor=alone.actor,
        mandate_id=mandate.pk,
        digest=mandate.digest,
        is_yes=True,
        assertion=alone.sign(mandate.request),
    )
    passed = alone.desk.place()
    assert passed.allowance.mandate_id == mandate.pk
    profile.leave(actor=alone.actor)
    assert alone.desk.place().request.excluded_user_ids == [alone.bob.pk]
    assert not mandates.still_serves(Mandate.objects.get(), passed.created_at)


def test_what_waits_when_the_profile_changes_must_be_asked_again(
    two: Alone, later: Callable[[int], None]
) -> None:
    before = two.propose_policy()
    enter(two.bob)
    with pytest.raises(SelfApproval):
        _activate(two, before, None)
    during = two.propose_policy()
    later(profile.CHANGE_DELAY_SECONDS)
    assertion = two.sign(during.request)
    profile.leave(actor=two.actor)
    with pytest.raises(StateConflict):
        _activate(two, during, assertion)
    enter(two.bob)
    with pytest.raises(StateConflict):
        _activate(two, during, assertion)
    assert PolicyVersion.objects.get(status="active").number == 1


def _activate(alone: Alone, version: PolicyVersion, assertion: dict[str, Any] | None) -> PolicyVersion:
    return policies.decide_policy(
        actor=alone.actor,
        version_id=version.pk,
        digest=version.digest,
        is_yes=True,
        assertion=assertion,
    )


def test_an_account_is_cleared_for_live_orders_by_one_signature_and_loses_it_with_the_profile(
    live: LiveDesk, later: Callable[[int], None]
) -> None:
    alone = prepare(live.world, live.keys["bob"])
    account = live.world.account
    brokers.enable_live(actor=alone.actor, account=account, checklist=LiveClearance.CHECKLIST)
    with pytest.raises(StateConflict):
        brokers.confirm_live(actor=alone.actor, account=account)
    enter(alone.bob)
    with pytest.raises(StateConflict):
        brokers.confirm_live(actor=alone.actor, account=account)
    clearance = brokers.enable_live(actor=alone.actor, account=account, checklist=LiveClearance.CHECKLIST)
    with pytest.raises(DelayRunning):
        brokers.confirm_live(actor=alone.actor, account=account)
    later(profile.CHANGE_DELAY_SECONDS)
    with pytest.raises(SignatureMissing):
        brokers.confirm_live(actor=alone.actor, account=account)
    brokers.confirm_live(actor=alone.actor, account=account, assertion=alone.sign(clearance.request))
    assert brokers.live_missing(account) == []
    profile.leave(actor=alone.actor)
    assert brokers.live_missing(account) == ["confirmed_by"]


def test_only_the_server_enters_it_and_it_is_told_and_recorded(two: Alone) -> None:
    erin = access.person(User.objects.get(username="erin"))
    for actor in (erin, two.actor, two.desk.scanner, access.system("orders")):
        with pytest.raises(PermissionMissing), transaction.atomic():
            profile.enter(actor=actor, operator=two.bob)
    assert profile.sole() is None
    call_command("sole_operator", "enter", "bob", "--order-delay-seconds", "45")
    row = profile.sole()
    assert (row.operator, row.order_delay_seconds, row.change_delay_seconds) == (two.bob, 45, 3600)
    assert LiveBar.objects.filter(person=two.bob, why="became the sole operator").exists()
    entry = Entry.objects.get(event="profile.entered")
    assert (entry.actor_name, entry.details["operator"]) == ("server", str(two.bob.pk))
    assert Announcement.objects.filter(words__contains="bob decides alone, by passkey, 45 s").exists()
    for wrong in (["enter", "carol"], ["enter", "nobody"], ["enter", "bob", "--order-delay-seconds", "1"]):
        with pytest.raises(CommandError):
            call_command("sole_operator", *wrong)
    assert Profile.objects.count() == 1


def test_any_administrator_leaves_it_at_once_and_nobody_else_does(alone: Alone) -> None:
    for actor in (alone.desk.person("carol"), alone.desk.scanner, access.system("orders")):
        with pytest.raises(PermissionMissing):
            profile.leave(actor=actor)
    client = Client()
    client.force_login(User.objects.get(username="erin"))
    assert client.post(reverse("people:leave_profile")).status_code == 302
    assert profile.sole() is None
    assert Entry.objects.get(event="profile.left").actor_name == "erin"
    with pytest.raises(StateConflict):
        profile.leave(actor=SERVER)
    with pytest.raises(SelfApproval):
        confirm(_grant(alone), alone.bob)


def test_a_profile_written_into_the_database_changes_nothing(two: Alone, fresh_database: Any) -> None:
    values = "'sole_operator', %s, 30, 900, 'server', "
    insert = "INSERT INTO people_profile (number, kind, operator_id, order_delay_seconds,"
    insert += f" change_delay_seconds, made_by, proof) SELECT %s, {values}"
    with fresh_database.connect() as own:
        own.execute(insert + "%s", [1, two.bob.pk, "0" * 64])
    assert profile.sole() is None
    enter(two.bob, order_delay_seconds=30, change_delay_seconds=900)
    profile.leave(actor=two.actor)
    with fresh_database.connect() as own:
        own.execute(insert + "proof FROM people_profile WHERE number = 2", [4, two.bob.pk])
        for words in ("DELETE FROM people_profile", "UPDATE people_profile SET kind = 'four_eyes'"):
            with pytest.raises(psycopg.errors.CheckViolation):
                own.execute(words)
        with pytest.raises(psycopg.errors.CheckViolation):
            own.execute(insert + "''", [9, two.bob.pk])
    assert profile.sole() is None
    ticket = two.desk.place()
    assert ticket.request.excluded_user_ids == [two.bob.pk]
    with pytest.raises(SelfApproval):
        two.say_yes(ticket, None)


def test_a_question_marked_by_hand_is_not_proven(two: Alone, fresh_database: Any) -> None:
    """The mark is part of what is proven: nobody writes it into a question that was asked of two."""
    version = two.propose_policy()
    enter(two.bob)
    from cerbero.embedded import OWNER

    mark = {"profile": 1, "operator": str(two.bob.pk), "not_before": "2020-01-01T00:00:00+00:00"}
    with fresh_database.connect(OWNER) as owner:
        owner.execute("ALTER TABLE cerbero_decisionrequest DISABLE TRIGGER USER")
        owner.execute(
            "UPDATE cerbero_decisionrequest SET facts = facts || %s, excluded_user_ids = '{}'",
            [psycopg.types.json.Jsonb({profile.MARK: mark})],
        )
    version.request.refresh_from_db()
    with pytest.raises(CerberoError) as refusal:
        _activate(two, version, two.sign(version.request))
    assert refusal.value.code == "not_proven"


def test_without_the_profile_the_database_wants_two_for_policy_and_clearance(
    two: Alone, fresh_database: Any
) -> None:
    version = two.propose_policy()
    with pytest.raises(IntegrityError), transaction.atomic():
        PolicyVersion.objects.filter(pk=version.pk).update(activated_by=two.bob)
    held = dict.fromkeys(LiveClearance.CHECKLIST, True)
    with pytest.raises(IntegrityError), transaction.atomic():
        LiveClearance.objects.create(
            account=two.desk.account, enabled_by=two.bob, confirmed_by=two.bob, **held
        )


def test_one_person_sets_up_alone_and_lives_with_one_passkey(
    fresh_database: Any, capsys: pytest.CaptureFixture[str], later: Callable[[int], None]
) -> None:
    for wrong in (["erin"], ["erin", "frank", "--sole-operator"]):
        with pytest.raises(CommandError):
            call_command("bootstrap_people", *wrong)
    call_command("bootstrap_people", "erin", "--sole-operator")
    erin = User.objects.get()
    assert erin.check_password(capsys.readouterr().out.split()[1])
    assert {group.name for group in erin.groups.all()} == {"Administrator", "Approver", "Operator"}
    assert profile.sole().operator == erin
    with pytest.raises(CommandError, match="exactly one passkey"):
        call_command("sole_operator", "passkey")
    _register(erin)
    assert not erin.passkeys.usable().exists()
    call_command("sole_operator", "passkey")
    key = Passkey.objects.get()
    assert passkeys.is_sealed(key)
    assert erin.passkeys.usable().get() == key
    with pytest.raises(CommandError, match="without a passkey that counts"):
        call_command("sole_operator", "passkey")
    capsys.readouterr()
    call_command("changepassword", "erin")
    erin.refresh_from_db()
    assert erin.check_password(capsys.readouterr().out.split()[1])
    with pytest.raises(CommandError):
        call_command("bootstrap_people", "grace", "--sole-operator")
    call_command("sole_operator", "leave")
    call_command("sole_operator", "show")
    assert capsys.readouterr().out.splitlines()[-1] == "two people decide"


def _register(user: User) -> Authenticator:
    device = Authenticator()
    options = passkeys.registration_options(user, b"c" * 32)
    changes.propose_passkey(
        actor=access.person(user), credential=device.create(options), challenge=b"c" * 32, name="key"
    )
    return device


def test_the_server_confirms_nobodys_passkey_where_two_decide(two: Alone) -> None:
    _register(two.bob)
    for do in (lambda: call_command("sole_operator", "passkey"), lambda: _as_operator(two.bob)):
        with pytest.raises((CommandError, StateConflict)):
            do()
    assert two.bob.passkeys.usable().count() == 1


def _as_operator(person: User) -> None:
    changes.set_password_of_operator(operator=person, password="correct horse battery")


def test_console_and_health_say_it_and_the_queue_asks_for_the_passkey(
    alone: Alone, later: Callable[[int], None]
) -> None:
    ticket = alone.desk.place()
    client = Client()
    client.force_login(alone.bob)
    page = client.get(reverse("console:queue")).content.decode()
    assert "Sole operator: bob decides alone" in page
    assert "your yes counts from" in page
    assert "Approve with passkey" in page
    shown = {"digest": ticket.request.digest}
    early = client.post(reverse("console:challenge", args=[ticket.pk]), shown).json()
    assert early["error"]["code"] == "delay_running"
    told = next(row for row in health.examine()["dependencies"] if row["name"] == "sole_operator")
    assert (told["is_ok"], "bob" in told["detail"]) == (True, False)
    version = alone.propose_policy()
    address = reverse("people:challenge", args=[version.request_id])
    assert address in client.get(reverse("console:policy", args=[version.number])).content.decode()
    later(profile.CHANGE_DELAY_SECONDS)
    options = client.post(address, {"digest": version.digest}).json()
    assert options["userVerification"] == "required"
    assert "Leave it: two people decide" in client.get(reverse("people:changes")).content.decode()


def test_delays_have_bounds(two: Alone) -> None:
    for wrong in (
        {"order_delay_seconds": 29},
        {"change_delay_seconds": 899},
        {"change_delay_seconds": 90_000},
    ):
        with pytest.raises(BadInput), transaction.atomic():
            profile.enter(actor=SERVER, operator=two.bob, **wrong)


def test_no_service_takes_a_sole_operators_unsigned_yes(alone: Alone, later: Callable[[int], None]) -> None:
    """Whatever asks people, now or later: the mark is in the question, and the one `decide` reads it there."""
    version = alone.propose_policy()
    later(profile.CHANGE_DELAY_SECONDS)
    with pytest.raises(SignatureMissing), transaction.atomic():
        decisions.decide(actor=alone.actor, request_id=version.request_id, digest=version.digest, is_yes=True)
    callers = [path for path in PRODUCT if "decisions.decide(" in path.read_text()]
    assert {path.name for path in callers} <= {"signing.py", "countering.py"}
