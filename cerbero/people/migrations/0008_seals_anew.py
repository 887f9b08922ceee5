"""Seals and proofs are made anew when the machine's keys are replaced: they may change, never go. What they hold stays frozen."""

from django.db import migrations

PASSKEY = """
DROP TRIGGER people_passkey_frozen ON people_passkey;
CREATE TRIGGER people_passkey_frozen BEFORE UPDATE ON people_passkey
    FOR EACH ROW WHEN (OLD.person_id <> NEW.person_id OR OLD.credential_id <> NEW.credential_id
        OR OLD.public_key <> NEW.public_key OR NEW.sign_count < OLD.sign_count
        OR (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at)
        OR (OLD.seal IS NOT NULL AND ({seal}
            OR NEW.usable_from IS DISTINCT FROM OLD.usable_from
            OR NEW.approved_by_id IS DISTINCT FROM OLD.approved_by_id)))
    EXECUTE FUNCTION cerbero_refuse('a passkey never changes, but for its use and its end');
"""
PROFILE = """
DROP TRIGGER people_profile_kept ON people_profile;
CREATE TRIGGER people_profile_kept BEFORE DELETE ON people_profile
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('a profile never changes; the newest row counts');
CREATE TRIGGER people_profile_frozen BEFORE UPDATE ON people_profile
    FOR EACH ROW WHEN (to_jsonb(NEW) - 'proof' <> to_jsonb(OLD) - 'proof')
    EXECUTE FUNCTION cerbero_refuse('a profile never changes; the newest row counts');
"""
PROFILE_BACK = """
DROP TRIGGER people_profile_frozen ON people_profile;
DROP TRIGGER people_profile_kept ON people_profile;
CREATE TRIGGER people_profile_kept BEFORE UPDATE OR DELETE ON people_profile
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('a profile never changes; the newest row counts');
"""


class Migration(migrations.Migration):
    dependencies = [("people", "0007_profile")]

    operations = [
        migrations.RunSQL(
            PASSKEY.format(seal="NEW.seal IS NULL"), PASSKEY.format(seal="NEW.seal IS DISTINCT FROM OLD.seal")
        ),
        migrations.RunSQL(PROFILE, PROFILE_BACK),
    ]
