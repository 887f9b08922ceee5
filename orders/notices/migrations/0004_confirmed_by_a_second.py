"""A webhook is switched on by a second Administrator; one that nobody was asked about waits for that."""

from typing import Any

import django.db.models.deletion
from django.db import migrations, models


def switch_off(apps: Any, schema_editor: Any) -> None:
    apps.get_model("notices", "Webhook").objects.update(is_active=False)


class Migration(migrations.Migration):
    dependencies = [("notices", "0003_webhook_former_secret"), ("cerbero", "0005_person_tokens")]

    operations = [
        migrations.AddField(
            model_name="webhook",
            name="request",
            field=models.OneToOneField(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="webhook",
                to="cerbero.decisionrequest",
            ),
        ),
        migrations.RunPython(switch_off, migrations.RunPython.noop),
    ]
