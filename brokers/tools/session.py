"""The logins of an environment: whether their sessions are up, and asking that one be brought up."""

import datetime as dt

from django.conf import settings
from django.utils import timezone

from brokers.models import Login
from brokers.pacing import REQUESTS_PER_SECOND
from brokers.sessions import keep_session
from brokers.tools.shapes import Everything, OfAccount, ThroughLogin
from brokers.ways import SessionState, Usability, WayIn
from cerbero.access import Actor
from cerbero.models import Environment
from cerbero.tool import READ, WRITE, Out, tool


class SessionOut(Out):
    """`is_paper` is the broker's word. Until `cooling_until` the broker's rate limit lets only cancels pass.

    `usability`: while it is `manual_action_required` no retry of yours helps; a person was told. A gateway's token
    expires when IBKR asks for its person again, at the latest.
    """

    login: str
    is_enabled: bool
    environment: Environment
    is_paper: bool | None
    way_in: WayIn
    state: SessionState
    usability: Usability
    detail: str
    is_up: bool
    changed_at: dt.datetime
    tickled_at: dt.datetime | None
    token_expires_at: dt.datetime | None
    feed_alive_at: dt.datetime | None
    cooling_until: dt.datetime | None


class SessionsOut(Out):
    """From Cerbero's own rows, which the session's keeper writes; no broker is asked."""

    sessions: list[SessionOut]
    as_of: dt.datetime


class EnvironmentOut(Out):
    """`live_orders` says whether this deployment may send live orders at all; each account needs a clearance, too."""

    environment: Environment
    live_orders: bool
    brokers: list[str]
    requests_per_second: int
    scopes: list[str]
    accounts: list[str]
    now: dt.datetime


@tool(scope="market:read", effect=READ)
def get_session_status(actor: Actor, params: ThroughLogin) -> SessionsOut:
    """Whether the broker sessions of your environment are up, and if not, why; no broker is asked."""
    rows = Login.objects.filter(environment=actor.environment).order_by("name")
    if params.account is not None:
        rows = rows.filter(pk=params.login(actor).pk)
    return SessionsOut(sessions=[_out(row) for row in rows], as_of=timezone.now())


@tool(scope="session:renew", effect=WRITE)
def renew_session(actor: Actor, params: OfAccount) -> SessionOut:
    """Ask that an account's broker session be brought up or kept; it never takes over another platform's session.

    What failed lately is tried again only when its pause is over. Another process may be at it already: `lease_lost`.
    """
    login = params.login(actor)
    keep_session(login, actor)
    return _out(Login.objects.get(pk=login.pk))


@tool(scope="market:read", effect=READ)
def environment_info(actor: Actor, params: Everything) -> EnvironmentOut:
    """Where you are: paper or live, which accounts and scopes are yours, and whether live orders can leave here."""
    logins = Login.objects.filter(environment=actor.environment, is_enabled=True)
    accounts = logins.exclude(accounts=None).values_list("accounts__broker_account_id", flat=True)
    return EnvironmentOut(
        environment=Environment(actor.environment),
        live_orders=settings.LIVE_TRADING == "enabled" and not settings.EMBEDDED_SERVERS,
        brokers=sorted(set(logins.values_list("broker", flat=True))),
        requests_per_second=REQUESTS_PER_SECOND,
        scopes=sorted(actor.scopes),
        accounts=sorted(set(accounts)),
        now=timezone.now(),
    )


def _out(row: Login) -> SessionOut:
    return SessionOut(
        login=row.name,
        is_enabled=row.is_enabled,
        environment=Environment(row.environment),
        is_paper=row.is_paper,
        way_in=WayIn(row.way_in),
        state=SessionState(row.state),
        usability=row.usability,
        detail=row.state_detail,
        is_up=row.state == SessionState.UP,
        changed_at=row.state_changed_at,
        tickled_at=row.tickled_at,
        token_expires_at=row.session_token_expires_at,
        feed_alive_at=row.feed_alive_at,
        cooling_until=row.cooling_until,
    )
