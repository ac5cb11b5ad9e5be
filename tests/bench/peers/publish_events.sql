-- Store events ($1 stream, $2 array of JSON texts) and tell the readers on channel $3, in one statement.
WITH event AS (
    INSERT INTO peer_events (stream, data)
    SELECT $1, data FROM unnest($2::text[]) WITH ORDINALITY AS given (data, place) ORDER BY place
    RETURNING seq, data
)
SELECT seq, pg_notify($3, seq || ' ' || data) FROM event ORDER BY seq
