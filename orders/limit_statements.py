"""The SQL behind limits: one statement for what is held and moves, one for marks, one for counts.

`open` orders are handed to the wire and not ended, in doubt or not. A fill that we learned of after the
positions were read counts beside them; so nothing is missed between a fill and the next reconciliation.

Of a group's orders on one side only the largest can fill, and an exit no more than its entry has filled: what else
they could not do together is not counted. Each counts as an order of its own. An amendment that was sent counts as taken
where it makes an order larger.
"""

from collections.abc import Iterable

from orders.lifecycle import ENDED, OPEN
from orders.order_types import WAITING


def _with_words(statement: str) -> str:
    """The statement on one line, with the states that it names: as constants, so that their index serves."""
    words = {"{open}": OPEN, "{ended}": ENDED, "{waiting}": WAITING}
    for place, names in words.items():
        statement = statement.replace(place, _array(names))
    return " ".join(statement.split())


def _array(names: Iterable[str]) -> str:
    return f"'{{{','.join(sorted(map(str, names)))}}}'::text[]"


BOOK = _with_words("""
WITH moving AS (
    SELECT o.instrument_id, i.symbol, i.asset_class, o.side, o.status = ANY({open}) AS is_open,
        CASE WHEN o.status <> ALL({open}) THEN 0
            WHEN t."group" = '' OR o.number = 1 AND t."group" <> 'oco'
                THEN greatest(o.quantity, a.quantity) - o.filled_quantity
            WHEN EXISTS (
                SELECT FROM orders_order p WHERE p.ticket_id = t.id AND p.side = o.side AND p.status = ANY({open})
                  AND (p.quantity - p.filled_quantity, -p.number) > (o.quantity - o.filled_quantity, -o.number)
            ) THEN 0
            WHEN t."group" = 'oco' THEN o.quantity - o.filled_quantity
            ELSE greatest(least(o.quantity - o.filled_quantity, (
                SELECT sum(CASE p.number WHEN 1 THEN p.filled_quantity ELSE -p.filled_quantity END)
                FROM orders_order p WHERE p.ticket_id = t.id
            )), 0) END
            + CASE WHEN o.filled_at > %(as_of)s THEN o.filled_quantity ELSE 0 END AS quantity,
        CASE WHEN t.reduce_only THEN coalesce(t.notional, 0) ELSE t.notional END
            / CASE WHEN t."group" = '' THEN o.quantity ELSE (
                SELECT max(p.quantity) FROM orders_order p WHERE p.ticket_id = t.id
            ) END AS unit_value
    FROM orders_order o
    JOIN orders_ticket t ON t.id = o.ticket_id
    JOIN brokers_instrument i ON i.id = o.instrument_id
    LEFT JOIN orders_amendment a ON a.order_id = o.id AND a.status = 'sent'
    WHERE t.account_id = %(account)s AND t.id <> %(ticket)s
      AND (o.status = ANY({open}) OR o.filled_at > %(as_of)s)
), held AS (
    SELECT p.instrument_id, p.symbol, coalesce(i.asset_class, p.asset_class) AS asset_class, p.quantity,
        CASE WHEN p.currency = %(base)s THEN 1 ELSE r.rate END
            * CASE WHEN coalesce(i.asset_class, p.asset_class) IN ('OPT', 'FOP', 'WAR')
                THEN p.quantity * i.multiplier * greatest(q.bid, q.ask, q.last)
                ELSE p.market_value END AS value
    FROM orders_position p
    LEFT JOIN brokers_instrument i ON i.id = p.instrument_id
    LEFT JOIN brokers_quote q ON q.instrument_id = i.underlying_id AND q.received_at >= %(quotes_since)s
    LEFT JOIN orders_currencyrate r ON r.broker = %(broker)s AND r.source = p.currency
        AND r.target = %(base)s AND r.as_of >= %(rates_since)s
    WHERE p.account_id = %(account)s AND p.quantity <> 0
), each AS (
    SELECT instrument_id, symbol, asset_class, quantity AS held, value AS held_value,
        0 AS buys, 0 AS sells, 0 AS buys_value, 0 AS sells_value, 0 AS buy_orders, 0 AS sell_orders
    FROM held
    UNION ALL
    SELECT instrument_id, symbol, asset_class, 0, 0,
        CASE side WHEN 'buy' THEN quantity ELSE 0 END, CASE side WHEN 'sell' THEN quantity ELSE 0 END,
        CASE side WHEN 'buy' THEN quantity * unit_value ELSE 0 END,
        CASE side WHEN 'sell' THEN quantity * unit_value ELSE 0 END,
        CASE WHEN is_open AND side = 'buy' THEN 1 ELSE 0 END,
        CASE WHEN is_open AND side = 'sell' THEN 1 ELSE 0 END
    FROM moving
)
SELECT instrument_id, min(symbol), min(asset_class), sum(held),
    CASE WHEN bool_and(held_value IS NOT NULL) THEN sum(held_value) END,
    sum(buys), sum(sells),
    CASE WHEN bool_and(buys_value IS NOT NULL) THEN sum(buys_value) END,
    CASE WHEN bool_and(sells_value IS NOT NULL) THEN sum(sells_value) END,
    sum(buy_orders), sum(sell_orders)
FROM each
GROUP BY instrument_id, CASE WHEN instrument_id IS NULL THEN symbol END
""")

# A proposal is one of many proposals, a sending one of many sendings.
MARKS = _with_words("""
SELECT opposing.*, (
    SELECT o.reference_price FROM orders_order o JOIN orders_ticket t ON t.id = o.ticket_id
    WHERE o.instrument_id = %(instrument)s AND o.created_at >= %(period)s
      AND t.account_id = %(account)s AND o.reference_price IS NOT NULL
    ORDER BY o.created_at LIMIT 1
), CASE WHEN %(is_sending)s THEN (
    SELECT count(DISTINCT a.id) FROM orders_attempt a
    JOIN orders_ticket t ON t.id = a.ticket_id JOIN orders_order o ON o.ticket_id = t.id
    WHERE a.prepared_at >= %(window)s AND t.bot_id = %(bot)s AND t.id <> %(ticket)s
      AND o.instrument_id = %(instrument)s AND o.side = %(side)s AND o.quantity = %(quantity)s
) ELSE (
    SELECT count(*) FROM (
        SELECT DISTINCT t.id FROM orders_order o JOIN orders_ticket t ON t.id = o.ticket_id
        WHERE o.instrument_id = %(instrument)s AND o.created_at >= %(window)s AND t.bot_id = %(bot)s
          AND o.side = %(side)s AND o.quantity = %(quantity)s
        LIMIT %(repeats)s
    ) alike
) END
FROM (
    SELECT min(limit_price), max(limit_price), count(*) FILTER (WHERE limit_price IS NULL)
    FROM orders_order
    WHERE instrument_id = %(instrument)s AND status = ANY({open}) AND side = %(opposite)s
      AND ticket_id <> %(ticket)s AND order_type <> ALL({waiting})
) opposing
""")

COUNTED = _with_words("""
WITH scope AS (
    SELECT * FROM unnest(%(brokers)s::text[], %(accounts)s::uuid[], %(bots)s::uuid[], %(classes)s::text[])
        WITH ORDINALITY AS scope(broker, account_id, bot_id, asset_class, number)
), message AS (
    SELECT a.prepared_at AS at, true AS is_order, a.ticket_id,
        CASE WHEN row_number() OVER (PARTITION BY o.id ORDER BY a.number DESC) > 1 THEN 0
            WHEN o.status = ANY({ended}) OR t."group" <> '' AND EXISTS (
                SELECT FROM orders_order p
                WHERE p.ticket_id = t.id AND p.number < o.number AND (p.status <> ALL({ended}) OR t."group" <> 'oco')
            ) THEN t.notional * o.filled_quantity / o.quantity
            ELSE t.notional END AS value,
        o.instrument_id, t.account_id, t.bot_id
    FROM orders_attempt a
    JOIN orders_ticket t ON t.id = a.ticket_id
    JOIN orders_order o ON o.ticket_id = t.id AND (t."group" = '' OR EXISTS (
        SELECT FROM orders_attemptleg l WHERE l.attempt_id = a.id AND l.order_id = o.id))
    WHERE a.prepared_at >= %(day)s AND t.id <> %(ticket)s
    UNION ALL
    SELECT o.cancel_requested_at, false, t.id, 0, o.instrument_id, t.account_id, t.bot_id
    FROM orders_order o JOIN orders_ticket t ON t.id = o.ticket_id
    WHERE o.cancel_requested_at >= %(minute)s
    UNION ALL
    SELECT c.prepared_at, false, t.id, 0, o.instrument_id, t.account_id, t.bot_id
    FROM orders_changeattempt c JOIN orders_order o ON o.id = c.order_id JOIN orders_ticket t ON t.id = o.ticket_id
    WHERE c.kind = 'amend' AND c.prepared_at >= %(minute)s
), placed AS (
    SELECT m.*, l.broker, i.asset_class FROM message m
    JOIN brokers_account c ON c.id = m.account_id JOIN brokers_login l ON l.id = c.login_id
    JOIN brokers_instrument i ON i.id = m.instrument_id
)
SELECT s.number,
    count(p.at) FILTER (WHERE p.is_order AND p.at >= %(minute)s),
    count(p.at) FILTER (WHERE p.at >= %(minute)s),
    count(p.at) FILTER (WHERE p.is_order AND p.at >= %(day_start)s),
    CASE WHEN count(*) FILTER (WHERE p.at >= %(day_start)s AND p.value IS NULL) = 0
        THEN coalesce(sum(p.value) FILTER (WHERE p.at >= %(day_start)s), 0) END
FROM scope s LEFT JOIN placed p
    ON (s.broker IS NULL OR s.broker = p.broker)
    AND (s.account_id IS NULL OR s.account_id = p.account_id)
    AND (s.bot_id IS NULL OR s.bot_id = p.bot_id)
    AND (s.asset_class IS NULL OR s.asset_class = p.asset_class)
GROUP BY s.number
""")

LOOK_ALIKES = _with_words("""
SELECT coalesce(jsonb_agg(alike), '[]') FROM (
    SELECT o.id::text AS order_id, o.quantity::text AS quantity, o.limit_price::text AS limit_price,
        o.status, t.status AS ticket_status, coalesce(b.name, u.username) AS proposer,
        to_char(o.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS proposed_at
    FROM orders_order o
    JOIN orders_ticket t ON t.id = o.ticket_id
    LEFT JOIN cerbero_bot b ON b.id = t.bot_id
    LEFT JOIN cerbero_user u ON u.id = t.person_id
    WHERE o.instrument_id = %(instrument)s AND o.side = %(side)s AND t.account_id = %(account)s
      AND t.id <> %(ticket)s AND o.created_at >= %(since)s AND t.status <> 'denied'
    ORDER BY o.created_at DESC LIMIT %(at_most)s
) alike
""")
