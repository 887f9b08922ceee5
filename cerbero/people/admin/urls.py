"""People's own pages below /admin/; mounted before the admin site's."""

from django.contrib import admin
from django.urls import path

from cerbero.people.admin import deciding, own, signed_in, stepping_up

app_name = "people"
_signed_in = admin.site.admin_view

urlpatterns = [
    path("me/", _signed_in(own.show_own), name="own"),
    path("me/passkeys/begin/", _signed_in(own.begin_passkey), name="begin_passkey"),
    path("me/passkeys/add/", _signed_in(own.add_passkey), name="add_passkey"),
    path("me/passkeys/<uuid:passkey_id>/revoke/", _signed_in(own.revoke_passkey), name="revoke_passkey"),
    path("me/sessions/<uuid:session_id>/end/", _signed_in(signed_in.end_one), name="end_session"),
    path("me/sessions/end/", _signed_in(signed_in.end_others), name="end_others"),
    path("people/sessions/", _signed_in(signed_in.show_sessions), name="sessions"),
    path("me/step-up/", _signed_in(stepping_up.ask), name="step_up"),
    path("me/step-up/challenge/", _signed_in(stepping_up.challenge), name="step_up_challenge"),
    path("me/codes/", _signed_in(stepping_up.set_up), name="codes"),
    path("me/codes/qr.svg", _signed_in(stepping_up.show_qr), name="qr"),
    path("people/reset-codes/", _signed_in(stepping_up.propose_reset), name="propose_reset"),
    path("people/challenge/<uuid:request_id>/", _signed_in(deciding.challenge), name="challenge"),
    path("people/profile/leave/", _signed_in(deciding.leave_profile), name="leave_profile"),
    path("people/changes/", _signed_in(deciding.show_changes), name="changes"),
    path("people/changes/<uuid:change_id>/", _signed_in(deciding.decide_change), name="decide_change"),
]
