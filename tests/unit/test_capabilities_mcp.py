"""What MCP servers become: names of tools, headers, the administrator's file, and results as JSON."""

from __future__ import annotations

import datetime
import pathlib
import uuid
from typing import Any

import mcp_types
import pytest
from codeyard.capabilities.v1 import mcp_server_service_pb2 as pb
from codeyard_server.adapters import mcp_results
from codeyard_server.capabilities import McpConfigError, logic, read_servers
from codeyard_server.capabilities.ports import McpServer, ToolError
from codeyard_server.core import errors
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime.datetime(2026, 1, 15, tzinfo=datetime.UTC)
USER = uuid.UUID(int=1)


@pytest.mark.parametrize(
    ("server", "tool", "name"),
    [
        ("tickets", "create_issue", "tickets__create_issue"),
        ("a-b", "get-sum", "a-b__get-sum"),
        ("s", "x" * 61, "s__" + "x" * 61),
    ],
)
def test_tool_name_is_server_and_tool(server: str, tool: str, name: str) -> None:
    """A name that fits is used as it is."""
    assert logic.tool_name(server, tool) == name


@given(st.text(min_size=1, max_size=80), st.text(min_size=1, max_size=80))
def test_tool_name_is_valid_and_tells_tools_apart(one: str, other: str) -> None:
    """Whatever a server calls its tools, the names fit every vendor, and two tools never share one."""
    names = [logic.tool_name("server", tool) for tool in (one, other)]
    for name in names:
        assert 0 < len(name) <= logic.MAX_TOOL_NAME
        assert not set(name) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
    assert (names[0] == names[1]) == (one == other)


def request(**headers: str) -> pb.CreateMcpServerRequest:
    """A request with these headers."""
    return pb.CreateMcpServerRequest(name="tickets", url="https://example.com/mcp", headers=headers)


def test_draft_belongs_to_the_user_unless_it_is_for_everybody() -> None:
    """The owner of a server for everybody is nobody."""
    asked = request(Authorization="Bearer x y")
    draft = logic.draft_server(asked, USER, NOW)
    assert (draft.owner_id, draft.name, draft.headers) == (USER, "tickets", {"Authorization": "Bearer x y"})
    assert "Bearer" not in repr(draft)
    asked.installation_wide = True
    assert logic.draft_server(asked, USER, NOW).owner_id is None


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "Connection",
        "Accept-Encoding",
        "MCP-Session-Id",
        "Proxy-Authorization",
    ],
)
def test_draft_refuses_a_header_that_is_not_the_users(name: str) -> None:
    """Framing, the host and the protocol's own headers cannot be overridden."""
    with pytest.raises(errors.InvalidArgument, match="cannot be set"):
        logic.draft_server(request(**{name: "x"}), USER, NOW)


@pytest.mark.parametrize("name", ["X Y", "X:Y", "X\r\nY", "Ü", ""])
def test_draft_refuses_a_name_that_is_no_header(name: str) -> None:
    """A header cannot smuggle another one in."""
    with pytest.raises(errors.InvalidArgument, match="cannot be set"):
        logic.draft_server(request(**{name: "x"}), USER, NOW)


@pytest.mark.parametrize("value", ["a\r\nHost: b", "a\nb", "a\0b", " a", "a ", "ü", "a\x7f"])
def test_draft_refuses_a_value_that_is_not_plain(value: str) -> None:
    """The text of the error does not repeat the secret."""
    with pytest.raises(errors.InvalidArgument) as caught:
        logic.draft_server(request(**{"X-Key": value}), USER, NOW)
    assert value not in caught.value.text


def test_draft_refuses_a_header_that_is_given_twice() -> None:
    """Names of headers do not differ by case."""
    with pytest.raises(errors.InvalidArgument, match="twice"):
        logic.draft_server(request(**{"X-Key": "a", "x-key": "b"}), USER, NOW)


def test_config_file_names_servers_in_order(tmp_path: pathlib.Path) -> None:
    """YAML (and so JSON) with commands and addresses."""
    file = tmp_path / "mcp.yaml"
    file.write_text("""
- name: files
  command: /usr/bin/files
  args: ["--root", "/srv"]
  env: {TOKEN: secret}
- name: tickets
  url: https://tickets.example.com/mcp?x=1
  headers: {Authorization: Bearer secret}
""")
    files, tickets = read_servers(file)
    assert files == McpServer(
        key="config/files",
        name="files",
        trusted=True,
        command="/usr/bin/files",
        args=("--root", "/srv"),
        env={"TOKEN": "secret"},
    )
    assert (tickets.url, tickets.headers) == ("https://tickets.example.com/mcp?x=1", {"Authorization": "Bearer secret"})
    assert tickets.trusted
    assert "secret" not in repr(files) + repr(tickets)


def test_config_file_may_be_json_or_empty_or_missing(tmp_path: pathlib.Path) -> None:
    """No file and an empty one name no servers."""
    file = tmp_path / "mcp.json"
    file.write_text('[{"name": "a", "url": "http://a.lan/mcp"}]')
    assert [server.name for server in read_servers(file)] == ["a"]
    file.write_text("")
    assert read_servers(file) == ()
    assert read_servers(None) == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[{name: a}]", "give either command or url"),
        ("[{name: a, command: x, url: 'http://a/'}]", "give either command or url"),
        ("[{name: a, url: 'http://a/', args: [x]}]", "args and env go with command"),
        ("[{name: a, command: x, headers: {A: secret}}]", "headers go with url"),
        ("[{name: A_b, command: x}]", "0.name"),
        ("[{name: a, command: x, cwd: /tmp}]", "0.cwd"),
        ("[{name: a, url: 'http://secret@a/'}]", "0.url"),
        ("[{name: a, url: 'file:///secret'}]", "0.url"),
        ("[{name: a, command: x}, {name: a, command: y}]", "given twice"),
        ("name: a", "list"),
        ("[{", "line 1"),
        ("!!python/object/apply:os.system [secret]", "line 1"),
    ],
)
def test_config_file_with_a_mistake_stops_the_start(tmp_path: pathlib.Path, text: str, problem: str) -> None:
    """The error names file and place, and quotes no value."""
    file = tmp_path / "mcp.yaml"
    file.write_text(text)
    with pytest.raises(McpConfigError, match=problem) as caught:
        read_servers(file)
    assert str(file) in str(caught.value)
    assert "secret" not in str(caught.value)


def test_config_file_that_is_not_there_stops_the_start(tmp_path: pathlib.Path) -> None:
    """A setting that leads nowhere is a mistake."""
    with pytest.raises(McpConfigError, match="cannot be read"):
        read_servers(tmp_path / "none.yaml")


def result(*content: Any, structured: Any = None, is_error: bool = False) -> mcp_types.CallToolResult:
    """A result of a call."""
    return mcp_types.CallToolResult(content=list(content), structured_content=structured, is_error=is_error)


def text(value: str) -> mcp_types.TextContent:
    """A block of text."""
    return mcp_types.TextContent(type="text", text=value)


IMAGE = mcp_types.ImageContent(type="image", data="aGVsbG8=", mime_type="image/png")


@pytest.mark.parametrize(
    ("given_result", "value"),
    [
        (result(text("hi")), "hi"),
        (result(text("a"), text("b")), "a\nb"),
        (result(), ""),
        (result(text('{"n": 1}'), structured={"n": 1}), {"n": 1}),
        (result(structured=[1, 2]), [1, 2]),
        (
            result(text("see"), IMAGE),
            {
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image", "mime_type": "image/png", "size_bytes": 5},
                ]
            },
        ),
        (
            result(IMAGE, structured={"n": 1}),
            {
                "content": [{"type": "image", "mime_type": "image/png", "size_bytes": 5}],
                "structured_content": {"n": 1},
            },
        ),
        (
            result(mcp_types.ResourceLink(type="resource_link", uri="demo://a", name="a", mime_type="text/plain")),
            {"content": [{"type": "resource_link", "uri": "demo://a", "name": "a", "mime_type": "text/plain"}]},
        ),
        (
            result(
                mcp_types.EmbeddedResource(
                    type="resource", resource=mcp_types.TextResourceContents(uri="demo://b", text="body")
                ),
                mcp_types.EmbeddedResource(
                    type="resource", resource=mcp_types.BlobResourceContents(uri="demo://c", blob="aGVsbG8h")
                ),
            ),
            {
                "content": [
                    {"type": "resource", "uri": "demo://b", "text": "body"},
                    {"type": "resource", "uri": "demo://c", "size_bytes": 6},
                ]
            },
        ),
    ],
)
def test_result_becomes_a_json_value(given_result: mcp_types.CallToolResult, value: Any) -> None:
    """Text and structured content come as they are; what is binary is described."""
    assert mcp_results.value_of(given_result, 1000) == value


def test_result_that_reports_a_failure_is_an_error() -> None:
    """The model reads what the tool says about it."""
    with pytest.raises(ToolError, match="no such city"):
        mcp_results.value_of(result(text("no such city"), is_error=True), 1000)
    with pytest.raises(ToolError, match="without saying why"):
        mcp_results.value_of(result(is_error=True), 1000)


@pytest.mark.parametrize(
    "given_result", [result(text("é" * 600)), result(structured={"long": "é" * 600}), result(IMAGE, text("é" * 600))]
)
def test_result_that_is_too_large_is_cut(given_result: mcp_types.CallToolResult) -> None:
    """What is left says that it was cut, and how large it was."""
    value = mcp_results.value_of(given_result, 1000)
    assert value["truncated"] is True
    assert value["size_bytes"] >= 1200
    assert len(value["text"].encode()) <= 1000


def test_result_of_another_kind_is_an_error() -> None:
    """A server that wants input from a person does not get it here."""
    with pytest.raises(ToolError, match="not available"):
        mcp_results.value_of(mcp_types.EmptyResult(), 1000)


def described(**members: Any) -> mcp_types.Tool:
    """A tool as a server describes it."""
    return mcp_types.Tool(**{"name": "x", "input_schema": {"type": "object"}, **members})


def test_tool_without_a_hint_may_not_be_repeated() -> None:
    """Only a server that says so makes its tool read-only."""
    plain = mcp_results.tool_of(described(title="Title"))
    hinted = mcp_results.tool_of(described(annotations=mcp_types.ToolAnnotations(read_only_hint=True)))
    assert plain is not None
    assert hinted is not None
    assert (plain.read_only, plain.description, hinted.read_only) == (False, "Title", True)


@pytest.mark.parametrize(
    "members",
    [
        {"name": ""},
        {"name": "x" * 201},
        {"input_schema": {"type": "array"}},
        {"input_schema": {}},
        {"input_schema": {"type": "object", "description": "x" * 40_000}},
        {"input_schema": {"type": "object", "default": float("nan")}},
    ],
)
def test_tool_that_no_model_can_be_offered_is_left_out(members: dict[str, Any]) -> None:
    """One bad tool does not cost the others."""
    assert mcp_results.tool_of(described(**members)) is None
