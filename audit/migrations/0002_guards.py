"""Stamp entries by trigger, and refuse to change or remove what the trail holds."""

from django.db import migrations

STAMP = """
CREATE FUNCTION audit_stamp_entry() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.transaction_id := pg_catalog.pg_current_xact_id()::text::bigint;
    NEW.at := pg_catalog.clock_timestamp();
    RETURN NEW;
END $$;
CREATE TRIGGER audit_stamp_entry BEFORE INSERT ON audit_entry
    FOR EACH ROW EXECUTE FUNCTION audit_stamp_entry();
"""
UNSTAMP = "DROP TRIGGER audit_stamp_entry ON audit_entry; DROP FUNCTION audit_stamp_entry();"

REFUSE = """
CREATE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege';
END $$;
"""
UNREFUSE = "DROP FUNCTION audit_refuse_change();"

# ALWAYS: session_replication_role = replica must not open them.
GUARD = """
CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change();
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_append_only;
"""
UNGUARD = "DROP TRIGGER {table}_append_only ON {table};"


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]

    operations = [
        migrations.RunSQL(STAMP, UNSTAMP),
        migrations.RunSQL(REFUSE, UNREFUSE),
        *(
            migrations.RunSQL(GUARD.format(table=table), UNGUARD.format(table=table))
            for table in ("audit_entry", "audit_link", "audit_checkpoint")
        ),
    ]
