-- Files and directories of a session. The root is not stored: it always exists.
CREATE TABLE session_files (
    session_id   uuid        NOT NULL REFERENCES sessions ON DELETE CASCADE,
    -- Absolute. The order of paths is that of their bytes, whatever the database's locale.
    path         text        COLLATE "C" NOT NULL,
    id           uuid        NOT NULL UNIQUE,
    is_directory boolean     NOT NULL,
    is_readonly  boolean     NOT NULL DEFAULT false,
    content      bytea       NOT NULL,
    size         integer     NOT NULL GENERATED ALWAYS AS (octet_length(content)) STORED,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    PRIMARY KEY (session_id, path),
    CHECK (NOT is_directory OR content = ''::bytea)
);
