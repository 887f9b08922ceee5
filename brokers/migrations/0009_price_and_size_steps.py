"""Price steps by price, and the step of a quantity."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("brokers", "0008_tick_wishes")]

    operations = [
        migrations.AddField(
            "instrument", "price_bands", models.JSONField(blank=True, default=list, editable=False)
        ),
        migrations.AddField(
            "instrument",
            "size_increment",
            models.DecimalField(blank=True, decimal_places=18, max_digits=38, null=True),
        ),
    ]
