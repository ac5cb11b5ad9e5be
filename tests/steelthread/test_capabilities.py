"""The catalogue of capabilities, the set of an agent, and what both make of a turn."""

from __future__ import annotations

import uuid
from typing import Any

import jsonschema
import pytest

from tests.support.answers import check_error, send
from tests.support.client import Rest
from tests.support.grpc_client import Grpc

pytestmark = pytest.mark.usefixtures("no_faults")

CATALOGUE = "/v1/capabilities"

# In the contract's order; of the demo packs, which have no tools, only the place is known.
IDS = [
    "noop", "current_time", "research", "sandbox", "session_file_system", "test_math", "test_weather",
    "stateless_todo_list", "web_fetch", "fake_warehouse", "fake_aws", "fake_crm", "fake_financial",
]  # fmt: skip
TOOLS = {
    "noop": [],
    "current_time": ["get_current_time"],
    "session_file_system": ["read_file", "write_file", "list_directory", "grep_files", "delete_file", "stat_file"],
    "test_math": ["add", "subtract", "multiply", "divide"],
    "test_weather": ["get_weather", "get_forecast"],
    "stateless_todo_list": ["write_todos"],
    "web_fetch": ["web_fetch"],
}


async def test_catalogue_has_the_documented_order(client: Rest) -> None:
    """The envelope carries the whole catalogue twice, and the same on every call; MCP servers come after it."""
    answer = await client.ok("GET", CATALOGUE)
    assert answer["items"] == answer["data"]
    assert answer["total"] == len(answer["items"])
    ids = [capability["id"] for capability in answer["items"]]
    assert ids[: len(IDS)] == IDS
    assert all(name.startswith("mcp:") for name in ids[len(IDS) :])
    assert await client.ok("GET", CATALOGUE) == answer


async def test_catalogue_names_what_is_not_built_coming_soon(client: Rest) -> None:
    """The word has an underscore; the others are available; tools belong to available ones only."""
    for capability in (await client.ok("GET", CATALOGUE))["items"][: len(IDS)]:
        assert capability["status"] in ("available", "coming_soon")
        assert (capability["status"] == "available") == (capability["id"] in TOOLS)
        assert [tool["name"] for tool in capability["tool_definitions"]] == TOOLS.get(capability["id"], [])
        assert capability["name"] and capability["description"] and capability["icon"] and capability["category"]


async def test_catalogue_describes_tools_as_models_need_them(client: Rest) -> None:
    """Each built-in tool has a description, the policy, and a JSON Schema of an object."""
    tools = [tool for item in (await client.ok("GET", CATALOGUE))["items"] for tool in item["tool_definitions"]]
    assert tools
    for tool in tools:
        assert tool.keys() == {"type", "name", "description", "parameters", "policy"}
        assert (tool["type"], tool["policy"]) == ("builtin", "auto")
        assert tool["parameters"]["type"] == "object"
        jsonschema.Draft202012Validator.check_schema(tool["parameters"])


async def test_get_returns_what_the_list_holds(client: Rest) -> None:
    """Prompt and tools included."""
    for capability in (await client.ok("GET", CATALOGUE))["items"][: len(IDS)]:
        assert await client.ok("GET", f"{CATALOGUE}/{capability['id']}") == capability


async def test_get_takes_an_alias(client: Rest) -> None:
    """The file system's older id answers under its own."""
    answer = await client.ok("GET", f"{CATALOGUE}/file_system")
    assert answer["id"] == "session_file_system"


@pytest.mark.parametrize("name", ["no_such_thing", "mcp:none", "NOOP"])
async def test_get_an_unknown_one_is_404(client: Rest, name: str) -> None:
    """Ids are exact."""
    check_error(await send(client, "GET", f"{CATALOGUE}/{name}"), 404, "NOT_FOUND")


async def test_catalogue_is_the_same_over_grpc(grpc: Grpc) -> None:
    """The typed list has no second copy."""
    answer = await grpc.call("/codeyard.capabilities.v1.CapabilityService/ListCapabilities")
    assert [item.id for item in answer.items][: len(IDS)] == IDS
    assert not answer.data


async def test_agents_set_is_listed_by_position(client: Rest) -> None:
    """The same data as the agent's own member, with the index."""
    agent = await client.agent(capabilities=["test_math", "noop", "file_system"])
    answer = await client.ok("GET", f"/v1/agents/{agent['id']}/capabilities")
    expected = [
        {"capability_id": "test_math", "position": 0},
        {"capability_id": "noop", "position": 1},
        {"capability_id": "session_file_system", "position": 2},
    ]
    assert answer == {"items": expected, "data": expected, "total": 3}


async def test_put_replaces_the_set_in_the_order_given(client: Rest) -> None:
    """Planned ones may be stored; [] clears; the agent shows it and has moved on."""
    agent = await client.agent(capabilities=["noop"])
    path = f"/v1/agents/{agent['id']}"
    answer = await client.ok("PUT", f"{path}/capabilities", {"capabilities": ["web_fetch", "sandbox", "noop"]})
    assert [(item["position"], item["capability_id"]) for item in answer["items"]] == [
        (0, "web_fetch"), (1, "sandbox"), (2, "noop"),
    ]  # fmt: skip
    changed = await client.ok("GET", path)
    assert changed["capabilities"] == ["web_fetch", "sandbox", "noop"]
    assert changed["updated_at"] > agent["updated_at"]
    cleared = await client.ok("PUT", f"{path}/capabilities", {"capabilities": []})
    assert cleared == {"items": [], "data": [], "total": 0}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "INVALID_ARGUMENT"),
        ({"capabilities": None}, "INVALID_ARGUMENT"),
        ({"capabilities": "noop"}, "INVALID_ARGUMENT"),
        ({"capabilities": [1]}, "INVALID_ARGUMENT"),
        ({"capabilities": [""]}, "INVALID_ARGUMENT"),
        ({"capabilities": ["x" * 51]}, "INVALID_ARGUMENT"),
        ({"capabilities": [f"c{number}" for number in range(251)]}, "INVALID_ARGUMENT"),
        ({"capabilities": ["no_such_thing"]}, "CAPABILITY_INVALID"),
        ({"capabilities": ["current_time", "current_time"]}, "CAPABILITY_INVALID"),
        ({"capabilities": ["session_file_system", "file_system"]}, "CAPABILITY_INVALID"),
    ],
)
async def test_put_changes_nothing_when_the_set_is_wrong(client: Rest, body: dict[str, Any], code: str) -> None:
    """Unknown, repeated, too many, missing: 400, and the old set stays."""
    agent = await client.agent(capabilities=["noop"])
    path = f"/v1/agents/{agent['id']}"
    status, answer = await client.call("PUT", f"{path}/capabilities", body)
    assert (status, answer["code"]) == (400, code)
    assert await client.ok("GET", path) == agent


async def test_set_of_an_unknown_agent_is_404(client: Rest) -> None:
    """To read and to replace."""
    path = f"/v1/agents/{uuid.uuid4()}/capabilities"
    check_error(await send(client, "GET", path), 404, "NOT_FOUND")
    check_error(await send(client, "PUT", path, b'{"capabilities": ["noop"]}'), 404, "NOT_FOUND")


async def test_turn_offers_the_tools_of_available_capabilities_in_their_order(client: Rest) -> None:
    """Planned ones are passed over, others add their tools by position."""
    agent = await client.agent(capabilities=["test_weather", "research", "noop", "current_time"])
    session = await client.new_session(agent)
    await client.ok("POST", f"{session}/messages", {"content": "hello"})
    frames = await client.until(f"{session}/events", "session.idled")
    (generation,) = [frame.data["data"] for frame in frames if frame.event == "llm.generation"]
    assert [tool["name"] for tool in generation["tools"]] == ["get_weather", "get_forecast", "get_current_time"]


async def test_prompt_is_additions_then_the_agents_own(client: Rest) -> None:
    """The simulator counts what it is given: a token for four bytes of prompt and message."""
    own, message = "Own prompt.", "hello"
    capabilities = ["test_weather", "research", "test_math"]
    session = await client.new_session(await client.agent(system_prompt=own, capabilities=capabilities))
    await client.ok("POST", f"{session}/messages", {"content": message})
    frames = await client.until(f"{session}/events", "session.idled")
    (usage,) = [frame.data["data"]["usage"] for frame in frames if frame.event == "message.agent"]
    additions = [
        (await client.ok("GET", f"{CATALOGUE}/{name}"))["system_prompt"] for name in ("test_weather", "test_math")
    ]
    prompt = "\n\n".join([*additions, own])
    assert usage["input_tokens"] == len((prompt + message).encode()) // 4
