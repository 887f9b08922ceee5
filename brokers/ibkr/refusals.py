"""How IBKR says no, in one table: how it looks, what it proves of a read and of a write, and what to do (ibkr-web-api.md §6.3, §8).

A read that fails changed nothing by asking. A write that fails is OutcomeUnknown, unless the broker's own words prove that it
was refused. The first row that fits counts; its `reason` is stable.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cerbero.errors import BrokerError, BrokerRejected, BrokerUnavailable, OutcomeUnknown, SessionExpired

# These answer an account that they do not know with 401 and no body (§5).
PORTFOLIO_OF_ACCOUNT = r"/portfolio2?/(?!accounts$|subaccounts2?$|positions/)[^/]+"
Kind = type[BrokerError] | None


@dataclass(frozen=True)
class Refusal:
    """One row. `read` and `write` are what it proves, None where it says nothing of that; `words` is searched for."""

    reason: str
    advice: str
    read: Kind
    write: Kind
    statuses: tuple[int, ...] = ()
    words: str = ""
    path: str = ""
    is_empty: bool = False
    message: str | None = None

    def fits(self, is_write: bool, path: str, status: int, words: str, is_empty: bool) -> bool:
        """Whether an answer looks like this row, and the row says something of such a request."""
        return (
            (self.write if is_write else self.read) is not None
            and (not self.statuses or status in self.statuses)
            and re.search(self.words, words) is not None
            and re.match(self.path, path) is not None
            and (is_empty or not self.is_empty)
        )


# Recorded bodies of a request that met the gate and went no further (§2.3): exact, or they prove nothing of a write.
NO_BRIDGE = "The brokerage session is down; it is brought up again within seconds. Then ask again."
ACCOUNTS_FIRST = "The session is new and not primed yet; it is within seconds. Then ask again."
UNKNOWN_ACCOUNT = (
    "This login does not have the account: take one that list_accounts names, or sign in as its owner."
)
NOT_SENT_AGAIN = "It is being asked whether it arrived; do not send it again."

REFUSALS: tuple[Refusal, ...] = (
    Refusal(
        "duplicate_order_id",
        "The broker has an order of this id from the last day: it is looked up by its id, and not sent again.",
        None,
        OutcomeUnknown,
        words=r"^Order couldn't be submitted: Local order ID=",
        message="The broker has this order id already.",
    ),
    Refusal("no_bridge", NO_BRIDGE, SessionExpired, SessionExpired, (400,), r"^Bad Request: no bridge\Z"),
    Refusal("no_bridge", NO_BRIDGE, SessionExpired, None, (200,), "no bridge"),
    Refusal(
        "accounts_not_asked",
        ACCOUNTS_FIRST,
        SessionExpired,
        SessionExpired,
        (400,),
        r"^Bad Request: Please query /accounts first\Z",
    ),
    Refusal(
        "accounts_not_asked",
        ACCOUNTS_FIRST,
        SessionExpired,
        None,
        (200,),
        r"^Bad Request: Please query /accounts first\Z",
    ),
    Refusal(
        "unknown_account",
        UNKNOWN_ACCOUNT,
        BrokerRejected,
        BrokerRejected,
        (400,),
        r"^Bad Request: accountId is not valid: ",
    ),
    Refusal(
        "unknown_account",
        UNKNOWN_ACCOUNT,
        BrokerRejected,
        None,
        (401,),
        path=PORTFOLIO_OF_ACCOUNT,
        is_empty=True,
        message="The broker does not know this account.",
    ),
    Refusal(
        "nothing_to_cancel",
        "The order has ended, or was never there: read it by its id to see how.",
        BrokerRejected,
        BrokerRejected,
        (400,),
        r"^(OrderID \S+ doesn't exist|Order is inactive)\Z",
    ),
    Refusal(
        "question_gone",
        f"Something else was sent before the broker's question was answered. {NOT_SENT_AGAIN}",
        BrokerRejected,
        OutcomeUnknown,
        (400, 503),
        r"^reply id not found",
    ),
    Refusal(
        "bad_request",
        "The broker does not take the request as it stands: its own words say why, if it gives any.",
        BrokerRejected,
        OutcomeUnknown,
        (400,),
    ),
    Refusal(
        "not_signed_in",
        "The session's token has ended: a new one is made by itself, or a person signs in at the gateway.",
        SessionExpired,
        OutcomeUnknown,
        (401,),
    ),
    Refusal(
        "barred",
        "The broker's door bars us, or an account of this kind may not do it: see the session's runbook.",
        BrokerUnavailable,
        OutcomeUnknown,
        (403,),
        message="The broker cannot answer now.",
    ),
    Refusal(
        "not_found",
        "The broker has nothing at this address: /hmds needs a bridge of its own, all else is a fault of ours.",
        BrokerRejected,
        OutcomeUnknown,
        (404,),
    ),
    Refusal(
        "host_moved",
        "The login's servers moved: the session is made anew; if that does not help, give the login a numbered host.",
        SessionExpired,
        OutcomeUnknown,
        (410,),
    ),
    Refusal(
        "rate_limited",
        "Ask nothing for ten minutes: only cancels pass, and every other request would prolong it.",
        BrokerUnavailable,
        OutcomeUnknown,
        (429,),
        message="The broker limits our rate; stop asking.",
    ),
    Refusal(
        "broker_away",
        "Maintenance, a stale question, or an account that is not selected: wait for the session, then ask again.",
        BrokerUnavailable,
        OutcomeUnknown,
        (503,),
        message="The broker cannot answer now.",
    ),
    # From here on 200 with `{"error": …}`: refused after it was looked at (§6.3).
    Refusal(
        "no_permission",
        "The account may not trade this: an owner asks IBKR for the permission.",
        BrokerRejected,
        BrokerRejected,
        (200,),
        r"^No trading permissions",
    ),
    Refusal(
        "price_refused",
        "The broker does not take this price: look at the quote and the price steps, and propose anew.",
        BrokerRejected,
        BrokerRejected,
        (200,),
        r"limit price you selected|invalid order price fields",
    ),
    Refusal(
        "hours_refused",
        "This order is not taken outside regular hours: propose it without, or wait for the opening.",
        BrokerRejected,
        BrokerRejected,
        (200,),
        r"Outside Regular Trading Hours",
    ),
    Refusal(
        "too_many_working",
        "IBKR takes fifteen working orders a side, contract and account: cancel one first.",
        BrokerRejected,
        BrokerRejected,
        (200,),
        r"minimum of \d+ orders working",
    ),
    Refusal(
        "not_confirmed",
        "Our no to a question was heard; nothing is left to do.",
        BrokerRejected,
        BrokerRejected,
        (200,),
        r"(?i)not confirmed",
    ),
    Refusal(
        "order_refused",
        "The broker's own words say why; propose another order.",
        None,
        BrokerRejected,
        (200,),
    ),
    Refusal(
        "read_refused",
        "The broker's own words say why; ask for something else.",
        BrokerRejected,
        None,
        (200,),
    ),
    # 500 above all, often without a body.
    Refusal(
        "broker_failed",
        "The broker stumbled: ask again in a moment. Where it says so each time, what was asked for does not exist.",
        BrokerUnavailable,
        OutcomeUnknown,
        message="The broker cannot answer now.",
    ),
)


def refusal_of(
    is_write: bool, path: str, status: int, words: str, *, is_empty: bool = False, is_gated: bool = True
) -> BrokerError:
    """What such an answer proves. Not `is_gated`: no 400 proves anything, since an earlier request is still in the air."""
    row = next(each for each in REFUSALS if each.fits(is_write, path, status, words, is_empty))
    kind: Kind = row.write if is_write else row.read
    if is_write and status == 400 and not is_gated:
        kind = OutcomeUnknown
    details: Mapping[str, Any] = {
        "path": path,
        "http_status": status,
        "broker_says": words,
        "reason": row.reason,
        "what_to_do": row.advice if kind is not OutcomeUnknown or row.write is kind else NOT_SENT_AGAIN,
    }
    flags = {"rate_limited": status == 429} if status == 429 or kind is OutcomeUnknown else {}
    flags |= {"duplicate": True} if row.reason == "duplicate_order_id" else {}
    assert kind is not None
    return kind(row.message, **details, **flags)
