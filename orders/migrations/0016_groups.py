"""Groups: how a ticket's orders hang together, what each sending carries, and what may complete one."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

GUARDS = """
CREATE TRIGGER orders_ticket_group_frozen BEFORE UPDATE ON orders_ticket
    FOR EACH ROW WHEN (OLD."group" IS DISTINCT FROM NEW."group")
    EXECUTE FUNCTION cerbero_refuse('the terms of a row of orders_ticket never change');
CREATE TRIGGER orders_order_completes_frozen BEFORE UPDATE ON orders_order
    FOR EACH ROW WHEN (OLD.completes_id IS DISTINCT FROM NEW.completes_id)
    EXECUTE FUNCTION cerbero_refuse('the terms of a row of orders_order never change');
CREATE TRIGGER orders_attemptleg_frozen BEFORE UPDATE OR DELETE ON orders_attemptleg
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('rows of orders_attemptleg never change');

CREATE FUNCTION orders_order_completes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM orders_order o JOIN orders_ticket t ON t.id = o.ticket_id
        WHERE o.id = NEW.completes_id AND o.ticket_id = NEW.ticket_id AND o.number > 1
          AND t."group" IN ('bracket', 'oto') AND o.status IN ('rejected', 'canceled')
          AND o.instrument_id = NEW.instrument_id AND o.side = NEW.side AND o.order_type = NEW.order_type
          AND o.limit_price IS NOT DISTINCT FROM NEW.limit_price
          AND o.stop_price IS NOT DISTINCT FROM NEW.stop_price
          AND o.time_in_force = NEW.time_in_force AND NEW.quantity <= o.quantity
          AND NEW.quantity <= (
              SELECT sum(CASE p.number WHEN 1 THEN p.filled_quantity ELSE -p.filled_quantity END)
              FROM orders_order p WHERE p.ticket_id = o.ticket_id)
    ) THEN
        RAISE EXCEPTION 'a group is completed by an exit of it that was not taken, for no more than is open'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER orders_order_completes BEFORE INSERT ON orders_order
    FOR EACH ROW WHEN (NEW.completes_id IS NOT NULL) EXECUTE FUNCTION orders_order_completes();

CREATE FUNCTION orders_attemptleg_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM orders_attempt a JOIN orders_order o ON o.ticket_id = a.ticket_id
        WHERE a.id = NEW.attempt_id AND o.id = NEW.order_id AND (a.number = 1 OR o.completes_id IS NOT NULL
            OR (SELECT status FROM orders_ticket WHERE id = a.ticket_id) = 'allowed')
    ) THEN
        RAISE EXCEPTION 'a sending carries orders of its own ticket; a later one only what completes it'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER orders_attemptleg_begins BEFORE INSERT ON orders_attemptleg
    FOR EACH ROW EXECUTE FUNCTION orders_attemptleg_begins();
"""

BEGINS = """
CREATE OR REPLACE FUNCTION orders_attempt_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> 'prepared' OR NOT EXISTS (
        SELECT FROM orders_ticket t LEFT JOIN cerbero_decisionrequest r ON r.id = t.request_id
            LEFT JOIN orders_allowance l ON l.ticket_id = t.id AND t.request_id IS NULL
            LEFT JOIN brokers_account a ON a.id = t.account_id
        WHERE t.id = NEW.ticket_id AND t.digest = NEW.digest AND (t.status = 'allowed'{also})
          AND (t.reduce_only OR (r.status = 'consumed' AND r.subject_id = t.id)
               OR (l.digest = t.digest AND l.consumed_at IS NOT NULL AND (NEW.number = 1{or_also})
                   AND (l.mandate_id IS NOT NULL OR a.environment = 'paper')))
    ) THEN
        RAISE EXCEPTION 'an attempt needs a consumed approval of its ticket, or a used mandate or allowance'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
"""
# A group whose exit was not taken is completed under the approval that it was sent with.
COMPLETES = """ OR (t.status = 'sent' AND NEW.number > 1 AND EXISTS (
            SELECT FROM orders_order o WHERE o.ticket_id = t.id AND o.completes_id IS NOT NULL AND o.status = 'pending'))"""
REVERSE = """
DROP TRIGGER orders_ticket_group_frozen ON orders_ticket;
DROP TRIGGER orders_order_completes_frozen ON orders_order;
DROP TRIGGER orders_attemptleg_frozen ON orders_attemptleg;
DROP TRIGGER orders_order_completes ON orders_order;
DROP TRIGGER orders_attemptleg_begins ON orders_attemptleg;
DROP FUNCTION orders_order_completes();
DROP FUNCTION orders_attemptleg_begins();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("brokers", "0006_broker_answers"),
        ("cerbero", "0006_rotate_scope"),
        ("orders", "0015_proven_rows"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="AttemptLeg",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("client_order_id", models.CharField(max_length=32, unique=True)),
            ],
        ),
        migrations.AddField(
            model_name="order",
            name="completes",
            field=models.OneToOneField(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="completion",
                to="orders.order",
            ),
        ),
        migrations.AddField(
            model_name="ticket",
            name="group",
            field=models.CharField(
                blank=True,
                choices=[("bracket", "Bracket"), ("oco", "Oco"), ("oto", "Oto")],
                db_default="",
                default="",
                max_length=8,
            ),
        ),
        migrations.AddField(
            model_name="ticket",
            name="group_state",
            field=models.CharField(
                blank=True,
                choices=[
                    ("", "Watched"),
                    ("unwinding", "Unwinding"),
                    ("completing", "Completing"),
                    ("naked", "Naked"),
                    ("settled", "Settled"),
                ],
                db_default="",
                default="",
                max_length=10,
            ),
        ),
        migrations.AddIndex(
            model_name="ticket",
            index=models.Index(
                condition=models.Q(
                    models.Q(("group", ""), _negated=True),
                    models.Q(("group_state", "settled"), _negated=True),
                ),
                fields=["account"],
                name="ticket_group_watched",
            ),
        ),
        migrations.AddField(
            model_name="attemptleg",
            name="attempt",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="legs", to="orders.attempt"
            ),
        ),
        migrations.AddField(
            model_name="attemptleg",
            name="order",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="sendings", to="orders.order"
            ),
        ),
        migrations.AddConstraint(
            model_name="attemptleg",
            constraint=models.UniqueConstraint(
                fields=("attempt", "order"), name="attempt_leg_once_an_attempt"
            ),
        ),
        migrations.RunSQL(
            GUARDS + BEGINS.format(also=COMPLETES, or_also=""" OR t.status = 'sent'"""),
            REVERSE + BEGINS.format(also="", or_also=""),
        ),
    ]
