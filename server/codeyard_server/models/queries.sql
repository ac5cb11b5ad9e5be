-- Providers and models belong to the installation (no owner): everybody sees them, administrators change them. The
-- permission is checked before any of these runs.

-- name: lock_defaults
-- At most one default of each kind: whoever moves one waits for the others.
SELECT pg_advisory_xact_lock(hashtext($1))

-- name: clear_default_provider
UPDATE llm_providers SET is_default = false WHERE is_default AND id <> $1

-- name: clear_default_model
UPDATE llm_models SET is_default = false WHERE is_default AND id <> $1

-- name: insert_provider
INSERT INTO llm_providers (id, name, provider_type, base_url, api_key, is_default, status, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, 'active', $7, $7)
RETURNING *

-- name: get_provider
SELECT * FROM llm_providers WHERE id = $1

-- name: list_providers
SELECT * FROM llm_providers ORDER BY created_at DESC, id DESC LIMIT $1 OFFSET $2

-- name: count_providers
SELECT count(*)::integer FROM llm_providers

-- name: update_provider
UPDATE llm_providers
SET name = coalesce($2, name),
    provider_type = coalesce($3, provider_type),
    base_url = coalesce($4, base_url),
    api_key = coalesce($5, api_key),
    is_default = coalesce($6, is_default),
    status = coalesce($7, status),
    updated_at = $8
WHERE id = $1
RETURNING *

-- name: delete_provider
DELETE FROM llm_providers WHERE id = $1 RETURNING id

-- name: insert_model
INSERT INTO llm_models (id, provider_id, model_id, display_name, capabilities, context_window, is_default, status,
                        created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, 'active', $8, $8)
RETURNING *

-- name: get_model
SELECT m.*, p.name AS provider_name, p.provider_type
FROM llm_models m JOIN llm_providers p ON p.id = m.provider_id
WHERE m.id = $1

-- name: list_provider_models
SELECT * FROM llm_models WHERE provider_id = $1 ORDER BY display_name, id

-- name: list_models
SELECT m.*, p.name AS provider_name, p.provider_type
FROM llm_models m JOIN llm_providers p ON p.id = m.provider_id
WHERE m.status = 'active' AND p.status = 'active'
ORDER BY p.name, m.display_name, m.id

-- name: update_model
UPDATE llm_models
SET model_id = coalesce($2, model_id),
    display_name = coalesce($3, display_name),
    capabilities = coalesce($4, capabilities),
    context_window = coalesce($5, context_window),
    is_default = coalesce($6, is_default),
    status = coalesce($7, status),
    updated_at = $8
WHERE id = $1
RETURNING *

-- name: delete_model
DELETE FROM llm_models WHERE id = $1 RETURNING id

-- name: model_exists
-- The lock keeps it from being deleted before the transaction that is going to refer to it has ended.
SELECT true FROM llm_models WHERE id = $1 FOR KEY SHARE

-- name: resolve_model
-- The first candidate that can be used, else the installation's default.
SELECT m.id, m.model_id, p.id AS provider_id, p.provider_type, p.base_url, p.api_key, p.updated_at
FROM llm_models m
JOIN llm_providers p ON p.id = m.provider_id
LEFT JOIN unnest($1::uuid[]) WITH ORDINALITY AS c (id, place) ON c.id = m.id
WHERE (c.id IS NOT NULL OR m.is_default) AND m.status = 'active' AND p.status = 'active'
ORDER BY c.place NULLS LAST
LIMIT 1

-- name: any_provider
SELECT EXISTS (SELECT FROM llm_providers)
