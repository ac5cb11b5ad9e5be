"""Who may call what: every RPC and every HTTP twin, over every face, with every kind of credential.

The calls are generated from the route table; an RPC without a case here fails the first test.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import aiohttp
import grpc as grpc_api
import pytest
from codeyard_server.accounts import new_key
from codeyard_server.core.permission import Permission
from codeyard_server.main import Server
from codeyard_server.settings import load_settings

from tests.support.accounts import add_key, add_user, database
from tests.support.answers import check_error, send
from tests.support.client import Rest, rest
from tests.support.grpc_client import first_answer, native, reason
from tests.support.routes import ROUTES, RPCS, SOCKETS, fill, parameters
from tests.support.world import World, new_world, unused_name
from tests.support.yard import Yard

pytestmark = pytest.mark.usefixtures("no_faults")

OK = "OK"
UNAUTHENTICATED = "UNAUTHENTICATED"
PERMISSION_DENIED = "PERMISSION_DENIED"
NOT_FOUND = "NOT_FOUND"


@dataclasses.dataclass(frozen=True)
class Case:
    """How to call an RPC, and who may."""

    fields: Callable[[World], dict[str, Any]]
    scopes: tuple[str, ...]
    """The scopes a key needs; none for a method without credentials."""
    user: str = OK
    """What a user without the administrator's role is told, for an object that another has made."""


def _agent(world: World) -> dict[str, Any]:
    return {"agent_id": world.agent}


def _session(world: World) -> dict[str, Any]:
    return {"agent_id": world.agent, "session_id": world.session}


def _nothing(_world: World) -> dict[str, Any]:
    return {}


AGENTS, SESSIONS = "codeyard.agents.v1.AgentService", "codeyard.sessions.v1.SessionService"
MESSAGES, EVENTS = "codeyard.sessions.v1.MessageService", "codeyard.sessions.v1.EventService"
CAPABILITIES, SERVERS = "codeyard.capabilities.v1.CapabilityService", "codeyard.capabilities.v1.McpServerService"
PROVIDERS, MODELS = "codeyard.models.v1.ProviderService", "codeyard.models.v1.ModelService"
SYSTEM = "codeyard.system.v1.SystemService"

_AGENT_READ, _AGENT_WRITE = ("agents:read",), ("agents:write",)
_SESSION_READ, _SESSION_WRITE = ("sessions:read",), ("sessions:write",)
_CAPABILITY_READ, _CAPABILITY_WRITE = ("capabilities:read",), ("capabilities:write",)
_MODEL_READ, _MODEL_WRITE = ("models:read",), ("models:write",)

CASES: Mapping[str, Case] = {
    f"/{AGENTS}/CreateAgent": Case(lambda _: {"name": "New", "system_prompt": ""}, _AGENT_WRITE),
    f"/{AGENTS}/ListAgents": Case(_nothing, _AGENT_READ),
    f"/{AGENTS}/GetAgent": Case(lambda w: {"id": w.agent}, _AGENT_READ),
    f"/{AGENTS}/UpdateAgent": Case(lambda w: {"id": w.agent, "name": "Changed"}, _AGENT_WRITE),
    f"/{AGENTS}/ArchiveAgent": Case(lambda w: {"id": w.agent}, _AGENT_WRITE),
    f"/{AGENTS}/ListAgentCapabilities": Case(_agent, _AGENT_READ),
    f"/{AGENTS}/SetAgentCapabilities": Case(lambda w: {**_agent(w), "capabilities": ["noop"]}, _AGENT_WRITE),
    f"/{CAPABILITIES}/ListCapabilities": Case(_nothing, _CAPABILITY_READ),
    f"/{CAPABILITIES}/GetCapability": Case(lambda _: {"capability_id": "noop"}, _CAPABILITY_READ),
    f"/{SERVERS}/CreateMcpServer": Case(
        lambda _: {"name": unused_name(), "url": "https://x.test/mcp"}, _CAPABILITY_WRITE
    ),
    f"/{SERVERS}/ListMcpServers": Case(_nothing, _CAPABILITY_READ),
    f"/{SERVERS}/GetMcpServer": Case(lambda w: {"id": w.server}, _CAPABILITY_READ, user=NOT_FOUND),
    f"/{SERVERS}/DeleteMcpServer": Case(lambda w: {"id": w.server}, _CAPABILITY_WRITE, user=NOT_FOUND),
    f"/{PROVIDERS}/CreateProvider": Case(
        lambda _: {"name": "New", "provider_type": "llmsim"}, _MODEL_WRITE, user=PERMISSION_DENIED
    ),
    f"/{PROVIDERS}/ListProviders": Case(_nothing, _MODEL_READ),
    f"/{PROVIDERS}/GetProvider": Case(lambda w: {"id": w.provider}, _MODEL_READ),
    f"/{PROVIDERS}/UpdateProvider": Case(
        lambda w: {"id": w.provider, "name": "Changed"}, _MODEL_WRITE, user=PERMISSION_DENIED
    ),
    f"/{PROVIDERS}/DeleteProvider": Case(lambda w: {"id": w.provider}, _MODEL_WRITE, user=PERMISSION_DENIED),
    f"/{MODELS}/CreateModel": Case(
        lambda w: {"provider_id": w.provider, "model_id": "llmsim-new", "display_name": "New"},
        _MODEL_WRITE,
        user=PERMISSION_DENIED,
    ),
    f"/{MODELS}/ListProviderModels": Case(lambda w: {"provider_id": w.provider}, _MODEL_READ),
    f"/{MODELS}/ListModels": Case(_nothing, _MODEL_READ),
    f"/{MODELS}/GetModel": Case(lambda w: {"id": w.model}, _MODEL_READ),
    f"/{MODELS}/UpdateModel": Case(
        lambda w: {"id": w.model, "display_name": "Changed"}, _MODEL_WRITE, user=PERMISSION_DENIED
    ),
    f"/{MODELS}/DeleteModel": Case(lambda w: {"id": w.model}, _MODEL_WRITE, user=PERMISSION_DENIED),
    f"/{SESSIONS}/CreateSession": Case(_agent, _SESSION_WRITE),
    f"/{SESSIONS}/ListSessions": Case(_agent, _SESSION_READ),
    f"/{SESSIONS}/GetSession": Case(_session, _SESSION_READ),
    f"/{SESSIONS}/UpdateSession": Case(lambda w: {**_session(w), "title": "Changed"}, _SESSION_WRITE),
    f"/{SESSIONS}/DeleteSession": Case(_session, _SESSION_WRITE),
    f"/{SESSIONS}/CancelTurn": Case(_session, _SESSION_WRITE),
    f"/{SESSIONS}/Attach": Case(lambda w: {"start": _session(w)}, (*_SESSION_READ, *_SESSION_WRITE)),
    f"/{MESSAGES}/CreateMessage": Case(lambda w: {**_session(w), "role": "system", "content": "x"}, _SESSION_WRITE),
    f"/{MESSAGES}/ListMessages": Case(_session, _SESSION_READ),
    f"/{EVENTS}/Subscribe": Case(_session, _SESSION_READ),
    f"/{EVENTS}/ListEvents": Case(_session, _SESSION_READ),
    f"/{SYSTEM}/GetHealth": Case(_nothing, ()),
    f"/{SYSTEM}/GetOpenApi": Case(_nothing, ()),
    f"/{SYSTEM}/GetSwaggerUi": Case(_nothing, ()),
}


@dataclasses.dataclass(frozen=True)
class Target:
    """One way to make a call: an RPC by its name, or the HTTP route or the WebSocket that leads to it."""

    rpc: str
    face: str
    verb: str = ""
    path: str = ""
    accept: str = "*/*"

    @property
    def case(self) -> Case:
        """The case of the RPC, or of the one whose twin it is."""
        return CASES[RPCS[self.rpc]["twin_of"] or self.rpc]

    def __str__(self) -> str:
        return f"{self.face}-{self.rpc.rsplit('/', 1)[1]}"


def targets() -> Iterator[Target]:
    """Return every way to make a call."""
    yield from (Target(rpc, "grpc") for rpc in RPCS)
    for route in ROUTES:
        yield Target(route["http_rpc"], "rest", route["verb"], route["path"])
        if route["json_rpc"]:
            yield Target(route["json_rpc"], "rest", route["verb"], route["path"], "application/json")
    yield from (Target(f"{socket['rpc']}Http", "socket", "GET", socket["path"]) for socket in SOCKETS)


TARGETS = list(targets())
GUARDED = [target for target in TARGETS if RPCS[target.rpc]["authenticated"]]


async def call(target: Target, yard: Yard, world: World, authorization: str | None) -> str:
    """Make the call, and return OK or the reason of its failure."""
    headers = {} if authorization is None else {"authorization": authorization}
    fields = target.case.fields(world)
    if target.face == "grpc":
        return await _call_grpc(target, yard, fields, headers)
    values = fields.get("start", fields)
    url = yard.url + fill(target.path, {name: urllib.parse.quote(str(value)) for name, value in values.items()})
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        if target.face == "socket":
            return await _open_socket(session, url, headers)
        body = {name: value for name, value in fields.items() if name not in parameters(target.path)}
        data = json.dumps(body) if target.verb in ("POST", "PUT", "PATCH") else None
        sent = {"accept": target.accept, **({"content-type": "application/json"} if data else {}), **headers}
        async with session.request(target.verb, url, data=data, headers=sent) as answer:
            if answer.status < 400:
                return OK
            body = await answer.json()
            assert body["status"] == answer.status
            return str(body["code"])


async def _call_grpc(target: Target, yard: Yard, fields: dict[str, Any], headers: dict[str, str]) -> str:
    streaming = RPCS[target.rpc]["streaming"]
    async with native(yard, headers) as grpc:
        try:
            if streaming == "unary":
                await grpc.call(target.rpc, fields)
            elif streaming == "server":
                await grpc.stream(target.rpc, fields).read()
            else:
                await asyncio.to_thread(first_answer, yard, target.rpc, fields, headers)
        except grpc_api.RpcError as error:
            return reason(error)
    return OK


async def _open_socket(session: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> str:
    try:
        async with session.ws_connect(url, headers=headers) as socket:
            message = await socket.receive()
            return OK if message.type is aiohttp.WSMsgType.TEXT else str(message.extra).partition(":")[0]
    except aiohttp.WSServerHandshakeError as error:
        return {401: UNAUTHENTICATED, 403: PERMISSION_DENIED, 404: NOT_FOUND}[error.status]


async def snapshot(client: Rest, world: World) -> list[Any]:
    """Return everything a call could have changed."""
    session = f"/v1/agents/{world.agent}/sessions/{world.session}"
    places = [
        f"/v1/agents/{world.agent}",
        session,
        f"{session}/messages",
        f"/v1/llm-providers/{world.provider}",
        f"/v1/llm-providers/{world.provider}/models",
        f"/v1/mcp-servers/{world.server}",
    ]
    totals = ["/v1/agents", f"/v1/agents/{world.agent}/sessions", "/v1/llm-providers", "/v1/mcp-servers"]
    found: list[Any] = [await client.ok("GET", place) for place in places]
    return found + [(await client.ok("GET", f"{place}?limit=1"))["total"] for place in totals]


@dataclasses.dataclass(frozen=True)
class Keys:
    """Credentials of all kinds, as values of the Authorization header; None is none."""

    invalid: Mapping[str, str | None]
    user: str
    administrator: uuid.UUID


@pytest.fixture(scope="module")
def world(yard: Yard) -> World:
    """Objects that no test of this module may change."""

    async def make() -> World:
        async with rest(yard) as client:
            return await new_world(client)

    return asyncio.run(make())


@pytest.fixture(scope="module")
def keys(yard: Yard) -> Keys:
    """The credentials."""

    async def make() -> Keys:
        async with database(yard) as connection:
            administrator = await connection.fetchval("SELECT id FROM users WHERE email = 'admin@local'")
        revoked = await add_key(yard, administrator, revoked=True)
        expired = await add_key(yard, administrator, expired=True)
        user = await add_key(yard, await add_user(yard, "user"))
        invalid = {
            "none": None,
            "malformed": "Bearer nonsense",
            "another scheme": f"Basic {yard.token}",
            "truncated": yard.headers["authorization"][:-1],
            "unknown": f"Bearer {new_key()}",
            "revoked": revoked.headers["authorization"],
            "expired": expired.headers["authorization"],
        }
        return Keys(invalid, user.headers["authorization"], administrator)

    return asyncio.run(make())


def test_every_rpc_has_a_case() -> None:
    """A new RPC needs a case above: who may call it is decided by a person."""
    declared = {rpc["twin_of"] or path for path, rpc in RPCS.items()}
    assert declared == set(CASES)
    for path, case in CASES.items():
        assert bool(case.scopes) == RPCS[path]["authenticated"]
        assert set(case.scopes) <= set(Permission)


async def test_server_registers_exactly_the_rpcs_of_the_table(database_url: str, tmp_path: Any) -> None:
    """Nothing can be called that has no case, twins included."""
    settings = load_settings(
        {
            "DATABASE_URL": database_url,
            "CODEYARD_ADMIN_KEY": new_key(),
            "SECRETS_ENCRYPTION_KEY": "k:" + "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=",
            "CODEYARD_SOCKET": str(tmp_path / "s.sock"),
            "CODEYARD_EDGE_SOCKET": str(tmp_path / "e.sock"),
            "CODEYARD_BLOB_URL": (tmp_path / "blobs").as_uri(),
        }
    )
    server = Server(settings)
    await server.start()
    try:
        assert len(server.paths) == len(set(server.paths))
        assert set(server.paths) == set(RPCS)
    finally:
        await server.stop()


@pytest.mark.parametrize("target", GUARDED, ids=str)
async def test_call_is_refused_without_a_valid_credential(
    client: Rest, yard: Yard, keys: Keys, world: World, target: Target
) -> None:
    """None, malformed, unknown, revoked or expired: UNAUTHENTICATED, and nothing has happened."""
    before = await snapshot(client, world)
    for kind, authorization in keys.invalid.items():
        assert await call(target, yard, world, authorization) == UNAUTHENTICATED, kind
    assert await snapshot(client, world) == before


@pytest.mark.parametrize("target", GUARDED, ids=str)
async def test_call_is_refused_when_the_key_lacks_a_scope(
    client: Rest, yard: Yard, keys: Keys, world: World, target: Target
) -> None:
    """All scopes but one that it needs, or none at all: PERMISSION_DENIED, also to an administrator."""
    before = await snapshot(client, world)
    for missing in target.case.scopes:
        holder = await add_key(yard, keys.administrator, sorted(set(Permission) - {missing}))
        assert await call(target, yard, world, holder.headers["authorization"]) == PERMISSION_DENIED, missing
    empty = await add_key(yard, keys.administrator, ())
    assert await call(target, yard, world, empty.headers["authorization"]) == PERMISSION_DENIED
    assert await snapshot(client, world) == before


@pytest.mark.parametrize("target", [target for target in GUARDED if target.case.user != OK], ids=str)
async def test_call_is_refused_to_another_user(
    client: Rest, yard: Yard, keys: Keys, world: World, target: Target
) -> None:
    """Administration takes the role; what belongs to somebody else is not found."""
    before = await snapshot(client, world)
    assert await call(target, yard, world, keys.user) == target.case.user
    assert await snapshot(client, world) == before


@pytest.mark.parametrize("target", [target for target in TARGETS if target.case.user == OK], ids=str)
async def test_call_is_open_to_every_user_when_the_object_is_the_installations(
    client: Rest, yard: Yard, keys: Keys, target: Target
) -> None:
    """Agents, sessions, models and the catalogue are seen by all, whoever made them."""
    assert await call(target, yard, await new_world(client), keys.user) == OK


@pytest.mark.parametrize("target", TARGETS, ids=str)
async def test_call_succeeds_with_exactly_its_scopes(client: Rest, yard: Yard, keys: Keys, target: Target) -> None:
    """The one who made the objects needs no more than the documented scopes; an open method needs nothing."""
    world = await new_world(client)
    if not target.case.scopes:
        assert await call(target, yard, world, None) == OK
        return
    holder = await add_key(yard, keys.administrator, target.case.scopes)
    assert await call(target, yard, world, holder.headers["authorization"]) == OK


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER   {}", "ApiKey {}", "{}"])
async def test_credential_is_taken_in_every_documented_form(yard: Yard, world: World, form: str) -> None:
    """With either scheme in any case, or bare; over REST and native gRPC."""
    authorization = form.format(yard.token)
    for target in (
        Target(f"/{AGENTS}/GetAgent", "rest", "GET", "/v1/agents/{id}"),
        Target(f"/{AGENTS}/GetAgent", "grpc"),
    ):
        assert await call(target, yard, world, authorization) == OK


async def test_refusal_says_how_to_authenticate_and_never_quotes_the_credential(client: Rest) -> None:
    """401 with WWW-Authenticate, in the flat shape."""
    secret = new_key()
    for value in (f"Bearer {secret}", f"Nonsense {secret}", secret):
        answer = await send(client, "GET", "/v1/agents", headers={"authorization": value})
        check_error(answer, 401, UNAUTHENTICATED)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert secret not in str(answer)


async def test_revoking_a_key_acts_at_once(yard: Yard, keys: Keys, world: World) -> None:
    """In every process: the key is looked up on each call."""
    holder = await add_key(yard, keys.administrator)
    target = Target(f"/{AGENTS}/GetAgent", "rest", "GET", "/v1/agents/{id}")
    for _ in range(4):
        assert await call(target, yard, world, holder.headers["authorization"]) == OK
    async with database(yard) as connection:
        await connection.execute(
            "UPDATE api_keys SET revoked_at = now() WHERE user_id = $1 AND name = 'test'", keys.administrator
        )
    for _ in range(4):
        assert await call(target, yard, world, holder.headers["authorization"]) == UNAUTHENTICATED


async def test_server_for_everybody_takes_an_administrator(yard: Yard, keys: Keys, world: World) -> None:
    """A user sees it, and may neither add nor delete one."""
    async with rest(dataclasses.replace(yard, token=keys.user.removeprefix("Bearer "))) as user:
        path = f"/v1/mcp-servers/{world.shared_server}"
        assert (await user.ok("GET", path))["installation_wide"] is True
        check_error(await send(user, "DELETE", path), 403, PERMISSION_DENIED)
        body = json.dumps({"name": unused_name(), "url": "https://x.test/mcp", "installation_wide": True}).encode()
        check_error(await send(user, "POST", "/v1/mcp-servers", body), 403, PERMISSION_DENIED)
        await user.ok("GET", path)


async def test_lists_leave_out_what_belongs_to_others(client: Rest, yard: Yard, keys: Keys, world: World) -> None:
    """Another user's MCP server is in no list of mine, and no capability of mine."""
    async with rest(dataclasses.replace(yard, token=keys.user.removeprefix("Bearer "))) as user:
        listed = {server["id"] for server in (await user.ok("GET", "/v1/mcp-servers"))["items"]}
        own = await client.ok("GET", f"/v1/mcp-servers/{world.server}")
        assert world.server not in listed
        assert world.shared_server in listed
        offered = {item["id"] for item in (await user.ok("GET", "/v1/capabilities"))["items"]}
        assert own["capability_id"] not in offered
        status, answer = await user.call(
            "POST", "/v1/agents", {"name": "x", "system_prompt": "", "capabilities": [own["capability_id"]]}
        )
        assert (status, answer["code"]) == (400, "CAPABILITY_INVALID")
    assert world.server in {server["id"] for server in (await client.ok("GET", "/v1/mcp-servers"))["items"]}
