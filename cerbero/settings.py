"""Settings: the only file that reads the environment, and it starts nothing.

Every secret is `NAME` or `NAME_FILE`; `make up` writes the files under `var/secrets` (mode 0600).
"""

import os
from datetime import timedelta
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent


def text(name: str, default: str | None = None) -> str:
    """A setting's text. Raises ImproperlyConfigured when it has neither a value nor a default."""
    value = os.environ.get(name, default)
    if value is None:
        raise ImproperlyConfigured(f"{name} is not set; see the configuration table in README.md")
    return value


def flag(name: str, default: bool = False) -> bool:
    value = os.environ.get(name, "1" if default else "0").strip().lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off", ""}:
        return False
    raise ImproperlyConfigured(f"{name} must be true or false, not {value!r}")


def whole(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    try:
        return int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {value!r}") from None


def secret(name: str, default: str | None = None) -> str:
    """A secret from `NAME`, from the file named by `NAME_FILE`, or from `var/secrets/name`."""
    if os.environ.get(name):
        return os.environ[name]
    path = secret_path(name)
    try:
        return path.read_text().strip()
    except OSError:
        if default is not None:
            return default
        raise ImproperlyConfigured(
            f"{name} is missing: set {name} or {name}_FILE, or run `make up`, which makes {path.name}. "
            "If data exists already, bring back the old key: a new one cannot read it."
        ) from None


def secret_path(name: str) -> Path:
    """The file of a secret that does not stand in the environment itself."""
    return Path(os.environ.get(f"{name}_FILE") or VAR_DIR / "secrets" / name.lower())


def stamp(path: Path | None) -> int:
    """When a file was last written; 0 for none."""
    return path.stat().st_mtime_ns if path is not None and path.exists() else 0


def database(url: str) -> dict:
    """Django's connection settings for a `postgresql://` URL; a socket folder goes in `?host=`."""
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured(
            "DATABASE_URL must begin with postgresql://; Postgres is the only database"
        )
    query = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair)
    return {
        "ENGINE": "cerbero.database",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(query.pop("host", parts.hostname or "")),
        "PORT": str(query.pop("port", parts.port or "")),
        "CONN_MAX_AGE": 0,
        "OPTIONS": {
            # A caller waits 3 s at most; a pool that gives up trying begins anew with the next caller.
            "pool": {
                "min_size": 1,
                "max_size": whole("DATABASE_POOL_SIZE", 8),
                "timeout": 3,
                "reconnect_timeout": 2,
            },
            "connect_timeout": 5,
            "server_side_binding": True,
            "prepare_threshold": 3,
            "application_name": "cerbero",
        }
        | {key: unquote(value) for key, value in query.items()},
    }


def mail(url: str) -> tuple[SplitResult, str]:
    """The parts of `smtp://name:password@host:port?tls=starttls`, and how it is encrypted: starttls, tls, none."""
    parts = urlsplit(url)
    tls = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair).get("tls", "starttls")
    if url and (parts.scheme != "smtp" or not parts.hostname or tls not in {"starttls", "tls", "none"}):
        raise ImproperlyConfigured("EMAIL_URL must read smtp://name:password@host:port?tls=starttls|tls|none")
    return parts, tls


VAR_DIR = Path(os.environ.get("VAR_DIR", BASE_DIR / "var")).resolve()

# The first signs; the ones after it are taken for as long as they stand there (docs/key-rotation.md).
SECRET_KEY_PATH = None if os.environ.get("SECRET_KEY") else secret_path("SECRET_KEY")
SECRET_KEY_STAMP = stamp(SECRET_KEY_PATH)
SECRET_KEY, *SECRET_KEY_FALLBACKS = secret("SECRET_KEY").split() or [""]
ENCRYPTION_KEY_PATH = None if os.environ.get("ENCRYPTION_KEY") else secret_path("ENCRYPTION_KEY")
ENCRYPTION_KEY_STAMP = stamp(ENCRYPTION_KEY_PATH)
ENCRYPTION_KEY = secret("ENCRYPTION_KEY")
QUOTE_FRAME_KEY = secret("QUOTE_FRAME_KEY")
# Only the sealer's process needs the signing half; everybody may know the public one.
SEAL_KEY = secret("SEAL_KEY", default="")
ANCHOR_PATH = Path(os.environ.get("ANCHOR_PATH", VAR_DIR / "anchors" / "checkpoints.log"))

DEBUG = flag("DEBUG")
PUBLIC_URL = text("PUBLIC_URL", "http://localhost:8000").rstrip("/")
# A URL that nobody gave comes from the file that `make up` leaves for `manage.py` in another terminal.
EMBEDDED_SERVERS = flag("EMBEDDED_SERVERS", not {"DATABASE_URL", "DATABASE_URL_FILE"} & set(os.environ))
READY_FAILS_ON_DEGRADED = flag("READY_FAILS_ON_DEGRADED")
LIVE_TRADING = text("LIVE_TRADING", "disabled")
# For the fault harness alone (cerbero.failpoints); a live deployment refuses to start with it.
FAIL_POINT = text("FAIL_POINT", "")
APPROVAL_SECONDS = whole("APPROVAL_SECONDS", 900)
TRUST_PROXY = flag("TRUST_PROXY")

# Where webhooks may go: https to public addresses, and, by name only, to hosts of our own network.
OUTBOUND_HOSTS = text("OUTBOUND_HOSTS", "hooks.slack.com").lower().split()
OUTBOUND_INTERNAL_HOSTS = text("OUTBOUND_INTERNAL_HOSTS", "").lower().split()
# Announcing by e-mail is off until there is a server: smtp://name:password@host:587?tls=starttls
_mail, _tls = mail(secret("EMAIL_URL", default=""))
EMAIL_IS_ON = bool(_mail.hostname)
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if EMAIL_IS_ON else 'dummy'}.EmailBackend"
EMAIL_HOST, EMAIL_PORT = _mail.hostname or "", _mail.port or (465 if _tls == "tls" else 587)
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = unquote(_mail.username or ""), unquote(_mail.password or "")
EMAIL_USE_TLS, EMAIL_USE_SSL, EMAIL_TIMEOUT = _tls == "starttls", _tls == "tls", 5
DEFAULT_FROM_EMAIL = SERVER_EMAIL = text("EMAIL_FROM", "cerbero@localhost")
# Who is told, besides the approvers, when half of a decision's time is gone.
ESCALATION_GROUP = text("ESCALATION_GROUP", "Administrator")

_public = urlsplit(PUBLIC_URL)
_secure = _public.scheme == "https"
ALLOWED_HOSTS = sorted({_public.hostname or "localhost", "localhost", "127.0.0.1", "[::1]"})
if _secure:
    ALLOWED_HOSTS = [_public.hostname or "", *text("EXTRA_HOSTS", "").split()]
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
CSRF_FAILURE_VIEW = "cerbero.refusals.refuse_csrf"
DEFAULT_EXCEPTION_REPORTER_FILTER = "cerbero.refusals.NothingButPlaces"

ROOT_URLCONF = "cerbero.urls"
ASGI_APPLICATION = "cerbero.asgi.application"
WSGI_APPLICATION = "cerbero.wsgi.application"
AUTH_USER_MODEL = "cerbero.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "cerbero.apps.CerberoAdminConfig",
    # Before Django's own, whose commands for passwords and superusers it replaces.
    "cerbero.people",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "ninja",
    "rest_framework",
    "drf_spectacular",
    "cerbero.apps.CerberoConfig",
    "audit",
    "brokers",
    "orders.notices",
    "orders",
    "cerbero.apps.KeyRotationConfig",
]

MIDDLEWARE = [
    "cerbero.middleware.request_context",
    "cerbero.middleware.trail_of_refusals",
    "cerbero.refusals.one_shape",
    "django.middleware.security.SecurityMiddleware",
    "cerbero.middleware.content_security_policy",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "cerbero.people.middleware.end_idle_sessions",
    "django.contrib.messages.middleware.MessageMiddleware",
    "cerbero.people.middleware.ask_once_a_shift",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

DATABASES = {"default": database(secret("DATABASE_URL"))}
REDIS_URL = secret("REDIS_URL")

# Redis is not trusted: no cache and no session lives there (a forged pickle runs code).
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
SESSION_ENGINE = "django.contrib.sessions.backends.db"
SESSION_COOKIE_NAME = "cerbero_session"
SESSION_COOKIE_AGE = int(timedelta(hours=12).total_seconds())
# Without anything that a person did; an open page that refreshes itself does not count.
SESSION_IDLE_SECONDS = whole("SESSION_IDLE_SECONDS", 1800)
# How long a code or a passkey speaks for the person at the desk: a shift.
STEP_UP_SECONDS = whole("STEP_UP_SECONDS", 28800)
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _secure
CSRF_COOKIE_HTTPONLY = True
SECURE_SSL_REDIRECT = _secure
# Probes and scrapers ask from inside, past the proxy that speaks TLS.
SECURE_REDIRECT_EXEMPT = [r"^health(/ready)?$", r"^metrics$"]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUST_PROXY else None
SECURE_HSTS_SECONDS = int(timedelta(days=365).total_seconds()) if _secure else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _secure
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

AUTHENTICATION_BACKENDS = ["cerbero.people.backend.GroupsBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
USE_THOUSAND_SEPARATOR = True
FORMAT_MODULE_PATH = "cerbero.formats"

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
# Found where they lie, so that there is no collecting step to forget.
WHITENOISE_USE_FINDERS = True

CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://", 1)
CELERY_TASK_SERIALIZER = CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": 5, "socket_connect_timeout": 2}
CELERY_TASK_TIME_LIMIT = 120
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = {
    "announce_decisions": {
        "task": "orders.notices.tasks.announce_decisions",
        "schedule": 3.0,
        "options": {"expires": 3},
    },
    "deliver_notices": {
        "task": "orders.notices.tasks.deliver_notices",
        "schedule": 3.0,
        "options": {"expires": 3},
    },
    "watch_outages": {
        "task": "orders.notices.tasks.watch_outages",
        "schedule": 2.0,
        "options": {"expires": 2},
    },
    "keep_sessions": {"task": "brokers.tasks.keep_sessions", "schedule": 2.0, "options": {"expires": 2}},
    "refresh_tokens": {"task": "brokers.tasks.refresh_tokens", "schedule": 60.0, "options": {"expires": 60}},
    "sweep_rotations": {
        "task": "keyrotation.tasks.sweep_rotations",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    "watch_secrets": {
        "task": "keyrotation.tasks.watch_secrets",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "reconcile_accounts": {
        "task": "orders.tasks.reconcile_accounts",
        "schedule": 5.0,
        "options": {"expires": 5},
    },
    "ask_what_ifs": {"task": "orders.tasks.ask_what_ifs", "schedule": 3.0, "options": {"expires": 3}},
}

# What people's programs ask under /api/ (orders/api). Each view names its own permissions.
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["orders.api.callers.ByToken", "orders.api.callers.BySession"],
    "DEFAULT_PERMISSION_CLASSES": ["orders.api.callers.MayCall"],
    "DEFAULT_THROTTLE_CLASSES": ["orders.api.callers.Pace"],
    "DEFAULT_PARSER_CLASSES": ["orders.api.wire.PlainParser"],
    "DEFAULT_RENDERER_CLASSES": ["orders.api.wire.PlainRenderer"],
    "DEFAULT_PAGINATION_CLASS": "orders.api.listing.Pages",
    "DEFAULT_FILTER_BACKENDS": ["orders.api.listing.Narrowing"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_METADATA_CLASS": None,
    "EXCEPTION_HANDLER": "orders.api.wire.answer",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Cerbero, for people's programs",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SCHEMA_PATH_PREFIX": "/api",
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "ENUM_NAME_OVERRIDES": {
        "OrderStatus": "orders.lifecycle.OrderStatus",
        "TicketStatus": "orders.lifecycle.TicketStatus",
        "AttemptStatus": "orders.lifecycle.AttemptStatus",
        "PolicyStatus": "orders.standing.PolicyVersion.Status",
        "MandateStatus": "orders.standing.Mandate.Status",
    },
}

LOG_LEVEL = text("LOG_LEVEL", "INFO")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "cerbero.logs.formatter"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "httpx": {"level": "WARNING"},
        "httpcore": {"level": "WARNING"},
        "daphne": {"level": "WARNING"},
        "django": {"level": "INFO"},
        # Refusals have a line of our own, with the request id; this one is for crashes.
        "django.request": {"level": "ERROR"},
    },
}
