"""An attempt begins while its ticket is allowed: a used approval, whose ticket was sent, begins no second one."""

from django.db import migrations

BEGINS = """
CREATE OR REPLACE FUNCTION orders_attempt_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> 'prepared' OR NOT EXISTS (
        SELECT FROM orders_ticket t LEFT JOIN cerbero_decisionrequest r ON r.id = t.request_id
        WHERE t.id = NEW.ticket_id AND t.digest = NEW.digest {also}
          AND (t.reduce_only OR (r.status = 'consumed' AND r.subject_id = t.id))
    ) THEN
        RAISE EXCEPTION 'an attempt needs a consumed approval of its ticket' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("orders", "0002_guards"), ("cerbero", "0003_proofs")]

    operations = [migrations.RunSQL(BEGINS.format(also="AND t.status = 'allowed'"), BEGINS.format(also=""))]
