"""Every order type and time in force, with the terms that they have; frozen as the others are."""

from typing import Any

import django.contrib.postgres.fields
from django.db import migrations, models

MONEY: dict[str, Any] = {"decimal_places": 18, "max_digits": 38, "null": True}
OF_ORDERS = "ticket_id number instrument_id side order_type time_in_force"
MORE = "trailing_amount trailing_percent offset cash_quantity outside_hours"
OF_MANDATES = (
    "account_id bot_id instrument_ids sides order_types order_notional_max notional_max count_max hours "
    "expires_at digest proposed_by_id request_id"
)
TYPES = (
    "market limit stop stop_limit market_if_touched limit_if_touched trailing_stop trailing_stop_limit "
    "midprice relative market_on_close limit_on_close"
)
TIMES = "day gtc ioc opg overnight"


def frozen(table, columns):
    moved = " OR ".join(f'OLD."{name}" IS DISTINCT FROM NEW."{name}"' for name in columns.split())
    return (
        f"CREATE TRIGGER {table}_frozen BEFORE UPDATE ON {table} FOR EACH ROW WHEN ({moved}) "
        f"EXECUTE FUNCTION cerbero_refuse('the terms of a row of {table} never change');"
    )


def choices(words):
    return [(word, word.replace("_", " ")) for word in words.split()]


# A column that a trigger names cannot be widened.
THAWED = (
    "DROP TRIGGER orders_order_frozen ON orders_order; DROP TRIGGER orders_mandate_frozen ON orders_mandate;"
)


class Migration(migrations.Migration):
    dependencies = [("orders", "0016_groups")]

    operations = [
        migrations.RunSQL(THAWED, frozen("orders_order", OF_ORDERS) + frozen("orders_mandate", OF_MANDATES)),
        *(
            migrations.AddField("order", name, models.DecimalField(**MONEY))
            for name in ("trailing_amount", "trailing_percent", "offset", "cash_quantity")
        ),
        migrations.AddField("order", "outside_hours", models.BooleanField(db_default=False, default=False)),
        migrations.AlterField("order", "order_type", models.CharField(choices=choices(TYPES), max_length=20)),
        migrations.AlterField(
            "order", "time_in_force", models.CharField(choices=choices(TIMES), max_length=9)
        ),
        migrations.AlterField(
            "mandate",
            "order_types",
            django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=20), size=None),
        ),
        migrations.RunSQL(
            frozen("orders_order", f"{OF_ORDERS} {MORE}") + frozen("orders_mandate", OF_MANDATES), THAWED
        ),
    ]
