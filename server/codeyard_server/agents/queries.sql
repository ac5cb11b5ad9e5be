-- Agents belong to the installation: everybody with a credential sees and changes them, as the contract says.


-- name: insert_agent
INSERT INTO agents (id, owner_id, name, description, system_prompt, default_model_id, tags, capabilities, status,
                    created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'active', $9, $9)
RETURNING *

-- name: get_agent
SELECT * FROM agents WHERE id = $1

-- name: list_agents
SELECT *
FROM agents
WHERE status = 'active' AND ($1::timestamptz IS NULL OR (created_at, id) < ($1, $2::uuid))
ORDER BY created_at DESC, id DESC
LIMIT $3 OFFSET $4

-- name: count_agents
SELECT count(*)::integer FROM agents WHERE status = 'active'

-- name: update_agent
UPDATE agents
SET name = coalesce($2, name),
    description = coalesce($3, description),
    system_prompt = coalesce($4, system_prompt),
    default_model_id = coalesce($5, default_model_id),
    tags = coalesce($6, tags),
    capabilities = coalesce($7, capabilities),
    status = coalesce($8, status),
    updated_at = $9
WHERE id = $1
RETURNING *

-- name: archive_agent
UPDATE agents SET status = 'archived', updated_at = $2 WHERE id = $1 AND status = 'active' RETURNING id
