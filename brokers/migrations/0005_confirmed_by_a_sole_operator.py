"""A clearance takes a second person, or the signature of whoever is the sole operator at that moment."""

import django.db.models.deletion
from django.db import migrations, models

FORWARD = """
CREATE FUNCTION brokers_liveclearance_by_two() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.confirmed_by_id = NEW.enabled_by_id
       AND (NEW.request_id IS NULL OR NOT people_is_sole(NEW.confirmed_by_id)) THEN
        RAISE EXCEPTION 'a clearance takes a second person' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER brokers_liveclearance_by_two BEFORE INSERT OR UPDATE ON brokers_liveclearance
    FOR EACH ROW EXECUTE FUNCTION brokers_liveclearance_by_two();
"""

REVERSE = """
DROP TRIGGER brokers_liveclearance_by_two ON brokers_liveclearance;
DROP FUNCTION brokers_liveclearance_by_two();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("brokers", "0004_notional_facts"),
        ("cerbero", "0005_person_tokens"),
        ("people", "0007_profile"),
    ]

    operations = [
        migrations.AddField(
            model_name="liveclearance",
            name="request",
            field=models.OneToOneField(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="clearance",
                to="cerbero.decisionrequest",
            ),
        ),
        migrations.RunSQL(FORWARD, REVERSE),
        migrations.RemoveConstraint(model_name="liveclearance", name="clearance_by_two_people"),
    ]
