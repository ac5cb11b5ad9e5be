"""Peer of the event streams: FastAPI with server-sent events, one LISTEN connection per reader.

The usual way to follow a Postgres table from a browser without a broker. An event is a row and a NOTIFY in one
statement; the notification carries the event, so that a reader need not query for it. A reader subscribes first and
then reads what it missed after ``Last-Event-ID``. Unlike with us, numbers of concurrent publishers may commit out of
order, so that a reader that reconnects between them can lose one: to close that gap costs a lock per stream, which this
peer is spared.

    POST /streams/{stream}/events   any body of up to 7,000 bytes that is JSON; answers {"seq"}
    GET  /streams/{stream}/events   text/event-stream: id, data
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import asyncpg
import serving
from fastapi import FastAPI, Header, HTTPException, Request
from fastapi.responses import StreamingResponse

MAX_BODY_BYTES = 7000
"""A notification holds 8,000 bytes."""

_HEARTBEAT_SECONDS = 10.0
_STREAM = re.compile(r"[a-z0-9-]{1,50}")
_TABLE = """
CREATE TABLE IF NOT EXISTS peer_events (
    stream text NOT NULL,
    seq    bigint GENERATED ALWAYS AS IDENTITY,
    data   text NOT NULL,
    PRIMARY KEY (stream, seq)
)
"""
_PUBLISH = pathlib.Path(__file__).with_name("publish_events.sql").read_text()
"""Also what tests/bench/writer.py publishes with."""

_MISSED = "SELECT seq, data FROM peer_events WHERE stream = $1 AND seq > $2 ORDER BY seq"


@asynccontextmanager
async def lifespan(application: FastAPI) -> AsyncIterator[None]:
    """Open the pool of the publishers."""
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=4, max_size=20) as pool:
        application.state.pool = pool
        yield


app = FastAPI(openapi_url=None, lifespan=lifespan)


@app.post("/streams/{stream}/events", status_code=201)
async def publish(stream: str, request: Request) -> dict[str, int]:
    """Store an event and tell the readers."""
    body = await request.body()
    if len(body) > MAX_BODY_BYTES:
        raise HTTPException(413, "The event is too large")
    try:
        text = json.dumps(json.loads(body))
    except ValueError:
        raise HTTPException(400, "The event is not JSON") from None
    seq: int = await request.app.state.pool.fetchval(_PUBLISH, stream, [text], _channel(stream))
    return {"seq": seq}


@app.get("/streams/{stream}/events")
async def follow(stream: str, last_event_id: Annotated[int, Header()] = 0) -> StreamingResponse:
    """Stream the events of a stream after ``Last-Event-ID``."""
    return StreamingResponse(_events(stream, _channel(stream), last_event_id), media_type="text/event-stream")


async def _events(stream: str, channel: str, seq: int) -> AsyncIterator[str]:
    arrived: asyncio.Queue[str] = asyncio.Queue()

    def on_notification(_connection: Any, _pid: int, _channel: str, payload: object) -> None:
        arrived.put_nowait(str(payload))

    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    try:
        await connection.add_listener(channel, on_notification)
        yield ": listening\n\n"
        missed = await connection.fetch(_MISSED, stream, seq)
        for row in missed:
            yield f"id: {row['seq']}\ndata: {row['data']}\n\n"
        sent = {str(row["seq"]) for row in missed}  # these may also have been notified, before the query saw them
        while True:
            try:
                number, _, data = (await asyncio.wait_for(arrived.get(), _HEARTBEAT_SECONDS)).partition(" ")
            except TimeoutError:
                yield ": heartbeat\n\n"
                continue
            if number not in sent:
                yield f"id: {number}\ndata: {data}\n\n"
    finally:
        # The reader is gone and this task may be cancelled: no farewell that waits for the server.
        connection.terminate()


def _channel(stream: str) -> str:
    if not _STREAM.fullmatch(stream):
        raise HTTPException(404, "No such stream")
    return f"events_{stream}"


async def prepare() -> None:
    """Make the table."""
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    try:
        await connection.execute(_TABLE)
    finally:
        await connection.close()


if __name__ == "__main__":
    serving.serve(app, prepare)
