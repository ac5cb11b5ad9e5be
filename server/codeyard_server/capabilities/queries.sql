-- Files of sessions and MCP servers.

-- Sessions belong to the installation: everybody with a credential sees and changes them, and so their files. The files
-- inside a directory are a range of paths: "0" follows "/" in the order of bytes.

-- name: lock_session_files
-- Writers of one session's files follow each other, so that quotas hold.
SELECT true FROM sessions WHERE id = $1 FOR NO KEY UPDATE

-- name: file_entries
SELECT path, is_directory, is_readonly, size, created_at, updated_at
FROM session_files
WHERE session_id = $1 AND path = ANY($2::text[])

-- name: file_with_content
SELECT path, is_directory, is_readonly, size, created_at, updated_at, content
FROM session_files
WHERE session_id = $1 AND path = $2

-- name: directory_entries
SELECT path, is_directory, is_readonly, size, created_at, updated_at
FROM session_files
WHERE session_id = $1 AND path > $2::text AND path < rtrim($2, '/') || '0'
  AND strpos(substr(path, length($2) + 1), '/') = 0
ORDER BY is_directory DESC, path

-- name: file_usage
SELECT count(*)::integer AS entries, coalesce(sum(size), 0)::bigint AS bytes FROM session_files WHERE session_id = $1

-- name: insert_directories
INSERT INTO session_files (session_id, path, id, is_directory, content, created_at, updated_at)
SELECT $1, entry.path, entry.id, true, '', $4, $4 FROM unnest($2::text[], $3::uuid[]) AS entry (path, id)

-- name: upsert_file
INSERT INTO session_files (session_id, path, id, is_directory, content, created_at, updated_at)
VALUES ($1, $2, $3, false, $4, $5, $5)
ON CONFLICT (session_id, path) DO UPDATE SET content = excluded.content, updated_at = excluded.updated_at
RETURNING path, is_directory, is_readonly, size, created_at, updated_at

-- name: directory_has_entries
SELECT EXISTS (SELECT FROM session_files WHERE session_id = $1 AND path > $2::text || '/' AND path < $2 || '0')

-- name: delete_tree
DELETE FROM session_files WHERE session_id = $1 AND (path = $2::text OR (path > $2 || '/' AND path < $2 || '0'))

-- name: file_sizes
SELECT path, size FROM session_files WHERE session_id = $1 AND NOT is_directory ORDER BY path

-- name: file_contents
SELECT path, content FROM session_files WHERE session_id = $1 AND path = ANY($2::text[]) ORDER BY path

-- A user sees his own MCP servers and those of the installation ($2: the user; NULL sees only the latter).

-- name: insert_server
INSERT INTO mcp_servers (id, owner_id, name, url, header_names, headers, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (name) DO NOTHING
RETURNING id, owner_id, name, url, header_names, created_at

-- name: get_server
SELECT id, owner_id, name, url, header_names, created_at
FROM mcp_servers
WHERE id = $1 AND (owner_id IS NULL OR owner_id = $2)

-- name: find_server
SELECT id, url, headers
FROM mcp_servers
WHERE name = $1 AND (owner_id IS NULL OR owner_id = $2)

-- name: list_servers
SELECT id, owner_id, name, url, header_names, created_at
FROM mcp_servers
WHERE owner_id IS NULL OR owner_id = $1
ORDER BY name
LIMIT $2 OFFSET $3

-- name: count_servers
SELECT count(*)::integer FROM mcp_servers WHERE owner_id IS NULL OR owner_id = $1

-- name: server_names
SELECT name FROM mcp_servers WHERE owner_id IS NULL OR owner_id = $1 ORDER BY name

-- name: delete_server
DELETE FROM mcp_servers WHERE id = $1 AND (owner_id IS NULL OR owner_id = $2) RETURNING id
