"""Peer of "create and read a session": FastAPI with an async ORM, the way such a service is written today.

It does what our two calls do: creating reads the agent (which may be missing, and has the default model), then writes
the session and its event stream in one transaction; reading is one query. Tables, columns, indexes and UUIDv7 ids are
ours. It is tuned as one would: uvloop and httptools, prepared statements, a pool as large as ours, no attributes that
expire at commit, reads without a transaction. It checks no credential, which is in its favour.

    POST /v1/agents                                    {"name", "system_prompt"}
    POST /v1/agents/{agent_id}/sessions                {"title"?, "tags"?}
    GET  /v1/agents/{agent_id}/sessions/{session_id}
"""

from __future__ import annotations

import datetime
import os
import time
import uuid
from typing import Annotated

import serving
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ForeignKey, Index, MetaData, Text, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import TIMESTAMP

Time = Annotated[datetime.datetime, mapped_column(TIMESTAMP(timezone=True))]
Words = Annotated[list[str], mapped_column(ARRAY(Text))]


class Base(DeclarativeBase):
    """The tables."""

    metadata = MetaData()
    type_annotation_map = {str: Text}  # noqa: RUF012  # SQLAlchemy reads it from the class


class Agent(Base):
    """An agent."""

    __tablename__ = "agents"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[uuid.UUID | None]
    name: Mapped[str]
    description: Mapped[str | None]
    system_prompt: Mapped[str]
    default_model_id: Mapped[uuid.UUID | None]
    tags: Mapped[Words]
    capabilities: Mapped[Words]
    status: Mapped[str]
    created_at: Mapped[Time]
    updated_at: Mapped[Time]


class Stream(Base):
    """The head of a session's event log."""

    __tablename__ = "streams"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    owner_id: Mapped[uuid.UUID | None]
    last_seq: Mapped[int] = mapped_column(default=0)
    last_ms: Mapped[int] = mapped_column(default=0)
    generation: Mapped[int] = mapped_column(default=0)


class Session(Base):
    """A session; its stream has the same id."""

    __tablename__ = "sessions"
    id: Mapped[uuid.UUID] = mapped_column(ForeignKey("streams.id", ondelete="CASCADE"), primary_key=True)
    agent_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("agents.id"))
    owner_id: Mapped[uuid.UUID | None]
    title: Mapped[str | None]
    tags: Mapped[Words]
    model_id: Mapped[uuid.UUID | None]
    status: Mapped[str]
    asked_seq: Mapped[int] = mapped_column(default=0)
    taken_seq: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[Time]
    updated_at: Mapped[Time]
    started_at: Mapped[datetime.datetime | None] = mapped_column(TIMESTAMP(timezone=True))
    finished_at: Mapped[datetime.datetime | None] = mapped_column(TIMESTAMP(timezone=True))
    stream: Mapped[Stream] = relationship(lazy="raise")


Index("sessions_agent_idx", Session.agent_id, Session.created_at.desc(), Session.id.desc())
Index("sessions_model_idx", Session.model_id, postgresql_where=Session.model_id.is_not(None))
Index("sessions_waiting_idx", Session.id, postgresql_where=Session.asked_seq > Session.taken_seq)
Index("agents_active_idx", Agent.created_at.desc(), Agent.id.desc(), postgresql_where=Agent.status == "active")


class AgentIn(BaseModel):
    """A new agent."""

    name: str = Field(min_length=1, max_length=255)
    system_prompt: str = Field(min_length=1, max_length=100_000)


class SessionIn(BaseModel):
    """A new session."""

    title: str | None = Field(None, max_length=255)
    tags: list[str] = Field(default=[], max_length=100)


class SessionOut(BaseModel):
    """A session as it is answered."""

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    agent_id: uuid.UUID
    title: str | None
    tags: list[str]
    model_id: uuid.UUID | None
    status: str
    created_at: datetime.datetime
    updated_at: datetime.datetime
    started_at: datetime.datetime | None
    finished_at: datetime.datetime | None


def make_engine() -> AsyncEngine:
    """Return the engine for $DATABASE_URL."""
    url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+asyncpg")
    return create_async_engine(url, pool_size=20, max_overflow=0, connect_args={"server_settings": {"jit": "off"}})


engine = make_engine()
writing = async_sessionmaker(engine, expire_on_commit=False)
reading = async_sessionmaker(engine.execution_options(isolation_level="AUTOCOMMIT"), expire_on_commit=False)
app = FastAPI(openapi_url=None)


@app.post("/v1/agents", status_code=201)
async def create_agent(draft: AgentIn) -> dict[str, uuid.UUID]:
    """Make an agent."""
    now = datetime.datetime.now(datetime.UTC)
    agent = Agent(
        id=uuid7(),
        owner_id=None,
        name=draft.name,
        description=None,
        system_prompt=draft.system_prompt,
        default_model_id=None,
        tags=[],
        capabilities=[],
        status="active",
        created_at=now,
        updated_at=now,
    )
    async with writing.begin() as database:
        database.add(agent)
    return {"id": agent.id}


@app.post("/v1/agents/{agent_id}/sessions", status_code=201)
async def create_session(agent_id: uuid.UUID, draft: SessionIn) -> SessionOut:
    """Make a session with its stream, in one transaction."""
    async with writing.begin() as database:
        agent = await database.get(Agent, agent_id)
        if agent is None:
            raise HTTPException(404, "Agent not found")
        now = datetime.datetime.now(datetime.UTC)
        key = uuid7()
        session = Session(
            agent_id=agent_id,
            owner_id=None,
            title=draft.title,
            tags=draft.tags,
            model_id=agent.default_model_id,
            status="started",
            created_at=now,
            updated_at=now,
            started_at=None,
            finished_at=None,
            stream=Stream(id=key, kind="session", owner_id=None),
        )
        database.add(session)
    return SessionOut.model_validate(session)


@app.get("/v1/agents/{agent_id}/sessions/{session_id}")
async def get_session(agent_id: uuid.UUID, session_id: uuid.UUID) -> SessionOut:
    """Read a session."""
    async with reading() as database:
        session = await database.scalar(select(Session).where(Session.id == session_id, Session.agent_id == agent_id))
    if session is None:
        raise HTTPException(404, "Session not found")
    return SessionOut.model_validate(session)


def uuid7() -> uuid.UUID:
    """Return a UUIDv7 (RFC 9562): 48 bits of milliseconds, then random, so that index pages are filled in order."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    return uuid.UUID(int=value & ~(0xF000 << 64) & ~(0xC000 << 48) | 0x7000 << 64 | 0x8000 << 48)


async def prepare() -> None:
    """Make the tables."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()


if __name__ == "__main__":
    serving.serve(app, prepare)
