"""The operators' own pages below /admin/; mounted before the admin site's."""

from django.contrib import admin
from django.urls import path

from orders.admin import duty, queue, stopping

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
    path("duty/", _signed_in(duty.show_duty), name="duty"),
    path("halt/", _signed_in(stopping.halt), name="halt"),
    path("resume/", _signed_in(stopping.resume), name="resume"),
    path("orders/order/<uuid:order_id>/cancel/", _signed_in(stopping.cancel), name="cancel"),
]
