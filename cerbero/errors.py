"""Every way to say no.

    CerberoError
    ├── caller: BadInput, BotTagMissing, NotAuthenticated, ScopeMissing, …
    ├── gate: TicketStateConflict, IdempotencyConflict, RiskRefused, TradingHalted, …
    └── broker: BrokerError
        ├── BrokerUnavailable   certainly not sent
        ├── OutcomeUnknown      perhaps sent
        ├── BrokerRejected      the broker said no
        └── SessionExpired      certainly not processed, the session must be brought up again

The docstring is the message; what the caller needs to act stands in `details`.
"""

from typing import Any, ClassVar


class CerberoError(Exception):
    """Something was refused."""

    code: ClassVar[str] = "refused"
    status: ClassVar[int] = 400
    retryable: ClassVar[bool] = False
    # True where the caller must look before it acts again: the thing may have happened.
    verify_first: ClassVar[bool] = False

    def __init__(self, message: str | None = None, **details: Any) -> None:
        self.message = message or (self.__doc__ or "").strip()
        self.details = details
        super().__init__(self.message)

    def as_json(self) -> dict[str, Any]:
        """The `error` object of every door's answer."""
        return {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            "verify_first": self.verify_first,
            "details": self.details,
        }


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


class StateConflict(CerberoError):
    """It is no longer in the state that this needs; look again before you act."""

    code, status = "state_conflict", 409


class IdempotencyConflict(CerberoError):
    """This idempotency key was used for a different order; the details name the fields that differ."""

    code, status = "idempotency_conflict", 409


class DigestMismatch(CerberoError):
    """What you decided on is not what stands there now; reload and look again."""

    code, status = "digest_mismatch", 409


class SelfApproval(CerberoError):
    """Whoever asked, and the owner of the bot that asked, cannot decide; another approver must."""

    code, status = "self_approval", 403


class AlreadyDecided(CerberoError):
    """This was decided, withdrawn or has expired; nothing was changed."""

    code, status = "already_decided", 409


class NotProven(CerberoError):
    """This question was not asked by Cerbero as it stands there; nobody can decide on it. Tell an Administrator."""

    code, status = "not_proven", 409


class ReasonRequired(CerberoError):
    """A rejection needs a reason; the bot reads it."""

    code, status = "reason_required", 422


class RiskRefused(CerberoError):
    """A limit refuses this order; the details name each limit with its value and what was asked."""

    code, status = "risk_refused", 409


class PolicyRefused(CerberoError):
    """The policy refuses this order; the details name the version, the rule and its reason."""

    code, status = "policy_refused", 409


class PolicyUnreadable(CerberoError):
    """The active policy cannot be read or is not valid, so nothing is allowed; an Administrator must look."""

    code, status, retryable = "policy_unreadable", 503, True


class MandateRefused(CerberoError):
    """This mandate cannot be made or used so; the details say why."""

    code, status = "mandate_refused", 422


class TradingHalted(CerberoError):
    """Trading is halted here; only cancels pass, and people's closes."""

    code, status = "trading_halted", 409


class LiveTradingDenied(CerberoError):
    """This live account is not cleared for trading; the details name what is missing."""

    code, status = "live_trading_denied", 403


class CodeRefused(CerberoError):
    """This code does not hold, or was taken before; wait for the next one."""

    code, status = "code_refused", 403


class PasskeyRefused(CerberoError):
    """The passkey's answer does not hold: reload the page and use it again."""

    code, status = "passkey_refused", 403


class SignatureMissing(CerberoError):
    """A yes on a live account must be signed with a passkey; the queue page asks for it."""

    code, status = "signature_missing", 403


class LiveBarred(CerberoError):
    """What this person may do was changed less than a day ago, so their yes does not count on live accounts yet."""

    code, status = "live_barred", 403


class QuoteMissing(CerberoError):
    """There is no fresh quote for this instrument; wait for one and ask again."""

    code, status, retryable = "quote_missing", 409, True


class PositionUnknown(CerberoError):
    """The broker's position cannot be read now, so a close cannot be sized; cancels still work."""

    code, status, retryable = "position_unknown", 503, True


class NothingToClose(CerberoError):
    """The broker holds no position here that is not being closed already; the details say what it holds."""

    code, status = "nothing_to_close", 409


class LeaseLost(CerberoError):
    """Another process holds this lease; nothing was done."""

    code, status, retryable = "lease_lost", 409, True


class BrokerError(CerberoError):
    """The broker did not do what was asked."""

    code, status = "broker_error", 502


class BrokerUnavailable(BrokerError):
    """The broker could not be reached; certainly nothing was sent."""

    code, status, retryable = "broker_unavailable", 503, True


class OutcomeUnknown(BrokerError):
    """The request may have reached the broker and its outcome is not known; never resend it."""

    code, status, verify_first = "outcome_unknown", 504, True


class ProcessDied(OutcomeUnknown):
    """The process that was sending died; whether the order arrived is being asked."""

    code = "process_died"


class BrokerRejected(BrokerError):
    """The broker refused this; its own words are in the details."""

    code, status = "broker_rejected", 422


class SessionExpired(BrokerError):
    """The broker session is not up; it is being brought up again."""

    code, status, retryable = "session_expired", 503, True


class CannotStart(CerberoError):
    """The processes cannot be started; the message says what to do."""

    code, status = "cannot_start", 503


class StreamLost(BrokerError):
    """The broker's stream is dead; connect anew and subscribe again, its old quotes are not news."""

    code, status, retryable = "stream_lost", 503, True


class CannotDecrypt(CerberoError):
    """A stored secret cannot be read: the encryption key is not the one that wrote it, or the row was altered."""

    code, status = "cannot_decrypt", 503


class LoginDisabled(CerberoError):
    """This login is switched off; an Administrator can switch it on."""

    code, status = "login_disabled", 409


class CredentialMissing(CerberoError):
    """This login has no active credential; store one first."""

    code, status = "credential_missing", 409


class RotationOpen(CerberoError):
    """A rotation of this login's keys is open already; finish or abort that one first."""

    code, status = "rotation_open", 409


class OutboundHostRefused(CerberoError):
    """Nothing leaves to this address: its host, scheme or port is not on the allow-list."""

    code, status = "outbound_host_refused", 403


class OutboundAddressRefused(CerberoError):
    """The host's name leads to an address that is not public; nothing was sent."""

    code, status = "outbound_address_refused", 403


class OutboundRedirected(CerberoError):
    """The other side answered with a redirect, which is never followed."""

    code, status = "outbound_redirected", 502


class OutboundTooLarge(CerberoError):
    """The other side's answer was longer than we read."""

    code, status = "outbound_too_large", 502


class OutboundTimeout(CerberoError):
    """The other side did not answer within the time that it is given."""

    code, status, retryable = "outbound_timeout", 504, True


class OutboundUnreachable(CerberoError):
    """The other side cannot be reached."""

    code, status, retryable = "outbound_unreachable", 502, True


class NoticeRefused(CerberoError):
    """The receiver did not take this notice; it is tried again."""

    code, status, retryable = "notice_refused", 502, True


class DutyOverlaps(CerberoError):
    """You have a shift in that time already; end it first."""

    code, status = "duty_overlaps", 409


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


class FeedDead(CerberoError):
    """The market feed is dead: nobody approves by prices that nobody knows. Rejecting still works."""

    code, status, retryable = "feed_dead", 409, True


class ConfirmationNeeded(CerberoError):
    """The market is not what it seems; look at what is said here and confirm that you approve all the same."""

    code, status = "confirmation_needed", 409
