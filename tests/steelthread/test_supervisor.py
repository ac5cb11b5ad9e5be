"""``codeyard up``, ``status`` and ``down`` as a person uses them: the real database, servers and Envoy."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from tests.support.yard import Yard, free_port

_DEADLINE_SECONDS = 120.0
_NAMES = ["postgres", "server-0", "server-1", "envoy"]


@pytest.fixture
def stopped_yard() -> Iterator[Yard]:
    """A yard that never ran; it is taken down and removed afterwards."""
    # Not below pytest's own folder, which is 0700: the database's user must be able to pass through.
    yard = Yard(pathlib.Path(tempfile.mkdtemp(prefix="cy-yard-")), free_port())
    try:
        yield yard
    finally:
        yard.stop()
        shutil.rmtree(yard.data)


@pytest.fixture(scope="module")
def running_yard() -> Iterator[Yard]:
    """One yard for the tests that leave it running."""
    yard = Yard(pathlib.Path(tempfile.mkdtemp(prefix="cy-yard-")), free_port())
    try:
        yard.start()
        yield yard
    finally:
        yard.stop()
        shutil.rmtree(yard.data)


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds; fail when it does not in two minutes."""
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.05)


def answers(yard: Yard) -> bool:
    """Whether the yard answers through its gateway that it is well."""
    try:
        with urllib.request.urlopen(f"{yard.url}/health", timeout=10) as answer:  # noqa: S310 - a loopback URL
            return bool(json.load(answer)["status"] == "ok")
    except (OSError, urllib.error.URLError):
        return False


def processes_of(yard: Yard) -> set[int]:
    """Return every process that works for the yard: it names the folder or works in it, or such a one started it."""
    folder, found, parents = str(yard.data), set(), {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            pid = int(entry.name)
            parents[pid] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            texts = [(entry / name).read_bytes().decode(errors="replace") for name in ("cmdline", "environ")]
            with contextlib.suppress(OSError):
                texts.append(str((entry / "cwd").readlink()))
            if any(folder in text for text in texts):
                found.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def mode(path: pathlib.Path) -> int:
    """Return the permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


# A yard that runs


def test_status_names_every_process_when_the_yard_is_ready(running_yard: Yard) -> None:
    """Scripts get address, token, folder, version and the process ids, and all of them are alive."""
    status = running_yard.status()
    assert (status["url"], status["data"]) == (running_yard.url, str(running_yard.data))
    assert re.fullmatch(r"cyk_[0-9a-f]{64}", status["token"])
    assert [(part["name"], part["state"]) for part in status["processes"]] == [(name, "running") for name in _NAMES]
    for part in status["processes"]:
        os.kill(part["pid"], 0)
    assert answers(running_yard)


def test_status_prints_a_table_when_nothing_else_is_asked_for(running_yard: Yard) -> None:
    """A person sees the address and a line per process."""
    done = running_yard.command("status", "--data", str(running_yard.data))
    assert done.returncode == 0
    assert running_yard.url in done.stdout
    assert [name for name in _NAMES if re.search(rf"^{name} +\d+ +\d+  running$", done.stdout, re.MULTILINE)] == _NAMES


def test_files_with_secrets_are_private_when_the_yard_runs(running_yard: Yard) -> None:
    """Keys, passwords, sockets and logs can be read by nobody else; the token is in no log."""
    data = running_yard.data
    assert {mode(data / name) for name in ("secrets.env", "lock", "run/state.json")} == {0o600}
    assert {mode(data / name) for name in ("run", "log", "blobs", "postgres", "postgres/cluster")} == {0o700}
    assert {mode(path) for path in data.glob("log/*.log")} == {0o600}
    for path in data.glob("log/*"):
        assert running_yard.token not in path.read_text(errors="replace"), path


def test_database_and_gateway_know_no_secret_when_the_yard_runs(running_yard: Yard) -> None:
    """Only the servers are told the keys; the database's administrator password stays with the supervisor."""
    secrets = dict(line.split("=", 1) for line in (running_yard.data / "secrets.env").read_text().splitlines()[1:])
    values = {name: value.strip('"') for name, value in secrets.items()}
    for name in ("postgres", "envoy"):
        environment = pathlib.Path(f"/proc/{running_yard.pid(name)}/environ").read_text()
        assert [key for key, value in values.items() if value in environment] == []
    server = pathlib.Path(f"/proc/{running_yard.pid('server-0')}/environ").read_text()
    assert values["SECRETS_ENCRYPTION_KEY"] in server
    assert values["CODEYARD_DB_ADMIN_PASSWORD"] not in server


def test_up_is_refused_when_a_yard_runs_in_the_folder(running_yard: Yard) -> None:
    """The second one says so, and the first goes on."""
    done = running_yard.command("up", "--data", str(running_yard.data), "--port", str(free_port()))
    assert done.returncode == 4
    assert f"a yard already runs in {running_yard.data}" in done.stderr
    assert answers(running_yard)


def test_up_is_refused_when_the_port_is_taken(running_yard: Yard, stopped_yard: Yard) -> None:
    """Nothing is started, and the yard that has the port keeps it to itself."""
    done = stopped_yard.command("up", "--data", str(stopped_yard.data), "--port", str(running_yard.port))
    assert done.returncode == 5
    assert f"127.0.0.1:{running_yard.port} cannot be used" in done.stderr
    assert "Traceback" not in done.stderr
    assert processes_of(stopped_yard) == set()
    assert answers(running_yard)


@pytest.mark.parametrize("name", ["server-0", "envoy", "postgres"])
def test_process_is_started_again_when_it_is_killed(running_yard: Yard, name: str) -> None:
    """Each part comes back as another process, and the yard answers again."""
    before = running_yard.pid(name)
    os.kill(before, signal.SIGKILL)

    def is_back() -> bool:
        part = next(part for part in running_yard.status()["processes"] if part["name"] == name)
        return bool(part["state"] == "running" and part["pid"] != before and part["restarts"] >= 1)

    until(is_back, f"a new {name}")
    until(lambda: answers(running_yard), "an answer")


# From nothing to nothing


def test_up_runs_in_the_foreground_until_it_is_interrupted(stopped_yard: Yard) -> None:
    """It tells its progress, its address, the first token and lines to paste; Ctrl-C ends it all, with status 0."""
    command = [sys.executable, "-m", "codeyard_cli", "up", "--data", str(stopped_yard.data), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as up:
        assert up.stdout is not None
        shown = []
        for line in up.stdout:
            shown.append(line)
            if "/events" in line:
                break
        text = "".join(shown)
        token = stopped_yard.status()["token"]
        up.send_signal(signal.SIGINT)
        rest = up.stdout.read()
    assert (up.returncode, rest.split()[-2:]) == (0, ["stopping", "stopped"])
    for name in _NAMES:
        assert re.search(rf"^{name} +ready in \d", text, re.MULTILINE)
    assert re.search(r"^ready in \d+\.\d\d s$", text, re.MULTILINE)
    assert text.count(token) >= 2
    assert "/swagger-ui/" in text
    assert processes_of(stopped_yard) == set()


def test_nothing_is_left_when_the_yard_is_taken_down(stopped_yard: Yard) -> None:
    """After `down` no process and no socket is left, `status` says so by its exit status, and `up` works again."""
    stopped_yard.start()
    assert len(processes_of(stopped_yard)) > len(_NAMES)
    done = stopped_yard.command("down", "--data", str(stopped_yard.data))
    assert (done.returncode, done.stdout) == (0, "stopped\n")
    assert processes_of(stopped_yard) == set()
    assert list(stopped_yard.data.glob("run/*.sock")) == []
    status = stopped_yard.command("status", "--data", str(stopped_yard.data), "--output", "json")
    assert (status.returncode, json.loads(status.stdout)["processes"]) == (3, [])
    assert stopped_yard.command("down", "--data", str(stopped_yard.data)).returncode == 0
    token = stopped_yard.token
    again = stopped_yard.command("up", "--detach", "--data", str(stopped_yard.data), "--port", str(stopped_yard.port))
    assert again.returncode == 0
    second = re.search(r"^ready in .*$", again.stderr, re.MULTILINE)
    assert second is not None
    print(f"second start: {second[0]}")
    assert stopped_yard.status()["token"] == token


def test_nothing_is_left_when_the_supervisor_is_killed(stopped_yard: Yard) -> None:
    """The kernel ends what the supervisor no longer can, and the next start recovers the database."""
    stopped_yard.start()
    supervisor = stopped_yard.status()["supervisor"]
    assert len(processes_of(stopped_yard)) > len(_NAMES)
    os.kill(supervisor, signal.SIGKILL)
    until(lambda: processes_of(stopped_yard) == set(), "the end of every process")
    assert stopped_yard.command("status", "--data", str(stopped_yard.data)).returncode == 3
    stopped_yard.start()
    assert answers(stopped_yard)


def test_a_start_that_is_interrupted_leaves_nothing(stopped_yard: Yard) -> None:
    """A signal in the middle of the first start ends it, and the next one succeeds."""
    command = [sys.executable, "-m", "codeyard_cli", "up", "--data", str(stopped_yard.data), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as up:
        assert up.stderr is not None
        assert up.stderr.readline().startswith("postgres")
        up.send_signal(signal.SIGTERM)
        up.stderr.read()
    assert up.returncode == 0
    assert processes_of(stopped_yard) == set()
    stopped_yard.start()
    assert answers(stopped_yard)


# Refusals


def test_up_is_refused_when_the_disk_is_read_only(stopped_yard: Yard) -> None:
    """The message says what is wrong with which folder."""
    # In a mount namespace of its own, which ends with the command.
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    script = 'mount -t tmpfs -o ro none "$1" && exec "$2" -m codeyard_cli up --data "$1"'
    done = subprocess.run(
        [*unshare, "sh", "-c", script, "sh", str(stopped_yard.data), sys.executable],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 6
    assert f"the data folder {stopped_yard.data} is on a read-only file system" in done.stderr
    assert "Traceback" not in done.stderr


def test_up_is_refused_when_the_settings_allow_no_start(stopped_yard: Yard) -> None:
    """The message names the variable; nothing is started."""
    stopped_yard.environment = {"CODEYARD_TURN_CONCURRENCY": "many", "AUTH_MODE": "none"}
    arguments = ["--data", str(stopped_yard.data), "--host", "0.0.0.0", "--port", str(stopped_yard.port)]
    done = stopped_yard.command("up", *arguments)
    assert done.returncode == 2
    assert "CODEYARD_TURN_CONCURRENCY" in done.stderr
    assert "AUTH_MODE none lets everybody in" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (stopped_yard.data / "postgres").exists()


def test_up_is_refused_when_the_secrets_are_not_those_of_the_database(stopped_yard: Yard) -> None:
    """A lost secrets file is said at once, instead of a database that takes no password."""
    stopped_yard.start()
    stopped_yard.stop()
    (stopped_yard.data / "secrets.env").unlink()
    done = stopped_yard.command("up", "--data", str(stopped_yard.data), "--port", str(stopped_yard.port))
    assert done.returncode == 6
    assert "does not hold the passwords" in done.stderr
    assert processes_of(stopped_yard) == set()


def test_detached_start_tells_why_it_failed(stopped_yard: Yard) -> None:
    """The error of the background process reaches the terminal, with its exit status."""
    stopped_yard.environment = {"DATABASE_URL": "postgresql:///x?host=/nowhere"}
    done = stopped_yard.command("up", "--detach", "--data", str(stopped_yard.data), "--port", str(stopped_yard.port))
    assert done.returncode == 1
    assert "server-" in done.stderr
    assert processes_of(stopped_yard) == set()
