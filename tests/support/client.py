"""A plain REST client for tests, on aiohttp: what a user's own script would do, and nothing of the SDK."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from tests.support.yard import Yard


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event; ``data`` is parsed."""

    event: str
    id: str | None
    data: dict[str, Any]


class Rest:
    """Calls the REST face of a yard."""

    def __init__(self, yard: Yard, session: aiohttp.ClientSession) -> None:
        self.yard = yard
        self.session = session

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Return status and parsed body (None when it is empty)."""
        data = None if body is None else json.dumps(body)
        all_headers = {"content-type": "application/json"} if data is not None else {}
        async with self.session.request(
            method, self.yard.url + path, data=data, headers={**all_headers, **headers}
        ) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None

    async def ok(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Return the body of a call that must succeed."""
        status, answer = await self.call(method, path, body, **headers)
        assert 200 <= status < 300, f"{method} {path}: {status} {answer}"
        return answer

    async def acknowledged(self, path: str, body: Any) -> Any:
        """Post until the answer is a 201, under one Idempotency-Key, as a client that wants to be sure does."""
        key = str(uuid.uuid4())
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                status, answer = await self.call("POST", path, body, **{"idempotency-key": key})
                if status == 201:
                    return answer
                assert status in (500, 502, 503, 504), answer
            await asyncio.sleep(0.05)

    async def frames(self, path: str, last_event_id: str | None = None) -> AsyncIterator[Frame]:
        """Yield the frames of an event stream until it ends."""
        headers = {"accept": "text/event-stream"}
        if last_event_id:
            headers["last-event-id"] = last_event_id
        timeout = aiohttp.ClientTimeout(total=None, sock_read=30)
        async with self.session.get(self.yard.url + path, headers=headers, timeout=timeout) as answer:
            assert answer.status == 200, await answer.text()
            fields: dict[str, str] = {}
            async for raw in answer.content:
                line = raw.decode().rstrip("\n")
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "event" in fields:
                    yield Frame(fields["event"], fields.get("id"), json.loads(fields["data"]))
                    fields = {}
                else:
                    fields = {}

    async def until(self, path: str, *types: str) -> list[Frame]:
        """Return the frames of a stream up to the first of one of these types."""
        found: list[Frame] = []
        async with contextlib.aclosing(self.frames(path)) as frames:  # type: ignore[type-var]
            async for frame in frames:
                found.append(frame)
                if frame.event in types:
                    break
        return found

    async def agent(self, **members: Any) -> dict[str, Any]:
        """Create an agent."""
        agent: dict[str, Any] = await self.ok("POST", "/v1/agents", {"name": "Test", "system_prompt": "", **members})
        return agent

    async def new_session(self, agent: dict[str, Any], **members: Any) -> str:
        """Open a session and return its path."""
        session = await self.ok("POST", f"/v1/agents/{agent['id']}/sessions", members)
        return f"/v1/agents/{agent['id']}/sessions/{session['id']}"

    async def model(self, name: str) -> str:
        """Return the id of a simulator's model by its name."""
        models = await self.ok("GET", "/v1/llm-models")
        return str(next(model["id"] for model in models if model["model_id"] == name))


@contextlib.asynccontextmanager
async def rest(yard: Yard) -> AsyncIterator[Rest]:
    """Open a client with the administrator's key."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(headers=yard.headers, connector=connector, timeout=timeout) as session:
        yield Rest(yard, session)
