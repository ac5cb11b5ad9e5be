-- Store an event ($1 stream, $2 JSON) and tell the readers on channel $3, in one statement.
WITH event AS (INSERT INTO peer_events (stream, data) VALUES ($1, $2) RETURNING seq)
SELECT seq, pg_notify($3, seq || ' ' || $2) FROM event
