"""The installation itself: health, with and without its database, and the files of the documentation page."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterator

import grpc as grpc_api
import pytest
from codeyard_server.settings import VERSION
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.answers import check_error, send
from tests.support.client import Rest, rest
from tests.support.grpc_client import Grpc
from tests.support.postgres import FAST_SETTINGS, PostgresServer
from tests.support.yard import Yard, fresh_yard


async def test_health_says_what_runs(client: Rest) -> None:
    """Status, version, runner and auth mode as words, and the server's clock."""
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)
    answer = await client.ok("GET", "/health")
    moment = datetime.datetime.fromisoformat(answer.pop("timestamp"))
    assert answer == {"status": "ok", "version": VERSION, "runner_mode": "Durable", "auth_mode": "Admin"}
    assert before < moment < datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1)


@pytest.mark.parametrize("value", ["", "Bearer nonsense"])
async def test_health_needs_no_credential(client: Rest, value: str) -> None:
    """Scripts poll it; a wrong credential does not matter either."""
    assert (await send(client, "GET", "/health", headers={"authorization": value})).status == 200


async def test_health_is_served_over_grpc(grpc: Grpc, yard: Yard) -> None:
    """As a method of this API, and as the health service that gRPC tools know."""
    assert (await grpc.call("/codeyard.system.v1.SystemService/GetHealth")).status == "ok"
    async with grpc_api.aio.insecure_channel(f"127.0.0.1:{yard.port}") as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_page_without_its_slash_redirects(client: Rest) -> None:
    """303, without a body."""
    answer = await send(client, "GET", "/swagger-ui")
    assert (answer.status, answer.headers["location"], answer.body) == (303, "/swagger-ui/", b"")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("", "text/html"),
        ("index.html", "text/html"),
        ("swagger-ui.css", "text/css"),
        ("swagger-ui-bundle.js", "text/javascript"),
        ("start.js", "text/javascript"),
        ("favicon-32x32.png", "image/png"),
    ],
)
async def test_files_of_the_page_are_served_without_a_credential(client: Rest, path: str, kind: str) -> None:
    """Each with its type, and with a policy that lets nothing in from elsewhere."""
    answer = await send(client, "GET", f"/swagger-ui/{path}", headers={"authorization": ""})
    assert answer.status == 200
    assert answer.headers["content-type"].partition(";")[0] == kind
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.body


@pytest.mark.parametrize("path", ["nothing.js", "a/b", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd"])
async def test_other_files_are_not_there(client: Rest, path: str) -> None:
    """404, however the path is written."""
    check_error(await send(client, "GET", f"/swagger-ui/{path}"), 404)


@pytest.fixture(scope="module")
def fragile_yard() -> Iterator[tuple[Yard, PostgresServer]]:
    """A yard on a database that the test can take away."""
    with PostgresServer({**FAST_SETTINGS, "max_connections": "50"}) as server:
        for yard in fresh_yard({"DATABASE_URL": server.url(server.create_database())}, processes=1):
            yield yard, server


async def test_yard_says_so_while_its_database_is_gone(fragile_yard: tuple[Yard, PostgresServer]) -> None:
    """503 that names the dependency; every other call is a 503 as well; when it is back, so is the yard."""
    yard, server = fragile_yard
    async with rest(yard) as client:
        session = await client.new_session(await client.agent())
        await asyncio.to_thread(server.suspend)
        body = check_error(await send(client, "GET", "/health"), 503, "UNAVAILABLE")
        assert body["details"] == {"dependency": "database"}
        for method, path, data in (
            ("GET", "/v1/agents", None),
            ("POST", "/v1/agents", b'{"name": "x", "system_prompt": ""}'),
            ("GET", session, None),
            ("POST", f"{session}/messages", b'{"content": "hi"}'),
            ("GET", f"{session}/events", None),
        ):
            check_error(await send(client, method, path, data), 503, "UNAVAILABLE")
        await asyncio.to_thread(server.resume)
        for _ in range(300):
            if (await send(client, "GET", "/health")).status == 200:
                break
            await asyncio.sleep(0.1)
        await client.ok("POST", f"{session}/messages", {"content": "hi"})
        assert (await client.until(f"{session}/events", "session.idled"))[-2].event == "turn.completed"
