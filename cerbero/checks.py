"""System checks: settings that must not stand together refuse to start, by whatever door."""

from collections.abc import Iterable

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, Error, Tags, register

from cerbero.errors import CannotStart


@register()
def live_trading_is_whole(**_: object) -> list[CheckMessage]:
    """Live trading is all or nothing (README, safety)."""
    if settings.LIVE_TRADING not in {"enabled", "disabled"}:
        return [Error("LIVE_TRADING must be 'enabled' or 'disabled'.", id="cerbero.E001")]
    if settings.LIVE_TRADING == "disabled":
        return []
    problems: list[CheckMessage] = []
    if settings.EMBEDDED_SERVERS:
        problems.append(
            Error(
                "LIVE_TRADING=enabled does not go with embedded servers.",
                hint="Give DATABASE_URL and REDIS_URL of real servers, or leave LIVE_TRADING disabled.",
                id="cerbero.E002",
            )
        )
    if not settings.PUBLIC_URL.startswith("https://"):
        problems.append(
            Error("LIVE_TRADING=enabled needs a PUBLIC_URL that begins with https://.", id="cerbero.E003")
        )
    if settings.FAIL_POINT:
        problems.append(Error("LIVE_TRADING=enabled does not go with FAIL_POINT.", id="cerbero.E005"))
    if settings.DEBUG:
        problems.append(Error("LIVE_TRADING=enabled does not go with DEBUG.", id="cerbero.E004"))
    return problems


@register(Tags.database)
def nobody_is_superuser(databases: Iterable[str] | None = None, **_: object) -> list[CheckMessage]:
    """The mark opens nothing here; whoever set it went past two Administrators. Asks only with `--database`."""
    marked = (
        list(get_user_model().objects.filter(is_superuser=True).values_list("username", flat=True))
        if databases
        else []
    )
    hint = "Ask who wrote it, then: UPDATE cerbero_user SET is_superuser = false."
    return (
        [Error(f"Marked as superuser: {', '.join(marked)}.", hint=hint, id="cerbero.E006")] if marked else []
    )


def refuse_half_set_flags() -> None:
    """For the doors that manage.py's checks do not reach (wsgi, asgi, celery). Raises CannotStart."""
    if problems := live_trading_is_whole():
        raise CannotStart(" ".join(str(problem.msg) for problem in problems))
