"""The sealer's one way to write outside the trail: its mark of success, which the health page reads.

A function of the owner's, since a grant on the leases would let the sealer take any of them.
"""

from django.db import migrations

MARK = """
CREATE FUNCTION audit_mark_sealer() RETURNS void LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO public.cerbero_lease (name, holder, fence, failure, succeeded_at)
    VALUES ('process:sealer', '', 0, '', clock_timestamp())
    ON CONFLICT (name) DO UPDATE SET succeeded_at = excluded.succeeded_at;
$$;
REVOKE EXECUTE ON FUNCTION audit_mark_sealer() FROM PUBLIC;
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0002_guards"), ("cerbero", "0001_initial")]

    operations = [migrations.RunSQL(MARK, "DROP FUNCTION audit_mark_sealer();")]
