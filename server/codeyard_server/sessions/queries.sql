-- Sessions belong to the installation: everybody with a credential sees and changes them, as the contract says. A
-- session is found only under its own agent.

-- name: insert_session
INSERT INTO sessions (id, agent_id, owner_id, title, tags, model_id, status, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, 'started', $7, $7)
RETURNING *

-- name: get_session
SELECT * FROM sessions WHERE id = $1 AND agent_id = $2

-- name: list_sessions
SELECT *
FROM sessions
WHERE agent_id = $1 AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))
ORDER BY created_at DESC, id DESC
LIMIT $4 OFFSET $5

-- name: count_sessions
SELECT count(*)::integer FROM sessions WHERE agent_id = $1

-- name: update_session
UPDATE sessions
SET title = coalesce($3, title), tags = coalesce($4, tags), model_id = coalesce($5, model_id), updated_at = $6
WHERE id = $1 AND agent_id = $2
RETURNING *

-- name: delete_session
-- The session, its events, turns and files hang on the stream.
DELETE FROM streams
WHERE id = (SELECT id FROM sessions WHERE id = $1 AND agent_id = $2)
RETURNING id

-- name: session_exists
SELECT true FROM sessions WHERE id = $1 AND agent_id = $2

-- name: lock_session
-- The stream's row first, as everywhere: see turns/queries.sql.
SELECT true
FROM streams
WHERE id = (SELECT id FROM sessions WHERE id = $1 AND agent_id = $2)
FOR UPDATE

-- name: message_asked
UPDATE sessions SET asked_seq = $3, updated_at = $4 WHERE id = $1 AND agent_id = $2 RETURNING id

-- name: conversation
-- The page ends before the message with which its data would exceed $5 bytes, but not before the first.
SELECT seq, id, type, data, tags, created_at, found
FROM (
    SELECT page.*, row_number() OVER w AS place, sum(octet_length(data)) OVER w AS bytes, count(*) OVER () AS found
    FROM (
        SELECT seq, id, type, data, tags, created_at
        FROM events
        WHERE stream_id = $1 AND seq > $2
          AND type IN ('message.user', 'message.agent', 'message.system', 'message.tool_result', 'tool.call_completed')
        ORDER BY seq
        LIMIT $3::integer + 1 OFFSET $4
    ) AS page
    WINDOW w AS (ORDER BY seq)
) AS page
WHERE place <= $3 AND (bytes <= $5 OR place = 1)
ORDER BY seq

-- name: conversation_size
SELECT count(*)::integer
FROM events
WHERE stream_id = $1
  AND type IN ('message.user', 'message.agent', 'message.system', 'message.tool_result', 'tool.call_completed')
