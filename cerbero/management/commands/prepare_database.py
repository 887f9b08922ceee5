"""Bring a database to what the code needs: schema, groups, grants. Run with the owner's DATABASE_URL."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor
from psycopg import sql

from cerbero.embedded import APP, SEALER
from orders.policies import ensure_shipped

_LOCK = 0xCE4BE40
_EVERYONE = {
    "audit": "view_entry",
    "brokers": "view_account view_brokerinstrument view_instrument view_liveclearance view_login view_quote "
    "view_report view_subscription",
    "cerbero": "view_bot view_decision view_decisionrequest",
    "keyrotation": "view_rotation",
    "notices": "view_delivery view_duty view_seen",
    "orders": "view_allowance view_attempt view_balance view_currencyrate view_dayreport view_drift view_execution "
    "view_limits view_limitset view_mandate view_order view_policyversion view_position view_ticket "
    "view_tradingstate",
}
_EVIDENCE = {
    "audit": "view_checkpoint view_cursor view_link",
    "people": "view_livebar view_passkey view_personchange",
    "auth": "view_group view_permission",
    "brokers": "view_credential",
    "cerbero": "view_accesstoken view_lease view_persontoken view_user",
    "notices": "view_webhook",
}
_REDUCE_RISK = {"orders": "cancel_order close_position halt_trading revoke_mandate"}
_PROPOSE = {"orders": "propose_mandate propose_ticket settle_drift"}
_ADMINISTER = {
    "brokers": "add_account add_instrument add_liveclearance add_login change_account change_instrument "
    "change_liveclearance change_login",
    "cerbero": "add_accesstoken add_bot add_user change_accesstoken change_bot change_persontoken change_user",
    "keyrotation": "rotate_keys",
    "notices": "add_webhook change_webhook",
    "orders": "activate_policy add_limitset change_limits change_limitset halt_trading "
    "propose_policy resume_trading revoke_mandate",
}
# What each group may do. The code is the truth: anything else is taken away at the next run.
GROUPS = {
    "Operator": (_EVERYONE, _REDUCE_RISK, _PROPOSE),
    "Approver": (_EVERYONE, _REDUCE_RISK, _PROPOSE, {"notices": "take_duty", "orders": "decide_ticket"}),
    # Beside Approver: whoever overrides a limit for one ticket also decides on it.
    "Risk": (_EVERYONE, {"orders": "override_limit"}),
    "Auditor": (_EVERYONE, _EVIDENCE),
    "Administrator": (_EVERYONE, _EVIDENCE, _ADMINISTER),
}

# The application adds to the trail; the sealer chains it; neither can undo anything.
_GRANTS = {
    APP: (
        "GRANT USAGE ON SCHEMA public TO {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
        "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}",
        "REVOKE INSERT, UPDATE, DELETE ON audit_link, audit_checkpoint, audit_cursor, django_migrations"
        " FROM {role}",
        "REVOKE UPDATE, DELETE ON audit_entry FROM {role}",
    ),
    SEALER: (
        "GRANT USAGE ON SCHEMA public TO {role}",
        "GRANT SELECT ON audit_entry TO {role}",
        "GRANT SELECT, INSERT ON audit_link, audit_checkpoint TO {role}",
        "GRANT SELECT, INSERT, UPDATE ON audit_cursor TO {role}",
        "GRANT EXECUTE ON FUNCTION audit_mark_sealer() TO {role}",
    ),
}


class Command(BaseCommand):
    help = "Migrate, make the groups, and grant the application and the sealer what they need."
    requires_system_checks: list[str] = []

    def handle(self, **options: Any) -> None:
        with _one_at_a_time():
            self._migrate()
            with transaction.atomic():
                ensure_groups()
                ensure_shipped()
                granted = ensure_grants()
        self.stdout.write(f"Groups: {', '.join(GROUPS)}.")
        if granted:
            self.stdout.write(f"Grants: {', '.join(granted)}.")
        if missing := _GRANTS.keys() - set(granted):
            self.stdout.write(
                f"Grants skipped: this server has no role {' or '.join(sorted(missing))}. Make them with CREATE "
                "ROLE and run this again; until then only the anchor holds the trail against the application."
            )

    def _migrate(self) -> None:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if plan:
            call_command("migrate", interactive=False, verbosity=0)
        self.stdout.write(f"Migrations: {len(plan)} applied." if plan else "Migrations: nothing to do.")


def ensure_groups() -> None:
    """Make the groups and set exactly their permissions. Raises CommandError for a permission that is not."""
    known = {
        (permission.content_type.app_label, permission.codename): permission
        for permission in Permission.objects.select_related("content_type")
    }
    for name, sets in GROUPS.items():
        wanted = {(app, word) for each in sets for app, words in each.items() for word in words.split()}
        if absent := wanted - known.keys():
            raise CommandError(f"No such permissions: {', '.join(sorted(map('.'.join, absent)))}.")
        group, _ = Group.objects.get_or_create(name=name)
        group.permissions.set([known[key] for key in wanted])


def ensure_grants() -> list[str]:
    """Set each role's grants anew; returns the roles that this server has."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [list(_GRANTS)])
        found = sorted(row[0] for row in cursor.fetchall())
        cursor.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        for role in found:
            first = (
                "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}",
                "REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {role}",
            )
            for words in (*first, *_GRANTS[role]):
                cursor.execute(sql.SQL(words).format(role=sql.Identifier(role)))
    return found


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        try:
            yield
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])
