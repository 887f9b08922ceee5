"""What the database itself holds of people: keys, signatures and bars only ever grow; joining a group bars."""

from django.db import migrations

FORWARD = """
CREATE TRIGGER people_passkey_kept BEFORE DELETE ON people_passkey
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('rows of people_passkey are never deleted');
CREATE TRIGGER people_signature_kept BEFORE DELETE ON people_signature
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('rows of people_signature are never deleted');
CREATE TRIGGER people_personchange_kept BEFORE DELETE ON people_personchange
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('rows of people_personchange are never deleted');
CREATE TRIGGER people_livebar_kept BEFORE DELETE ON people_livebar
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('rows of people_livebar are never deleted');
CREATE TRIGGER people_decisionchallenge_kept BEFORE DELETE ON people_decisionchallenge
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('rows of people_decisionchallenge are never deleted');
CREATE TRIGGER people_signature_frozen BEFORE UPDATE ON people_signature
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('a signature never changes');
CREATE TRIGGER people_livebar_frozen BEFORE UPDATE ON people_livebar
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('a bar never changes');
CREATE TRIGGER people_passkey_frozen BEFORE UPDATE ON people_passkey
    FOR EACH ROW WHEN (OLD.person_id <> NEW.person_id OR OLD.credential_id <> NEW.credential_id
        OR OLD.public_key <> NEW.public_key OR NEW.sign_count < OLD.sign_count
        OR (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS DISTINCT FROM OLD.revoked_at)
        OR (OLD.seal IS NOT NULL AND (NEW.seal IS DISTINCT FROM OLD.seal
            OR NEW.usable_from IS DISTINCT FROM OLD.usable_from
            OR NEW.approved_by_id IS DISTINCT FROM OLD.approved_by_id)))
    EXECUTE FUNCTION cerbero_refuse('a passkey never changes, but for its use and its end');
CREATE TRIGGER people_personchange_frozen BEFORE UPDATE ON people_personchange
    FOR EACH ROW WHEN (OLD.kind <> NEW.kind OR OLD.person_id <> NEW.person_id OR OLD.terms <> NEW.terms
        OR OLD.request_id <> NEW.request_id OR OLD.proposed_by_id <> NEW.proposed_by_id
        OR OLD.applied_at IS NOT NULL)
    EXECUTE FUNCTION cerbero_refuse('the terms of a change never change');
CREATE TRIGGER people_decisionchallenge_frozen BEFORE UPDATE ON people_decisionchallenge
    FOR EACH ROW WHEN (OLD.request_id <> NEW.request_id OR OLD.person_id <> NEW.person_id
        OR OLD.nonce <> NEW.nonce OR OLD.expires_at <> NEW.expires_at OR OLD.used_at IS NOT NULL)
    EXECUTE FUNCTION cerbero_refuse('a challenge is used once');

CREATE FUNCTION people_bar_who_joins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO people_livebar (person_id, why, until)
        SELECT NEW.user_id, 'joined ' || name, now() + interval '24 hours' FROM auth_group WHERE id = NEW.group_id;
    RETURN NULL;
END $$;
CREATE TRIGGER people_bar_who_joins AFTER INSERT OR UPDATE ON cerbero_user_groups
    FOR EACH ROW EXECUTE FUNCTION people_bar_who_joins();
"""

REVERSE = """
DROP TRIGGER people_passkey_kept ON people_passkey;
DROP TRIGGER people_signature_kept ON people_signature;
DROP TRIGGER people_personchange_kept ON people_personchange;
DROP TRIGGER people_livebar_kept ON people_livebar;
DROP TRIGGER people_decisionchallenge_kept ON people_decisionchallenge;
DROP TRIGGER people_signature_frozen ON people_signature;
DROP TRIGGER people_livebar_frozen ON people_livebar;
DROP TRIGGER people_passkey_frozen ON people_passkey;
DROP TRIGGER people_personchange_frozen ON people_personchange;
DROP TRIGGER people_decisionchallenge_frozen ON people_decisionchallenge;
DROP TRIGGER people_bar_who_joins ON cerbero_user_groups;
DROP FUNCTION people_bar_who_joins();
"""


class Migration(migrations.Migration):
    dependencies = [("people", "0001_initial"), ("cerbero", "0002_guards")]

    operations = [migrations.RunSQL(FORWARD, REVERSE)]
