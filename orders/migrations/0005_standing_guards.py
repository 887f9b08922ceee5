"""Policies, mandates and allowances, held by the database; and what an attempt needs, with these beside approvals.

The moves equal orders/lifecycle.py; tests/orders/test_lifecycle.py holds them to it.
"""

from django.db import migrations

FORWARD = """
CREATE FUNCTION orders_policyversion_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (OLD.status || '>' || NEW.status) = ANY (ARRAY[
        'active>retired', 'proposed>active', 'proposed>retired'
    ]) THEN
        RAISE EXCEPTION 'orders_policyversion: % to % is not a legal move', OLD.status, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.status = 'active' AND NOT EXISTS (
        SELECT FROM cerbero_decisionrequest WHERE id = NEW.request_id AND subject_id = NEW.id
           AND subject_kind = 'policy' AND digest = NEW.digest AND status = 'consumed') THEN
        RAISE EXCEPTION 'a policy is activated by another person''s decision alone' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER orders_policyversion_moves BEFORE UPDATE OF status ON orders_policyversion
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION orders_policyversion_moves();

CREATE FUNCTION orders_policyversion_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (NEW.status = 'proposed' AND NEW.proposed_by_id IS NOT NULL AND NEW.request_id IS NOT NULL)
       AND (NEW.number <> 1 OR EXISTS (SELECT FROM orders_policyversion)) THEN
        RAISE EXCEPTION 'a version of the policy begins as proposed; only the first is shipped'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER orders_policyversion_begins BEFORE INSERT ON orders_policyversion
    FOR EACH ROW EXECUTE FUNCTION orders_policyversion_begins();

CREATE TRIGGER orders_policyversion_frozen BEFORE UPDATE ON orders_policyversion
    FOR EACH ROW WHEN (OLD.number IS DISTINCT FROM NEW.number OR OLD.rules IS DISTINCT FROM NEW.rules OR OLD.digest IS DISTINCT FROM NEW.digest OR OLD.reason IS DISTINCT FROM NEW.reason OR OLD.proposed_by_id IS DISTINCT FROM NEW.proposed_by_id OR OLD.request_id IS DISTINCT FROM NEW.request_id OR OLD.proposed_at IS DISTINCT FROM NEW.proposed_at)
    EXECUTE FUNCTION cerbero_refuse('the terms of a row of orders_policyversion never change');

CREATE TRIGGER orders_policyversion_kept BEFORE DELETE ON orders_policyversion
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('rows of orders_policyversion are never deleted');

CREATE FUNCTION orders_mandate_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (OLD.status || '>' || NEW.status) = ANY (ARRAY[
        'active>revoked', 'proposed>active', 'proposed>declined'
    ]) THEN
        RAISE EXCEPTION 'orders_mandate: % to % is not a legal move', OLD.status, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.status = 'active' AND NOT EXISTS (
        SELECT FROM cerbero_decisionrequest WHERE id = NEW.request_id AND subject_id = NEW.id
           AND subject_kind = 'mandate' AND digest = NEW.digest AND status = 'consumed') THEN
        RAISE EXCEPTION 'a mandate is signed by other people''s decisions alone' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER orders_mandate_moves BEFORE UPDATE OF status ON orders_mandate
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION orders_mandate_moves();

CREATE TRIGGER orders_mandate_begins BEFORE INSERT ON orders_mandate
    FOR EACH ROW WHEN (NEW.status <> 'proposed' OR NEW.used_count <> 0 OR NEW.used_notional <> 0)
    EXECUTE FUNCTION cerbero_refuse('a mandate begins as proposed and unused');

CREATE TRIGGER orders_mandate_frozen BEFORE UPDATE ON orders_mandate
    FOR EACH ROW WHEN (OLD.account_id IS DISTINCT FROM NEW.account_id OR OLD.bot_id IS DISTINCT FROM NEW.bot_id OR OLD.instrument_ids IS DISTINCT FROM NEW.instrument_ids OR OLD.sides IS DISTINCT FROM NEW.sides OR OLD.order_types IS DISTINCT FROM NEW.order_types OR OLD.order_notional_max IS DISTINCT FROM NEW.order_notional_max OR OLD.notional_max IS DISTINCT FROM NEW.notional_max OR OLD.count_max IS DISTINCT FROM NEW.count_max OR OLD.hours IS DISTINCT FROM NEW.hours OR OLD.expires_at IS DISTINCT FROM NEW.expires_at OR OLD.digest IS DISTINCT FROM NEW.digest OR OLD.proposed_by_id IS DISTINCT FROM NEW.proposed_by_id OR OLD.request_id IS DISTINCT FROM NEW.request_id)
    EXECUTE FUNCTION cerbero_refuse('the terms of a row of orders_mandate never change');

CREATE TRIGGER orders_mandate_kept BEFORE DELETE ON orders_mandate
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('rows of orders_mandate are never deleted');

CREATE FUNCTION orders_mandate_used() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.used_count < OLD.used_count OR NEW.used_notional < (
        SELECT coalesce(sum(notional - returned_notional), 0) FROM orders_allowance WHERE mandate_id = NEW.id
    ) THEN
        RAISE EXCEPTION 'a mandate''s count never comes back, and its notional only by its tickets'' ends'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER orders_mandate_used BEFORE UPDATE OF used_count, used_notional ON orders_mandate
    FOR EACH ROW EXECUTE FUNCTION orders_mandate_used();

CREATE FUNCTION orders_allowance_begins() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    rule jsonb;
    spent numeric;
    orders bigint;
BEGIN
    SELECT r INTO rule FROM orders_policyversion v, jsonb_array_elements(v.rules) r
        WHERE v.id = NEW.policy_version_id AND v.status = 'active' AND r ->> 'name' = NEW.rule;
    IF NEW.consumed_at IS NOT NULL OR NEW.returned_at IS NOT NULL OR NEW.returned_notional <> 0 OR NOT EXISTS (
        SELECT FROM orders_ticket t JOIN brokers_account a ON a.id = t.account_id
        WHERE t.id = NEW.ticket_id AND t.digest = NEW.digest AND t.notional = NEW.notional
          AND t.status = 'proposed' AND t.request_id IS NULL
          AND (NEW.mandate_id IS NOT NULL OR (a.environment = 'paper' AND rule -> 'then' ->> 'do' = 'allow'
               AND NEW.notional <= (rule -> 'when' ->> 'notional_max')::numeric))
    ) THEN
        RAISE EXCEPTION 'a ticket is allowed unasked by a rule for paper, within its notional, alone'
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.mandate_id IS NULL THEN
        RETURN NEW;
    END IF;
    SELECT coalesce(sum(notional - returned_notional), 0), count(*) INTO spent, orders
        FROM orders_allowance WHERE mandate_id = NEW.mandate_id;
    IF coalesce(rule -> 'then' ->> 'do', '') <> 'mandate' OR NOT EXISTS (
        SELECT FROM orders_mandate m JOIN orders_ticket t ON t.id = NEW.ticket_id
            AND t.account_id = m.account_id AND t.bot_id = m.bot_id
        WHERE m.id = NEW.mandate_id AND m.status = 'active' AND m.expires_at > now()
          AND NEW.notional <= m.order_notional_max AND orders + 1 <= least(m.used_count, m.count_max)
          AND spent + NEW.notional <= least(m.used_notional, m.notional_max)
    ) THEN
        RAISE EXCEPTION 'a use of a mandate must fit what is left of it' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER orders_allowance_begins BEFORE INSERT ON orders_allowance
    FOR EACH ROW EXECUTE FUNCTION orders_allowance_begins();

CREATE TRIGGER orders_allowance_frozen BEFORE UPDATE ON orders_allowance
    FOR EACH ROW WHEN (OLD.ticket_id IS DISTINCT FROM NEW.ticket_id OR OLD.policy_version_id IS DISTINCT FROM NEW.policy_version_id OR OLD.rule IS DISTINCT FROM NEW.rule OR OLD.mandate_id IS DISTINCT FROM NEW.mandate_id OR OLD.digest IS DISTINCT FROM NEW.digest OR OLD.notional IS DISTINCT FROM NEW.notional OR OLD.facts IS DISTINCT FROM NEW.facts OR OLD.created_at IS DISTINCT FROM NEW.created_at OR OLD.expires_at IS DISTINCT FROM NEW.expires_at OR (OLD.consumed_at IS NOT NULL AND OLD.consumed_at IS DISTINCT FROM NEW.consumed_at))
    EXECUTE FUNCTION cerbero_refuse('the terms of a row of orders_allowance never change');

CREATE TRIGGER orders_allowance_kept BEFORE DELETE ON orders_allowance
    FOR EACH ROW EXECUTE FUNCTION cerbero_refuse('rows of orders_allowance are never deleted');

CREATE OR REPLACE FUNCTION orders_ticket_allowed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM cerbero_decisionrequest
                   WHERE id = NEW.request_id AND subject_id = NEW.id AND status = 'approved')
       AND NOT (NEW.request_id IS NULL AND EXISTS (
                   SELECT FROM orders_allowance WHERE ticket_id = NEW.id AND digest = NEW.digest
                      AND consumed_at IS NULL AND expires_at > now())) THEN
        RAISE EXCEPTION 'a ticket is allowed by its approval alone, or by its mandate or allowance'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION orders_attempt_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> 'prepared' OR NOT EXISTS (
        SELECT FROM orders_ticket t LEFT JOIN cerbero_decisionrequest r ON r.id = t.request_id
            LEFT JOIN orders_allowance l ON l.ticket_id = t.id AND t.request_id IS NULL
            LEFT JOIN brokers_account a ON a.id = t.account_id
        WHERE t.id = NEW.ticket_id AND t.digest = NEW.digest AND t.status = 'allowed'
          AND (t.reduce_only OR (r.status = 'consumed' AND r.subject_id = t.id)
               OR (l.digest = t.digest AND l.consumed_at IS NOT NULL AND NEW.number = 1
                   AND (l.mandate_id IS NOT NULL OR a.environment = 'paper')))
    ) THEN
        RAISE EXCEPTION 'an attempt needs a consumed approval of its ticket, or a used mandate or allowance'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
"""

REVERSE = """
CREATE OR REPLACE FUNCTION orders_ticket_allowed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM cerbero_decisionrequest
                   WHERE id = NEW.request_id AND subject_id = NEW.id AND status = 'approved') THEN
        RAISE EXCEPTION 'a ticket is allowed by its approval alone' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE FUNCTION orders_attempt_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> 'prepared' OR NOT EXISTS (
        SELECT FROM orders_ticket t LEFT JOIN cerbero_decisionrequest r ON r.id = t.request_id
        WHERE t.id = NEW.ticket_id AND t.digest = NEW.digest AND t.status = 'allowed'
          AND (t.reduce_only OR (r.status = 'consumed' AND r.subject_id = t.id))
    ) THEN
        RAISE EXCEPTION 'an attempt needs a consumed approval of its ticket' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
DROP TRIGGER orders_policyversion_moves ON orders_policyversion;
DROP TRIGGER orders_policyversion_begins ON orders_policyversion;
DROP TRIGGER orders_policyversion_frozen ON orders_policyversion;
DROP TRIGGER orders_policyversion_kept ON orders_policyversion;
DROP TRIGGER orders_mandate_moves ON orders_mandate;
DROP TRIGGER orders_mandate_begins ON orders_mandate;
DROP TRIGGER orders_mandate_frozen ON orders_mandate;
DROP TRIGGER orders_mandate_kept ON orders_mandate;
DROP TRIGGER orders_mandate_used ON orders_mandate;
DROP TRIGGER orders_allowance_begins ON orders_allowance;
DROP TRIGGER orders_allowance_frozen ON orders_allowance;
DROP TRIGGER orders_allowance_kept ON orders_allowance;
DROP FUNCTION orders_policyversion_moves();
DROP FUNCTION orders_policyversion_begins();
DROP FUNCTION orders_mandate_moves();
DROP FUNCTION orders_mandate_used();
DROP FUNCTION orders_allowance_begins();
"""


class Migration(migrations.Migration):
    dependencies = [("orders", "0004_standing_rules")]

    operations = [migrations.RunSQL(FORWARD, REVERSE)]
