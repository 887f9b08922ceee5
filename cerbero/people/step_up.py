"""Showing once a shift that it is still the same person, before anything that gives power or undoes a limit.

Never asked for what lessens risk (reject, cancel, halt, close), nor for a decision, which on a live account is
signed by itself.
"""

import re
import time

from django.conf import settings
from django.http import HttpRequest
from django.urls import Resolver404, resolve

from cerbero.models import User
from cerbero.people.models import CodeApp

SESSION_FLAG = "stepped_up_at"

# Posting to these asks; of a form that only ever adds, opening it does, too, so that nothing typed is lost.
# One's own password is asked for by its own form.
_ADMIN_FORMS = re.compile(
    r"admin:(?!password_change)\w+_(add|change|changelist)|admin:auth_user_password_change"
)
_NAMED = {
    "admin:account_live",
    "admin:account_questions",
    "admin:login_switch",
    "admin:login_take_over",
    "admin:person_token_issue",
    "admin:rotation_act",
    "admin:rotation_start",
    "admin:token_issue",
    "admin:webhook_new",
    "admin:webhook_switch",
    "console:new_mandate",
    "console:new_policy",
    "console:resume",
    "people:begin_passkey",
    "people:add_passkey",
    "people:propose_reset",
    "trading-states-resume",
}
# A no never asks.
_DECIDING = {
    "console:decide_mandate",
    "console:decide_policy",
    "console:decide_resume",
    "people:decide_change",
}
_YES = {"activate", "confirm", "sign", "yes"}
_ASKED_ON_OPENING = re.compile(r"admin:\w+_add|admin:(token_issue|webhook_new|rotation_start)")


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
    if request.method != "POST" or request.POST.get("do") == "disable":
        return False
    if name in _DECIDING:
        return {request.POST.get("do"), request.POST.get("answer")} & _YES != set()
    return name in _NAMED or _ADMIN_FORMS.fullmatch(name) is not None
