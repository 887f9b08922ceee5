"""A version is activated by another person, or by whoever is the sole operator at that moment."""

from django.db import migrations

FORWARD = """
CREATE FUNCTION orders_policyversion_by_two() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.activated_by_id = NEW.proposed_by_id AND NOT people_is_sole(NEW.activated_by_id) THEN
        RAISE EXCEPTION 'a version of the policy is activated by another person' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER orders_policyversion_by_two_insert BEFORE INSERT ON orders_policyversion
    FOR EACH ROW EXECUTE FUNCTION orders_policyversion_by_two();
CREATE TRIGGER orders_policyversion_by_two BEFORE UPDATE ON orders_policyversion
    FOR EACH ROW WHEN (OLD.activated_by_id IS DISTINCT FROM NEW.activated_by_id)
    EXECUTE FUNCTION orders_policyversion_by_two();
"""

REVERSE = """
DROP TRIGGER orders_policyversion_by_two_insert ON orders_policyversion;
DROP TRIGGER orders_policyversion_by_two ON orders_policyversion;
DROP FUNCTION orders_policyversion_by_two();
"""


class Migration(migrations.Migration):
    dependencies = [("orders", "0011_limits"), ("people", "0007_profile")]

    operations = [
        migrations.RunSQL(FORWARD, REVERSE),
        migrations.RemoveConstraint(model_name="policyversion", name="policy_activated_by_another"),
    ]
