"""Paper or live is the broker's word: where it does not fit what the login was entered as, nothing new is sent."""

from django.db import transaction
from django.db.models import Q

from brokers.models import Account, SessionState
from cerbero.access import Actor
from cerbero.database.compiled import Compiled
from cerbero.errors import EnvironmentMismatch
from cerbero.models import Environment
from orders import trading
from orders.models import TradingState
from orders.notices.alerting import alert

CODE = EnvironmentMismatch.code
_MISMATCHED = Compiled(
    lambda: Account.objects.select_related("login").filter(
        Q(login__state=SessionState.MISMATCHED)
        | Q(login__environment=Environment.PAPER, login__is_paper=False)
        | Q(login__environment=Environment.LIVE, login__is_paper=True),
        login__is_enabled=True,
    )
)


def is_mismatched(account: Account) -> bool:
    """Whether the broker's last word of the login, or of this account, is another than ours; from fresh rows."""
    login = account.login
    said_otherwise = login.is_paper is not None and login.is_paper != (login.environment == Environment.PAPER)
    of_login = login.state == SessionState.MISMATCHED or said_otherwise
    return of_login or bool(account.environment and account.environment != login.environment)


def halt_mismatched(actor: Actor) -> list[Account]:
    """Halt every account of a login that the broker calls something else; returns those that were not halted.

    A person resumes them once the login is right; while it is not, they are halted again.
    """
    found = _MISMATCHED.rows()
    if not found:
        return []
    rows = TradingState.objects.filter(
        scope=TradingState.Scope.ACCOUNT, scope_id__in=[str(each.pk) for each in found]
    )
    open_ids = set(rows.exclude(state=TradingState.State.HALTED).values_list("scope_id", flat=True))
    wrong = [each for each in found if str(each.pk) in open_ids]
    for account in wrong:
        with transaction.atomic(durable=True):
            halt_account(actor, account)
    return wrong


def heed(actor: Actor, account: Account, code: str, state: str) -> None:
    """The sending transaction met `code`: a mismatch halts the account there and then, unless `state` has."""
    if code == CODE and state != TradingState.State.HALTED:
        halt_account(actor, account)


def halt_account(actor: Actor, account: Account) -> None:
    """Stop what is new in one account, and tell people; within the caller's transaction."""
    login = account.login
    why = login.state_detail if login.state == SessionState.MISMATCHED else "The broker says otherwise."
    reason = f"{CODE}: login {login} is entered as {login.environment}. {why}"
    trading.stop_new(actor=actor, scope=TradingState.Scope.ACCOUNT, scope_id=str(account.pk), reason=reason)
    state = TradingState.objects.get(scope=TradingState.Scope.ACCOUNT, scope_id=str(account.pk))
    alert(
        f"{CODE}:{account.pk}:{state.changed_at:%Y%m%dT%H%M%S}",
        f"{account} is halted: the broker does not call login {login} {login.environment}",
        reason,
        path="/admin/resume/",
        is_urgent=True,
    )
