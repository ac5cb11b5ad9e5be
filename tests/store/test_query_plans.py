"""Hot statements stay on their indexes, by the generic plans that the servers ask for."""

from __future__ import annotations

import contextlib
import datetime
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from codeyard_server.core import events
from codeyard_server.sessions import store as sessions
from codeyard_server.turns import store as turns

NOW = datetime.datetime.now(datetime.UTC)
STREAM, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)

_FILL = """
INSERT INTO streams (id, kind) SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'session'
FROM generate_series(1, 3000) AS n;
INSERT INTO agents (id, name, system_prompt, tags, capabilities, status, created_at, updated_at)
SELECT id, 'a', '', '{}', '{}', 'active', now() - n * interval '1 s', now()
FROM streams, LATERAL (SELECT ('x' || right(id::text, 8))::bit(32)::integer AS n);
INSERT INTO sessions (id, agent_id, tags, status, created_at, updated_at, asked_seq, taken_seq)
SELECT id, '00000000-0000-7000-8000-000000000001', '{}', 'idle', now(), now(), 5, 5 FROM streams;
INSERT INTO turns (id, session_id, state, input_seq, lease_until, started_at)
SELECT id, id, 'completed', 1, now(), now() FROM streams;
INSERT INTO events (stream_id, seq, id, type, data, created_at)
SELECT id, n, gen_random_uuid(), CASE n % 5 WHEN 0 THEN 'message.user' ELSE 'reason.started' END, '{}', now()
FROM streams, generate_series(1, 20) AS n;
ANALYZE;
"""

HOT: list[tuple[str, str, tuple[Any, ...]]] = [
    ("read_events", events.sql.read_events, (STREAM, 3, 200, 1000)),
    ("read_many_events", events.sql.read_many_events, ([STREAM, OTHER], [3, 3])),
    ("stream_heads", events.sql.stream_heads, ([STREAM],)),
    ("event_sequence", events.sql.event_sequence, (STREAM, 3, OTHER)),
    (
        "append_events",
        events.sql.append_events,
        (STREAM, 1, 1, None, ["a"], [None], [None], [None], [0], ["{}"], ["0" * 10], [None]),
    ),
    ("get_session", sessions.sql.get_session, (STREAM, OTHER)),
    ("list_sessions", sessions.sql.list_sessions, (STREAM, NOW, OTHER, 20, 0)),
    ("conversation", sessions.sql.conversation, (STREAM, 0, 100, 0, 1000)),
    ("conversation_size", sessions.sql.conversation_size, (STREAM,)),
    ("lock_stream", turns.sql.lock_stream, (STREAM,)),
    ("locked_session", turns.sql.locked_session, (STREAM,)),
    ("history", turns.sql.history, (STREAM, 1 << 24)),
    ("renew_leases", turns.sql.renew_leases, (OTHER, [STREAM], 3.0)),
    ("abandoned_sessions", turns.sql.abandoned_sessions, (50, 2.0)),
]


@pytest.fixture
async def filled(database_url: str) -> AsyncIterator[Any]:
    """A connection to a database with 3,000 sessions of 20 events."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(_FILL)
    yield connection
    await connection.close()


def scans(plan: dict[str, Any]) -> list[str]:
    """Return the tables that a plan reads from end to end."""
    found = [plan["Relation Name"]] if plan["Node Type"] == "Seq Scan" else []
    return found + [name for child in plan.get("Plans", ()) for name in scans(child)]


async def test_hot_statements_never_scan_a_table(filled: Any) -> None:
    """No hot statement reads a table from end to end."""

    offenders = {}
    for name, statement, arguments in HOT:
        async with _rolled_back(filled):
            text = await filled.fetchval(f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {statement}", *arguments)
            if scanned := scans(json.loads(text)[0]["Plan"]):
                offenders[name] = scanned
    assert offenders == {}


async def test_conversation_reads_only_its_own_index(filled: Any) -> None:
    """The messages of a session are read without the events between them."""
    for statement, arguments in (
        (turns.sql.history, (STREAM, 1 << 24)),
        (sessions.sql.conversation, (STREAM, 0, 100, 0, 1000)),
    ):
        plan = "\n".join(row[0] for row in await filled.fetch(f"EXPLAIN (GENERIC_PLAN) {statement}", *arguments))
        assert "events_conversation_idx" in plan


def _rolled_back(connection: Any) -> Any:

    @contextlib.asynccontextmanager
    async def scope() -> AsyncIterator[None]:
        transaction = connection.transaction()
        await transaction.start()
        try:
            yield
        finally:
            await transaction.rollback()

    return scope()
