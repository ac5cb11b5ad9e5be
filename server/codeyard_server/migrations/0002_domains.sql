CREATE TABLE users (
    id         uuid        PRIMARY KEY,
    email      text        NOT NULL UNIQUE,
    name       text        NOT NULL,
    roles      text[]      NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
    id           uuid        PRIMARY KEY,
    user_id      uuid        NOT NULL REFERENCES users ON DELETE CASCADE,
    name         text        NOT NULL,
    -- SHA-256 of the whole key: it has 256 random bits, so no slow hash is needed.
    sha256       bytea       NOT NULL UNIQUE,
    prefix       text        NOT NULL,
    scopes       text[]      NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz
);
CREATE INDEX api_keys_user_idx ON api_keys (user_id, created_at DESC);

CREATE TABLE llm_providers (
    id            uuid        PRIMARY KEY,
    name          text        NOT NULL,
    provider_type text        NOT NULL,
    base_url      text,
    api_key       bytea,
    is_default    boolean     NOT NULL,
    status        text        NOT NULL,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL
);
CREATE UNIQUE INDEX llm_providers_default_key ON llm_providers (is_default) WHERE is_default;
CREATE INDEX llm_providers_created_idx ON llm_providers (created_at DESC, id DESC);

CREATE TABLE llm_models (
    id             uuid        PRIMARY KEY,
    provider_id    uuid        NOT NULL REFERENCES llm_providers ON DELETE CASCADE,
    model_id       text        NOT NULL,
    display_name   text        NOT NULL,
    capabilities   text[]      NOT NULL,
    context_window integer,
    is_default     boolean     NOT NULL,
    status         text        NOT NULL,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    UNIQUE (provider_id, model_id)
);
CREATE UNIQUE INDEX llm_models_default_key ON llm_models (is_default) WHERE is_default;

CREATE TABLE agents (
    id               uuid        PRIMARY KEY,
    owner_id         uuid,
    name             text        NOT NULL,
    description      text,
    system_prompt    text        NOT NULL,
    default_model_id uuid        REFERENCES llm_models ON DELETE SET NULL,
    tags             text[]      NOT NULL,
    -- In the order in which they add to the prompt.
    capabilities     text[]      NOT NULL,
    status           text        NOT NULL,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL
);
CREATE INDEX agents_active_idx ON agents (created_at DESC, id DESC) WHERE status = 'active';
CREATE INDEX agents_default_model_idx ON agents (default_model_id) WHERE default_model_id IS NOT NULL;

-- A session's stream has the session's id.
CREATE TABLE sessions (
    id            uuid        PRIMARY KEY REFERENCES streams ON DELETE CASCADE,
    agent_id      uuid        NOT NULL REFERENCES agents,
    owner_id      uuid,
    title         text,
    tags          text[]      NOT NULL,
    model_id      uuid        REFERENCES llm_models ON DELETE SET NULL,
    status        text        NOT NULL,
    -- Sequence of the newest user's message, and of the newest one a turn has taken: between them messages wait.
    asked_seq     integer     NOT NULL DEFAULT 0,
    taken_seq     integer     NOT NULL DEFAULT 0,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    started_at    timestamptz,
    finished_at   timestamptz
) WITH (fillfactor = 70);
CREATE INDEX sessions_agent_idx ON sessions (agent_id, created_at DESC, id DESC);
CREATE INDEX sessions_model_idx ON sessions (model_id) WHERE model_id IS NOT NULL;
CREATE INDEX sessions_waiting_idx ON sessions (id) WHERE asked_seq > taken_seq;

CREATE TABLE turns (
    id               uuid        PRIMARY KEY,
    session_id       uuid        NOT NULL REFERENCES sessions ON DELETE CASCADE,
    state            text        NOT NULL,
    -- The history of the turn ends at this sequence; what comes later belongs to the next turn.
    input_seq        integer     NOT NULL,
    lease_owner      uuid,
    lease_until      timestamptz NOT NULL,
    cancel_requested boolean     NOT NULL DEFAULT false,
    started_at       timestamptz NOT NULL,
    ended_at         timestamptz
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX turns_running_key ON turns (session_id) WHERE state = 'running';
CREATE INDEX turns_lease_idx ON turns (lease_until) WHERE state = 'running';
