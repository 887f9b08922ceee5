"""Who acts, and with which scopes: bearer token → Actor, signed-in person → Actor."""

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from django.db.models.functions import Now
from django.utils import timezone

from cerbero.database.compiled import Compiled, Given
from cerbero.errors import BotTagMissing, NotAuthenticated, ScopeMissing, SignInRequired
from cerbero.models import AccessToken, Bot, PersonToken, User

# Every scope that a bot's token may carry, with what it opens. Deciding is not among them: only people decide.
SCOPES = {
    "market:read": "read markets, contracts and accounts at the broker",
    "orders:read": "read its own orders and tickets",
    "orders:write": "propose, cancel and close",
    "trading:halt": "halt trading for itself",
    "session:renew": "ask that a broker session be brought up",
    "rotation:admin": "start and abort key rotations; never given by default",
}
# Every scope that a person's token may carry. Each adds to the person's own permissions, none replaces them;
# deciding yes, proposing, resuming and editing are not among them (gates.md G7).
PERSON_SCOPES = {
    "read": "read what its person may read",
    "reject": "reject a ticket that waits",
    "cancel": "cancel an order",
    "close": "close a position",
    "halt": "halt trading",
    "rotate": "start and abort key rotations; confirming is no token's",
}
# What a service demands of the person, and the scope that lets a token be that person for it.
_OPENED_BY = {
    "orders.decide_ticket": "reject",
    "orders.cancel_order": "cancel",
    "orders.close_position": "close",
    "orders.halt_trading": "halt",
    "keyrotation.rotate_keys": "rotate",
}
DEFAULT_SCOPES = ("market:read", "orders:read", "orders:write", "trading:halt")

PROGRAM = "token"
_TAG = re.compile(r"[\x21-\x7e]{1,64}")
_TOUCH_EVERY = timedelta(minutes=1)
_ACTIVE = Compiled(lambda: User.objects.filter(pk=Given("user"), is_active=True))
# Asked by every call of a bot.
_USABLE = Compiled(
    lambda: (
        AccessToken.objects.usable()
        .filter(digest=Given("digest"))
        .select_related("bot")
        .only("scopes", "environment", "last_used_at", "bot__name", "bot__owner", "bot__environment")
    )
)


@dataclass(frozen=True)
class Actor:
    """Who acts: a bot, a person or the system; passed explicitly to every service, always first."""

    kind: str
    id: UUID | None
    name: str
    scopes: frozenset[str] = frozenset()
    environment: str = ""
    owner_id: UUID | None = None
    tag: str = ""
    request_id: str = ""
    door: str = field(default="", compare=False)

    @property
    def is_bot(self) -> bool:
        return self.kind == "bot"

    @property
    def is_person(self) -> bool:
        return self.kind == "person"

    @property
    def is_token_of_person(self) -> bool:
        """A program with a person's token: that person, but for what only a session may do."""
        return self.is_person and self.door == PROGRAM

    def require(self, scope: str) -> None:
        """Raises ScopeMissing unless this actor's token carries `scope`; a session is held by permissions only."""
        if (self.is_bot or self.is_token_of_person) and scope not in self.scopes:
            raise ScopeMissing(scope=scope)

    def require_session(self) -> None:
        """Raises SignInRequired for a person's token."""
        if self.is_token_of_person:
            raise SignInRequired

    def require_opened(self, permission: str) -> None:
        """What a person's token may not do, no service does for it: only what reduces risk has a scope."""
        if permission not in _OPENED_BY:
            self.require_session()
        elif self.is_token_of_person:
            self.require(_OPENED_BY[permission])


@dataclass(frozen=True)
class Rule:
    """What one action takes: the person's permission, and the scope that lets a token do it (empty: none does)."""

    permission: str
    scope: str = ""

    @property
    def reduces_risk(self) -> bool:
        return self.scope not in {"", "read", "rotate"}


def system(name: str) -> Actor:
    """The actor of a process of ours, such as `orders` or `beat`."""
    return Actor(kind="system", id=None, name=name, door="process")


# Whoever has a shell on the server and runs a command there.
SERVER, BOOTSTRAP = system("server"), system("bootstrap")


def person(user: User, *, request_id: str = "", door: str = "admin") -> Actor:
    return Actor(kind="person", id=user.pk, name=user.get_username(), request_id=request_id, door=door)


def user_of(actor: Actor) -> User | None:
    """The active person behind an actor; None for bots and processes, whatever they may do."""
    if not actor.is_person or actor.id is None:
        return None
    return _ACTIVE.first(user=actor.id)


def issue_token(
    bot: Bot, *, scopes: tuple[str, ...] = DEFAULT_SCOPES, days: int = 90, label: str = ""
) -> str:
    """Make a token and return it, once; only its digest is stored. Raises ValueError for an unknown scope."""
    unknown = set(scopes) - SCOPES.keys()
    if unknown:
        raise ValueError(f"unknown scopes: {', '.join(sorted(unknown))}")
    prefix, rest = secrets.token_hex(4), secrets.token_urlsafe(32)
    token = f"cbr_{prefix}_{rest}"
    AccessToken.objects.create(
        bot=bot,
        prefix=prefix,
        digest=_digest(token),
        environment=bot.environment,
        scopes=sorted(scopes),
        label=label,
        expires_at=timezone.now() + timedelta(days=days),
    )
    return token


def issue_person_token(owner: User, *, scopes: tuple[str, ...], days: int, label: str = "") -> str:
    """Make a person's token and return it, once. Raises ValueError for an unknown scope."""
    unknown = set(scopes) - PERSON_SCOPES.keys()
    if unknown:
        raise ValueError(f"unknown scopes: {', '.join(sorted(unknown))}")
    prefix, rest = secrets.token_hex(4), secrets.token_urlsafe(32)
    token = f"cbp_{prefix}_{rest}"
    PersonToken.objects.create(
        person=owner,
        prefix=prefix,
        digest=_digest(token),
        scopes=sorted(scopes),
        label=label,
        expires_at=timezone.now() + timedelta(days=days),
    )
    return token


def authenticate_person(authorization: str, *, request_id: str = "") -> tuple[User, Actor]:
    """The person behind an Authorization header, and the actor of that token. Raises NotAuthenticated."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise NotAuthenticated
    row = PersonToken.objects.usable().filter(digest=_digest(token.strip())).select_related("person").first()
    if row is None:
        raise NotAuthenticated
    _touch(row)
    actor = Actor(
        kind="person",
        id=row.person.pk,
        name=row.person.get_username(),
        scopes=frozenset(row.scopes),
        tag=str(row),
        request_id=request_id,
        door=PROGRAM,
    )
    return row.person, actor


def authenticate(authorization: str, bot_tag: str, *, request_id: str = "", door: str = "http") -> Actor:
    """The bot behind an Authorization header. Raises NotAuthenticated or BotTagMissing."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise NotAuthenticated
    row = _USABLE.first(digest=_digest(token.strip()))
    if row is None:
        raise NotAuthenticated
    if not _TAG.fullmatch(bot_tag):
        raise BotTagMissing
    _touch(row)
    return Actor(
        kind="bot",
        id=row.bot.pk,
        name=row.bot.name,
        scopes=frozenset(row.scopes),
        environment=row.environment,
        owner_id=row.bot.owner_id,
        tag=bot_tag,
        request_id=request_id,
        door=door,
    )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _touch(row: AccessToken | PersonToken) -> None:
    if row.last_used_at is None or timezone.now() - row.last_used_at > _TOUCH_EVERY:
        type(row).objects.filter(pk=row.pk).update(last_used_at=Now())
