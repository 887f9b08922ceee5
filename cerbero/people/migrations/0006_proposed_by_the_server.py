"""A change may be proposed by the server's own command, which is nobody; that, too, never changes."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

FORWARD = """
DROP TRIGGER people_personchange_frozen ON people_personchange;
CREATE TRIGGER people_personchange_frozen BEFORE UPDATE ON people_personchange
    FOR EACH ROW WHEN (OLD.kind <> NEW.kind OR OLD.person_id <> NEW.person_id OR OLD.terms <> NEW.terms
        OR OLD.request_id <> NEW.request_id OR OLD.proposed_by_id IS DISTINCT FROM NEW.proposed_by_id
        OR OLD.applied_at IS NOT NULL)
    EXECUTE FUNCTION cerbero_refuse('the terms of a change never change');
"""
REVERSE = FORWARD.replace(
    "OLD.proposed_by_id IS DISTINCT FROM NEW.proposed_by_id", "OLD.proposed_by_id <> NEW.proposed_by_id"
)


class Migration(migrations.Migration):
    dependencies = [("people", "0005_codes"), migrations.swappable_dependency(settings.AUTH_USER_MODEL)]

    operations = [
        migrations.AlterField(
            model_name="personchange",
            name="proposed_by",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.RunSQL(FORWARD, REVERSE),
    ]
