-- Locks are taken in one order everywhere: the stream's row, then the session's, then the turn's.

-- name: lock_stream
SELECT true FROM streams WHERE id = $1 FOR UPDATE

-- name: locked_session
-- A statement of its own, after lock_stream: one that waits for a lock sees the other tables as they were before it.
SELECT s.agent_id, s.owner_id, s.model_id, s.started_at, w.seqs, w.messages,
       t.id AS turn_id, t.started_at AS turn_started_at, t.cancel_requested,
       coalesce(t.lease_until > clock_timestamp(), false) AS leased
FROM sessions s
LEFT JOIN turns t ON t.session_id = s.id AND t.state = 'running'
LEFT JOIN LATERAL (
    SELECT array_agg(e.seq ORDER BY e.seq) AS seqs, array_agg(e.data ORDER BY e.seq) AS messages
    FROM events e
    WHERE e.stream_id = s.id AND e.seq > s.taken_seq AND e.type = 'message.user'
) w ON t.id IS NULL AND s.asked_seq > s.taken_seq
WHERE s.id = $1

-- name: start_turn
WITH turn AS (
    INSERT INTO turns (id, session_id, state, input_seq, lease_owner, lease_until, started_at)
    VALUES ($2, $1, 'running', $3, $4, now() + make_interval(secs => $5), $6)
), session AS (
    UPDATE sessions
    SET status = 'active', taken_seq = $3, started_at = coalesce(started_at, $6)
    WHERE id = $1
)
UPDATE streams SET generation = generation + 1 WHERE id = $1 RETURNING generation

-- name: take_over_turn
WITH turn AS (
    UPDATE turns SET lease_owner = $3, lease_until = now() + make_interval(secs => $4) WHERE id = $2
)
UPDATE streams SET generation = generation + 1 WHERE id = $1 RETURNING generation

-- name: end_turn
WITH turn AS (
    UPDATE turns SET state = $3, ended_at = $4, lease_owner = NULL WHERE id = $2
)
UPDATE sessions
SET status = 'idle', finished_at = CASE WHEN $3 = 'completed' THEN NULL ELSE $4 END
WHERE id = $1
RETURNING asked_seq > taken_seq AS waiting

-- name: renew_leases
UPDATE turns
SET lease_until = now() + make_interval(secs => $3)
WHERE id = ANY($2::uuid[]) AND lease_owner = $1 AND state = 'running'
RETURNING id, cancel_requested

-- name: release_leases
UPDATE turns SET lease_until = now() WHERE lease_owner = $1 AND state = 'running'

-- name: request_cancel
UPDATE turns SET cancel_requested = true WHERE session_id = $1 AND state = 'running' RETURNING id

-- name: turn_events
SELECT stream_id, seq, id, type, data, created_at, turn_id, input_message_id, exec_id, tags
FROM events
WHERE stream_id = $1 AND turn_id = $2
ORDER BY seq

-- name: history
-- The newest events of the conversation whose payloads together stay within $2 bytes.
SELECT stream_id, seq, id, type, data, created_at, turn_id, input_message_id, exec_id, tags
FROM (
    SELECT *, sum(octet_length(data)) OVER (ORDER BY seq DESC) AS size
    FROM events
    WHERE stream_id = $1
      AND type IN ('message.user', 'message.agent', 'message.system', 'message.tool_result', 'tool.call_completed',
                   'turn.started')
) AS conversation
WHERE size <= $2
ORDER BY seq

-- name: abandoned_sessions
-- Turns whose owner has not renewed its lease, and messages that wait although no turn runs (their job was lost with a
-- worker, or with a crash of the database).
(SELECT session_id FROM turns WHERE state = 'running' AND lease_until < now() ORDER BY lease_until LIMIT $1)
UNION
(SELECT s.id
 FROM sessions s
 WHERE s.asked_seq > s.taken_seq AND s.updated_at < now() - make_interval(secs => $2)
   AND NOT EXISTS (SELECT FROM turns t WHERE t.session_id = s.id AND t.state = 'running')
 LIMIT $1)
