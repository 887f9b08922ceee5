"""What holds an allowed ticket back, and that a close was made by this program."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orders", "0013_drift")]

    operations = [
        migrations.AddField(
            "ticket", "held_for", models.CharField(max_length=48, blank=True, default="", db_default="")
        ),
        migrations.AddField(
            "ticket",
            "proof",
            models.CharField(max_length=64, blank=True, default="", db_default="", editable=False),
        ),
    ]
