"""Rules of capabilities and MCP servers that no annotation can say."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import re
import uuid
from collections.abc import Iterable, Mapping

from codeyard.capabilities.v1 import mcp_server_service_pb2 as pb

from codeyard_server.capabilities.definition import Capability
from codeyard_server.capabilities.ports import Tool
from codeyard_server.core import errors
from codeyard_server.core.ids import new_id

MCP_PREFIX = "mcp:"
"""Begins the capability id of an MCP server; its name follows."""
MAX_TOOL_NAME = 64
"""Longest name of a tool that every model vendor takes."""

_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_-]")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?")
# Headers that belong to the connection or to the protocol, not to the user.
_OWN_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "last-event-id",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


@dataclasses.dataclass(frozen=True, slots=True)
class ResolvedCapabilities:
    """What a set of capabilities gives a turn, in the order of the set."""

    prompt_additions: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()


def index(capabilities: Iterable[Capability]) -> Mapping[str, Capability]:
    """Return capabilities by id and alias.

    Raises:
        ValueError: two share one.
    """
    found: dict[str, Capability] = {}
    for capability in capabilities:
        for name in (capability.id, *capability.aliases):
            if found.setdefault(name, capability) is not capability:
                raise ValueError(f"two capabilities are called {name}")
    return found


def validate(capability_ids: Iterable[str], known: Mapping[str, str]) -> list[str]:
    """Return the ids as ``known`` maps them.

    Raises:
        CapabilityInvalid: one is not in ``known``, or two map to the same id.
    """
    accepted: dict[str, None] = {}
    for given in capability_ids:
        canonical = known.get(given)
        if canonical is None:
            raise errors.CapabilityInvalid(f"Unknown capability: {given[:60]}")
        if canonical in accepted:
            raise errors.CapabilityInvalid(f"The capability {canonical} is given twice")
        accepted[canonical] = None
    return list(accepted)


def combine(capabilities: Iterable[Capability]) -> ResolvedCapabilities:
    """Return what the available ones among these capabilities add up to. Of tools with equal names the first wins."""
    available = [capability for capability in capabilities if capability.status == "available"]
    tools: dict[str, Tool] = {}
    for capability in available:
        for tool in capability.tools:
            tools.setdefault(tool.name, tool)
    prompts = tuple(capability.prompt for capability in available if capability.prompt)
    return ResolvedCapabilities(prompts, tuple(tools.values()))


def tool_name(server: str, tool: str) -> str:
    """Return the name under which the model calls a server's tool: ``<server>__<tool>`` in [A-Za-z0-9_-]{1,64}.

    A name that had to be changed ends in a hash of the original one, so that two tools do not become one.
    """
    plain = f"{server}__{tool}"
    name = _NOT_IN_NAME.sub("_", plain)
    if name == plain and len(name) <= MAX_TOOL_NAME:
        return name
    suffix = "_" + hashlib.sha256(plain.encode(errors="replace")).hexdigest()[:8]
    return name[: MAX_TOOL_NAME - len(suffix)] + suffix


@dataclasses.dataclass(frozen=True, slots=True)
class McpServerDraft:
    """An MCP server that is about to be stored."""

    id: uuid.UUID
    owner_id: uuid.UUID | None
    """None: everybody may use it."""
    name: str
    url: str
    headers: Mapping[str, str] = dataclasses.field(repr=False)
    now: datetime.datetime


def draft_server(
    request: pb.CreateMcpServerRequest, user_id: uuid.UUID | None, now: datetime.datetime
) -> McpServerDraft:
    """Return the server a request asks for.

    Raises:
        InvalidArgument: a header is not one that can be sent.
    """
    for name, value in request.headers.items():
        lower = name.lower()
        if not _HEADER_NAME.fullmatch(name) or lower in _OWN_HEADERS or lower.startswith(("mcp-", "proxy-")):
            raise errors.InvalidArgument(f"headers: {name[:60]} cannot be set")
        if not _HEADER_VALUE.fullmatch(value):
            raise errors.InvalidArgument(f"headers: the value of {name} is not plain ASCII")
    if len({name.lower() for name in request.headers}) != len(request.headers):
        raise errors.InvalidArgument("headers: a name is given twice")
    return McpServerDraft(
        id=new_id(),
        owner_id=None if request.installation_wide else user_id,
        name=request.name,
        url=request.url,
        headers=dict(request.headers),
        now=now,
    )
