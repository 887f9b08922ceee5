"""Refusals at a door: who asks, in which form, and whether we are up."""

from cerbero.errors.base import CerberoError


class BadInput(CerberoError):
    """The request is not of the tool's form; the details say which field and why."""

    code, status = "bad_input", 422


class MalformedRequest(CerberoError):
    """The body is not valid JSON; send one JSON object."""

    code, status = "malformed_request", 400


class NotFound(CerberoError):
    """There is no such thing, or it is not yours to see."""

    code, status = "not_found", 404


class MethodNotAllowed(CerberoError):
    """This address does not take that method; the API reference at /apidocs lists what it takes."""

    code, status = "method_not_allowed", 405


class CsrfFailed(CerberoError):
    """This address takes a POST from our own pages only; programs use the tools, with a bearer token."""

    code, status = "csrf_failed", 403


class PayloadTooLarge(CerberoError):
    """The body is larger than a tool takes; the limit stands in the details."""

    code, status = "payload_too_large", 413


class DatabaseUnavailable(CerberoError):
    """The database cannot be reached, so nothing can be decided or recorded; look before you repeat a write."""

    code, status, retryable, verify_first = "database_unavailable", 503, True, True


class InternalError(CerberoError):
    """Cerbero failed; nothing was sent unless an order says so. Quote the request id when you report it."""

    code, status, verify_first = "internal_error", 500, True


class NotAuthenticated(CerberoError):
    """The bearer token is missing, unknown, expired or revoked."""

    code, status = "not_authenticated", 401


class BotTagMissing(CerberoError):
    """Send an X-Bot-Tag header of 1 to 64 visible characters that names the running instance."""

    code, status = "bot_tag_missing", 400


class ScopeMissing(CerberoError):
    """The token lacks the scope that this tool needs; ask the bot's owner for one that has it."""

    code, status = "scope_missing", 403


class EnvironmentMismatch(CerberoError):
    """The token is for another environment than the account; paper tokens reach paper accounts only."""

    code, status = "environment_mismatch", 403


class PermissionMissing(CerberoError):
    """You may not do this; an Administrator can grant the group that may."""

    code, status = "permission_missing", 403


class CodeRefused(CerberoError):
    """This code does not hold, or was taken before; wait for the next one."""

    code, status = "code_refused", 403


class PasskeyRefused(CerberoError):
    """The passkey's answer does not hold: reload the page and use it again."""

    code, status = "passkey_refused", 403


class CannotStart(CerberoError):
    """The processes cannot be started; the message says what to do."""

    code, status = "cannot_start", 503


class SignInRequired(CerberoError):
    """A token reads and reduces risk; to decide yes, propose, resume or edit, a person signs in."""

    code, status = "sign_in_required", 403


class NotAcceptable(CerberoError):
    """This address answers in JSON only; ask with Accept: application/json."""

    code, status = "not_acceptable", 406


class UnsupportedMediaType(CerberoError):
    """This address reads JSON only; send Content-Type: application/json."""

    code, status = "unsupported_media_type", 415


class TooManyRequests(CerberoError):
    """You ask more often than this address answers; the details say when to come back."""

    code, status, retryable = "too_many_requests", 429, True
