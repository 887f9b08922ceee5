"""Showing once a shift that it is still the same person, before whatever changes something.

Asked by default. Never asked for what lessens risk (reject, cancel, halt, close), nor for a decision, which on a
live account is signed by itself.
"""

import re
import time

from django.conf import settings
from django.http import HttpRequest
from django.urls import Resolver404, resolve

from cerbero.models import User
from cerbero.people.models import CodeApp

SESSION_FLAG = "stepped_up_at"

# What is posted below /admin/ and /api/ asks, whatever it is and whoever adds it later, but for these.
EXEMPT = frozenset(
    {
        # Signing in and out, one's own password (its form asks for the old one), and the asking itself.
        "admin:login",
        "admin:logout",
        "admin:password_change",
        "people:codes",
        "people:step_up",
        "people:step_up_challenge",
        # What lessens risk or takes away.
        "admin:person_token_revoke",
        "admin:rotation_end",
        "admin:token_revoke",
        "console:cancel",
        "console:cancel_all",
        "console:choose_account",
        "console:close",
        "console:close_all",
        "console:halt",
        "console:reduce",
        "console:reject",
        "console:revoke_mandate",
        "mandates-decline",
        "mandates-revoke",
        "orders-cancel",
        "orders-cancel-all",
        "people:end_others",
        "people:end_session",
        "people:leave_profile",
        "people:revoke_passkey",
        "positions-close",
        "positions-close-all",
        "rotate_keys_abort",
        "approvals-reject",
        "trading-states-halt",
        # A decision on a ticket: on a live account it is signed by itself, which is more than a code a shift.
        "approvals-approve",
        "approvals-signature",
        "console:approve",
        "console:challenge",
        "console:queue_selected",
        # That it stood on a screen.
        "console:queue_seen",
    }
)
# Views that take a yes or a no: a no, said in exactly these words, never asks.
_NO = {
    "admin:account_live": ("do", "disable"),
    "admin:rotation_act": ("do", "reject"),
    "admin:webhook_decide": ("do", "refuse"),
    "console:decide_amendment": ("answer", "no"),
    "console:decide_settling": ("answer", "no"),
    "admin:webhook_switch": ("to", "off"),
    "console:decide_limits": ("do", "refuse"),
    "console:decide_mandate": ("do", "decline"),
    "console:decide_policy": ("do", "refuse"),
    "console:decide_resume": ("answer", "no"),
    "people:decide_change": ("do", "refuse"),
}
# Of a form that only ever adds, opening it asks, too, so that nothing typed is lost.
_ASKED_ON_OPENING = re.compile(
    r"admin:\w+_add|admin:(token_issue|webhook_new|rotation_start)|console:override"
)


def has_factor(person: User) -> bool:
    """Whether the person could step up at all."""
    has_app = CodeApp.objects.filter(person=person).exclude(confirmed_at=None).exists()
    return has_app or person.passkeys.usable().exists()


def is_stepped_up(request: HttpRequest) -> bool:
    """Whether this session was stepped up less than a shift ago."""
    at = request.session.get(SESSION_FLAG)
    return isinstance(at, int) and 0 <= time.time() - at < settings.STEP_UP_SECONDS


def note(request: HttpRequest) -> None:
    """This session is stepped up from now on; its key changes, as after a sign-in."""
    request.session.cycle_key()
    request.session[SESSION_FLAG] = int(time.time())


def is_asked(request: HttpRequest) -> bool:
    """Whether this request may only be made by a session that was stepped up."""
    try:
        name = resolve(request.path_info).view_name
    except Resolver404:
        return False
    if request.method == "GET":
        return _ASKED_ON_OPENING.fullmatch(name) is not None
    if request.method in {"HEAD", "OPTIONS"}:
        return False
    field, no = _NO.get(name, ("", ""))
    if field and request.method == "POST" and request.POST.get(field) == no:
        return False
    return name not in EXEMPT
