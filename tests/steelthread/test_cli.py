"""The command line against a real yard, as people and scripts use it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from codeyard_cli.main import app
from codeyard_client import Client, Session
from typer.testing import CliRunner, Result

from tests.support.terminal import CTRL_C, CTRL_D, Terminal, terminal
from tests.support.yard import Yard

NOBODY = "00000000-0000-7000-8000-000000000000"
ANSWER = "Hello! I am the simulated model of this yard. Tell me what to do, and I will play along."
CODEYARD = [sys.executable, "-m", "codeyard_cli"]


class Cli:
    """Runs commands that find the yard by its data folder: in this process, which is faster, or as a person does."""

    def __init__(self, yard: Yard) -> None:
        self._own: dict[str, str | None] = {
            "CODEYARD_URL": None,
            "CODEYARD_TOKEN": None,
            "CODEYARD_DATA": str(yard.data),
            "TERM": "xterm",
            "COLUMNS": "120",
        }
        merged = {**os.environ, **self._own}
        self.environment = {name: value for name, value in merged.items() if value is not None}

    def run(self, *arguments: str, stdin: str = "") -> Result:
        """Run a command to its end."""
        done = CliRunner().invoke(app, arguments, input=stdin, env=self._own)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    def json(self, *arguments: str) -> Any:
        """Return what a command that must succeed prints as JSON."""
        done = self.run(*arguments, "--output", "json")
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)

    def process(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command to its end as a process."""
        return subprocess.run(
            [*CODEYARD, *arguments],
            input=stdin,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def terminal(self, *arguments: str) -> contextlib.AbstractContextManager[Terminal]:
        """Run a command on a terminal."""
        return terminal([*CODEYARD, *arguments], self.environment)


@pytest.fixture
def cli(yard: Yard) -> Cli:
    """The command line of the shared yard."""
    return Cli(yard)


@pytest.fixture
def client(yard: Yard) -> Iterator[Client]:
    """A client that prepares what the commands work on."""
    with Client(yard.url, yard.token) as opened:
        yield opened


@dataclasses.dataclass(frozen=True)
class HangingModel:
    """A model whose server takes every request and never answers."""

    id: str
    asked: threading.Event


@pytest.fixture
def hanging_model(client: Client) -> Iterator[HangingModel]:
    """A model that hangs."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []
        asked = threading.Event()

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(server.accept()[0])
                    asked.set()

        thread = threading.Thread(target=take)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        provider = client.providers.create("Hangs", "custom", base_url=url, api_key="k")
        yield HangingModel(client.models.create(provider.id, "hangs").id, asked)
        client.providers.delete(provider.id)
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in taken:
            connection.close()


def turn_ends(session: Session) -> list[str]:
    """Return how the turns of a session ended, in order."""
    return [event.type for event in session.stored_events() if event.type in ("turn.completed", "turn.failed")]


def test_agent_lives_through_its_commands_when_a_script_runs_them(cli: Cli) -> None:
    """Create, get, list, update, archive, restore."""
    agent = cli.json(
        "agent", "create", "Scripted", "--prompt", "Be brief.", "--tag", "cli", "-c", "noop", "-c", "test_math"
    )
    assert (agent["system_prompt"], agent["tags"], agent["capabilities"]) == (
        "Be brief.",
        ["cli"],
        ["noop", "test_math"],
    )
    assert cli.json("agent", "get", agent["id"]) == agent
    assert agent in cli.json("agent", "list")
    changed = cli.json("agent", "update", agent["id"], "--name", "Renamed", "--tag", "")
    assert (changed["name"], changed["tags"], changed["capabilities"]) == ("Renamed", [], ["noop", "test_math"])
    assert cli.json("agent", "archive", agent["id"])["status"] == "archived"
    assert agent["id"] not in [listed["id"] for listed in cli.json("agent", "list")]
    assert cli.run("agent", "archive", agent["id"]).exit_code == 4
    assert cli.json("agent", "update", agent["id"], "--restore")["status"] == "active"


def test_session_lives_through_its_commands_when_a_script_runs_them(cli: Cli, client: Client) -> None:
    """Create, list, get, cancel, delete; the agent need not be named."""
    agent = client.agents.create("Scripted")
    session = cli.json("session", "create", agent.id, "--title", "T", "--model", "llmsim-echo")
    assert session["model_id"] in [model.id for model in client.models.list() if model.model_id == "llmsim-echo"]
    assert cli.json("session", "list", agent.id) == [session]
    assert session in cli.json("session", "list")
    assert cli.json("session", "get", session["id"]) == session
    assert cli.json("session", "cancel", session["id"], "--agent", agent.id)["status"] == "started"
    assert cli.json("session", "delete", session["id"])["id"] == session["id"]
    assert cli.run("session", "get", session["id"]).exit_code == 4


def test_models_are_managed_by_name_when_a_script_runs_them(cli: Cli, client: Client) -> None:
    """Providers and models; the key comes from stdin and is never shown."""
    options = ["--type", "custom", "--base-url", "http://127.0.0.1:9", "--api-key-file", "-"]
    added = cli.run("model", "add-provider", "CLI", *options, stdin="sk-secret\n")
    assert added.exit_code == 0, added.stderr
    assert "sk-secret" not in added.stdout
    assert [p["api_key_set"] for p in cli.json("model", "providers") if p["name"] == "CLI"] == [True]
    model = cli.json("model", "add", "CLI", "cli-model", "--title", "From the shell", "--label", "chat")
    assert model["id"] in [found["id"] for found in cli.json("model", "list")]
    assert cli.json("model", "list", "--provider", "CLI")[0]["display_name"] == "From the shell"
    (default,) = [found for found in client.models.list() if found.is_default]
    assert cli.json("model", "default", "cli-model")["is_default"]
    assert cli.json("model", "default", default.id)["is_default"]
    assert cli.json("model", "remove", "cli-model")["id"] == model["id"]
    assert cli.json("model", "remove-provider", "CLI")["name"] == "CLI"
    assert cli.run("model", "remove", "cli-model").exit_code == 4


def test_tables_are_one_line_for_each_row_when_they_are_piped(cli: Cli, client: Client) -> None:
    """Long texts are neither cut nor folded in a pipe."""
    name = "long name " * 20
    agent = client.agents.create(name)
    lines = cli.run("agent", "list").stdout.splitlines()
    assert lines[0].split() == ["ID", "NAME", "CAPABILITIES", "TAGS", "UPDATED"]
    assert [line for line in lines if line.startswith(agent.id) and name.strip() in line]
    capabilities = cli.run("capability", "list").stdout
    assert "current_time" in capabilities
    assert "get_current_time" in cli.run("capability", "get", "current_time").stdout


def test_chat_answers_when_a_message_is_given(cli: Cli, client: Client) -> None:
    """The answer alone is on stdout; the session that was opened can be gone on with."""
    agent = client.agents.create("Chats")
    first = cli.process("chat", "--agent", agent.id, "--title", "Shell", "Hello", "there")
    assert (first.returncode, first.stdout) == (0, ANSWER + "\n")
    (session,) = agent.sessions.list()
    assert first.stderr == f"session {session.id}\n"
    second = cli.process("chat", session.id, "--model", "llmsim-echo", stdin="piped text\n")
    assert "piped text" in second.stdout
    assert second.stderr == ""
    sent = [message.content[0].text for message in session.messages() if message.role == "user"]
    assert (sent, session.title) == (["Hello there", "piped text\n"], "Shell")


def test_chat_shows_tool_calls_beside_the_answer_when_there_are_some(cli: Cli, client: Client) -> None:
    """Each call is a line on stderr, and a member of the JSON."""
    agent = client.agents.create("Counts", capabilities=["test_math"])
    options = ["chat", "--agent", agent.id, "--model", "llmsim-tools"]
    done = cli.run(*options, "go")
    assert "4 tools answered" in done.stdout
    assert done.stdout.count("\n") == 1
    assert "✓ add(a=1, b=1) [success" in done.stderr
    result = cli.json(*options, "go")
    assert (result["agent_id"], len(result["tool_calls"])) == (agent.id, 4)
    assert {call["status"] for call in result["tool_calls"]} == {"success"}
    assert "4 tools answered" in result["text"]


def test_chat_exits_with_5_when_the_turn_fails(cli: Cli, client: Client) -> None:
    """A script sees that there is no answer, and why."""
    agent = client.agents.create("Fails")
    done = cli.run("chat", "--agent", agent.id, "--model", "llmsim-error", "--output", "json", "Hello")
    assert done.exit_code == 5
    assert json.loads(done.stdout)["error_code"] == "llm_error"


@pytest.mark.parametrize(
    "arguments",
    [
        ["agent", "get", NOBODY],
        ["session", "get", NOBODY],
        ["events", NOBODY],
        ["chat", NOBODY, "hi"],
        ["chat", "--model", "no such", "hi"],
    ],
)
def test_command_exits_with_4_when_there_is_no_such_thing(cli: Cli, arguments: list[str]) -> None:
    """One line says so, without a traceback."""
    done = cli.run(*arguments)
    assert done.exit_code == 4
    assert done.stdout == ""
    assert done.stderr.startswith("codeyard: ")
    assert done.stderr.count("\n") == 1


def test_command_exits_with_1_when_the_token_is_wrong(cli: Cli) -> None:
    """The yard's refusal is one line, with a hint."""
    done = cli.process("--token", "cyk_wrong", "agent", "list")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "CODEYARD_TOKEN" in done.stderr


def test_events_are_printed_one_a_line_when_json_is_asked_for(cli: Cli, client: Client) -> None:
    """Without --follow the log as it is; with a cursor the rest of it."""
    session = client.agents.create("Logs").sessions.create()
    session.ask("Hello")
    stored = [event.to_json() for event in session.stored_events()]
    lines = cli.run("events", session.id, "-o", "json").stdout.splitlines()
    assert [json.loads(line) for line in lines] == stored
    rest = cli.run("events", session.id, "--since", stored[4]["id"], "-o", "json").stdout.splitlines()
    assert [json.loads(line) for line in rest] == stored[5:]
    table = cli.run("events", session.id).stdout.splitlines()
    assert [line.split()[1:3] for line in table] == [[str(event["sequence"]), event["type"]] for event in stored]


def test_events_go_on_until_interrupted_when_they_are_followed(cli: Cli, client: Client) -> None:
    """New events appear at once; Ctrl-C ends with 130 and without a word."""
    session = client.agents.create("Follows").sessions.create()
    command = [*CODEYARD, "events", "--follow", session.id, "--output", "json"]
    with subprocess.Popen(
        command, env=cli.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        session.send("Hello")
        seen: list[str] = []
        while not seen or seen[-1] != "session.idled":
            seen.append(json.loads(process.stdout.readline())["type"])
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == ""
    assert [kind for kind in seen if kind != "message.delta"] == [event.type for event in session.stored_events()]


def test_chat_is_a_conversation_when_it_runs_on_a_terminal(cli: Cli, client: Client) -> None:
    """A prompt, one answer after the other, and Ctrl-D leaves."""
    agent = client.agents.create("Talks")
    with cli.terminal("chat", "--agent", agent.id, "--model", "llmsim-slow") as screen:
        screen.wait_for("> ")
        screen.press("Hello\n")
        screen.wait_for(ANSWER)
        screen.wait_for("> ")
        screen.press("Again\n")
        screen.wait_for(ANSWER)
        screen.wait_for("> ")
        screen.press(CTRL_D)
        assert screen.wait() == 0
    (session,) = agent.sessions.list()
    assert turn_ends(session) == ["turn.completed", "turn.completed"]


def test_ctrl_c_cancels_the_turn_and_the_second_leaves_when_a_model_hangs(
    cli: Cli, client: Client, hanging_model: HangingModel
) -> None:
    """The conversation goes on after the first, and is left by two."""
    agent = client.agents.create("Waits")
    with cli.terminal("chat", "--agent", agent.id, "--model", hanging_model.id) as screen:
        screen.wait_for("> ")
        screen.press("Hello\n")
        screen.wait_for("thinking")
        assert hanging_model.asked.wait(60)
        screen.press(CTRL_C)
        screen.wait_for("cancelled")
        screen.wait_for("> ")
        screen.press(CTRL_C)
        assert screen.wait() == 130
    (session,) = agent.sessions.list()
    assert turn_ends(session) == ["turn.failed"]


def test_chat_exits_with_130_when_its_turn_is_interrupted(
    cli: Cli, client: Client, hanging_model: HangingModel
) -> None:
    """A single message that is cancelled by Ctrl-C leaves no turn running."""
    agent = client.agents.create("Waits")
    with cli.terminal("chat", "--agent", agent.id, "--model", hanging_model.id, "Hello") as screen:
        screen.wait_for("thinking")
        assert hanging_model.asked.wait(60)
        screen.press(CTRL_C)
        screen.wait_for("cancelling the turn")
        assert screen.wait() == 130
    (session,) = agent.sessions.list()
    assert turn_ends(session) == ["turn.failed"]


def test_shell_is_offered_what_the_yard_has_when_a_word_is_completed(cli: Cli, client: Client) -> None:
    """Ids, model names, and the commands themselves."""
    agent = client.agents.create("Completes")
    script = "import sys; sys.argv[0] = 'codeyard'; from codeyard_cli.main import app; app(prog_name='codeyard')"

    def offered(line: str) -> list[str]:
        words = line.split(" ")
        environment = {**cli.environment, "_CODEYARD_COMPLETE": "complete_bash", "COMP_WORDS": line}
        environment["COMP_CWORD"] = str(len(words) - 1)
        return subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=True
        ).stdout.split()

    assert agent.id in offered("codeyard agent get ")
    assert offered("codeyard chat --model llmsim-e") == ["llmsim-echo", "llmsim-empty", "llmsim-error"]
    assert {"agent", "session", "chat", "events", "model", "capability"} <= set(offered("codeyard "))
