"""The operators' own pages below /admin/; mounted before the admin site's."""

from django.contrib import admin
from django.urls import path

from orders.admin import (
    closing,
    drifting,
    duty,
    limiting,
    overriding,
    proposing,
    queue,
    settling,
    stopping,
    unsettled,
)

app_name = "console"
_signed_in = admin.site.admin_view

urlpatterns = [
    path("queue/", _signed_in(queue.show_queue), name="queue"),
    path("queue/state.json", _signed_in(queue.show_state), name="queue_state"),
    path("queue/<uuid:ticket_id>/challenge/", _signed_in(queue.challenge), name="challenge"),
    path("queue/seen/", _signed_in(queue.mark_seen), name="queue_seen"),
    path("queue/selected/", _signed_in(queue.selected), name="queue_selected"),
    path("queue/<uuid:ticket_id>/approve/", _signed_in(queue.approve), name="approve"),
    path("queue/<uuid:ticket_id>/reject/", _signed_in(queue.reject), name="reject"),
    path("queue/<uuid:ticket_id>/counter/", _signed_in(proposing.counter), name="counter"),
    path("tickets/new/", _signed_in(proposing.new_ticket), name="new_ticket"),
    path("tickets/<uuid:ticket_id>/override/", _signed_in(overriding.override), name="override"),
    path("policy/", _signed_in(settling.show_policies), name="policies"),
    path("policy/new/", _signed_in(settling.new_policy), name="new_policy"),
    path("policy/simulate/", _signed_in(settling.simulate), name="simulate"),
    path("policy/<int:number>/", _signed_in(settling.show_policy), name="policy"),
    path("policy/<int:number>/decide/", _signed_in(settling.decide_policy), name="decide_policy"),
    path("limits/changes/", _signed_in(limiting.show_changes), name="limit_changes"),
    path("limits/changes/<uuid:request_id>/", _signed_in(limiting.decide_change), name="decide_limits"),
    path("mandates/", _signed_in(settling.show_mandates), name="mandates"),
    path("mandates/new/", _signed_in(settling.new_mandate), name="new_mandate"),
    path(
        "mandates/<uuid:mandate_id>/challenge/",
        _signed_in(settling.challenge_mandate),
        name="challenge_mandate",
    ),
    path("mandates/<uuid:mandate_id>/decide/", _signed_in(settling.decide_mandate), name="decide_mandate"),
    path("mandates/<uuid:mandate_id>/revoke/", _signed_in(settling.revoke_mandate), name="revoke_mandate"),
    path(
        "positions/<uuid:account_id>/<str:broker_instrument_id>/close/",
        _signed_in(closing.close),
        name="close",
    ),
    path("positions/<uuid:account_id>/close-all/", _signed_in(closing.close_all), name="close_all"),
    path("cancel-all/", _signed_in(closing.choose_account), name="choose_account"),
    path("cancel-all/<uuid:account_id>/", _signed_in(closing.cancel_all), name="cancel_all"),
    path("doubts/", _signed_in(unsettled.show_doubts), name="doubts"),
    path("doubts/<uuid:attempt_id>/settle/", _signed_in(unsettled.settle), name="settle"),
    path("doubts/decide/<uuid:request_id>/", _signed_in(unsettled.decide_settling), name="decide_settling"),
    path("amendments/", _signed_in(unsettled.show_amendments), name="amendments"),
    path(
        "amendments/<uuid:amendment_id>/challenge/",
        _signed_in(unsettled.challenge_amendment),
        name="challenge_amendment",
    ),
    path(
        "amendments/<uuid:amendment_id>/decide/",
        _signed_in(unsettled.decide_amendment),
        name="decide_amendment",
    ),
    path("orders/order/<uuid:order_id>/amend/", _signed_in(unsettled.amend), name="amend"),
    path("drift/", _signed_in(drifting.show_drift), name="drift"),
    path("drift/<uuid:drift_id>/settle/", _signed_in(drifting.settle), name="settle_drift"),
    path("drift/decide/<uuid:request_id>/", _signed_in(drifting.decide), name="decide_drift"),
    path("drift/orders/<uuid:order_id>/reaffirm/", _signed_in(drifting.reaffirm), name="reaffirm_order"),
    path("duty/", _signed_in(duty.show_duty), name="duty"),
    path("halt/", _signed_in(stopping.halt), name="halt"),
    path("halts/", _signed_in(stopping.show_halts), name="halts"),
    path("halts/<uuid:halt_id>/", _signed_in(stopping.show_halt), name="show_halt"),
    path("reduce/", _signed_in(stopping.reduce), name="reduce"),
    path("resume/", _signed_in(stopping.resume), name="resume"),
    path("resume/<uuid:request_id>/", _signed_in(stopping.decide_resume), name="decide_resume"),
    path("orders/order/<uuid:order_id>/cancel/", _signed_in(stopping.cancel), name="cancel"),
]
