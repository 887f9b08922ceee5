import django.db.models.deletion
from django.db import migrations, models

# An open page shows the broker's word as soon as it is there.
HINT = """
CREATE FUNCTION orders_what_if_hint() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('cerbero_hints', 'ticket:' || NEW.ticket_id);
    RETURN NULL;
END $$;
CREATE TRIGGER orders_whatif_hint AFTER UPDATE OF answered_at ON orders_whatif
    FOR EACH ROW EXECUTE FUNCTION orders_what_if_hint();
"""
NO_HINT = """
DROP TRIGGER orders_whatif_hint ON orders_whatif;
DROP FUNCTION orders_what_if_hint();
"""


class Migration(migrations.Migration):
    dependencies = [("orders", "0006_halts")]

    operations = [
        migrations.CreateModel(
            name="WhatIf",
            fields=[
                (
                    "ticket",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="what_if",
                        serialize=False,
                        to="orders.ticket",
                    ),
                ),
                ("asked_at", models.DateTimeField()),
                ("answered_at", models.DateTimeField(null=True)),
                ("answer", models.JSONField(default=dict)),
                (
                    "problem",
                    models.CharField(
                        blank=True, help_text="why the last question had no answer", max_length=300
                    ),
                ),
            ],
        ),
        migrations.RunSQL(HINT, NO_HINT),
    ]
