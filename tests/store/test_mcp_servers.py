"""Stored MCP servers: who sees them, what is kept secret, and what a turn gets of them."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
from codeyard.capabilities.v1 import capability_service_pb2 as capability_api
from codeyard.capabilities.v1 import mcp_server_pb2
from codeyard.capabilities.v1 import mcp_server_service_pb2 as pb
from codeyard_server.adapters.html_converter import ProcessHtmlConverter
from codeyard_server.adapters.outbound import AddressGuard
from codeyard_server.adapters.web_client import WebClient
from codeyard_server.capabilities import Catalogue, HeaderSecrets, McpServers, builtin_capabilities
from codeyard_server.capabilities.ports import McpServer, McpTool, ToolError
from codeyard_server.capabilities.service import CapabilityService, McpServerService
from codeyard_server.core import errors
from codeyard_server.core.call import Call
from codeyard_server.core.caller import Caller
from codeyard_server.core.clock import utc_now
from codeyard_server.core.database import Database
from codeyard_server.core.scope import Role, Scope
from codeyard_server.vault import MasterKey, Vault
from google.protobuf import json_format

TOOL = McpTool("find.it", "Find it.", {"type": "object", "properties": {"q": {"type": "string"}}}, read_only=True)
CONFIGURED = McpServer(key="config/files", name="files", command="/usr/bin/files")


class Client:
    """Stands for the connections: remembers whom it was asked to reach, and fails for the name "down"."""

    def __init__(self) -> None:
        self.reached: list[McpServer] = []

    async def tools(self, server: McpServer) -> Sequence[McpTool]:
        """Return one tool."""
        self.reached.append(server)
        if server.name == "down":
            raise ToolError("The MCP server down cannot be reached")
        return [TOOL]

    async def call(self, server: McpServer, tool: McpTool, arguments: Mapping[str, Any]) -> Any:
        """Return what was asked."""
        return [server.name, tool.name, dict(arguments)]

    async def aclose(self) -> None:
        """Do nothing."""


@dataclasses.dataclass
class Yard:
    """The services over one database."""

    database: Database
    client: Client
    catalogue: Catalogue
    capabilities: CapabilityService
    servers: McpServerService

    async def create(self, call: Call, name: str = "tickets", **members: Any) -> mcp_server_pb2.McpServer:
        """Create a server."""
        request = pb.CreateMcpServerRequest(name=name, url=f"https://{name}.example.com/mcp", **members)
        return await self.servers.create_mcp_server(request, call)

    async def names(self, call: Call) -> list[str]:
        """Return the names of the servers the caller sees."""
        return [item.name for item in (await self.servers.list_mcp_servers(pb.ListMcpServersRequest(), call)).items]

    async def ids(self, call: Call) -> list[str]:
        """Return the capability ids of MCP servers in the caller's catalogue."""
        response = await self.capabilities.list_capabilities(capability_api.ListCapabilitiesRequest(), call)
        return [item.id for item in response.items if item.id.startswith("mcp:")]


def as_user(number: int, *roles: Role) -> Call:
    """A call of a user."""
    call = Call("/test", [])
    user = uuid.UUID(int=number)
    call.caller = Caller(user, f"{number}@example.com", "", frozenset(roles or (Role.USER,)), "api_key", frozenset("*"))
    return call


ANNA, BEN, ADMIN = as_user(1), as_user(2), as_user(3, Role.ADMIN)


def scope_of(call: Call) -> Scope:
    """The scope of a call's user."""
    assert call.caller is not None
    return Scope(user_id=call.caller.user_id, roles=call.caller.roles)


def wire(database: Database, keys: Sequence[MasterKey]) -> Yard:
    """Wire the domain as main.py does."""
    client, secrets = Client(), HeaderSecrets(Vault(keys))
    servers = McpServers(database, secrets, client, [CONFIGURED])
    catalogue = Catalogue(builtin_capabilities(WebClient(AddressGuard()), ProcessHtmlConverter()), servers)
    service = McpServerService(database, servers, secrets, utc_now)
    return Yard(database, client, catalogue, CapabilityService(catalogue), service)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An empty database."""
    database = await Database.connect(database_url, size=4)
    yield database
    await database.close()


@pytest.fixture
def yard(database: Database) -> Yard:
    """The domain with a master key."""
    return wire(database, [MasterKey("k1", b"k" * 32)])


async def test_created_server_is_returned_without_its_secrets(yard: Yard) -> None:
    """The answer names the headers; nobody ever gets their values back."""
    created = await yard.create(ANNA, headers={"X-B": "secret-b", "Authorization": "Bearer secret-a"})
    assert (created.name, created.url, created.capability_id) == (
        "tickets",
        "https://tickets.example.com/mcp",
        "mcp:tickets",
    )
    assert list(created.header_names) == ["Authorization", "X-B"]
    assert not created.installation_wide
    got = await yard.servers.get_mcp_server(pb.GetMcpServerRequest(id=created.id), ANNA)
    assert got == created
    assert "secret" not in str(got)


async def test_stored_headers_are_sealed_and_reach_only_the_server(yard: Yard) -> None:
    """The database holds ciphertext that fits this row only; the client gets the values."""
    created = await yard.create(ANNA, headers={"Authorization": "Bearer secret-a"})
    async with yard.database.connection() as tx:
        sealed = bytes(await tx.value("SELECT headers FROM mcp_servers"))
    assert b"secret" not in sealed
    assert json.loads(sealed)["alg"] == "AES-256-GCM"
    await yard.catalogue.resolve(scope_of(ANNA), ["mcp:tickets"])
    (reached,) = yard.client.reached
    assert reached.headers == {"Authorization": "Bearer secret-a"}
    assert (reached.key, reached.url) == (f"stored/{created.id}", "https://tickets.example.com/mcp")
    assert "secret" not in repr(reached)


async def test_headers_need_a_master_key(database: Database) -> None:
    """Without a vault a server with secrets is refused, and one without is stored."""
    yard = wire(database, [])
    with pytest.raises(errors.VaultNotConfigured):
        await yard.create(ANNA, headers={"X": "secret"})
    await yard.create(ANNA)
    assert await yard.names(ANNA) == ["tickets"]


async def test_user_sees_his_own_servers_and_those_of_the_installation(yard: Yard) -> None:
    """Another user's server is in no list, and cannot be read, used or deleted."""
    mine = await yard.create(ANNA, "anna")
    await yard.create(BEN, "ben")
    await yard.create(ADMIN, "all", installation_wide=True)
    assert await yard.names(ANNA) == ["all", "anna"]
    assert await yard.names(BEN) == ["all", "ben"]
    assert await yard.ids(ANNA) == ["mcp:files", "mcp:all", "mcp:anna"]
    assert await yard.ids(ADMIN) == ["mcp:files", "mcp:all"]
    for call in (BEN, ADMIN):
        with pytest.raises(errors.NotFound):
            await yard.servers.get_mcp_server(pb.GetMcpServerRequest(id=mine.id), call)
        with pytest.raises(errors.NotFound):
            await yard.servers.delete_mcp_server(pb.DeleteMcpServerRequest(id=mine.id), call)
        with pytest.raises(errors.CapabilityInvalid):
            await yard.catalogue.validate(scope_of(call), ["mcp:anna"])
        assert (await yard.catalogue.resolve(scope_of(call), ["mcp:anna"])).tools == ()
    assert yard.client.reached == []


async def test_job_of_nobody_uses_only_servers_of_the_installation(yard: Yard) -> None:
    """A scope without a user does not open every user's servers."""
    await yard.create(ANNA, "anna")
    await yard.create(ADMIN, "all", installation_wide=True)
    listed = await yard.catalogue.list(Scope.system("test"))
    assert [item.id for item in listed if item.tool_type == "mcp"] == ["mcp:files", "mcp:all"]


async def test_only_an_administrator_manages_servers_of_the_installation(yard: Yard) -> None:
    """Others may use them."""
    with pytest.raises(errors.PermissionDenied):
        await yard.create(ANNA, installation_wide=True)
    shared = await yard.create(ADMIN, "all", installation_wide=True)
    with pytest.raises(errors.PermissionDenied):
        await yard.servers.delete_mcp_server(pb.DeleteMcpServerRequest(id=shared.id), ANNA)
    assert await yard.catalogue.validate(scope_of(ANNA), ["mcp:all"]) == ["mcp:all"]
    await yard.servers.delete_mcp_server(pb.DeleteMcpServerRequest(id=shared.id), ADMIN)
    assert await yard.names(ADMIN) == []


async def test_name_is_taken_once_in_the_installation(yard: Yard) -> None:
    """Also by another user's server, and by one of the administrator's file."""
    await yard.create(ANNA)
    for call, name in ((ANNA, "tickets"), (BEN, "tickets"), (ANNA, "files")):
        with pytest.raises(errors.AlreadyExists):
            await yard.create(call, name)


async def test_list_is_paged_by_name(yard: Yard) -> None:
    """Limit and offset cut the list; the total does not change."""
    for name in ("c", "a", "b"):
        await yard.create(ANNA, name)
    page = await yard.servers.list_mcp_servers(pb.ListMcpServersRequest(limit=1, offset=1), ANNA)
    assert [item.name for item in page.items] == ["b"]
    assert page.total == 3


async def test_deleted_server_is_passed_over_by_agents_that_name_it(yard: Yard) -> None:
    """The agent goes on with its other capabilities."""
    created = await yard.create(ANNA)
    await yard.servers.delete_mcp_server(pb.DeleteMcpServerRequest(id=created.id), ANNA)
    resolved = await yard.catalogue.resolve(scope_of(ANNA), ["mcp:tickets", "current_time"])
    assert [tool.name for tool in resolved.tools] == ["get_current_time"]
    with pytest.raises(errors.NotFound):
        await yard.servers.delete_mcp_server(pb.DeleteMcpServerRequest(id=created.id), ANNA)


async def test_tools_of_a_server_carry_its_name(yard: Yard) -> None:
    """The model calls them under a name that every vendor takes; the server gets its own name for them."""
    await yard.create(ANNA)
    resolved = await yard.catalogue.resolve(scope_of(ANNA), ["mcp:files", "mcp:tickets"])
    names = [tool.name for tool in resolved.tools]
    assert len(set(names)) == 2
    assert all(
        name.startswith(prefix) for name, prefix in zip(names, ("files__find_it", "tickets__find_it"), strict=True)
    )
    assert [(tool.description, tool.read_only, tool.policy) for tool in resolved.tools] == [
        ("Find it.", True, "auto")
    ] * 2
    # A call needs nothing of its context.
    assert await resolved.tools[1].run({"q": "x"}, None) == ["tickets", "find.it", {"q": "x"}]  # type: ignore[arg-type]


async def test_server_that_is_down_adds_a_line_to_the_prompt(yard: Yard) -> None:
    """A turn goes on without it, and the model knows why."""
    await yard.create(ANNA, "down")
    resolved = await yard.catalogue.resolve(scope_of(ANNA), ["mcp:down", "test_math"])
    assert len(resolved.tools) == 4
    assert resolved.prompt_additions[0] == "The MCP server down cannot be reached. Its tools are missing for now."


async def test_capability_of_a_server_shows_its_tools(yard: Yard) -> None:
    """The detail asks the server; the list does not."""
    await yard.create(ANNA)
    await yard.ids(ANNA)
    assert yard.client.reached == []
    request = capability_api.GetCapabilityRequest(capability_id="mcp:tickets")
    capability = await yard.capabilities.get_capability(request, ANNA)
    (tool,) = capability.tool_definitions
    assert (capability.status, tool.type, tool.policy) == ("available", "mcp", "auto")
    assert json_format.MessageToDict(tool.parameters) == TOOL.parameters


async def test_built_in_capability_is_shown_with_prompt_and_tools(yard: Yard) -> None:
    """Also under its alias; what is not built has no tools."""
    request = capability_api.GetCapabilityRequest(capability_id="file_system")
    capability = await yard.capabilities.get_capability(request, ANNA)
    assert (capability.id, capability.name, capability.icon) == ("session_file_system", "File System", "hard-drive")
    assert capability.system_prompt.startswith("## Session files")
    assert [tool.type for tool in capability.tool_definitions] == ["builtin"] * 6
    assert capability.tool_definitions[1].parameters["additionalProperties"] is False
    noop = await yard.capabilities.get_capability(capability_api.GetCapabilityRequest(capability_id="noop"), ANNA)
    assert not noop.HasField("system_prompt")
    assert not noop.tool_definitions
    with pytest.raises(errors.NotFound):
        await yard.capabilities.get_capability(capability_api.GetCapabilityRequest(capability_id="nope"), ANNA)
