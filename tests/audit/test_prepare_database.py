"""prepare_database can be run again and again, and leaves what the code says."""

import pytest
from django.contrib.auth.models import Group, Permission

from cerbero import embedded
from cerbero.management.commands import prepare_database
from tests.rig import Database


def test_a_second_run_mends_what_was_changed(fresh_database: Database) -> None:
    stranger = Permission.objects.get(content_type__app_label="cerbero", codename="delete_user")
    Group.objects.get(name="Auditor").permissions.add(stranger)
    Group.objects.get(name="Operator").permissions.clear()
    with fresh_database.connect(embedded.OWNER) as owner:
        owner.execute("GRANT ALL ON audit_entry TO cerbero_app")
    done = fresh_database.manage("prepare_database", role=embedded.OWNER)
    assert done.stdout.splitlines() == [
        "Migrations: nothing to do.",
        "Groups: Operator, Approver, Risk, Auditor, Administrator.",
        "Grants: cerbero_app, cerbero_sealer.",
    ]
    assert "cerbero.delete_user" not in _permissions("Auditor")
    assert "orders.halt_trading" in _permissions("Operator")
    with fresh_database.connect() as app:
        row = app.execute("SELECT has_table_privilege('audit_entry', 'TRUNCATE, UPDATE, DELETE')").fetchone()
    assert row == (False,)


STOP = {f"orders.{act}" for act in ("cancel_order", "close_position", "halt_trading", "revoke_mandate")}
PROPOSE = {"orders.propose_mandate", "orders.propose_ticket", "orders.settle_drift"}


def test_each_group_may_do_its_own_and_no_more(fresh_database: Database) -> None:
    acts = {
        "Operator": {*STOP, *PROPOSE},
        "Approver": {*STOP, *PROPOSE, "notices.take_duty", "orders.decide_ticket"},
        "Auditor": set(),
    }
    for name, expected in acts.items():
        assert {word for word in _permissions(name) if ".view_" not in word} == expected
    administrator = _permissions("Administrator")
    assert {"orders.resume_trading", "cerbero.change_user"} <= administrator
    assert "orders.decide_ticket" not in administrator
    assert not [word for word in administrator if ".delete_" in word]


def test_nobody_may_change_the_trail_by_permission(fresh_database: Database) -> None:
    for name in prepare_database.GROUPS:
        assert not [w for w in _permissions(name) if w.startswith("audit.") and ".view_" not in w]


def test_a_server_without_the_roles_is_prepared_and_says_so(
    fresh_database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from django.core.management import call_command

    from tests.audit.trail import acting_as

    monkeypatch.setattr(prepare_database, "_GRANTS", {"nobody_here": ("GRANT nothing TO {role}",)})
    with acting_as(fresh_database, embedded.OWNER):
        call_command("prepare_database")
    assert "Grants skipped: this server has no role nobody_here." in capsys.readouterr().out


def test_an_unknown_permission_stops_the_run(
    fresh_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.core.management.base import CommandError

    monkeypatch.setattr(prepare_database, "GROUPS", {"Operator": ({"orders": "fly"},)})
    with pytest.raises(CommandError, match=r"orders\.fly"):
        prepare_database.ensure_groups()


def _permissions(group: str) -> set[str]:
    rows = Group.objects.get(name=group).permissions.values_list("content_type__app_label", "codename")
    return {f"{app}.{word}" for app, word in rows}
