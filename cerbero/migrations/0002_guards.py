"""What the database itself refuses of decisions, whoever asks."""

from django.db import migrations

FORWARD = """
CREATE FUNCTION cerbero_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'check_violation';
END $$;

CREATE FUNCTION cerbero_decisionrequest_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (OLD.status || '>' || NEW.status) = ANY (ARRAY[
        'approved>consumed', 'approved>expired', 'approved>withdrawn', 'pending>approved',
        'pending>expired', 'pending>rejected', 'pending>withdrawn'
    ]) THEN
        RAISE EXCEPTION 'cerbero_decisionrequest: % to % is not a legal move', OLD.status, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER cerbero_decisionrequest_moves BEFORE UPDATE OF status ON cerbero_decisionrequest
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION cerbero_decisionrequest_moves();

CREATE TRIGGER cerbero_decisionrequest_frozen BEFORE UPDATE ON cerbero_decisionrequest
    FOR EACH ROW WHEN (OLD.subject_kind IS DISTINCT FROM NEW.subject_kind OR OLD.subject_id IS DISTINCT FROM NEW.subject_id OR OLD.digest IS DISTINCT FROM NEW.digest OR OLD.facts IS DISTINCT FROM NEW.facts OR OLD.quorum IS DISTINCT FROM NEW.quorum OR OLD."group" IS DISTINCT FROM NEW."group" OR OLD.excluded_user_ids IS DISTINCT FROM NEW.excluded_user_ids OR OLD.requested_by IS DISTINCT FROM NEW.requested_by OR OLD.created_at IS DISTINCT FROM NEW.created_at OR OLD.expires_at IS DISTINCT FROM NEW.expires_at)
    EXECUTE FUNCTION cerbero_refuse('the terms of a row of cerbero_decisionrequest never change');

CREATE TRIGGER cerbero_decisionrequest_kept BEFORE DELETE ON cerbero_decisionrequest
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('rows of cerbero_decisionrequest are never deleted');

CREATE FUNCTION cerbero_decisionrequest_quorum() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(DISTINCT person_id) FROM cerbero_decision
        WHERE request_id = NEW.id AND is_yes AND digest_shown = NEW.digest
          AND NOT person_id = ANY (NEW.excluded_user_ids)) < NEW.quorum THEN
        RAISE EXCEPTION 'an approval needs its quorum of decisions' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER cerbero_decisionrequest_quorum BEFORE UPDATE OF status ON cerbero_decisionrequest
    FOR EACH ROW WHEN (NEW.status IN ('approved', 'consumed')) EXECUTE FUNCTION cerbero_decisionrequest_quorum();
CREATE TRIGGER cerbero_decisionrequest_begins BEFORE INSERT ON cerbero_decisionrequest
    FOR EACH ROW WHEN (NEW.status <> 'pending')
    EXECUTE FUNCTION cerbero_refuse('a decision request begins as pending');
CREATE TRIGGER cerbero_decision_kept BEFORE UPDATE OR DELETE ON cerbero_decision
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('a decision is never changed or deleted');
"""

REVERSE = """
DROP TRIGGER cerbero_decisionrequest_moves ON cerbero_decisionrequest;
DROP TRIGGER cerbero_decisionrequest_frozen ON cerbero_decisionrequest;
DROP TRIGGER cerbero_decisionrequest_kept ON cerbero_decisionrequest;
DROP TRIGGER cerbero_decisionrequest_quorum ON cerbero_decisionrequest;
DROP TRIGGER cerbero_decisionrequest_begins ON cerbero_decisionrequest;
DROP TRIGGER cerbero_decision_kept ON cerbero_decision;
DROP FUNCTION cerbero_refuse();
DROP FUNCTION cerbero_decisionrequest_moves();
DROP FUNCTION cerbero_decisionrequest_quorum();
"""


class Migration(migrations.Migration):
    dependencies = [("cerbero", "0001_initial")]

    operations = [migrations.RunSQL(FORWARD, REVERSE)]
