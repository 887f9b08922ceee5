"""Refusals of the gate: tickets, decisions, limits, trading states and rotations."""

from cerbero.errors.base import CerberoError


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


class ImpossibleOrder(CerberoError):
    """No order can have these terms; the details name each problem with its field."""

    code, status = "impossible_order", 422


class NotOfferedYet(CerberoError):
    """Cerbero does not send this yet: neither algos, nor combos, nor event contracts."""

    code, status = "not_offered_yet", 422


class RiskRefused(CerberoError):
    """A limit refuses this order; the details name each limit with its value and what was asked."""

    code, status = "risk_refused", 409


class OverrideRefused(CerberoError):
    """This limit cannot be overridden so, or not for this ticket; the details and the message say why."""

    code, status = "override_refused", 409


class OverrideUnsigned(CerberoError):
    """Whoever overrides a limit for this ticket must say yes before anybody else does."""

    code, status = "override_unsigned", 409


class PolicyRefused(CerberoError):
    """The policy refuses this order; the details name the version, the rule and its reason."""

    code, status = "policy_refused", 409


class PolicyUnreadable(CerberoError):
    """The active policy cannot be read or is not valid, so nothing is allowed; an Administrator must look."""

    code, status, retryable = "policy_unreadable", 503, True


class MandateRefused(CerberoError):
    """This mandate cannot be made or used so; the details say why."""

    code, status = "mandate_refused", 422


class OrderMoved(CerberoError):
    """The broker's terms of this order are not those that Cerbero knows; wait for its next report and ask anew."""

    code, status, retryable = "order_moved", 409, True


class TradingHalted(CerberoError):
    """Trading is halted here; only cancels pass, and people's closes."""

    code, status = "trading_halted", 409


class LiveTradingDenied(CerberoError):
    """This live account is not cleared for trading; the details name what is missing."""

    code, status = "live_trading_denied", 403


class SignatureMissing(CerberoError):
    """A yes on a live account, and each of a sole operator, must be signed with a passkey; the page asks for it."""

    code, status = "signature_missing", 403


class DelayRunning(CerberoError):
    """The sole operator's delay is not over; the details say from when on a yes counts. A no counts at once."""

    code, status, retryable = "delay_running", 409, True


class LiveBarred(CerberoError):
    """What this person may do was changed less than a day ago, so their yes does not count on live accounts yet."""

    code, status = "live_barred", 403


class QuoteMissing(CerberoError):
    """There is no fresh quote for this instrument; wait for one and ask again."""

    code, status, retryable = "quote_missing", 409, True


class FiguresMissing(CerberoError):
    """The account's money and positions have not been read lately; wait for the next reconciliation and ask again."""

    code, status, retryable = "figures_missing", 409, True


class PositionUnknown(CerberoError):
    """The broker's position cannot be read now, so a close cannot be sized; cancels still work."""

    code, status, retryable = "position_unknown", 503, True


class GroupImpossible(CerberoError):
    """These orders cannot be such a group; the details say why, a sentence for each problem."""

    code, status = "group_impossible", 422


class NothingToClose(CerberoError):
    """The broker holds no position here that is not being closed already; the details say what it holds."""

    code, status = "nothing_to_close", 409


class LeaseLost(CerberoError):
    """Another process holds this lease; nothing was done."""

    code, status, retryable = "lease_lost", 409, True


class FeedDead(CerberoError):
    """The market feed is dead: nobody approves by prices that nobody knows. Rejecting still works."""

    code, status, retryable = "feed_dead", 409, True


class ConfirmationNeeded(CerberoError):
    """The market is not what it seems; look at what is said here and confirm that you approve all the same."""

    code, status = "confirmation_needed", 409


class NoticeRefused(CerberoError):
    """The receiver did not take this notice; it is tried again."""

    code, status, retryable = "notice_refused", 502, True


class DutyOverlaps(CerberoError):
    """You have a shift in that time already; end it first."""

    code, status = "duty_overlaps", 409


class RotationOpen(CerberoError):
    """A rotation of this login's keys is open already; finish or abort that one first."""

    code, status = "rotation_open", 409
