"""An amendment proves that this program made it; what waited before this has no proof, and must be asked for anew."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("orders", "0018_amendments_are_messages")]

    operations = [
        migrations.AddField(
            "amendment",
            "proof",
            models.CharField(blank=True, db_default="", default="", editable=False, max_length=64),
        )
    ]
