"""A stale reply can go live after we said no to it and the ticket had gone back to people, or was withdrawn."""

from django.db import migrations

FORWARD = """
CREATE OR REPLACE FUNCTION orders_ticket_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (OLD.status || '>' || NEW.status) = ANY (ARRAY[
        'allowed>denied', 'allowed>proposed', 'allowed>sent', 'allowed>withdrawn', 'denied>sent',
        'done>sent', 'proposed>allowed', 'proposed>denied', 'proposed>sent', 'proposed>withdrawn',
        'sent>denied', 'sent>done', 'sent>proposed', 'withdrawn>sent'
    ]) THEN
        RAISE EXCEPTION 'orders_ticket: % to % is not a legal move', OLD.status, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE FUNCTION orders_order_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (OLD.status || '>' || NEW.status) = ANY (ARRAY[
        'accepted>canceled', 'accepted>expired', 'accepted>filled', 'accepted>partially_filled',
        'accepted>pending_cancel', 'accepted>rejected', 'canceled>accepted', 'canceled>expired',
        'canceled>filled', 'canceled>partially_filled', 'canceled>pending_cancel', 'canceled>rejected',
        'expired>accepted', 'expired>canceled', 'expired>filled', 'expired>partially_filled',
        'expired>pending_cancel', 'expired>rejected', 'filled>accepted', 'filled>canceled',
        'filled>expired', 'filled>partially_filled', 'filled>pending_cancel', 'filled>rejected',
        'partially_filled>accepted', 'partially_filled>canceled', 'partially_filled>expired',
        'partially_filled>filled', 'partially_filled>pending_cancel', 'partially_filled>rejected',
        'pending>accepted', 'pending>canceled', 'pending>expired', 'pending>filled',
        'pending>partially_filled', 'pending>pending_cancel', 'pending>rejected', 'pending>submitted',
        'pending_cancel>accepted', 'pending_cancel>canceled', 'pending_cancel>expired',
        'pending_cancel>filled', 'pending_cancel>partially_filled', 'pending_cancel>rejected',
        'rejected>accepted', 'rejected>canceled', 'rejected>expired', 'rejected>filled',
        'rejected>partially_filled', 'rejected>pending_cancel', 'submitted>accepted',
        'submitted>canceled', 'submitted>expired', 'submitted>filled', 'submitted>partially_filled',
        'submitted>pending', 'submitted>pending_cancel', 'submitted>rejected'
    ]) THEN
        RAISE EXCEPTION 'orders_order: % to % is not a legal move', OLD.status, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION orders_ticket_revived() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM orders_attempt WHERE ticket_id = NEW.id) THEN
        RAISE EXCEPTION 'only what was sent once comes back to life' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER orders_ticket_revived BEFORE UPDATE OF status ON orders_ticket
    FOR EACH ROW WHEN (NEW.status = 'sent' AND OLD.status NOT IN ('allowed', 'sent'))
    EXECUTE FUNCTION orders_ticket_revived();
"""

REVERSE = """
DROP TRIGGER orders_ticket_revived ON orders_ticket;
DROP FUNCTION orders_ticket_revived();
CREATE OR REPLACE FUNCTION orders_ticket_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (OLD.status || '>' || NEW.status) = ANY (ARRAY[
        'allowed>denied', 'allowed>proposed', 'allowed>sent', 'allowed>withdrawn', 'denied>sent',
        'done>sent', 'proposed>allowed', 'proposed>denied', 'proposed>withdrawn', 'sent>denied',
        'sent>done', 'sent>proposed'
    ]) THEN
        RAISE EXCEPTION 'orders_ticket: % to % is not a legal move', OLD.status, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE FUNCTION orders_order_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (OLD.status || '>' || NEW.status) = ANY (ARRAY[
        'accepted>canceled', 'accepted>expired', 'accepted>filled', 'accepted>partially_filled',
        'accepted>pending_cancel', 'accepted>rejected', 'canceled>accepted', 'canceled>expired',
        'canceled>filled', 'canceled>partially_filled', 'canceled>pending_cancel', 'canceled>rejected',
        'expired>accepted', 'expired>canceled', 'expired>filled', 'expired>partially_filled',
        'expired>pending_cancel', 'expired>rejected', 'filled>accepted', 'filled>canceled',
        'filled>expired', 'filled>partially_filled', 'filled>pending_cancel', 'filled>rejected',
        'partially_filled>accepted', 'partially_filled>canceled', 'partially_filled>expired',
        'partially_filled>filled', 'partially_filled>pending_cancel', 'partially_filled>rejected',
        'pending>canceled', 'pending>submitted', 'pending_cancel>accepted', 'pending_cancel>canceled',
        'pending_cancel>expired', 'pending_cancel>filled', 'pending_cancel>partially_filled',
        'pending_cancel>rejected', 'rejected>accepted', 'rejected>canceled', 'rejected>expired',
        'rejected>filled', 'rejected>partially_filled', 'rejected>pending_cancel',
        'submitted>accepted', 'submitted>canceled', 'submitted>expired', 'submitted>filled',
        'submitted>partially_filled', 'submitted>pending', 'submitted>pending_cancel',
        'submitted>rejected'
    ]) THEN
        RAISE EXCEPTION 'orders_order: % to % is not a legal move', OLD.status, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("orders", "0007_what_if")]

    operations = [migrations.RunSQL(FORWARD, REVERSE)]
