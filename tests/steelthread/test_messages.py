"""Messages: the three forms of a request, roles, parts, what is refused, and the conversation as it is listed."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.support.answers import check_error, send
from tests.support.client import Rest
from tests.support.grpc_client import Grpc

pytestmark = pytest.mark.usefixtures("no_faults")

TEXT = {"type": "text", "text": "What is 2+2?"}
LINK = {"type": "image", "url": "https://example.com/cat.png"}
PIXEL = {"type": "image", "base64": "iVBORw0KGgo=", "media_type": "image/png"}


@pytest.fixture
async def session(client: Rest) -> str:
    """The path of a fresh session."""
    return await client.new_session(await client.agent())


async def events(client: Rest, session: str) -> list[dict[str, Any]]:
    """Return the log of a session."""
    return list((await client.ok("GET", f"{session}/events", accept="application/json"))["items"])


@pytest.mark.parametrize(
    "body",
    [
        {"message": {"content": [TEXT]}},
        {"message": {"role": "user", "content": [TEXT]}},
        {"role": "user", "content": {"text": "What is 2+2?"}},
        {"role": "user", "content": "What is 2+2?"},
        {"content": "What is 2+2?"},
        {"content": [TEXT]},
        {"content": {"text": "What is 2+2?", "colour": "red"}},
        {"content": [{**TEXT, "colour": "red", "arguments": {}, "url": "x"}]},
    ],
    ids=str,
)
async def test_every_form_of_a_users_message_is_the_same_message(
    client: Rest, session: str, body: dict[str, Any]
) -> None:
    """201 with content parts, without members of other parts, whichever form was sent."""
    status, message = await client.call("POST", f"{session}/messages", body)
    assert status == 201
    assert message == {
        "id": message["id"],
        "session_id": session.rsplit("/", 1)[1],
        "sequence": 1,
        "role": "user",
        "content": [TEXT],
        "tags": [],
        "created_at": message["created_at"],
    }
    (stored,) = [event for event in await events(client, session) if event["type"] == "message.user"]
    assert stored["data"]["message"]["id"] == message["id"] != stored["id"]
    assert stored["context"] == {}


async def test_controls_metadata_and_tags_are_stored_with_the_message(client: Rest, session: str) -> None:
    """And come back as they were sent, from every face."""
    body = {
        "message": {"content": [TEXT]},
        "controls": {"reasoning": {"effort": "low"}, "max_tokens": 100, "temperature": 0.5},
        "metadata": {"n": 1, "f": 0.5, "s": "ü", "l": [1, None, {"a": True}]},
        "tags": ["a", "b"],
    }
    message = await client.ok("POST", f"{session}/messages", body)
    assert {name: message[name] for name in ("controls", "metadata", "tags")} == {
        name: body[name] for name in ("controls", "metadata", "tags")
    }
    assert (await client.ok("GET", f"{session}/messages"))["items"][0] == message
    stored = (await events(client, session))[0]
    assert stored["data"]["message"]["controls"] == body["controls"]
    assert stored["data"]["message"]["metadata"] == body["metadata"]
    assert stored["tags"] == body["tags"]


@pytest.mark.parametrize(
    ("body", "role", "content"),
    [
        ({"role": "assistant", "content": {"text": "hey"}}, "agent", [{"type": "text", "text": "hey"}]),
        ({"role": "agent", "content": "hey"}, "agent", [{"type": "text", "text": "hey"}]),
        ({"message": {"role": "agent", "content": [TEXT]}}, "agent", [TEXT]),
        ({"role": "system", "content": "be brief"}, "system", [{"type": "text", "text": "be brief"}]),
        (
            {"role": "tool_call", "content": {"id": "c1", "name": "add", "arguments": {"a": 1}}},
            "agent",
            [{"type": "tool_call", "id": "c1", "name": "add", "arguments": {"a": 1}}],
        ),
        (
            {"role": "tool_result", "tool_call_id": "c1", "content": {"result": {"sum": 1}, "error": None}},
            "tool_result",
            [{"type": "tool_result", "tool_call_id": "c1", "result": {"sum": 1}}],
        ),
        (
            {"role": "tool_result", "tool_call_id": "c1", "content": {"error": "no"}},
            "tool_result",
            [{"type": "tool_result", "tool_call_id": "c1", "error": "no"}],
        ),
        (
            {"role": "tool_result", "tool_call_id": "c1", "content": {"sum": 1}},
            "tool_result",
            [{"type": "tool_result", "tool_call_id": "c1", "result": {"sum": 1}}],
        ),
    ],
)
async def test_other_roles_are_stored_and_start_nothing(
    client: Rest, session: str, body: dict[str, Any], role: str, content: list[dict[str, Any]]
) -> None:
    """The session stays as it was; the message is listed and goes into the history of the next turn."""
    message = await client.ok("POST", f"{session}/messages", body)
    assert (message["role"], message["content"]) == (role, content)
    assert message.get("tool_call_id") == body.get("tool_call_id")
    assert [event["type"] for event in await events(client, session)] == [f"message.{role}"]
    assert (await client.ok("GET", session))["status"] == "started"
    await client.ok("POST", f"{session}/messages", {"content": "and now?"})
    frames = await client.until(f"{session}/events", "session.idled")
    assert frames[-2].event == "turn.completed"
    assert (await client.ok("GET", f"{session}/messages"))["items"][0] == message


@pytest.mark.parametrize("parts", [[TEXT, LINK], [PIXEL], [LINK, TEXT, PIXEL]], ids=["mixed", "bytes", "three"])
async def test_images_are_stored_and_answered(client: Rest, session: str, parts: list[dict[str, Any]]) -> None:
    """By address or as bytes, with text or without."""
    message = await client.ok("POST", f"{session}/messages", {"message": {"content": parts}})
    assert message["content"] == parts
    frames = await client.until(f"{session}/events", "session.idled")
    assert frames[-2].event == "turn.completed"


def deep(levels: int) -> dict[str, Any]:
    """Return an object nested by so many levels."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"message": None},
        {"message": {}},
        {"message": {"content": []}},
        {"message": {"role": "system", "content": [TEXT]}},
        {"message": {"role": "tool_call", "content": [TEXT]}},
        {"message": {"content": [{"text": "no type"}]}},
        {"message": {"content": [{"type": "video", "url": "x"}]}},
        {"message": {"content": [{"type": "text"}]}},
        {"message": {"content": [{"type": "text", "text": " "}]}},
        {"message": {"content": [{"type": "tool_call", "id": "c", "name": "x", "arguments": {}}]}},
        {"message": {"role": "agent", "content": [{"type": "tool_result", "tool_call_id": "c", "result": 1}]}},
        {"message": {"content": [{"type": "image"}]}},
        {"message": {"content": [{**LINK, "base64": "AA=="}]}},
        {"message": {"content": [{"type": "image", "base64": "AA=="}]}},
        {"message": {"content": [{**PIXEL, "media_type": "text/html"}]}},
        {"message": {"content": [{**PIXEL, "base64": "not base64"}]}},
        {"message": {"content": [{**LINK, "url": "x" * 8193}]}},
        {"message": {"content": [TEXT] * 1001}},
        {"content": None},
        {"content": ""},
        {"content": "\n\t "},
        {"content": 7},
        {"content": True},
        {"content": []},
        {"content": {}},
        {"content": {"text": 7}},
        {"content": [7]},
        {"content": ["text"]},
        {"content": [None]},
        {"content": [{"type": "text", "text": 7}]},
        {"content": [{"type": "tool_call", "id": "c", "name": "x", "arguments": {}}]},
        {"content": [{**LINK, "url": "x" * 8193}]},
        {"content": [TEXT] * 1001},
        {"role": "owner", "content": "x"},
        {"role": "agent", "content": []},
        {"role": "tool_call", "content": {}},
        {"role": "tool_call", "content": {"id": "c", "name": "x", "arguments": [1]}},
        {"role": "agent", "content": [{"type": "tool_call", "name": "x", "arguments": {}}]},
        {"role": "tool_result", "content": {"result": 1}},
        {"role": "tool_result", "tool_call_id": "c" * 256, "content": "x"},
        {"content": "a\0b"},
        {"content": "x", "metadata": {"a\0": 1}},
        {"content": "x", "metadata": []},
        {"content": "x", "metadata": deep(31)},
        {"role": "tool_call", "content": {"id": "c", "name": "x", "arguments": deep(31)}},
        {"content": "x", "tags": ["x" * 256]},
        {"content": "x", "controls": {"model_id": "llmsim"}},
        {"content": "x", "controls": {"max_tokens": 0}},
        {"content": "x", "controls": {"temperature": 2.1}},
        {"content": "x", "controls": {"reasoning": {"effort": "x" * 33}}},
        {"content": "x", "controls": {"reasoning": {"effort": "a\0"}}},
    ],
    ids=lambda body: str(body)[:60],
)
async def test_message_is_refused_when_it_is_not_one(client: Rest, session: str, body: dict[str, Any]) -> None:
    """400, nothing is stored and nothing starts."""
    status, answer = await client.call("POST", f"{session}/messages", body)
    assert (status, answer["status"], answer["code"]) == (400, 400, "INVALID_ARGUMENT")
    assert await events(client, session) == []


async def test_deepest_message_that_is_taken_reads_back_from_every_face(client: Rest, grpc: Grpc, session: str) -> None:
    """What one face accepts, the others can print."""
    body = {
        "role": "tool_call",
        "content": {"id": "c", "name": "x", "arguments": deep(30)},
        "metadata": deep(30),
    }
    message = await client.ok("POST", f"{session}/messages", body)
    assert (await client.ok("GET", f"{session}/messages"))["items"] == [message]
    ids = dict(zip(("agent_id", "session_id"), session.split("/")[3::2], strict=True))
    listed = await grpc.call("/codeyard.sessions.v1.MessageService/ListMessages", ids)
    assert listed.items[0].id == message["id"]
    logged = await grpc.call("/codeyard.sessions.v1.EventService/ListEvents", ids)
    assert logged.items[0].message_agent.message.id == message["id"]


async def test_conversation_holds_each_message_once_in_order(client: Rest) -> None:
    """User, agent with a text part first and its calls, one result for each call, the answer."""
    agent = await client.agent(capabilities=["test_math"], default_model_id=await client.model("llmsim-tools"))
    session = await client.new_session(agent)
    await client.ok("POST", f"{session}/messages", {"content": "calculate"})
    await client.until(f"{session}/events", "session.idled")
    listed = await client.ok("GET", f"{session}/messages")
    assert listed["items"] == listed["data"]
    assert listed["total"] == len(listed["items"]) == 7
    user, calling, *results, answer = listed["items"]
    assert (user["role"], calling["role"], answer["role"]) == ("user", "agent", "agent")
    assert calling["content"][0] == {"type": "text", "text": ""}
    calls = calling["content"][1:]
    assert [call["name"] for call in calls] == ["add", "subtract", "multiply", "divide"]
    assert all(call["type"] == "tool_call" and call["arguments"] == {"a": 1, "b": 1} for call in calls)
    assert sorted(result["tool_call_id"] for result in results) == sorted(call["id"] for call in calls)
    names = {call["id"]: call["name"] for call in calls}
    for result in results:
        (part,) = result["content"]
        assert (result["role"], part["type"]) == ("tool_result", "tool_result")
        assert part["tool_call_id"] == result["tool_call_id"]
        assert part["result"]["operation"] == names[result["tool_call_id"]]
    assert answer["content"][0]["text"].startswith("4 tools answered: ")
    assert answer["metadata"] == {"model": "llmsim-tools"}
    sequences = [message["sequence"] for message in listed["items"]]
    assert sequences == sorted(set(sequences))


async def test_conversation_is_stable_across_calls_and_processes(client: Rest) -> None:
    """Ids and times of tool results too, whichever process answers."""
    agent = await client.agent(capabilities=["current_time"], default_model_id=await client.model("llmsim-tools"))
    session = await client.new_session(agent)
    await client.ok("POST", f"{session}/messages", {"content": "time?"})
    await client.until(f"{session}/events", "session.idled")
    first = await client.ok("GET", f"{session}/messages")
    for _ in range(5):
        assert await client.ok("GET", f"{session}/messages") == first
    ids = [message["id"] for message in first["items"]]
    assert len(set(ids)) == len(ids)
    assert not set(ids) & {event["id"] for event in await events(client, session)}
    assert all(str(uuid.UUID(message_id)) == message_id for message_id in ids)


async def test_list_pages_by_offset_and_by_token(client: Rest, grpc: Grpc, session: str) -> None:
    """Total counts before paging; a token goes on where the page ended."""
    for number in range(5):
        await client.ok("POST", f"{session}/messages", {"role": "system", "content": str(number)})

    def texts(page: dict[str, Any]) -> list[str]:
        return [message["content"][0]["text"] for message in page["items"]]

    page = await client.ok("GET", f"{session}/messages?limit=2&offset=1")
    assert (texts(page), page["total"]) == (["1", "2"], 5)
    first = await client.ok("GET", f"{session}/messages?limit=3")
    rest = await client.ok("GET", f"{session}/messages?limit=3&page_token={first['next_page_token']}")
    assert texts(first) + texts(rest) == list("01234")
    assert "next_page_token" not in rest
    together = f"{session}/messages?offset=1&page_token={first['next_page_token']}"
    check_error(await send(client, "GET", together), 400, "INVALID_ARGUMENT")
    ids = dict(zip(("agent_id", "session_id"), session.split("/")[3::2], strict=True))
    typed = await grpc.call("/codeyard.sessions.v1.MessageService/ListMessages", {**ids, "limit": 2})
    assert [message.content[0].text for message in typed.items] == ["0", "1"]
    assert (typed.total, len(typed.data)) == (5, 0)


async def test_page_ends_early_when_its_messages_are_large(client: Rest, session: str) -> None:
    """A session of 2 MB messages can be listed, page by page, none missing."""
    for number in range(9):
        await client.ok("POST", f"{session}/messages", {"role": "system", "content": f"{number}" * 1_900_000})
    seen: list[str] = []
    token: str | None = ""
    while token is not None:
        page = await client.ok("GET", f"{session}/messages{token}")
        seen += [message["content"][0]["text"][0] for message in page["items"]]
        token = f"?page_token={page['next_page_token']}" if "next_page_token" in page else None
    assert seen == list("012345678")
    await client.ok("DELETE", session)
