"""Limits and trading states prove that this program wrote them: a MAC over each row, and a revision that never returns.

Rows that stand when this runs are taken as they are; nothing that is written past the program later is.
"""

from typing import Any

from django.db import migrations, models

from orders.proven import proof_of

GUARDS = """
CREATE SEQUENCE orders_revision;
CREATE FUNCTION orders_revise() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' OR to_jsonb(NEW) - 'proof' <> to_jsonb(OLD) - 'proof' THEN
        NEW.revision := nextval('orders_revision');
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER orders_tradingstate_revised BEFORE INSERT OR UPDATE ON orders_tradingstate
    FOR EACH ROW EXECUTE FUNCTION orders_revise();
CREATE TRIGGER orders_tradingstate_frozen BEFORE UPDATE ON orders_tradingstate
    FOR EACH ROW WHEN (OLD.scope <> NEW.scope OR OLD.scope_id <> NEW.scope_id)
    EXECUTE FUNCTION cerbero_refuse('a row of orders_tradingstate keeps its scope');
CREATE TRIGGER orders_tradingstate_kept BEFORE DELETE ON orders_tradingstate
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('rows of orders_tradingstate are never deleted');

CREATE TRIGGER orders_limits_revised BEFORE INSERT OR UPDATE ON orders_limits
    FOR EACH ROW EXECUTE FUNCTION orders_revise();
CREATE TRIGGER orders_limits_frozen BEFORE UPDATE ON orders_limits
    FOR EACH ROW WHEN (OLD.account_id <> NEW.account_id)
    EXECUTE FUNCTION cerbero_refuse('a row of orders_limits keeps its account');
CREATE TRIGGER orders_limits_kept BEFORE DELETE ON orders_limits
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('rows of orders_limits are never deleted');

CREATE TRIGGER orders_limitset_revised BEFORE INSERT OR UPDATE ON orders_limitset
    FOR EACH ROW EXECUTE FUNCTION orders_revise();
CREATE TRIGGER orders_limitset_frozen BEFORE UPDATE ON orders_limitset
    FOR EACH ROW WHEN (OLD.broker <> NEW.broker OR OLD.account_id IS DISTINCT FROM NEW.account_id
        OR OLD.bot_id IS DISTINCT FROM NEW.bot_id OR OLD.asset_class <> NEW.asset_class OR OLD.id <> NEW.id)
    EXECUTE FUNCTION cerbero_refuse('a row of orders_limitset keeps its scope');
CREATE TRIGGER orders_limitset_kept BEFORE DELETE ON orders_limitset
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('rows of orders_limitset are never deleted');
"""


def sign(apps: Any, _: Any) -> None:
    for name in ("TradingState", "Limits", "LimitSet"):
        rows = apps.get_model("orders", name).objects
        for row in rows.all():
            rows.filter(pk=row.pk).update(proof=proof_of(row))


def columns(model: str) -> list[migrations.AddField]:
    return [
        migrations.AddField(
            model, "revision", models.BigIntegerField(default=0, db_default=0, editable=False)
        ),
        migrations.AddField(
            model, "proof", models.CharField(max_length=64, default="", db_default="", editable=False)
        ),
    ]


class Migration(migrations.Migration):
    dependencies = [("orders", "0014_held_and_proven")]

    operations = [
        *columns("tradingstate"),
        *columns("limits"),
        *columns("limitset"),
        migrations.RunSQL(GUARDS),
        migrations.RunPython(sign),
    ]
