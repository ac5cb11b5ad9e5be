-- Servers that speak the Model Context Protocol over HTTP. owner_id NULL: the whole installation's.
CREATE TABLE mcp_servers (
    id           uuid        PRIMARY KEY,
    owner_id     uuid,
    name         text        NOT NULL UNIQUE,
    url          text        NOT NULL,
    header_names text[]      NOT NULL,
    -- The headers as a JSON object, sealed by the vault.
    headers      bytea,
    created_at   timestamptz NOT NULL
);
CREATE INDEX mcp_servers_owner_idx ON mcp_servers (owner_id, name);
