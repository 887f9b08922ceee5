"""Amendments and cancels as the database holds them: legal moves, frozen terms, and the need of an approval.

An order's size and prices change only by an amendment that was sent.
"""

from django.db import migrations

FORWARD = """
CREATE FUNCTION orders_amendment_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (OLD.status || '>' || NEW.status) = ANY (ARRAY[
        'allowed>denied', 'allowed>sent', 'allowed>withdrawn', 'denied>done', 'proposed>allowed',
        'proposed>denied', 'proposed>withdrawn', 'sent>denied', 'sent>done', 'sent>proposed'
    ]) THEN
        RAISE EXCEPTION 'orders_amendment: % to % is not a legal move', OLD.status, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER orders_amendment_moves BEFORE UPDATE OF status ON orders_amendment
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION orders_amendment_moves();
CREATE TRIGGER orders_amendment_frozen BEFORE UPDATE ON orders_amendment
    FOR EACH ROW WHEN (OLD.order_id IS DISTINCT FROM NEW.order_id OR OLD.bot_id IS DISTINCT FROM NEW.bot_id OR OLD.person_id IS DISTINCT FROM NEW.person_id OR OLD.was_quantity IS DISTINCT FROM NEW.was_quantity OR OLD.was_limit_price IS DISTINCT FROM NEW.was_limit_price OR OLD.was_stop_price IS DISTINCT FROM NEW.was_stop_price OR OLD.filled_quantity IS DISTINCT FROM NEW.filled_quantity OR OLD.quantity IS DISTINCT FROM NEW.quantity OR OLD.limit_price IS DISTINCT FROM NEW.limit_price OR OLD.stop_price IS DISTINCT FROM NEW.stop_price OR OLD.tightens IS DISTINCT FROM NEW.tightens OR OLD.digest IS DISTINCT FROM NEW.digest OR OLD.created_at IS DISTINCT FROM NEW.created_at)
    EXECUTE FUNCTION cerbero_refuse('the terms of a row of orders_amendment never change');
CREATE TRIGGER orders_amendment_kept BEFORE DELETE ON orders_amendment
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('rows of orders_amendment are never deleted');

CREATE FUNCTION orders_amendment_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (NEW.status = 'proposed' OR (NEW.status = 'allowed' AND NEW.tightens)) THEN
        RAISE EXCEPTION 'an amendment begins as proposed; only one that tightens as allowed'
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.tightens AND NOT EXISTS (
        SELECT FROM orders_order o WHERE o.id = NEW.order_id
          AND NEW.quantity <= o.quantity AND NEW.stop_price IS NOT DISTINCT FROM o.stop_price
          AND (NEW.limit_price IS NOT DISTINCT FROM o.limit_price
               OR (o.side = 'buy' AND NEW.limit_price < o.limit_price)
               OR (o.side = 'sell' AND NEW.limit_price > o.limit_price))
    ) THEN
        RAISE EXCEPTION 'this amendment does not tighten' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER orders_amendment_begins BEFORE INSERT ON orders_amendment
    FOR EACH ROW EXECUTE FUNCTION orders_amendment_begins();

CREATE FUNCTION orders_changeattempt_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (OLD.status || '>' || NEW.status) = ANY (ARRAY[
        'in_doubt>settled', 'prepared>sent', 'prepared>settled', 'sent>answered', 'sent>in_doubt',
        'sent>prepared'
    ]) THEN
        RAISE EXCEPTION 'orders_changeattempt: % to % is not a legal move', OLD.status, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER orders_changeattempt_moves BEFORE UPDATE OF status ON orders_changeattempt
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION orders_changeattempt_moves();
CREATE TRIGGER orders_changeattempt_frozen BEFORE UPDATE ON orders_changeattempt
    FOR EACH ROW WHEN (OLD.kind IS DISTINCT FROM NEW.kind OR OLD.account_id IS DISTINCT FROM NEW.account_id OR OLD.order_id IS DISTINCT FROM NEW.order_id OR OLD.broker_order_id IS DISTINCT FROM NEW.broker_order_id OR OLD.amendment_id IS DISTINCT FROM NEW.amendment_id OR OLD.asked_by IS DISTINCT FROM NEW.asked_by OR OLD.digest IS DISTINCT FROM NEW.digest OR OLD.prepared_at IS DISTINCT FROM NEW.prepared_at)
    EXECUTE FUNCTION cerbero_refuse('the terms of a row of orders_changeattempt never change');
CREATE TRIGGER orders_changeattempt_kept BEFORE DELETE ON orders_changeattempt
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('rows of orders_changeattempt are never deleted');

CREATE FUNCTION orders_changeattempt_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> 'prepared' OR (NEW.kind = 'amend' AND NOT EXISTS (
        SELECT FROM orders_amendment a LEFT JOIN cerbero_decisionrequest r ON r.id = a.request_id
        WHERE a.id = NEW.amendment_id AND a.order_id = NEW.order_id AND a.digest = NEW.digest
          AND ((a.tightens AND a.request_id IS NULL) OR (r.status = 'consumed' AND r.subject_id = a.id))
    )) THEN
        RAISE EXCEPTION 'an amendment that is sent tightens, or needs its consumed approval'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER orders_changeattempt_begins BEFORE INSERT ON orders_changeattempt
    FOR EACH ROW EXECUTE FUNCTION orders_changeattempt_begins();

CREATE TRIGGER orders_inquiry_kept BEFORE UPDATE OR DELETE ON orders_inquiry
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('an inquiry is never changed or deleted');

DROP TRIGGER orders_order_frozen ON orders_order;
CREATE TRIGGER orders_order_frozen BEFORE UPDATE ON orders_order
    FOR EACH ROW WHEN (OLD.ticket_id IS DISTINCT FROM NEW.ticket_id OR OLD.number IS DISTINCT FROM NEW.number OR OLD.instrument_id IS DISTINCT FROM NEW.instrument_id OR OLD.side IS DISTINCT FROM NEW.side OR OLD.order_type IS DISTINCT FROM NEW.order_type OR OLD.time_in_force IS DISTINCT FROM NEW.time_in_force)
    EXECUTE FUNCTION cerbero_refuse('the terms of a row of orders_order never change');
CREATE FUNCTION orders_order_amended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM orders_amendment a JOIN orders_changeattempt c ON c.amendment_id = a.id
        WHERE a.order_id = NEW.id AND c.status <> 'prepared' AND a.quantity = NEW.quantity
          AND a.limit_price IS NOT DISTINCT FROM NEW.limit_price
          AND a.stop_price IS NOT DISTINCT FROM NEW.stop_price
    ) THEN
        RAISE EXCEPTION 'the terms of an order never change but by an amendment that was sent'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER orders_order_amended BEFORE UPDATE ON orders_order
    FOR EACH ROW WHEN (OLD.quantity IS DISTINCT FROM NEW.quantity OR OLD.limit_price IS DISTINCT FROM NEW.limit_price OR OLD.stop_price IS DISTINCT FROM NEW.stop_price)
    EXECUTE FUNCTION orders_order_amended();
"""

REVERSE = """
DROP TRIGGER orders_order_amended ON orders_order;
DROP FUNCTION orders_order_amended();
DROP TRIGGER orders_order_frozen ON orders_order;
CREATE TRIGGER orders_order_frozen BEFORE UPDATE ON orders_order
    FOR EACH ROW WHEN (OLD.ticket_id IS DISTINCT FROM NEW.ticket_id OR OLD.number IS DISTINCT FROM NEW.number OR OLD.instrument_id IS DISTINCT FROM NEW.instrument_id OR OLD.side IS DISTINCT FROM NEW.side OR OLD.quantity IS DISTINCT FROM NEW.quantity OR OLD.order_type IS DISTINCT FROM NEW.order_type OR OLD.limit_price IS DISTINCT FROM NEW.limit_price OR OLD.stop_price IS DISTINCT FROM NEW.stop_price OR OLD.time_in_force IS DISTINCT FROM NEW.time_in_force)
    EXECUTE FUNCTION cerbero_refuse('the terms of a row of orders_order never change');
DROP TRIGGER orders_inquiry_kept ON orders_inquiry;
DROP TRIGGER orders_amendment_moves ON orders_amendment;
DROP TRIGGER orders_amendment_frozen ON orders_amendment;
DROP TRIGGER orders_amendment_kept ON orders_amendment;
DROP TRIGGER orders_amendment_begins ON orders_amendment;
DROP TRIGGER orders_changeattempt_moves ON orders_changeattempt;
DROP TRIGGER orders_changeattempt_frozen ON orders_changeattempt;
DROP TRIGGER orders_changeattempt_kept ON orders_changeattempt;
DROP TRIGGER orders_changeattempt_begins ON orders_changeattempt;
DROP FUNCTION orders_amendment_moves();
DROP FUNCTION orders_amendment_begins();
DROP FUNCTION orders_changeattempt_moves();
DROP FUNCTION orders_changeattempt_begins();
"""


class Migration(migrations.Migration):
    dependencies = [("orders", "0009_changes"), ("cerbero", "0002_guards")]

    operations = [migrations.RunSQL(FORWARD, REVERSE)]
