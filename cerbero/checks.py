"""System checks: settings that must not stand together refuse to start, by whatever door."""

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

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


def refuse_half_set_flags() -> None:
    """For the doors that manage.py's checks do not reach (wsgi, asgi, celery). Raises CannotStart."""
    if problems := live_trading_is_whole():
        raise CannotStart(" ".join(str(problem.msg) for problem in problems))
