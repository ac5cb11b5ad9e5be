"""The command line against a scripted yard: what it exits with, where credentials go, what reaches the terminal."""

from __future__ import annotations

import asyncio
import json
import pathlib
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from codeyard.agents.v1 import agent_pb2, agent_service_pb2
from codeyard_cli.main import app
from codeyard_cli.output import clean, short
from codeyard_cli.remote import Remote, is_id
from codeyard_server.supervisor import YardStatus
from typer.testing import CliRunner

from tests.support.scripted_yard import Context, ScriptedYard, fail, scripted_yard
from tests.support.yard import free_port

GET_AGENT = "codeyard.agents.v1.AgentService/GetAgent"
ESCAPES = "\x9b5mred\x1b[31m\x07 title\x1b]0;x\x07 \u202egnp.exe\n"

Command = Callable[..., Any]


@pytest.fixture
async def yard() -> AsyncIterator[ScriptedYard]:
    """A scripted yard."""
    async with scripted_yard() as running:
        yield running


@pytest.fixture
def codeyard(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Command:
    """Run a command of this process in a thread, as the scripted yard answers from the event loop."""
    monkeypatch.delenv("CODEYARD_URL", raising=False)
    monkeypatch.delenv("CODEYARD_TOKEN", raising=False)
    monkeypatch.setenv("CODEYARD_DATA", str(tmp_path / "none"))
    return lambda *arguments: asyncio.to_thread(CliRunner().invoke, app, arguments)


@pytest.mark.parametrize(
    ("reason", "status"), [("NOT_FOUND", 4), ("INVALID_ARGUMENT", 1), ("UNAUTHENTICATED", 1), ("INTERNAL", 1)]
)
async def test_command_exits_by_the_reason_when_the_yard_refuses(
    yard: ScriptedYard, codeyard: Command, reason: str, status: int
) -> None:
    """A script can tell a missing object from other failures; nobody sees a traceback."""

    async def answer(_: Any, context: Context) -> None:
        await fail(context, grpc.StatusCode.UNKNOWN, reason, f"no\x1b[2J {reason}")

    yard.unary(GET_AGENT, agent_service_pb2.GetAgentRequest, answer)  # type: ignore[arg-type]  # it only fails
    result = await codeyard("--url", yard.url, "agent", "get", "a")
    assert result.exit_code == status
    assert result.stdout == ""
    assert result.stderr.startswith(f"codeyard: no[2J {reason}")
    assert result.stderr.count("\n") == 1


async def test_failure_is_an_object_on_stderr_when_json_is_asked_for(yard: ScriptedYard, codeyard: Command) -> None:
    """With --output json, failures can be read by scripts as well."""

    async def answer(_: Any, context: Context) -> None:
        await fail(context, grpc.StatusCode.NOT_FOUND, "NOT_FOUND", "Agent not found", **{"x-request-id": "r1"})

    yard.unary(GET_AGENT, agent_service_pb2.GetAgentRequest, answer)  # type: ignore[arg-type]  # it only fails
    result = await codeyard("agent", "get", "a", "--url", yard.url, "--output", "json")
    assert json.loads(result.stderr) == {"error": "Agent not found", "code": "NOT_FOUND", "request_id": "r1"}


async def test_command_exits_with_3_when_nobody_listens(codeyard: Command) -> None:
    """A yard that is down is told from one that refuses."""
    result = await codeyard("--url", f"http://127.0.0.1:{free_port()}", "agent", "list")
    assert result.exit_code == 3
    assert "cannot reach the yard" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--url", "nonsense", "agent", "list"],
        ["--token", "a b", "agent", "list"],
        ["agent"],
        ["agent", "list", "--output", "xml"],
        ["agent", "create"],
        ["agent", "create", "x", "--prompt", "a", "--prompt-file", __file__],
        ["chat"],
    ],
)
async def test_command_exits_with_2_when_it_is_used_wrongly(codeyard: Command, arguments: list[str]) -> None:
    """Wrong usage never reaches a yard. (A chat without a message reads stdin, which is empty here.)"""
    result = await codeyard(*arguments)
    assert result.exit_code == 2


async def test_options_are_taken_when_they_stand_before_the_command(yard: ScriptedYard, codeyard: Command) -> None:
    """The common options may stand before and after; after wins."""
    tokens = []

    async def answer(_: Any, context: Context) -> Any:
        tokens.append(dict(context.invocation_metadata() or ()).get("authorization"))
        return agent_pb2.Agent(id="a", name="Helper")

    yard.unary(GET_AGENT, agent_service_pb2.GetAgentRequest, answer)
    first = await codeyard("--url", yard.url, "--token", "one", "-o", "json", "agent", "get", "a")
    second = await codeyard("--url", "http://127.0.0.1:1", "--token", "one", "agent", "get", "a", "--url", yard.url)
    third = await codeyard("--token", "one", "agent", "get", "a", "--url", yard.url, "--token", "two")
    assert json.loads(first.stdout)["name"] == "Helper"
    assert re.search(r"name +Helper", second.stdout)
    assert third.exit_code == 0
    assert tokens == ["Bearer one", "Bearer one", "Bearer two"]


@pytest.mark.parametrize(
    ("url", "token", "expected"),
    [
        (None, None, ("http://127.0.0.1:9", "local-key")),
        ("http://127.0.0.1:9", None, ("http://127.0.0.1:9", "local-key")),
        (None, "mine", ("http://127.0.0.1:9", "mine")),
        ("http://yard.example", None, ("http://yard.example", None)),
        ("http://yard.example", "mine", ("http://yard.example", "mine")),
    ],
)
def test_key_of_the_local_yard_goes_only_there_when_a_url_is_given(
    monkeypatch: pytest.MonkeyPatch, url: str | None, token: str | None, expected: tuple[str, str | None]
) -> None:
    """The administrator's key of this machine is never sent to another address."""
    for name in ("CODEYARD_URL", "CODEYARD_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    status = YardStatus(data="/d", state="ready", url="http://127.0.0.1:9", token="local-key")
    monkeypatch.setattr("codeyard_server.supervisor.read_status", lambda _: status)
    where = Remote(url, token).where()
    assert (where["url"], where["token"]) == expected


def test_remote_shows_no_token_when_it_is_printed() -> None:
    """The credential stays out of messages and logs."""
    assert "secret" not in repr(Remote(None, "secret"))


async def test_terminal_is_not_obeyed_when_a_name_holds_escapes(yard: ScriptedYard, codeyard: Command) -> None:
    """Text of others cannot move the cursor, set the title or turn the reading direction."""

    async def answer(_: Any, __: Context) -> Any:
        return agent_pb2.Agent(id="a", name=ESCAPES, tags=[ESCAPES])

    yard.unary(GET_AGENT, agent_service_pb2.GetAgentRequest, answer)
    table = await codeyard("--url", yard.url, "agent", "get", "a")
    printed = await codeyard("--url", yard.url, "agent", "get", "a", "-o", "json")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", table.stdout)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", printed.stdout)
    assert json.loads(printed.stdout)["name"] == ESCAPES


@pytest.mark.parametrize(
    ("text", "expected"), [("a\tb\nc", "a\tb\nc"), ("\x9b31m", "31m"), ("é😀", "é😀"), ("a\r\x08b", "ab")]
)
def test_clean_keeps_text_and_lines_when_it_removes_controls(text: str, expected: str) -> None:
    """Tabs, line ends and letters of any script stay."""
    assert clean(text) == expected


def test_short_fits_one_line_when_the_text_does_not() -> None:
    """Line ends become spaces, and what is too long ends in an ellipsis."""
    assert short("one\n two  three", 9) == "one two …"
    assert short("one", 9) == "one"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("01a210b0-9121-7149-83b5-97c36de63a75", True), ("hello", False), ("01a210b0-9121", False), ("", False)],
)
def test_word_is_an_id_when_it_is_a_uuid(text: str, expected: bool) -> None:
    """The first word of a chat is a session only when it can be nothing else."""
    assert is_id(text) is expected
