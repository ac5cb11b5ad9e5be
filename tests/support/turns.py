"""The turn loop of one process on a test's database, wired as main.py does, with tools that a test scripts."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from codeyard.models.v1 import model_service_pb2, provider_service_pb2
from codeyard_server.adapters.model_drivers import DriverPool
from codeyard_server.agents import logic as agents
from codeyard_server.agents import store as agent_store
from codeyard_server.capabilities import Catalogue, SessionFiles
from codeyard_server.capabilities.definition import Capability
from codeyard_server.capabilities.ports import Tool
from codeyard_server.core.clock import utc_now
from codeyard_server.core.database import Database
from codeyard_server.core.events import EventLog, NewEvent
from codeyard_server.core.fanout import FanOut
from codeyard_server.core.ids import new_id
from codeyard_server.core.record import Record
from codeyard_server.core.scope import Scope
from codeyard_server.models import ProviderKeys
from codeyard_server.models import logic as models
from codeyard_server.models import store as model_store
from codeyard_server.sessions import logic as sessions
from codeyard_server.sessions import store as session_store
from codeyard_server.turns import Cancellation, Generator, TurnRunner, TurnSettings
from codeyard_server.turns.drivers import ProviderDrivers
from codeyard_server.vault import Vault

SCOPE = Scope.system("test")


@dataclasses.dataclass
class Loop:
    """One process's loop."""

    database: Database
    events: EventLog
    runner: TurnRunner
    cancellation: Cancellation

    async def session(self, model: str = "llmsim") -> uuid.UUID:
        """Open a session of an agent with the test's capability, on a simulator's model."""
        async with self.database.transaction() as tx:
            model_id = await self._model(tx, model)
            agent_id = new_id()
            draft = agents.AgentDraft(agent_id, "a", None, "", None, [], ["scripted"], utc_now())
            await agent_store.insert_agent(tx, SCOPE, draft)
            session = sessions.SessionDraft(new_id(), agent_id, None, [], model_id, utc_now())
            await self.events.create_stream(tx, session.id, "session", None)
            await session_store.insert_session(tx, SCOPE, session)
        return session.id

    async def _model(self, tx: Any, name: str) -> uuid.UUID:
        request = provider_service_pb2.CreateProviderRequest(name="sim", provider_type="llmsim")
        provider = models.draft_provider(request, utc_now())
        await model_store.insert_provider(tx, SCOPE, provider, None)
        draft = models.draft_model(
            model_service_pb2.CreateModelRequest(provider_id=str(provider.id), model_id=name, display_name=name),
            utc_now(),
        )
        await model_store.insert_model(tx, SCOPE, draft)
        return draft.id

    async def say(self, session_id: uuid.UUID, text: str) -> str:
        """Store a user's message; return its id. Nobody is told."""
        message = {"id": str(new_id()), "role": "user", "content": [{"type": "text", "text": text}]}
        async with self.database.transaction() as tx:
            (record,) = await self.events.append(tx, session_id, [NewEvent("message.user", {"message": message})])
            await tx.execute("UPDATE sessions SET asked_seq = $2 WHERE id = $1", session_id, record.seq)
        return str(message["id"])

    async def log(self, session_id: uuid.UUID) -> list[Record]:
        """Return the session's events."""
        async with self.database.connection() as tx:
            records, _ = await self.events.read(tx, session_id, after=0, limit=1000)
            return records

    async def of_type(self, session_id: uuid.UUID, kind: str) -> list[dict[str, Any]]:
        """Return the payloads of the session's events of a type."""
        return [json.loads(record.data) for record in await self.log(session_id) if record.type == kind]

    async def lose_leases(self) -> None:
        """Let every lease run out, as time does when a process is gone."""
        async with self.database.connection() as tx:
            await tx.execute("UPDATE turns SET lease_until = now() - interval '1 s' WHERE state = 'running'")

    async def cancel(self, session_id: uuid.UUID) -> None:
        """Ask for the cancel of the turn that runs."""
        async with self.database.transaction() as tx:
            await self.cancellation.request_cancel(tx, SCOPE, session_id)


@contextlib.asynccontextmanager
async def loop(dsn: str, tools: Sequence[Tool] = (), settings: TurnSettings | None = None) -> AsyncIterator[Loop]:
    """Wire a loop; the capability ``scripted`` has the tools."""
    database = await Database.connect(dsn, size=6)
    fanout = FanOut()
    events = EventLog(fanout)
    pool = DriverPool()
    settings = settings or TurnSettings()
    generator = Generator(ProviderDrivers(pool, ProviderKeys(Vault([]), {})), fanout, settings)
    catalogue = Catalogue([Capability("scripted", "Scripted", "", tools=tuple(tools))])
    files = SessionFiles(database, utc_now)
    runner = TurnRunner(database, events, fanout, catalogue, files, generator, settings, utc_now)
    try:
        yield Loop(database, events, runner, Cancellation(fanout))
    finally:
        await runner.close()
        await pool.aclose()
        await database.close()


class Gate:
    """A tool's body that waits until a test lets it go on, and counts how often it began."""

    def __init__(self) -> None:
        self.began = 0
        self.entered = asyncio.Event()
        self.entered_again = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self, _arguments: Any, _context: Any) -> str:
        """Wait for the gate."""
        self.began += 1
        (self.entered_again if self.entered.is_set() else self.entered).set()
        await self.opened.wait()
        return "done"
