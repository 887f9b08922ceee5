"""Refusals on the way out: a broker, its credentials, and hosts that are not a broker."""

from cerbero.errors.base import CerberoError


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


class ManualLoginRequired(SessionExpired):
    """Nobody is signed in at IBKR's gateway; a person must sign in there, and all goes on by itself then."""

    code = "manual_login_required"


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


class KeysNotOurs(CredentialMissing):
    """This login has no keys: a person signs in at IBKR's own gateway, so there is nothing to rotate or enter."""

    code = "keys_not_ours"


class TlsUnverified(CerberoError):
    """A certificate may go unverified for https to localhost, 127.0.0.1 or ::1 alone; verify this one."""

    code, status = "tls_unverified", 422


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


class NotOfferedByBroker(CerberoError):
    """This broker's interface does not have it; asking again will not help."""

    code, status = "not_offered_by_broker", 404


class ContractAmbiguous(CerberoError):
    """Several contracts fit, and none is guessed; the details list them, so name one more precisely."""

    code, status = "contract_ambiguous", 409


class SubscriptionLimit(CerberoError):
    """What people watch takes every market-data line of this login; an Administrator can watch less."""

    code, status, retryable = "subscription_limit", 409, True
