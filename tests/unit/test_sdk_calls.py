"""Calls of the Python client: where they go, what they carry, when they are sent again, how lists are paged."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from codeyard.agents.v1 import agent_pb2, agent_service_pb2
from codeyard_client import AsyncClient, Client, CodeyardError, errors
from codeyard_client._channel import Address, check_token
from google.protobuf.empty_pb2 import Empty

from tests.support.scripted_yard import ScriptedYard, fail, scripted_yard
from tests.support.yard import free_port

SERVICE = "codeyard.agents.v1.AgentService"


@pytest.fixture
async def yard() -> AsyncIterator[ScriptedYard]:
    """A scripted yard."""
    async with scripted_yard() as running:
        yield running


class Flaky:
    """A method that is unavailable a number of times, and remembers the metadata of every call."""

    def __init__(self, failures: int, answer: Any, reason: str = "UNAVAILABLE") -> None:
        self.failures = failures
        self.answer = answer
        self.reason = reason
        self.calls: list[dict[str, str]] = []

    async def __call__(self, _: Any, context: Any) -> Any:
        self.calls.append(dict(context.invocation_metadata()))
        if len(self.calls) <= self.failures:
            await fail(context, grpc.StatusCode.UNAVAILABLE, self.reason)
        return self.answer

    def keys(self) -> list[str]:
        """The idempotency keys of the calls."""
        return [call["idempotency-key"] for call in self.calls]


@pytest.mark.parametrize(
    ("url", "target", "encrypted"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080", False),
        ("http://127.0.0.1:8080/", "127.0.0.1:8080", False),
        ("http://yard.example", "yard.example:80", False),
        ("https://yard.example", "yard.example:443", True),
        ("https://[::1]:9000", "[::1]:9000", True),
    ],
)
def test_address_is_read_when_it_is_the_url_of_a_yard(url: str, target: str, encrypted: bool) -> None:
    """Scheme and port decide target and encryption."""
    address = Address.parse(url)
    assert (address.target, address.encrypted) == (target, encrypted)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8080",
        "ftp://yard",
        "http://",
        "http://yard:99999",
        "http://yard/v1",
        "http://yard?x=1",
        "http://u:p@yard",
    ],
)
def test_address_is_refused_when_it_is_not_the_url_of_a_yard(url: str) -> None:
    """What cannot be reached, or would be left out silently, is refused."""
    with pytest.raises(ValueError, match="not the URL of a yard"):
        Address.parse(url)


@pytest.mark.parametrize("token", ["cyk_a\nx-admin: 1", "cyk ä", "a b"])
def test_token_is_refused_without_showing_it_when_no_header_can_carry_it(token: str) -> None:
    """A token never smuggles a header, nor gets into a message."""
    with pytest.raises(ValueError, match="token") as raised:
        check_token(token)
    assert token not in str(raised.value)


def test_client_shows_no_token_when_it_is_printed() -> None:
    """The text of a client names the yard only."""
    with Client("http://127.0.0.1:1", "cyk_secret") as client:
        assert "cyk_secret" not in f"{client!r} {client!s}"


async def test_client_takes_url_and_token_from_the_environment_when_none_are_given(
    yard: ScriptedYard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CODEYARD_URL and CODEYARD_TOKEN are the defaults."""
    method = Flaky(0, agent_pb2.Agent(id="a"))
    yard.unary(f"{SERVICE}/GetAgent", agent_service_pb2.GetAgentRequest, method)
    monkeypatch.setenv("CODEYARD_URL", yard.url)
    monkeypatch.setenv("CODEYARD_TOKEN", " cyk_1\n")
    async with AsyncClient() as client:
        await client.agents.get("a")
    assert method.calls[0]["authorization"] == "Bearer cyk_1"


async def test_call_is_sent_again_when_it_changes_nothing_and_the_yard_is_unavailable(yard: ScriptedYard) -> None:
    """A reading call outlives a restart of the yard."""
    method = Flaky(2, agent_pb2.Agent(id="a", name="Helper"))
    yard.unary(f"{SERVICE}/GetAgent", agent_service_pb2.GetAgentRequest, method)
    async with AsyncClient(yard.url) as client:
        assert (await client.agents.get("a")).name == "Helper"
    assert len(method.calls) == 3


async def test_blocking_call_is_sent_again_when_the_yard_is_unavailable(yard: ScriptedYard) -> None:
    """The blocking client does the same."""
    method = Flaky(2, agent_pb2.Agent(id="a", name="Helper"))
    yard.unary(f"{SERVICE}/GetAgent", agent_service_pb2.GetAgentRequest, method)

    def ask() -> str:
        with Client(yard.url) as client:
            return client.agents.get("a").name

    assert await asyncio.to_thread(ask) == "Helper"
    assert len(method.calls) == 3


async def test_creating_call_keeps_its_key_when_it_is_sent_again(yard: ScriptedYard) -> None:
    """All attempts of one creation carry one generated key; the next creation has another."""
    method = Flaky(2, agent_pb2.Agent(id="a"))
    yard.unary(f"{SERVICE}/CreateAgent", agent_service_pb2.CreateAgentRequest, method)
    async with AsyncClient(yard.url) as client:
        await client.agents.create("One")
        await client.agents.create("Two")
        await client.agents.create("Three", idempotency_key="mine")
    first, second, third, other, mine = method.keys()
    assert first == second == third != other
    assert uuid.UUID(first) != uuid.UUID(other)
    assert mine == "mine"


async def test_call_is_not_sent_again_when_a_second_one_would_differ(yard: ScriptedYard) -> None:
    """Archiving twice is an error, so it is sent once."""
    method = Flaky(9, Empty())
    agent = agent_pb2.Agent(id="a")
    yard.unary(f"{SERVICE}/GetAgent", agent_service_pb2.GetAgentRequest, Flaky(0, agent))
    yard.unary(f"{SERVICE}/ArchiveAgent", agent_service_pb2.ArchiveAgentRequest, method)
    async with AsyncClient(yard.url) as client:
        with pytest.raises(errors.Unavailable):
            await (await client.agents.get("a")).archive()
    assert len(method.calls) == 1


async def test_call_is_not_sent_again_when_the_failure_is_not_of_the_moment(yard: ScriptedYard) -> None:
    """Any other reason than unavailable ends the call, whatever the status."""
    method = Flaky(9, None, reason="INTERNAL")
    yard.unary(f"{SERVICE}/GetAgent", agent_service_pb2.GetAgentRequest, method)
    async with AsyncClient(yard.url) as client:
        with pytest.raises(errors.Internal):
            await client.agents.get("a")
    assert len(method.calls) == 1


async def test_call_fails_when_the_yard_stays_unavailable(yard: ScriptedYard) -> None:
    """Patience ends with the failure itself."""
    method = Flaky(1000, None)
    yard.unary(f"{SERVICE}/GetAgent", agent_service_pb2.GetAgentRequest, method)
    async with AsyncClient(yard.url, retry_seconds=0.3) as client:
        with pytest.raises(errors.Unavailable) as raised:
            await client.agents.get("a")
    assert not isinstance(raised.value, errors.ConnectionFailed)
    assert len(method.calls) > 1


async def test_call_fails_as_a_connection_when_nobody_listens() -> None:
    """A refused connection is told from a yard that answers that it is unavailable."""
    async with AsyncClient(f"http://127.0.0.1:{free_port()}", retry_seconds=0.2) as client:
        with pytest.raises(errors.ConnectionFailed):
            await client.health()


async def test_call_fails_when_the_client_is_closed() -> None:
    """A closed client does not dial again."""
    client = AsyncClient("http://127.0.0.1:1")
    await client.close()
    with pytest.raises(errors.Cancelled):
        await client.health()


async def test_list_fetches_pages_when_they_are_needed(yard: ScriptedYard) -> None:
    """Iteration asks for the next page when the last item of one was taken, and not before."""
    asked: list[tuple[int, str]] = []

    async def pages(request: Any, _: Any) -> Any:
        asked.append((request.limit, request.page_token))
        start = int(request.page_token or 0)
        items = [agent_pb2.Agent(id=str(n)) for n in range(start, min(start + request.limit, 5))]
        token = str(start + request.limit) if start + request.limit < 5 else None
        return agent_service_pb2.ListAgentsResponse(items=items, total=5, next_page_token=token)

    yard.unary(f"{SERVICE}/ListAgents", agent_service_pb2.ListAgentsRequest, pages)
    async with AsyncClient(yard.url) as client:
        assert [agent.id async for agent in client.agents.list(page_size=2)] == ["0", "1", "2", "3", "4"]
        assert asked == [(2, ""), (2, "2"), (2, "4")]
        asked.clear()
        async for agent in client.agents.list(page_size=2):
            if agent.id == "1":
                break
    assert asked == [(2, "")]


async def test_update_tells_an_empty_list_from_an_absent_one_when_it_is_sent(yard: ScriptedYard) -> None:
    """An empty list clears, an absent one leaves."""
    requests: list[Any] = []

    async def update(request: Any, _: Any) -> Any:
        requests.append(request)
        return agent_pb2.Agent(id="a", tags=[])

    yard.unary(f"{SERVICE}/GetAgent", agent_service_pb2.GetAgentRequest, Flaky(0, agent_pb2.Agent(id="a")))
    yard.unary(f"{SERVICE}/UpdateAgent", agent_service_pb2.UpdateAgentRequest, update)
    async with AsyncClient(yard.url) as client:
        agent = await client.agents.get("a")
        await agent.update(tags=[], name="New")
    (request,) = requests
    assert request.HasField("tags")
    assert request.tags.WhichOneof("kind") == "list_value" and not request.tags.list_value.values
    assert not request.HasField("capabilities")
    assert (request.name, request.HasField("description")) == ("New", False)


def test_errors_share_one_base_when_they_are_caught() -> None:
    """One except clause is enough for everything the client raises."""
    assert all(issubclass(kind, CodeyardError) for kind in errors.BY_REASON.values())
