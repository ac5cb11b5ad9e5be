"""Idempotency-Key: the same key gets the same answer, whoever asks first, and nothing twice."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping
from typing import Any

import grpc as grpc_api
import pytest

from tests.support.accounts import add_key, add_user, database
from tests.support.answers import Answer, check_error, send
from tests.support.client import Rest, rest
from tests.support.grpc_client import Grpc, reason
from tests.support.routes import ROUTES, fill
from tests.support.world import World, new_world, unused_name
from tests.support.yard import Yard

pytestmark = pytest.mark.usefixtures("no_faults")

Route = Mapping[str, Any]

KEYED = [route for route in ROUTES if route["idempotency_key"]]
TOTALS = {
    "CreateAgent": "/v1/agents",
    "CreateSession": "/v1/agents/{agent_id}/sessions",
    "CreateMessage": "/v1/agents/{agent_id}/sessions/{session_id}/messages",
    "CreateProvider": "/v1/llm-providers",
    "CreateModel": "/v1/llm-providers/{provider_id}/models",
    "CreateMcpServer": "/v1/mcp-servers",
}
"""RPC -> the list in which what it creates is counted."""


def method(route: Route) -> str:
    """Return the name of a route's RPC; also its id in a test's name."""
    return str(route["rpc"].rsplit("/", 1)[1])


def new_body(route: Route) -> dict[str, Any]:
    """Return a body that creates something, another one on each call."""
    name = unused_name()
    return {
        "CreateAgent": {"name": name, "system_prompt": ""},
        "CreateSession": {"title": name},
        "CreateMessage": {"role": "system", "content": name},
        "CreateProvider": {"name": name, "provider_type": "llmsim"},
        "CreateModel": {"model_id": name, "display_name": name},
        "CreateMcpServer": {"name": name, "url": "https://x.test/mcp"},
    }[method(route)]


async def create(client: Rest, route: Route, world: World, body: dict[str, Any], key: str | None) -> Answer:
    """Call a creating route under a key."""
    headers = {"content-type": "application/json"} | ({} if key is None else {"idempotency-key": key})
    return await send(
        client, "POST", fill(route["path"], world.values(route["path"])), json.dumps(body).encode(), headers
    )


async def count(client: Rest, route: Route, world: World) -> int:
    """Return how many objects there are of what a route creates."""
    answer = await client.ok("GET", fill(TOTALS[method(route)], world.values("")))
    return len(answer) if isinstance(answer, list) else int(answer["total"])


@pytest.fixture
async def world(client: Rest) -> World:
    """Objects to create others in."""
    return await new_world(client)


def test_every_creating_route_takes_a_key() -> None:
    """Each route that answers 201; the table here knows all of them."""
    assert {method(route) for route in ROUTES if route["success_status"] == 201} == set(TOTALS)
    assert {method(route) for route in KEYED} == set(TOTALS)


@pytest.mark.parametrize("route", KEYED, ids=method)
async def test_same_key_gets_the_same_answer(client: Rest, world: World, route: Route) -> None:
    """Byte for byte, with the same status, and one object; without a key or with another there are more."""
    key, body = str(uuid.uuid4()), new_body(route)
    before = await count(client, route, world)
    first = await create(client, route, world, body, key)
    assert first.status == 201
    for _ in range(3):
        again = await create(client, route, world, body, key)
        assert (again.status, again.body) == (201, first.body)
        assert again.headers["content-type"] == first.headers["content-type"]
    assert await count(client, route, world) == before + 1
    for other in (None, str(uuid.uuid4())):
        assert (await create(client, route, world, new_body(route), other)).json["id"] != first.json["id"]
    assert await count(client, route, world) == before + 3


@pytest.mark.parametrize("route", KEYED, ids=method)
async def test_twenty_calls_at_once_create_one_object(client: Rest, world: World, route: Route) -> None:
    """Through all processes: one answer for all."""
    key, body = str(uuid.uuid4()), new_body(route)
    before = await count(client, route, world)
    answers = await asyncio.gather(*(create(client, route, world, body, key) for _ in range(20)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.body for answer in answers}) == 1
    assert await count(client, route, world) == before + 1


@pytest.mark.parametrize("route", KEYED, ids=method)
async def test_key_with_another_request_is_refused(client: Rest, world: World, route: Route) -> None:
    """409, and nothing is created."""
    key = str(uuid.uuid4())
    assert (await create(client, route, world, new_body(route), key)).status == 201
    before = await count(client, route, world)
    check_error(await create(client, route, world, new_body(route), key), 409, "IDEMPOTENCY_KEY_REUSED")
    assert await count(client, route, world) == before


async def test_key_with_another_path_is_another_request(client: Rest) -> None:
    """The agent in the path belongs to the request."""
    first, second = await client.agent(), await client.agent()
    headers = {"idempotency-key": str(uuid.uuid4()), "content-type": "application/json"}
    path = "/v1/agents/{}/sessions"
    assert (await send(client, "POST", path.format(first["id"]), b"{}", headers)).status == 201
    answer = await send(client, "POST", path.format(second["id"]), b"{}", headers)
    check_error(answer, 409, "IDEMPOTENCY_KEY_REUSED")


async def test_key_of_another_user_is_another_key(client: Rest, yard: Yard) -> None:
    """Keys are private: nobody reads another's answer, or blocks another's key."""
    headers = {"idempotency-key": str(uuid.uuid4()), "content-type": "application/json"}
    body = b'{"name": "mine", "system_prompt": ""}'
    mine = await send(client, "POST", "/v1/agents", body, headers)
    async with rest(await add_key(yard, await add_user(yard, "user"))) as other:
        theirs = await send(other, "POST", "/v1/agents", body, headers)
        assert theirs.status == mine.status == 201
        assert theirs.json["id"] != mine.json["id"]
        different = b'{"name": "theirs", "system_prompt": ""}'
        check_error(await send(other, "POST", "/v1/agents", different, headers), 409, "IDEMPOTENCY_KEY_REUSED")


async def test_key_holds_for_one_method(client: Rest, world: World) -> None:
    """The same key creates an agent and a provider."""
    key = str(uuid.uuid4())
    for route in KEYED:
        assert (await create(client, route, world, new_body(route), key)).status == 201, route["path"]


@pytest.mark.parametrize("route", KEYED, ids=method)
async def test_failed_call_stores_nothing(client: Rest, yard: Yard, world: World, route: Route) -> None:
    """After a 400 or a 401 the key is free for a request that is right."""
    key, body = str(uuid.uuid4()), new_body(route)
    bad: Any = {"title": "x" * 256} if method(route) == "CreateSession" else {}
    check_error(await create(client, route, world, bad, key), 400)
    async with rest(await add_key(yard, await add_user(yard, "user"), revoked=True)) as nobody:
        check_error(await create(nobody, route, world, body, key), 401)
    async with database(yard) as connection:
        stored = await connection.fetchval("SELECT count(*) FROM idempotency_keys WHERE key = $1", key)
    assert stored == 0
    assert (await create(client, route, world, body, key)).status == 201


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_key_out_of_bounds_is_refused(client: Rest, key: str) -> None:
    """1 to 255 characters."""
    headers = {"idempotency-key": key, "content-type": "application/json"}
    body = b'{"name": "x", "system_prompt": ""}'
    check_error(await send(client, "POST", "/v1/agents", body, headers), 400, "INVALID_ARGUMENT")
    longest = {"idempotency-key": uuid.uuid4().hex * 7 + "x" * 31, "content-type": "application/json"}
    assert (await send(client, "POST", "/v1/agents", body, longest)).status == 201


async def test_repeated_message_is_answered_once(client: Rest) -> None:
    """One message, one turn."""
    session = await client.new_session(await client.agent())
    headers = {"idempotency-key": str(uuid.uuid4())}
    sent = await asyncio.gather(
        *(client.ok("POST", f"{session}/messages", {"content": "hi"}, **headers) for _ in range(10))
    )
    assert len({message["id"] for message in sent}) == 1
    await client.until(f"{session}/events", "session.idled")
    await client.ok("POST", f"{session}/messages", {"content": "hi"}, **headers)
    listed = await client.ok("GET", f"{session}/messages")
    assert [message["role"] for message in listed["items"]] == ["user", "agent"]


async def test_key_works_over_grpc_and_across_faces(client: Rest, grpc: Grpc) -> None:
    """It is metadata there; the answer of one face is the answer of the other."""
    key, fields = str(uuid.uuid4()), {"name": unused_name(), "system_prompt": ""}
    rpc = "/codeyard.agents.v1.AgentService/CreateAgent"
    first = await grpc.call(rpc, fields, **{"idempotency-key": key})
    assert await grpc.call(rpc, fields, **{"idempotency-key": key}) == first
    assert (await client.ok("POST", "/v1/agents", fields, **{"idempotency-key": key}))["id"] == first.id
    with pytest.raises(grpc_api.aio.AioRpcError) as caught:
        await grpc.call(rpc, {**fields, "name": "other"}, **{"idempotency-key": key})
    assert caught.value.code() is grpc_api.StatusCode.ALREADY_EXISTS
    assert reason(caught.value) == "IDEMPOTENCY_KEY_REUSED"


async def test_other_methods_ignore_the_key(client: Rest) -> None:
    """A change is made each time it is asked for."""
    agent = await client.agent()
    headers = {"idempotency-key": str(uuid.uuid4())}
    for name in ("first", "second"):
        changed = await client.ok("PATCH", f"/v1/agents/{agent['id']}", {"name": name}, **headers)
        assert changed["name"] == name
