"""System checks: settings that must not stand together refuse to start."""

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register()
def live_trading_is_whole(**_: object) -> list[CheckMessage]:
    """Live trading is all or nothing (README, safety)."""
    if settings.LIVE_TRADING not in {"enabled", "disabled"}:
        return [Error("LIVE_TRADING must be 'enabled' or 'disabled'.", id="cerbero.E001")]
    problems: list[CheckMessage] = []
    if settings.LIVE_TRADING == "enabled" and settings.EMBEDDED_SERVERS:
        problems.append(
            Error(
                "LIVE_TRADING=enabled does not go with embedded servers.",
                hint="Give DATABASE_URL and REDIS_URL of real servers, or leave LIVE_TRADING disabled.",
                id="cerbero.E002",
            )
        )
    if settings.LIVE_TRADING == "enabled" and not settings.PUBLIC_URL.startswith("https://"):
        problems.append(
            Error("LIVE_TRADING=enabled needs a PUBLIC_URL that begins with https://.", id="cerbero.E003")
        )
    return problems
