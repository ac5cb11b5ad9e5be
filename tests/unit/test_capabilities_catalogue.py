"""The catalogue of capabilities, and how a set of them becomes prompt and tools."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import jsonschema
import pytest
from codeyard_server.adapters.html_converter import ProcessHtmlConverter
from codeyard_server.adapters.outbound import AddressGuard
from codeyard_server.adapters.web_client import WebClient
from codeyard_server.capabilities import Catalogue, builtin_capabilities, logic
from codeyard_server.capabilities.definition import Capability, FunctionTool, arguments_schema
from codeyard_server.core import errors
from codeyard_server.core.scope import Role, Scope

SCOPE = Scope(user_id=uuid.UUID(int=1), roles=frozenset({Role.USER}))
BUILTIN = builtin_capabilities(WebClient(AddressGuard()), ProcessHtmlConverter())
TOOLS = [tool for capability in BUILTIN for tool in capability.tools]


class Servers:
    """MCP servers that a test gives, one of them without an answer."""

    def __init__(self, *capabilities: Capability) -> None:
        self.capabilities = capabilities

    async def list(self, scope: Scope) -> Sequence[Capability]:
        """Return all."""
        return self.capabilities

    async def load(self, scope: Scope, capability_id: str) -> Capability | None:
        """Return one."""
        return next((capability for capability in self.capabilities if capability.id == capability_id), None)


async def _nothing(_arguments: object, _context: object) -> None:
    return None


def tool(name: str, description: str = "") -> FunctionTool:
    """A tool that does nothing."""
    return FunctionTool(name, description, arguments_schema(), _nothing)


@pytest.fixture
def catalogue() -> Catalogue:
    """The built-in catalogue."""
    return Catalogue(BUILTIN)


async def test_list_has_the_documented_order(catalogue: Catalogue) -> None:
    """The order is fixed, whatever process answers."""
    assert [capability.id for capability in await catalogue.list(SCOPE)] == [
        "noop",
        "current_time",
        "research",
        "sandbox",
        "session_file_system",
        "test_math",
        "test_weather",
        "stateless_todo_list",
        "web_fetch",
        "fake_warehouse",
        "fake_aws",
        "fake_crm",
        "fake_financial",
    ]


async def test_list_ends_with_the_servers_when_there_are_some() -> None:
    """MCP servers follow the built-in capabilities."""
    server = Capability(id="mcp:tickets", name="tickets", description="", tool_type="mcp")
    listed = await Catalogue(BUILTIN, Servers(server)).list(SCOPE)
    assert listed[-1] is server
    assert len(listed) == len(BUILTIN) + 1


@pytest.mark.parametrize(
    ("capability_id", "tools"),
    [
        ("noop", []),
        ("current_time", ["get_current_time"]),
        (
            "session_file_system",
            ["read_file", "write_file", "list_directory", "grep_files", "delete_file", "stat_file"],
        ),
        ("test_math", ["add", "subtract", "multiply", "divide"]),
        ("test_weather", ["get_weather", "get_forecast"]),
        ("stateless_todo_list", ["write_todos"]),
        ("web_fetch", ["web_fetch"]),
    ],
)
async def test_available_capability_offers_the_documented_tools(
    catalogue: Catalogue, capability_id: str, tools: list[str]
) -> None:
    """Each available capability has its tools, in order."""
    capability = await catalogue.get(SCOPE, capability_id)
    assert capability.status == "available"
    assert [tool.name for tool in capability.tools] == tools


@pytest.mark.parametrize(
    "capability_id", ["research", "sandbox", "fake_warehouse", "fake_aws", "fake_crm", "fake_financial"]
)
async def test_announced_capability_has_no_tools(catalogue: Catalogue, capability_id: str) -> None:
    """What is not built yet says so."""
    capability = await catalogue.get(SCOPE, capability_id)
    assert (capability.status, capability.tools) == ("coming_soon", ())


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_tool_schema_is_closed_and_valid(tool: FunctionTool) -> None:
    """Every tool has a valid JSON Schema that takes no unknown argument, at no depth."""
    jsonschema.Draft202012Validator.check_schema(tool.parameters)

    def objects(schema: object) -> list[dict[str, object]]:
        if isinstance(schema, dict):
            inner = [found for value in schema.values() for found in objects(value)]
            return [schema, *inner] if schema.get("type") == "object" else inner
        return []

    found = objects(tool.parameters)
    assert found[0] is tool.parameters
    assert all(schema["additionalProperties"] is False for schema in found)
    assert tool.policy == "auto"
    assert tool.description
    assert tool.timeout_seconds > 0


def test_only_tools_that_write_are_not_repeated_after_a_crash() -> None:
    """Every other built-in tool may run twice."""
    assert [tool.name for tool in TOOLS if not tool.read_only] == ["write_file", "delete_file"]


async def test_get_takes_the_alias(catalogue: Catalogue) -> None:
    """The older id of the file capability leads to the newer one."""
    assert (await catalogue.get(SCOPE, "file_system")).id == "session_file_system"
    assert catalogue.canonical("file_system") == "session_file_system"
    assert catalogue.canonical("unknown") == "unknown"


@pytest.mark.parametrize("capability_id", ["", "Noop", "mcp:tickets", "noop ", "x" * 50])
async def test_get_fails_when_the_id_is_unknown(catalogue: Catalogue, capability_id: str) -> None:
    """An unknown id is not found."""
    with pytest.raises(errors.NotFound):
        await catalogue.get(SCOPE, capability_id)


async def test_validate_replaces_aliases_and_keeps_the_order(catalogue: Catalogue) -> None:
    """What an agent stores are catalogue ids, in the order given, also of capabilities that are not available."""
    given = ["web_fetch", "file_system", "sandbox", "noop"]
    assert await catalogue.validate(SCOPE, given) == ["web_fetch", "session_file_system", "sandbox", "noop"]
    assert await catalogue.validate(SCOPE, []) == []


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["noop", "nope"], "Unknown capability: nope"),
        (["noop", "web_fetch", "noop"], "noop is given twice"),
        (["file_system", "session_file_system"], "session_file_system is given twice"),
        (["mcp:tickets"], "Unknown capability: mcp:tickets"),
    ],
)
async def test_validate_refuses_unknown_and_repeated_ids(catalogue: Catalogue, given: list[str], reason: str) -> None:
    """The reason is the one of the public enum, the text names the id."""
    with pytest.raises(errors.CapabilityInvalid, match=reason):
        await catalogue.validate(SCOPE, given)


async def test_validate_takes_the_servers_the_caller_may_use() -> None:
    """An MCP server is validated by the list of the caller's servers."""
    servers = Servers(Capability(id="mcp:tickets", name="tickets", description=""))
    assert await Catalogue(BUILTIN, servers).validate(SCOPE, ["mcp:tickets", "noop"]) == ["mcp:tickets", "noop"]


async def test_resolve_adds_up_available_capabilities_in_order(catalogue: Catalogue) -> None:
    """The order of the set counts; unknown and unavailable ids add nothing, a repeated one adds once."""
    resolved = await catalogue.resolve(
        SCOPE, ["test_weather", "sandbox", "gone", "noop", "test_math", "current_time", "test_math"]
    )
    assert [tool.name for tool in resolved.tools] == [
        "get_weather",
        "get_forecast",
        "add",
        "subtract",
        "multiply",
        "divide",
        "get_current_time",
    ]
    assert len(resolved.prompt_additions) == 2
    assert "get_weather" in resolved.prompt_additions[0]
    assert "multiply" in resolved.prompt_additions[1]


async def test_resolve_of_nothing_is_empty(catalogue: Catalogue) -> None:
    """An agent without capabilities has its own prompt only."""
    assert await catalogue.resolve(SCOPE, []) == logic.ResolvedCapabilities((), ())


async def test_resolve_keeps_the_first_of_tools_with_equal_names() -> None:
    """Of two tools with one name the model gets the one that comes first in the set."""
    first = Capability(id="one", name="", description="", tools=(tool("same", "first"), tool("other")))
    second = Capability(id="two", name="", description="", tools=(tool("same", "second"), tool("more")))
    resolved = await Catalogue([first, second]).resolve(SCOPE, ["two", "one"])
    assert [(tool.name, tool.description) for tool in resolved.tools] == [
        ("same", "second"),
        ("more", ""),
        ("other", ""),
    ]


def test_catalogue_refuses_two_capabilities_of_one_name() -> None:
    """An alias may not hide another capability."""
    one = Capability(id="one", name="", description="")
    two = Capability(id="two", name="", description="", aliases=("one",))
    with pytest.raises(ValueError, match="two capabilities are called one"):
        Catalogue([one, two])
