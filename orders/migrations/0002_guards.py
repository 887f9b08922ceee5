"""The state machines, frozen terms and the need of an approval, held by the database.

The moves equal orders/lifecycle.py; tests/orders/test_lifecycle.py holds them to it.
"""

from django.db import migrations

FORWARD = """
CREATE FUNCTION orders_ticket_moves() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER orders_ticket_moves BEFORE UPDATE OF status ON orders_ticket
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION orders_ticket_moves();

CREATE TRIGGER orders_ticket_frozen BEFORE UPDATE ON orders_ticket
    FOR EACH ROW WHEN (OLD.account_id IS DISTINCT FROM NEW.account_id OR OLD.bot_id IS DISTINCT FROM NEW.bot_id OR OLD.person_id IS DISTINCT FROM NEW.person_id OR OLD.idempotency_key IS DISTINCT FROM NEW.idempotency_key OR OLD.digest IS DISTINCT FROM NEW.digest OR OLD.reduce_only IS DISTINCT FROM NEW.reduce_only OR OLD.created_at IS DISTINCT FROM NEW.created_at)
    EXECUTE FUNCTION cerbero_refuse('the terms of a row of orders_ticket never change');

CREATE TRIGGER orders_ticket_kept BEFORE DELETE ON orders_ticket
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('rows of orders_ticket are never deleted');

CREATE FUNCTION orders_order_moves() RETURNS trigger LANGUAGE plpgsql AS $$
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
        'rejected>filled', 'rejected>partially_filled', 'rejected>pending_cancel', 'submitted>accepted',
        'submitted>canceled', 'submitted>expired', 'submitted>filled', 'submitted>partially_filled',
        'submitted>pending', 'submitted>pending_cancel', 'submitted>rejected'
    ]) THEN
        RAISE EXCEPTION 'orders_order: % to % is not a legal move', OLD.status, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER orders_order_moves BEFORE UPDATE OF status ON orders_order
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION orders_order_moves();

CREATE TRIGGER orders_order_frozen BEFORE UPDATE ON orders_order
    FOR EACH ROW WHEN (OLD.ticket_id IS DISTINCT FROM NEW.ticket_id OR OLD.number IS DISTINCT FROM NEW.number OR OLD.instrument_id IS DISTINCT FROM NEW.instrument_id OR OLD.side IS DISTINCT FROM NEW.side OR OLD.quantity IS DISTINCT FROM NEW.quantity OR OLD.order_type IS DISTINCT FROM NEW.order_type OR OLD.limit_price IS DISTINCT FROM NEW.limit_price OR OLD.stop_price IS DISTINCT FROM NEW.stop_price OR OLD.time_in_force IS DISTINCT FROM NEW.time_in_force)
    EXECUTE FUNCTION cerbero_refuse('the terms of a row of orders_order never change');

CREATE TRIGGER orders_order_kept BEFORE DELETE ON orders_order
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('rows of orders_order are never deleted');

CREATE FUNCTION orders_attempt_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (OLD.status || '>' || NEW.status) = ANY (ARRAY[
        'in_doubt>settled', 'prepared>sent', 'prepared>settled', 'sent>answered', 'sent>in_doubt',
        'sent>prepared'
    ]) THEN
        RAISE EXCEPTION 'orders_attempt: % to % is not a legal move', OLD.status, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER orders_attempt_moves BEFORE UPDATE OF status ON orders_attempt
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION orders_attempt_moves();

CREATE TRIGGER orders_attempt_frozen BEFORE UPDATE ON orders_attempt
    FOR EACH ROW WHEN (OLD.ticket_id IS DISTINCT FROM NEW.ticket_id OR OLD.number IS DISTINCT FROM NEW.number OR OLD.client_order_id IS DISTINCT FROM NEW.client_order_id OR OLD.digest IS DISTINCT FROM NEW.digest OR OLD.prepared_at IS DISTINCT FROM NEW.prepared_at)
    EXECUTE FUNCTION cerbero_refuse('the terms of a row of orders_attempt never change');

CREATE TRIGGER orders_attempt_kept BEFORE DELETE ON orders_attempt
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('rows of orders_attempt are never deleted');

CREATE TRIGGER orders_execution_frozen BEFORE UPDATE ON orders_execution
    FOR EACH ROW WHEN (OLD.account_id IS DISTINCT FROM NEW.account_id OR OLD.execution_id IS DISTINCT FROM NEW.execution_id OR OLD.side IS DISTINCT FROM NEW.side OR OLD.quantity IS DISTINCT FROM NEW.quantity OR OLD.price IS DISTINCT FROM NEW.price OR OLD.executed_at IS DISTINCT FROM NEW.executed_at)
    EXECUTE FUNCTION cerbero_refuse('the terms of a row of orders_execution never change');

CREATE TRIGGER orders_execution_kept BEFORE DELETE ON orders_execution
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('rows of orders_execution are never deleted');

CREATE TRIGGER orders_ticket_begins BEFORE INSERT ON orders_ticket
    FOR EACH ROW WHEN (NOT (NEW.status IN ('proposed', 'denied') OR (NEW.status = 'allowed' AND NEW.reduce_only)))
    EXECUTE FUNCTION cerbero_refuse('a ticket begins as proposed or denied; only a close begins as allowed');

CREATE FUNCTION orders_ticket_allowed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM cerbero_decisionrequest
                   WHERE id = NEW.request_id AND subject_id = NEW.id AND status = 'approved') THEN
        RAISE EXCEPTION 'a ticket is allowed by its approval alone' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER orders_ticket_allowed BEFORE UPDATE OF status ON orders_ticket
    FOR EACH ROW WHEN (NEW.status = 'allowed') EXECUTE FUNCTION orders_ticket_allowed();

CREATE FUNCTION orders_attempt_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> 'prepared' OR NOT EXISTS (
        SELECT FROM orders_ticket t LEFT JOIN cerbero_decisionrequest r ON r.id = t.request_id
        WHERE t.id = NEW.ticket_id AND t.digest = NEW.digest
          AND (t.reduce_only OR (r.status = 'consumed' AND r.subject_id = t.id))
    ) THEN
        RAISE EXCEPTION 'an attempt needs a consumed approval of its ticket' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER orders_attempt_begins BEFORE INSERT ON orders_attempt
    FOR EACH ROW EXECUTE FUNCTION orders_attempt_begins();

CREATE FUNCTION orders_hint() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('cerbero_hints', TG_ARGV[0] || ':' || NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER orders_ticket_hint AFTER INSERT OR UPDATE OF status ON orders_ticket
    FOR EACH ROW EXECUTE FUNCTION orders_hint('ticket');
CREATE TRIGGER orders_order_hint AFTER UPDATE OF status, filled_quantity ON orders_order
    FOR EACH ROW EXECUTE FUNCTION orders_hint('order');
"""

REVERSE = """
DROP TRIGGER orders_ticket_moves ON orders_ticket;
DROP TRIGGER orders_ticket_frozen ON orders_ticket;
DROP TRIGGER orders_ticket_kept ON orders_ticket;
DROP TRIGGER orders_order_moves ON orders_order;
DROP TRIGGER orders_order_frozen ON orders_order;
DROP TRIGGER orders_order_kept ON orders_order;
DROP TRIGGER orders_attempt_moves ON orders_attempt;
DROP TRIGGER orders_attempt_frozen ON orders_attempt;
DROP TRIGGER orders_attempt_kept ON orders_attempt;
DROP TRIGGER orders_execution_frozen ON orders_execution;
DROP TRIGGER orders_execution_kept ON orders_execution;
DROP TRIGGER orders_ticket_begins ON orders_ticket;
DROP TRIGGER orders_ticket_allowed ON orders_ticket;
DROP TRIGGER orders_attempt_begins ON orders_attempt;
DROP TRIGGER orders_ticket_hint ON orders_ticket;
DROP TRIGGER orders_order_hint ON orders_order;
DROP FUNCTION orders_ticket_moves();
DROP FUNCTION orders_order_moves();
DROP FUNCTION orders_attempt_moves();
DROP FUNCTION orders_ticket_allowed();
DROP FUNCTION orders_attempt_begins();
DROP FUNCTION orders_hint();
"""


class Migration(migrations.Migration):
    dependencies = [("orders", "0001_initial"), ("cerbero", "0002_guards")]

    operations = [migrations.RunSQL(FORWARD, REVERSE)]
