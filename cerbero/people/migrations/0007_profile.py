"""Profiles of deciding: rows that are only added, one after the other."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.models.functions import Now

FORWARD = """
CREATE TRIGGER people_profile_kept BEFORE UPDATE OR DELETE ON people_profile
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('a profile never changes; the newest row counts');
CREATE FUNCTION people_profile_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.number <> (SELECT coalesce(max(number), 0) + 1 FROM people_profile) THEN
        RAISE EXCEPTION 'profiles are numbered one after the other' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER people_profile_begins BEFORE INSERT ON people_profile
    FOR EACH ROW EXECUTE FUNCTION people_profile_begins();

CREATE FUNCTION people_is_sole(person uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        (SELECT kind = 'sole_operator' AND operator_id = person FROM people_profile ORDER BY number DESC LIMIT 1),
        false)
$$;
"""

REVERSE = """
DROP TRIGGER people_profile_kept ON people_profile;
DROP TRIGGER people_profile_begins ON people_profile;
DROP FUNCTION people_profile_begins();
DROP FUNCTION people_is_sole(uuid);
"""


class Migration(migrations.Migration):
    dependencies = [("people", "0006_proposed_by_the_server")]

    operations = [
        migrations.CreateModel(
            name="Profile",
            fields=[
                ("number", models.PositiveIntegerField(primary_key=True, serialize=False)),
                (
                    "kind",
                    models.CharField(
                        choices=[("four_eyes", "two people"), ("sole_operator", "sole operator")],
                        max_length=16,
                    ),
                ),
                ("order_delay_seconds", models.PositiveIntegerField(default=0)),
                ("change_delay_seconds", models.PositiveIntegerField(default=0)),
                ("made_by", models.CharField(max_length=150)),
                ("made_at", models.DateTimeField(db_default=Now(), editable=False)),
                ("proof", models.CharField(editable=False, max_length=64)),
                (
                    "operator",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("kind", "four_eyes"), ("operator", None)),
                            models.Q(("kind", "sole_operator"), ("operator__isnull", False)),
                            _connector="OR",
                        ),
                        name="profile_names_its_operator",
                    )
                ]
            },
        ),
        migrations.RunSQL(FORWARD, REVERSE),
    ]
