"""Several server processes behind one gateway: what happens when they die, and how the gateway itself runs."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from codeyard_gateway.render import envoy_command, write_gateway

from tests.gateway.fixture_api import fixture_image
from tests.gateway.gateway import Gateway, counters, until


@pytest.fixture
def pair() -> Iterator[Gateway]:
    """A gateway with two processes that a test may kill."""
    with Gateway(unary_timeout_seconds=30) as running:
        yield running


@pytest.fixture
async def client(pair: Gateway) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client of that gateway."""
    async with aiohttp.ClientSession(pair.url) as session:
        yield session


async def status(client: aiohttp.ClientSession, verb: str, path: str, **options: object) -> int:
    """Return the status of one request whose answer does not matter."""
    async with client.request(verb, path, **options) as answer:  # type: ignore[arg-type]
        await answer.read()
        return answer.status


@pytest.mark.parametrize(
    ("verb", "path", "body", "outcome"),
    [
        ("GET", "/v1/things/hold-backend-0", None, 200),
        ("POST", "/v1/things", {"title": "hold-backend-0"}, 503),
    ],
)
async def test_read_in_flight_is_repeated_and_a_write_is_not_when_its_process_is_killed(
    pair: Gateway, client: aiohttp.ClientSession, verb: str, path: str, body: object, outcome: int
) -> None:
    """A write might have happened already, so its caller must decide; later calls all go to the other process."""
    calls: list[asyncio.Future[int]] = []
    held: dict[str, int] = {}

    async def all_arrived() -> bool:
        held.update(await counters(client, "held", 2))
        return sum(held.values()) == len(calls)

    while held.get("backend-0", 0) < 3:
        # Several at a time, or each might be the one that goes to the other process.
        calls += [asyncio.ensure_future(status(client, verb, path, json=body)) for _ in range(4)]
        await until(all_arrived)
    pair.backends[0].send(signal.SIGKILL)
    statuses = await asyncio.gather(*calls)
    success = 200 if verb == "GET" else 201
    hanging = held["backend-0"]
    assert statuses.count(outcome) - (held["backend-1"] if outcome == success else 0) == hanging
    repeated = hanging if outcome == success else 0
    assert await counters(client, "held", 1) == {"backend-1": held["backend-1"] + repeated}
    later = [await status(client, "POST", "/v1/things", json={"title": "x"}) for _ in range(20)]
    assert later == [201] * 20


async def test_process_that_comes_back_is_used_again(pair: Gateway, client: aiohttp.ClientSession) -> None:
    """Health checks take a dead process out and bring it back."""
    victim = pair.backends[1]
    victim.stop()
    await until(lambda: _has_healthy(pair, 1))
    assert await status(client, "GET", "/v1/things/a") == 200
    victim.start()
    victim.wait_ready()
    await until(lambda: _has_healthy(pair, 2))
    assert len(await counters(client, "held", 2)) == 2


async def _has_healthy(gateway: Gateway, processes: int) -> bool:
    return gateway.healthy_servers() == processes


async def test_everything_is_503_in_our_shape_when_no_process_lives(
    pair: Gateway, client: aiohttp.ClientSession
) -> None:
    """At once and after the health checks noticed; sockets too."""
    for backend in pair.backends:
        backend.stop()
    for _ in range(2):
        for path in ("/v1/things/a", "/v1/things/a/events"):
            async with client.get(path) as answer:
                body = await answer.json()
                assert (answer.status, body["code"], body["status"]) == (503, "UNAVAILABLE", 503)
        async with client.post("/v2/nested", json={}) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (503, "UNAVAILABLE")
        web = {"content-type": "application/grpc-web+proto"}
        async with client.post("/yardtest.v1.ThingService/GetThing", data=bytes(5), headers=web) as answer:
            assert answer.headers["grpc-status"] == "14"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect("/v1/things/a/attach")
        assert refused.value.status == 503
        await until(lambda: _has_healthy(pair, 0))


async def test_stream_is_cut_when_its_process_is_killed(pair: Gateway, client: aiohttp.ClientSession) -> None:
    """A reader must notice that the stream did not end by itself."""
    async with client.get("/v1/things/a/events") as stream:
        assert await stream.content.readuntil(b"\n\n")
        for backend in pair.backends:
            backend.send(signal.SIGKILL)
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.content.read()


async def test_socket_is_cut_when_its_process_is_killed(pair: Gateway, client: aiohttp.ClientSession) -> None:
    """Without a close frame, which clients call 1006."""
    async with client.ws_connect("/v1/things/a/attach", headers={"authorization": "Bearer t"}) as socket:
        assert (await socket.receive_json())["id"] == "a"
        for backend in pair.backends:
            backend.send(signal.SIGKILL)
        await socket.receive()
        assert socket.close_code == 1006


async def test_second_gateway_on_the_same_port_does_not_start(gateway: Gateway) -> None:
    """With a shared port it would silently take half of the connections."""
    folder = gateway.folder / "second"
    config = write_gateway(gateway.settings, fixture_image(), folder)
    text = config.read_text().replace("admin.sock", "other.sock")
    config.write_text(text)
    command = envoy_command(gateway.settings, config)
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=30, check=False)
    assert ended.returncode != 0
    assert b"Address already in use" in ended.stderr


async def test_administration_is_for_its_owner_only(gateway: Gateway) -> None:
    """It can stop the gateway and shows its configuration: a unix socket without access for others, no port."""
    path = gateway.folder / "admin.sock"
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    listeners = json.loads(gateway.admin("/listeners?format=json"))["listener_statuses"]
    assert [listener["name"] for listener in listeners] == ["public"]


async def test_access_log_is_json_without_the_query() -> None:
    """A query may hold a token."""
    with Gateway(backends=1, access_log="/dev/stdout") as logged:
        async with aiohttp.ClientSession(logged.url) as client:
            assert await status(client, "GET", "/v1/things/a?title=secret", headers={"x-request-id": "my-id"}) == 200
            assert await status(client, "GET", "/v1/nothing?title=secret") == 404
        logged.admin("/quitquitquit", "POST")
        logged.wait_end()
        lines = [json.loads(line) for line in logged.log.splitlines()]
    found = [(line["method"], line["path"], line["status"], line["request_id"]) for line in lines]
    assert found[0] == ("GET", "/v1/things/a", 200, "my-id")
    assert found[1][:3] == ("GET", "/v1/nothing", 404)
    assert "secret" not in str(lines)


async def test_stop_after_a_drain_lets_streams_end_first() -> None:
    """The drained gateway takes no new connections, and what is open goes on until it is told to stop."""
    with Gateway(backends=1) as drained:
        async with aiohttp.ClientSession(drained.url) as client, client.get("/v1/things/a/events") as stream:
            assert await stream.content.readuntil(b"\n\n")
            drained.admin("/drain_listeners?graceful", "POST")
            await until(lambda: _refuses(drained.port))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.content.read(1), 0.05)


async def _refuses(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return True
    writer.close()
    return False
