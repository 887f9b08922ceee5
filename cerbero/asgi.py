"""ASGI for daphne: pages and tools over HTTP, and the live page's websocket."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cerbero.settings")

from django.core.asgi import get_asgi_application

# Sets Django up; what follows needs its models.
http = get_asgi_application()

from urllib.parse import urlsplit

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import OriginValidator, WebsocketDenier
from django.conf import settings
from django.urls import path, re_path

from cerbero.alive import keep_marking
from cerbero.checks import refuse_half_set_flags
from cerbero.consumers import LiveConsumer

refuse_half_set_flags()
keep_marking("process:web", server="daphne")

websockets = [
    path("ws/live/", LiveConsumer.as_asgi()),
    # Any other address is refused, not a crash.
    re_path("", WebsocketDenier.as_asgi()),
]


def own_origins() -> list[str]:
    """Where our own pages come from: PUBLIC_URL, and the other names of this host at the same port."""
    public = urlsplit(settings.PUBLIC_URL)
    port = f":{public.port}" if public.port else ""
    return [f"{public.scheme}://{host}{port}" for host in settings.ALLOWED_HOSTS]


application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": OriginValidator(AuthMiddlewareStack(URLRouter(websockets)), own_origins()),
    }
)
