-- The event log.

-- name: insert_stream
INSERT INTO streams (id, kind, owner_id) VALUES ($1, $2, $3)

-- name: append_events
-- One statement, so that a step outside a transaction costs one round trip. The update takes the stream's lock; the
-- number of a row is its place in the arrays.
WITH head AS (
    UPDATE streams
    SET last_seq = last_seq + $2, last_ms = greatest(last_ms, $3)
    WHERE id = $1 AND ($4::integer IS NULL OR generation = $4)
    RETURNING last_seq - $2 AS base, last_ms
)
INSERT INTO events (stream_id, seq, id, type, turn_id, input_message_id, exec_id, ordinal, data, tags, created_at)
SELECT $1, head.base + e.n, event_id(head.last_ms, (head.base + e.n)::integer, e.tail), e.type, e.turn_id,
       e.input_message_id, e.exec_id, e.ordinal, e.data,
       CASE WHEN e.tags IS NULL THEN NULL ELSE array(SELECT json_array_elements_text(e.tags::json)) END,
       to_timestamp(head.last_ms / 1000.0)
FROM head,
     unnest($5::text[], $6::uuid[], $7::uuid[], $8::uuid[], $9::integer[], $10::text[], $11::text[], $12::text[])
         WITH ORDINALITY AS e (type, turn_id, input_message_id, exec_id, ordinal, data, tail, tags, n)
ORDER BY e.n
RETURNING seq, id, created_at

-- name: read_events
-- The page ends before the event with which its data would exceed $4 bytes, but not before the first.
SELECT stream_id, seq, id, type, data, created_at, turn_id, input_message_id, exec_id, tags, found
FROM (
    SELECT page.*, row_number() OVER w AS place, sum(octet_length(data)) OVER w AS bytes, count(*) OVER () AS found
    FROM (
        SELECT stream_id, seq, id, type, data, created_at, turn_id, input_message_id, exec_id, tags
        FROM events
        WHERE stream_id = $1 AND seq > $2
        ORDER BY seq
        LIMIT $3::integer + 1
    ) AS page
    WINDOW w AS (ORDER BY seq)
) AS page
WHERE place <= $3 AND (bytes <= $4 OR place = 1)
ORDER BY seq

-- name: read_many_events
SELECT e.*
FROM unnest($1::uuid[], $2::integer[]) AS c (stream_id, after)
CROSS JOIN LATERAL (
    SELECT stream_id, seq, id, type, data, created_at, turn_id, input_message_id, exec_id, tags
    FROM events
    WHERE events.stream_id = c.stream_id AND seq > c.after
    ORDER BY seq
    LIMIT 200
) AS e

-- name: stream_heads
SELECT id, last_seq FROM streams WHERE id = ANY($1::uuid[])

-- name: event_sequence
SELECT seq FROM events WHERE stream_id = $1 AND seq = $2 AND id = $3
