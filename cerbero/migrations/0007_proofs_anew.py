"""A decision's proof is made anew when the secret key is replaced; what it proves never changes."""

from django.db import migrations

KEPT = """
DROP TRIGGER cerbero_decision_kept ON cerbero_decision;
CREATE TRIGGER cerbero_decision_kept BEFORE DELETE ON cerbero_decision
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('a decision is never changed or deleted');
CREATE TRIGGER cerbero_decision_frozen BEFORE UPDATE ON cerbero_decision
    FOR EACH ROW WHEN (to_jsonb(NEW) - 'proof' <> to_jsonb(OLD) - 'proof')
    EXECUTE FUNCTION cerbero_refuse('a decision is never changed or deleted');
"""

BACK = """
DROP TRIGGER cerbero_decision_frozen ON cerbero_decision;
DROP TRIGGER cerbero_decision_kept ON cerbero_decision;
CREATE TRIGGER cerbero_decision_kept BEFORE UPDATE OR DELETE ON cerbero_decision
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('a decision is never changed or deleted');
"""


class Migration(migrations.Migration):
    dependencies = [("cerbero", "0006_rotate_scope")]

    operations = [migrations.RunSQL(KEPT, BACK)]
