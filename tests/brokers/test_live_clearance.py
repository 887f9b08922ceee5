"""What stands between a live account and money, and what people may change below a login."""

import pytest
from django.urls import reverse

from audit.models import Entry
from brokers import services
from brokers.models import Account, Instrument, LiveClearance, Login, SessionState
from brokers.services import broker_for
from cerbero.access import person, system
from cerbero.errors import BadInput, LoginDisabled, NotFound, PermissionMissing, StateConflict
from tests.brokers.logins import events, somebody

ALL = LiveClearance.CHECKLIST


@pytest.fixture
def account(db) -> Account:
    login = Login.objects.create(name="desk", environment="live", is_paper=False)
    return Account.objects.create(login=login, broker_account_id="U1234567", environment="live")


@pytest.fixture
def administrators(db) -> list:
    return [person(somebody(name, "Administrator")) for name in ("carol", "erin")]


def test_everything_is_missing_at_first(account: Account) -> None:
    missing = services.live_missing(account)
    assert missing == ["live_trading_setting", "servers_of_its_own", *ALL, "clearance"]


def test_two_administrators_and_every_flag_clear_an_account(
    account: Account, administrators, settings
) -> None:
    settings.LIVE_TRADING, settings.EMBEDDED_SERVERS = "enabled", False
    carol, erin = administrators
    services.enable_live(actor=carol, account=account, checklist=ALL)
    assert services.live_missing(account) == ["confirmed_by"]
    services.confirm_live(actor=erin, account=account)
    assert services.live_missing(account) == []
    assert events("live.") == ["live.enabled", "live.confirmed"]
    services.enable_live(actor=erin, account=account, checklist=ALL)
    assert services.live_missing(account) == ["confirmed_by"]


def test_each_thing_alone_denies_again(account: Account, administrators, settings) -> None:
    settings.LIVE_TRADING, settings.EMBEDDED_SERVERS = "enabled", False
    carol, erin = administrators
    services.enable_live(actor=carol, account=account, checklist=ALL)
    services.confirm_live(actor=erin, account=account)
    settings.LIVE_TRADING = "disabled"
    assert services.live_missing(account) == ["live_trading_setting"]
    settings.LIVE_TRADING, settings.EMBEDDED_SERVERS = "enabled", True
    assert services.live_missing(account) == ["servers_of_its_own"]
    settings.EMBEDDED_SERVERS = False
    for change in ({"is_paper": True}, {"is_paper": None}):
        Login.objects.update(**change)
        assert services.live_missing(account) == ["broker_says_live"]
    Login.objects.update(is_paper=False)
    Account.objects.update(environment="")
    assert services.live_missing(account) == ["broker_says_live"]
    Account.objects.update(environment="live")
    services.disable_live(actor=carol, account=account)
    assert services.live_missing(account) == [*ALL, "clearance"]


def test_nobody_confirms_what_they_enabled_and_no_gap_is_confirmed(account: Account, administrators) -> None:
    carol, erin = administrators
    with pytest.raises(NotFound):
        services.confirm_live(actor=erin, account=account)
    services.enable_live(actor=carol, account=account, checklist=ALL)
    with pytest.raises(StateConflict):
        services.confirm_live(actor=carol, account=account)
    services.enable_live(actor=carol, account=account, checklist=ALL[1:])
    with pytest.raises(StateConflict) as refused:
        services.confirm_live(actor=erin, account=account)
    assert ALL[0] in refused.value.details["missing"]
    assert events("live.confirmed") == []


def test_only_administrators_decide_and_only_over_what_the_broker_calls_live(
    account: Account, administrators
) -> None:
    outsiders = [person(somebody("bob", "Approver")), system("beat")]
    acts = (
        lambda actor: services.enable_live(actor=actor, account=account),
        lambda actor: services.confirm_live(actor=actor, account=account),
        lambda actor: services.set_allowed_questions(actor=actor, account=account, question_ids=["o163"]),
    )
    for actor in outsiders:
        for act in acts:
            with pytest.raises(PermissionMissing):
                act(actor)
    with pytest.raises(PermissionMissing):
        services.disable_live(actor=system("beat"), account=account)
    with pytest.raises(BadInput):
        services.enable_live(actor=administrators[0], account=account, checklist=["looks_fine"])
    Account.objects.update(environment="paper")
    with pytest.raises(StateConflict):
        services.enable_live(actor=administrators[0], account=account, checklist=ALL)


def test_the_allow_list_of_questions_is_kept_clean_and_every_change_is_an_entry(
    account: Account, administrators
) -> None:
    carol = administrators[0]
    wanted = ["o354", " o163 ", "o163", ""]
    assert services.set_allowed_questions(actor=carol, account=account, question_ids=wanted) == [
        "o163",
        "o354",
    ]
    services.set_allowed_questions(actor=carol, account=account, question_ids=["o163", "o354"])
    entry = Entry.objects.get(event="account.questions_allowed")
    assert entry.details == {"from": [], "to": ["o163", "o354"]}
    with pytest.raises(BadInput):
        services.set_allowed_questions(actor=carol, account=account, question_ids=["all of them"])


# The pages


@pytest.fixture
def signed_in(client):
    def sign_in(name: str, *groups: str):
        user = somebody(name, *groups)
        user.is_staff = True
        user.save()
        client.force_login(user)
        return client

    return sign_in


def test_an_administrator_opens_an_instrument_and_an_operator_cannot(db, signed_in) -> None:
    row = Instrument.objects.create(symbol="AAPL")
    url = reverse("admin:brokers_instrument_changelist")
    post = {"action": "allow_orders", "_selected_action": [str(row.pk)]}
    signed_in("oscar", "Operator").post(url, post)
    row.refresh_from_db()
    assert row.is_allowed is False
    signed_in("carol", "Administrator").post(url, post)
    row.refresh_from_db()
    assert row.is_allowed is True
    assert events("instrument.") == ["instrument.allowed"]


def test_an_instrument_is_named_and_streamed_by_hand(account: Account, signed_in) -> None:
    client = signed_in("carol", "Administrator")
    form = {"symbol": "MSFT", "asset_class": "STK", "currency": "USD", "exchange": ""}
    empty = {"broker_ids-TOTAL_FORMS": 0, "broker_ids-INITIAL_FORMS": 0}
    client.post(reverse("admin:brokers_instrument_add"), form | empty)
    row = Instrument.objects.get(symbol="MSFT")
    assert row.is_allowed is False
    option = form | {"symbol": "aapl261218c00200000", "asset_class": "OPT"}
    client.post(reverse("admin:brokers_instrument_add"), option | empty)
    Instrument.objects.get(symbol="AAPL  261218C00200000")
    url, chosen = reverse("admin:brokers_instrument_changelist"), {"_selected_action": [str(row.pk)]}
    for _ in range(2):
        client.post(url, chosen | {"action": "stream_quotes"})
    assert [each.login_id for each in row.subscriptions.all()] == [account.login_id]
    client.post(url, chosen | {"action": "stop_quotes"})
    assert not row.subscriptions.exists()
    assert events("instrument.") == [
        "instrument.added",
        "instrument.added",
        "instrument.watched",
        "instrument.unwatched",
    ]


def test_the_pages_of_logins_and_accounts_show_states_and_no_secret(account: Account, signed_in) -> None:
    Login.objects.update(
        session_token=b"TOKEN-BYTES", socket_session=b"SOCKET-BYTES", state=SessionState.COMPETING
    )
    client = signed_in("carol", "Administrator")
    pages = [
        reverse("admin:brokers_login_changelist"),
        reverse("admin:brokers_login_change", args=[account.login_id]),
        reverse("admin:login_take_over", args=[account.login_id]),
        reverse("admin:brokers_account_changelist"),
        reverse("admin:brokers_account_change", args=[account.pk]),
        reverse("admin:account_questions", args=[account.pk]),
        reverse("admin:account_live", args=[account.pk]),
        reverse("admin:brokers_credential_changelist"),
        reverse("admin:brokers_instrument_changelist"),
        reverse("admin:brokers_instrument_add"),
        reverse("admin:brokers_quote_changelist"),
        reverse("admin:brokers_report_changelist"),
        reverse("admin:brokers_subscription_changelist"),
    ]
    for page in pages:
        answer = client.get(page)
        assert answer.status_code == 200, page
        assert "-BYTES" not in answer.content.decode()
    assert "Take the session over" in client.get(pages[1]).content.decode()


def test_the_allow_list_and_the_clearance_are_changed_on_their_pages(account: Account, signed_in) -> None:
    client = signed_in("carol", "Administrator")
    client.post(reverse("admin:account_questions", args=[account.pk]), {"question_ids": "o163\no354"})
    account.refresh_from_db()
    assert account.allowed_question_ids == ["o163", "o354"]
    live = reverse("admin:account_live", args=[account.pk])
    client.post(live, {"do": "enable", "checklist": list(ALL)})
    assert (
        b"another administrator must confirm"
        in client.post(live, {"do": "confirm"}, follow=True).content.lower()
    )
    erin = signed_in("erin", "Administrator")
    erin.post(live, {"do": "confirm"})
    assert LiveClearance.objects.get().confirmed_by.username == "erin"
    erin.post(live, {"do": "disable"})
    assert not LiveClearance.objects.exists()


def test_a_login_is_switched_off_and_on_by_its_page_alone(account: Account, signed_in) -> None:
    client, page = signed_in("carol", "Administrator"), reverse("admin:login_switch", args=[account.login_id])
    assert b"Switch off" in client.get(page).content
    for _ in range(2):
        client.post(page, {"do": "off"})
    with pytest.raises(LoginDisabled), broker_for(account.login):
        pass
    assert b"Switch on" in client.get(page).content
    client.post(page, {"do": "on"})
    assert Login.objects.get(pk=account.login_id).is_enabled
    assert events("login.") == ["login.switched_off", "login.switched_on"]


def test_who_may_only_look_reaches_no_page_that_changes(account: Account, signed_in) -> None:
    client = signed_in("oscar", "Operator")
    for name, pk in (
        ("account_questions", account.pk),
        ("account_live", account.pk),
        ("login_take_over", account.login_id),
        ("login_switch", account.login_id),
    ):
        assert client.get(reverse(f"admin:{name}", args=[pk])).status_code == 403
        assert client.post(reverse(f"admin:{name}", args=[pk]), {"do": "enable"}).status_code == 403
    assert not LiveClearance.objects.exists()
