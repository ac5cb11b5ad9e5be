"""Agents over REST and native gRPC: shapes, bounds, order, paging, changes, archiving."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest

from tests.support.answers import check_error, send
from tests.support.client import Rest
from tests.support.grpc_client import Grpc

pytestmark = pytest.mark.usefixtures("no_faults")

AGENTS = "/v1/agents"
LIST = "/codeyard.agents.v1.AgentService/ListAgents"
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")


async def total(client: Rest) -> int:
    """Return how many active agents there are."""
    return int((await client.ok("GET", f"{AGENTS}?limit=1"))["total"])


async def test_create_answers_the_whole_agent_when_every_member_is_given(client: Rest) -> None:
    """201 with every member as it was sent, the status, a UUIDv7 and equal times in UTC."""
    model = await client.model("llmsim-echo")
    given = {
        "name": "Release helper",
        "description": "Writes notes.",
        "system_prompt": "Draft release notes.",
        "default_model_id": model,
        "tags": ["release", "", "release"],
        "capabilities": ["test_math", "current_time"],
    }
    status, agent = await client.call("POST", AGENTS, given)
    assert status == 201
    assert {name: agent[name] for name in given} == given
    assert agent.keys() == given.keys() | {"id", "status", "created_at", "updated_at"}
    assert agent["status"] == "active"
    assert uuid.UUID(agent["id"]).version == 7
    assert agent["created_at"] == agent["updated_at"]
    assert TIMESTAMP.fullmatch(agent["created_at"])
    assert await client.ok("GET", f"{AGENTS}/{agent['id']}") == agent


async def test_create_leaves_out_what_is_not_set_when_only_the_required_is_given(client: Rest) -> None:
    """Optional members are absent, lists are empty; an empty prompt is a prompt; unknown members are ignored."""
    agent = await client.ok("POST", AGENTS, {"name": "x", "system_prompt": "", "colour": "red", "status": "archived"})
    assert agent.keys() == {"id", "name", "system_prompt", "tags", "capabilities", "status", "created_at", "updated_at"}
    assert (agent["tags"], agent["capabilities"], agent["status"]) == ([], [], "active")


async def test_names_need_not_be_unique(client: Rest) -> None:
    """Two agents of one name are two agents."""
    first, second = await client.agent(name="twin"), await client.agent(name="twin")
    assert first["id"] != second["id"]


@pytest.mark.parametrize(
    "body",
    [
        {"system_prompt": "x"},
        {"name": "", "system_prompt": "x"},
        {"name": " \t\n", "system_prompt": "x"},
        {"name": "x"},
        {"name": "x", "system_prompt": None},
        {"name": "x" * 256, "system_prompt": ""},
        {"name": "x", "system_prompt": "", "description": "é" * 5121},
        {"name": "x", "system_prompt": "x" * (1024 * 1024 + 1)},
        {"name": "x", "system_prompt": "", "tags": ["x"] * 101},
        {"name": "x", "system_prompt": "", "tags": ["x" * 256]},
        {"name": "x", "system_prompt": "", "capabilities": ["noop"] * 251},
        {"name": "x", "system_prompt": "", "default_model_id": "llmsim"},
    ],
    ids=lambda body: ",".join(body)[:40],
)
async def test_create_is_refused_when_a_bound_is_broken(client: Rest, body: dict[str, Any]) -> None:
    """400 that names the member in its details, and nothing is stored."""
    before = await total(client)
    status, answer = await client.call("POST", AGENTS, body)
    assert (status, answer["code"]) == (400, "INVALID_ARGUMENT")
    assert {detail["field"].partition("[")[0] for detail in answer["details"]} <= {
        "name", "system_prompt", "description", "tags", "capabilities", "default_model_id",
    }  # fmt: skip
    assert await total(client) == before


async def test_create_takes_values_at_their_bounds(client: Rest) -> None:
    """255 characters of any script, 10 KiB, 1 MiB, 100 labels."""
    agent = await client.agent(
        name="語" * 255, description="é" * 5120, system_prompt="x" * 1024 * 1024, tags=["t" * 255] * 100
    )
    assert len(agent["system_prompt"]) == 1024 * 1024
    assert len(agent["tags"]) == 100
    await client.ok("DELETE", f"{AGENTS}/{agent['id']}")


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"capabilities": ["noop", "no_such_thing"]}, "CAPABILITY_INVALID"),
        ({"capabilities": ["noop", "noop"]}, "CAPABILITY_INVALID"),
        ({"capabilities": ["file_system", "session_file_system"]}, "CAPABILITY_INVALID"),
        ({"default_model_id": str(uuid.uuid4())}, "MODEL_UNKNOWN"),
    ],
)
async def test_create_stores_nothing_when_a_reference_is_wrong(
    client: Rest, members: dict[str, Any], code: str
) -> None:
    """Unknown or repeated capabilities and unknown models are a 400, and there is no agent left behind."""
    before = await total(client)
    answer = await client.call("POST", AGENTS, {"name": "x", "system_prompt": "", **members})
    assert (answer[0], answer[1]["code"]) == (400, code)
    assert await total(client) == before


async def test_list_is_newest_first_and_without_the_archived(client: Rest) -> None:
    """The envelope carries one list under two names, and the number of all active agents."""
    agents = [await client.agent(name=f"listed {number}") for number in range(3)]
    await client.ok("DELETE", f"{AGENTS}/{agents[1]['id']}")
    answer = await client.ok("GET", AGENTS)
    assert answer["items"] == answer["data"]
    assert [agent["id"] for agent in answer["items"][:2]] == [agents[2]["id"], agents[0]["id"]]
    assert agents[1]["id"] not in {agent["id"] for agent in answer["items"]}
    assert answer["items"][0] == agents[2]
    times = [agent["created_at"] for agent in answer["items"]]
    assert times == sorted(times, reverse=True)
    assert answer["total"] == await total(client)


async def test_list_pages_by_limit_and_offset(client: Rest) -> None:
    """Total counts before paging; beyond the end there is nothing."""
    agents = [await client.agent(name=f"page {number}") for number in range(4)][::-1]
    count = await total(client)
    page = await client.ok("GET", f"{AGENTS}?limit=2&offset=1")
    assert [agent["id"] for agent in page["items"]] == [agent["id"] for agent in agents[1:3]]
    assert page["total"] == count
    beyond = await client.ok("GET", f"{AGENTS}?offset={count}")
    assert (beyond["items"], beyond["data"], beyond["total"]) == ([], [], count)
    assert "next_page_token" not in beyond


async def test_page_token_goes_on_where_the_page_ended_when_agents_are_added_meanwhile(client: Rest) -> None:
    """Pages by token neither repeat nor miss an agent; the last page has no token."""
    for number in range(5):
        await client.agent(name=f"token {number}")
    expected = [agent["id"] for agent in (await client.ok("GET", AGENTS))["items"]]
    seen: list[str] = []
    token = ""
    while True:
        page = await client.ok("GET", f"{AGENTS}?limit=2{token}")
        seen += [agent["id"] for agent in page["items"]]
        await client.agent(name="in between")
        if "next_page_token" not in page:
            break
        token = f"&page_token={page['next_page_token']}"
    assert seen == expected


async def test_page_token_and_offset_together_are_refused(client: Rest) -> None:
    """They would say two things."""
    await client.agent()
    await client.agent()
    token = (await client.ok("GET", f"{AGENTS}?limit=1"))["next_page_token"]
    check_error(await send(client, "GET", f"{AGENTS}?offset=1&page_token={token}"), 400, "INVALID_ARGUMENT")


async def test_page_ends_early_when_its_agents_are_large(client: Rest) -> None:
    """A page holds 2 MiB of rows, or one row. In JSON each byte here becomes six, and the list comes twice."""
    agents = [await client.agent(system_prompt="<" * 1024 * 1024) for _ in range(4)][::-1]
    try:
        answer = await send(client, "GET", f"{AGENTS}?limit=4")
        assert answer.status == 200 and len(answer.body) > 12 * 1024 * 1024
        first = answer.json
        assert [agent["id"] for agent in first["items"]] == [agents[0]["id"]]
        second = await client.ok("GET", f"{AGENTS}?limit=1&page_token={first['next_page_token']}")
        assert [agent["id"] for agent in second["items"]] == [agents[1]["id"]]
    finally:
        for agent in agents:
            await client.ok("DELETE", f"{AGENTS}/{agent['id']}")


async def test_list_sends_its_items_once_over_grpc(client: Rest, grpc: Grpc) -> None:
    """``data`` is for REST clients; it is empty in the typed answer."""
    agent = await client.agent(name="typed")
    answer = await grpc.call(LIST, {"limit": 2})
    assert answer.items[0].id == agent["id"]
    assert not answer.data
    assert answer.total == await total(client)


async def test_get_returns_an_archived_agent_too(client: Rest) -> None:
    """Archived agents leave the list and stay readable."""
    agent = await client.agent()
    await client.ok("DELETE", f"{AGENTS}/{agent['id']}")
    found = await client.ok("GET", f"{AGENTS}/{agent['id']}")
    assert found["status"] == "archived"
    assert found["updated_at"] > agent["updated_at"]


async def test_patch_changes_only_what_is_present(client: Rest) -> None:
    """Absent and null members stay; the answer is the changed agent; updated_at moves."""
    agent = await client.agent(description="old", tags=["a"], capabilities=["noop"])
    changed = await client.ok(
        "PATCH", f"{AGENTS}/{agent['id']}", {"name": "New", "description": None, "tags": None, "capabilities": None}
    )
    assert changed == {**agent, "name": "New", "updated_at": changed["updated_at"]}
    assert changed["updated_at"] > agent["updated_at"]
    assert await client.ok("GET", f"{AGENTS}/{agent['id']}") == changed


async def test_patch_replaces_arrays_as_a_whole(client: Rest) -> None:
    """Also by the empty array, which clears."""
    agent = await client.agent(tags=["a", "b"], capabilities=["noop", "current_time"])
    path = f"{AGENTS}/{agent['id']}"
    changed = await client.ok("PATCH", path, {"tags": ["c"], "capabilities": ["current_time", "file_system"]})
    assert changed["tags"] == ["c"]
    assert changed["capabilities"] == ["current_time", "session_file_system"]
    cleared = await client.ok("PATCH", path, {"tags": [], "capabilities": []})
    assert (cleared["tags"], cleared["capabilities"]) == ([], [])


@pytest.mark.parametrize("body", [b"{}", b""])
async def test_patch_with_an_empty_body_changes_nothing_but_the_time(client: Rest, body: bytes) -> None:
    """{} and no body at all are valid."""
    agent = await client.agent(description="kept")
    answer = await send(client, "PATCH", f"{AGENTS}/{agent['id']}", body)
    assert answer.status == 200
    assert answer.json == {**agent, "updated_at": answer.json["updated_at"]}
    assert answer.json["updated_at"] > agent["updated_at"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"status": "deleted"}, "INVALID_ARGUMENT"),
        ({"name": " "}, "INVALID_ARGUMENT"),
        ({"tags": [1]}, "INVALID_ARGUMENT"),
        ({"tags": ["x"] * 101}, "INVALID_ARGUMENT"),
        ({"capabilities": ["x" * 51]}, "INVALID_ARGUMENT"),
        ({"capabilities": ["no_such_thing"]}, "CAPABILITY_INVALID"),
        ({"capabilities": ["noop", "noop"]}, "CAPABILITY_INVALID"),
        ({"default_model_id": str(uuid.uuid4())}, "MODEL_UNKNOWN"),
    ],
)
async def test_patch_changes_nothing_when_a_value_is_wrong(client: Rest, change: dict[str, Any], code: str) -> None:
    """A change is made whole or not at all."""
    agent = await client.agent(capabilities=["noop"])
    path = f"{AGENTS}/{agent['id']}"
    status, answer = await client.call("PATCH", path, {"description": "changed", **change})
    assert (status, answer["code"]) == (400, code)
    assert await client.ok("GET", path) == agent


async def test_delete_archives_and_patch_takes_it_back(client: Rest) -> None:
    """204 without a body; an archived agent is not found by a second delete; sessions stay all the while."""
    agent = await client.agent()
    path = f"{AGENTS}/{agent['id']}"
    session = await client.new_session(agent)
    gone = await send(client, "DELETE", path)
    assert (gone.status, gone.body) == (204, b"")
    assert gone.headers["x-request-id"]
    check_error(await send(client, "DELETE", path), 404, "NOT_FOUND")
    assert (await client.ok("GET", session))["status"] == "started"
    assert (await client.ok("PATCH", path, {"status": "active"}))["status"] == "active"
    assert (await client.ok("GET", AGENTS))["items"][0]["id"] == agent["id"]
    assert (await client.ok("PATCH", path, {"status": "archived"}))["status"] == "archived"


async def test_archived_agent_still_answers(client: Rest) -> None:
    """Archiving hides an agent; it does not end its conversations."""
    agent = await client.agent()
    await client.ok("DELETE", f"{AGENTS}/{agent['id']}")
    session = await client.new_session(agent)
    await client.ok("POST", f"{session}/messages", {"content": "hello"})
    assert (await client.until(f"{session}/events", "session.idled"))[-2].event == "turn.completed"
