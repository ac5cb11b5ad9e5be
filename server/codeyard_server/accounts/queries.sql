-- name: caller_of_key
SELECT k.id, k.scopes, u.id AS user_id, u.email, u.name, u.roles,
       k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute' AS use_is_old
FROM api_keys k
JOIN users u ON u.id = k.user_id
WHERE k.sha256 = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())

-- name: touch_key
UPDATE api_keys SET last_used_at = now() WHERE id = $1

-- name: upsert_user
INSERT INTO users (id, email, name, roles) VALUES ($1, $2, $3, $4)
ON CONFLICT (email) DO UPDATE SET roles = excluded.roles
RETURNING id

-- name: insert_key
INSERT INTO api_keys (id, user_id, name, sha256, prefix, scopes) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (sha256) DO NOTHING

-- name: revoke_other_keys
UPDATE api_keys SET revoked_at = now() WHERE user_id = $1 AND name = $2 AND sha256 <> $3 AND revoked_at IS NULL
