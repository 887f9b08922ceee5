"""The life cycle and the frozen terms of a rotation, held by the database.

The moves equal keyrotation/lifecycle.py; tests/keyrotation/test_lifecycle.py holds them to it.
"""

from django.db import migrations

FORWARD = """
CREATE FUNCTION keyrotation_rotation_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (OLD.status || '>' || NEW.status) = ANY (ARRAY[
        'active>retired', 'active>rolled_back', 'generated>aborted', 'generated>registered',
        'proven>aborted', 'proven>active', 'registered>aborted', 'registered>proven',
        'requested>aborted', 'requested>generated'
    ]) THEN
        RAISE EXCEPTION 'keyrotation_rotation: % to % is not a legal move', OLD.status, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keyrotation_rotation_moves BEFORE UPDATE OF status ON keyrotation_rotation
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION keyrotation_rotation_moves();

CREATE TRIGGER keyrotation_rotation_begins BEFORE INSERT ON keyrotation_rotation
    FOR EACH ROW WHEN (NEW.status <> 'requested')
    EXECUTE FUNCTION cerbero_refuse('a rotation begins as requested');

CREATE TRIGGER keyrotation_rotation_frozen BEFORE UPDATE ON keyrotation_rotation
    FOR EACH ROW WHEN (OLD.login_id IS DISTINCT FROM NEW.login_id OR OLD.reason IS DISTINCT FROM NEW.reason OR OLD.requested_by IS DISTINCT FROM NEW.requested_by OR OLD.created_at IS DISTINCT FROM NEW.created_at OR (OLD.credential_id IS NOT NULL AND OLD.credential_id IS DISTINCT FROM NEW.credential_id))
    EXECUTE FUNCTION cerbero_refuse('the terms of a row of keyrotation_rotation never change');

CREATE TRIGGER keyrotation_rotation_kept BEFORE DELETE ON keyrotation_rotation
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('rows of keyrotation_rotation are never deleted');
"""

REVERSE = """
DROP TRIGGER keyrotation_rotation_moves ON keyrotation_rotation;
DROP TRIGGER keyrotation_rotation_begins ON keyrotation_rotation;
DROP TRIGGER keyrotation_rotation_frozen ON keyrotation_rotation;
DROP TRIGGER keyrotation_rotation_kept ON keyrotation_rotation;
DROP FUNCTION keyrotation_rotation_moves();
"""


class Migration(migrations.Migration):
    dependencies = [("keyrotation", "0001_initial"), ("cerbero", "0002_guards")]

    operations = [
        migrations.AlterModelOptions(
            name="rotation", options={"permissions": [("rotate_keys", "Can start and abort key rotations")]}
        ),
        migrations.RunSQL(FORWARD, REVERSE),
    ]
