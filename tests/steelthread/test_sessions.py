"""Sessions over REST and native gRPC: shapes, order, changes, status words and times, deletion."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from tests.support.answers import check_error, send
from tests.support.client import Rest
from tests.support.grpc_client import Grpc

pytestmark = pytest.mark.usefixtures("no_faults")


async def answered(client: Rest, session: str, **controls: Any) -> str:
    """Send a message, wait until its turn has ended, and return the event type that ended it."""
    before = await client.ok("GET", f"{session}/events", accept="application/json")
    cursor = f"?since_id={before['items'][-1]['id']}" if before["items"] else ""
    await client.ok("POST", f"{session}/messages", {"content": "hi", "controls": controls})
    return (await client.until(f"{session}/events{cursor}", "session.idled"))[-2].event


async def test_create_answers_the_session(client: Rest) -> None:
    """201; it is started, no turn has run, nothing is in its log."""
    agent = await client.agent()
    path = f"/v1/agents/{agent['id']}/sessions"
    status, session = await client.call("POST", path, {"title": "Notes", "tags": ["a", "b"], "status": "active"})
    assert status == 201
    assert session == {
        "id": session["id"],
        "agent_id": agent["id"],
        "title": "Notes",
        "tags": ["a", "b"],
        "status": "started",
        "created_at": session["created_at"],
        "updated_at": session["created_at"],
    }
    assert uuid.UUID(session["id"]).version == 7
    assert await client.ok("GET", f"{path}/{session['id']}") == session
    events = await client.ok("GET", f"{path}/{session['id']}/events", accept="application/json")
    assert events == {"items": [], "data": [], "total": 0}


@pytest.mark.parametrize(
    ("body", "headers"), [(b"", {"content-type": "application/json"}), (b"{}", None), (None, None)]
)
async def test_create_takes_an_empty_body(client: Rest, body: bytes | None, headers: dict[str, str] | None) -> None:
    """As an empty request: no title, no model."""
    agent = await client.agent()
    answer = await send(client, "POST", f"/v1/agents/{agent['id']}/sessions", body, headers)
    assert answer.status == 201
    assert answer.json.keys() == {"id", "agent_id", "tags", "status", "created_at", "updated_at"}


async def test_create_copies_the_agents_model_at_this_moment(client: Rest) -> None:
    """A later change of the agent leaves the session alone; a model of its own wins."""
    echo, slow = await client.model("llmsim-echo"), await client.model("llmsim-slow")
    agent = await client.agent(default_model_id=echo)
    path = await client.new_session(agent)
    own = await client.new_session(agent, model_id=slow)
    await client.ok("PATCH", f"/v1/agents/{agent['id']}", {"default_model_id": slow})
    assert (await client.ok("GET", path))["model_id"] == echo
    assert (await client.ok("GET", own))["model_id"] == slow


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"title": "x" * 256}, "INVALID_ARGUMENT"),
        ({"tags": ["x"] * 101}, "INVALID_ARGUMENT"),
        ({"model_id": "llmsim"}, "INVALID_ARGUMENT"),
        ({"model_id": str(uuid.uuid4())}, "MODEL_UNKNOWN"),
    ],
)
async def test_create_stores_nothing_when_a_value_is_wrong(client: Rest, body: dict[str, Any], code: str) -> None:
    """400, and the agent has no session."""
    agent = await client.agent()
    path = f"/v1/agents/{agent['id']}/sessions"
    status, answer = await client.call("POST", path, body)
    assert (status, answer["code"]) == (400, code)
    assert await client.ok("GET", path) == {"items": [], "data": [], "total": 0}


async def test_create_takes_255_characters_of_title(client: Rest) -> None:
    """Characters, not bytes."""
    path = await client.new_session(await client.agent(), title="語" * 255)
    assert (await client.ok("GET", path))["title"] == "語" * 255


async def test_sessions_of_an_unknown_agent_are_404(client: Rest) -> None:
    """To list and to open."""
    path = f"/v1/agents/{uuid.uuid4()}/sessions"
    check_error(await send(client, "GET", path), 404, "NOT_FOUND")
    check_error(await send(client, "POST", path, b"{}"), 404, "NOT_FOUND")


async def test_list_is_newest_first_and_of_one_agent(client: Rest, grpc: Grpc) -> None:
    """All statuses, in the envelope over REST, once over gRPC."""
    agent = await client.agent()
    await client.new_session(await client.agent())
    paths = [await client.new_session(agent, title=str(number)) for number in range(3)]
    await answered(client, paths[0])
    answer = await client.ok("GET", f"/v1/agents/{agent['id']}/sessions")
    assert answer["items"] == answer["data"]
    assert [session["title"] for session in answer["items"]] == ["2", "1", "0"]
    assert [session["status"] for session in answer["items"]] == ["started", "started", "idle"]
    assert answer["total"] == 3
    typed = await grpc.call("/codeyard.sessions.v1.SessionService/ListSessions", {"agent_id": agent["id"]})
    assert [session.title for session in typed.items] == ["2", "1", "0"]
    assert not typed.data


async def test_list_pages_by_offset_and_by_token(client: Rest) -> None:
    """Total counts before paging; a token goes on where the page ended."""
    agent = await client.agent()
    for number in range(5):
        await client.new_session(agent, title=str(number))
    path = f"/v1/agents/{agent['id']}/sessions"
    page = await client.ok("GET", f"{path}?limit=2&offset=1")
    assert [session["title"] for session in page["items"]] == ["3", "2"]
    assert page["total"] == 5
    titles: list[str] = []
    token: str | None = ""
    while token is not None:
        page = await client.ok("GET", f"{path}?limit=2{token}")
        titles += [session["title"] for session in page["items"]]
        token = f"&page_token={page['next_page_token']}" if "next_page_token" in page else None
    assert titles == ["4", "3", "2", "1", "0"]


async def test_patch_changes_only_what_is_present(client: Rest) -> None:
    """Title, tags and model; absent and null stay; status and times cannot be set; {} is valid."""
    echo = await client.model("llmsim-echo")
    path = await client.new_session(await client.agent(), title="Old", tags=["a"])
    before = await client.ok("GET", path)
    changed = await client.ok(
        "PATCH",
        path,
        {"title": "New", "tags": None, "model_id": None, "status": "idle", "started_at": "2020-01-01T00:00:00Z"},
    )
    assert changed == {**before, "title": "New", "updated_at": changed["updated_at"]}
    assert changed["updated_at"] > before["updated_at"]
    changed = await client.ok("PATCH", path, {"tags": ["b", "c"], "model_id": echo})
    assert (changed["title"], changed["tags"], changed["model_id"]) == ("New", ["b", "c"], echo)
    assert (await client.ok("PATCH", path, {"tags": []}))["tags"] == []
    again = await client.ok("PATCH", path, {})
    assert again == await client.ok("GET", path)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"title": "x" * 256}, "INVALID_ARGUMENT"),
        ({"tags": [1]}, "INVALID_ARGUMENT"),
        ({"model_id": str(uuid.uuid4())}, "MODEL_UNKNOWN"),
    ],
)
async def test_patch_changes_nothing_when_a_value_is_wrong(client: Rest, body: dict[str, Any], code: str) -> None:
    """400, and the session is as it was."""
    path = await client.new_session(await client.agent(), title="Old")
    before = await client.ok("GET", path)
    status, answer = await client.call("PATCH", path, {"title": "New", **body})
    assert (status, answer["code"]) == (400, code)
    assert await client.ok("GET", path) == before


async def test_model_of_a_patch_is_the_next_turns(client: Rest) -> None:
    """The session's model is looked up when a turn starts."""
    path = await client.new_session(await client.agent())
    await client.ok("PATCH", path, {"model_id": await client.model("llmsim-echo")})
    await answered(client, path)
    replies = (await client.ok("GET", f"{path}/messages"))["items"]
    assert replies[-1]["content"] == [{"type": "text", "text": "Echo: hi"}]


async def test_status_and_times_follow_the_turns(client: Rest) -> None:
    """started, active while a turn runs, idle; started_at is the first turn's; finished_at only after a failure."""
    agent = await client.agent(default_model_id=await client.model("llmsim-slow"))
    path = await client.new_session(agent)
    await client.ok("POST", f"{path}/messages", {"content": "hi"})
    await client.until(f"{path}/events", "message.delta")
    running = await client.ok("GET", path)
    assert running["status"] == "active"
    assert running["started_at"] >= running["created_at"]
    await client.until(f"{path}/events", "session.idled")
    done = await client.ok("GET", path)
    assert (done["status"], done["started_at"]) == ("idle", running["started_at"])
    assert "finished_at" not in done
    assert await answered(client, path, model_id=await client.model("llmsim-error")) == "turn.failed"
    failed = await client.ok("GET", path)
    assert (failed["status"], failed["started_at"]) == ("idle", running["started_at"])
    assert failed["finished_at"] > failed["started_at"]
    assert await answered(client, path) == "turn.completed"
    assert "finished_at" not in await client.ok("GET", path)


async def test_delete_takes_everything_with_it(client: Rest) -> None:
    """204, then 404 everywhere; the agent's other sessions stay."""
    agent = await client.agent()
    path, other = await client.new_session(agent), await client.new_session(agent)
    await answered(client, path)
    gone = await send(client, "DELETE", path)
    assert (gone.status, gone.body) == (204, b"")
    for method, place, body in (
        ("DELETE", "", None),
        ("GET", "", None),
        ("PATCH", "", b"{}"),
        ("POST", "/cancel", b"{}"),
        ("GET", "/messages", None),
        ("POST", "/messages", b'{"content": "hi"}'),
        ("GET", "/events", None),
    ):
        check_error(await send(client, method, path + place, body), 404, "NOT_FOUND")
    listed = await client.ok("GET", f"/v1/agents/{agent['id']}/sessions")
    assert [session["id"] for session in listed["items"]] == [other.rsplit("/", 1)[1]]
    assert listed["total"] == 1


async def test_delete_ends_a_running_turn_and_open_streams(client: Rest) -> None:
    """Every follower's stream ends, whichever process holds it."""
    agent = await client.agent(default_model_id=await client.model("llmsim-slow"))
    path = await client.new_session(agent)

    async def follow() -> list[str]:
        return [frame.event async for frame in client.frames(f"{path}/events")]

    followers = [asyncio.create_task(follow()) for _ in range(6)]
    await client.ok("POST", f"{path}/messages", {"content": "hi"})
    await client.until(f"{path}/events", "message.delta")
    await client.ok("DELETE", path)
    async with asyncio.timeout(10):
        logs = await asyncio.gather(*followers)
    for log in logs:
        assert "turn.started" in log
        assert "turn.completed" not in log


async def test_deletes_under_running_turns_never_fail(client: Rest) -> None:
    """A delete that meets the end of a turn waits for it or cancels it; neither breaks the other."""
    agent = await client.agent(default_model_id=await client.model("llmsim"))
    paths = [await client.new_session(agent) for _ in range(40)]

    async def end(path: str) -> int:
        await client.ok("POST", f"{path}/messages", {"content": "hi"})
        return (await send(client, "DELETE", path)).status

    assert set(await asyncio.gather(*map(end, paths))) == {204}
    assert (await client.ok("GET", f"/v1/agents/{agent['id']}/sessions"))["total"] == 0


async def test_message_to_a_session_that_is_being_deleted_is_stored_or_not_found(client: Rest) -> None:
    """Whoever comes first: 201 or 404, nothing else."""
    agent = await client.agent()
    paths = [await client.new_session(agent) for _ in range(30)]
    sent = [send(client, "POST", f"{path}/messages", b'{"content": "hi"}') for path in paths]
    deleted = [send(client, "DELETE", path) for path in paths]
    answers = await asyncio.gather(*(call for pair in zip(sent, deleted, strict=True) for call in pair))
    assert {answer.status for answer in answers[0::2]} <= {201, 404}
    assert {answer.status for answer in answers[1::2]} == {204}


async def test_session_is_found_only_under_its_own_agent(client: Rest) -> None:
    """Another agent's id in the path is a 404 on every route, and changes nothing."""
    agent, other = await client.agent(), await client.agent()
    path = await client.new_session(agent)
    await answered(client, path)
    before = await client.ok("GET", path)
    wrong = path.replace(agent["id"], other["id"])
    for method, place, body in (
        ("GET", "", None),
        ("PATCH", "", b'{"title": "stolen"}'),
        ("DELETE", "", None),
        ("POST", "/cancel", b"{}"),
        ("GET", "/messages", None),
        ("POST", "/messages", b'{"content": "hi"}'),
        ("GET", "/events", None),
    ):
        check_error(await send(client, method, wrong + place, body), 404, "NOT_FOUND")
    answer = await send(client, "GET", f"{wrong}/events", headers={"accept": "application/json"})
    check_error(answer, 404, "NOT_FOUND")
    assert await client.ok("GET", path) == before


async def test_cancel_without_a_running_turn_changes_nothing(client: Rest) -> None:
    """It answers the session as it is."""
    path = await client.new_session(await client.agent())
    assert await client.ok("POST", f"{path}/cancel", {}) == await client.ok("GET", path)
    await answered(client, path)
    done = await client.ok("GET", path)
    assert await client.ok("POST", f"{path}/cancel") == done
    assert await client.ok("GET", path) == done
