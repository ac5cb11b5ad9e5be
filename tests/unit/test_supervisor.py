"""The supervisor's parts by themselves: data folder, lock, secrets, logs, and one program that is kept running."""

from __future__ import annotations

import asyncio
import os
import pathlib
import pwd
import signal
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence

import pytest
from codeyard_server.settings import load_settings
from codeyard_server.supervisor import Layout, ProcessStatus, YardStatus, errors, logs, read_status, state
from codeyard_server.supervisor.gateway import free_port
from codeyard_server.supervisor.processes import Child, Program, launcher
from codeyard_server.supervisor.report import first_steps
from codeyard_server.supervisor.secrets import load_secrets

STATUS = YardStatus(data="/yard", state="ready", url="http://127.0.0.1:8080", token="cyk_1", supervisor=7)


@pytest.fixture
def layout(tmp_path: pathlib.Path) -> Layout:
    """A data folder that was just made."""
    layout = Layout(tmp_path / "yard")
    layout.create()
    return layout


def mode(path: pathlib.Path) -> int:
    """Return the permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


# The data folder


def test_data_folder_is_private_when_it_is_made(layout: Layout) -> None:
    """Others may at most pass through the folder itself, and only in a yard of root, for the database's user."""
    assert mode(layout.data) == (0o711 if os.geteuid() == 0 else 0o700)
    assert {mode(folder) for folder in (layout.blobs, layout.logs, layout.run)} == {0o700}


def test_data_folder_is_refused_when_a_file_is_in_its_place(tmp_path: pathlib.Path) -> None:
    """The message names the folder and says what is wrong."""
    (tmp_path / "yard").write_text("")
    with pytest.raises(errors.BadDataFolder, match="is a file, not a folder"):
        Layout(tmp_path / "yard").create()
    with pytest.raises(errors.BadDataFolder, match="has a file among its parents"):
        Layout(tmp_path / "yard" / "below").create()


def test_data_folder_is_refused_when_sockets_in_it_would_have_too_long_a_path(tmp_path: pathlib.Path) -> None:
    """A unix socket's path has at most 107 bytes, so this is said before anything starts."""
    with pytest.raises(errors.BadDataFolder, match="too long"):
        Layout(tmp_path / ("y" * 90)).create()


def test_data_folder_is_refused_when_the_databases_user_cannot_reach_it(layout: Layout) -> None:
    """The message names the parent that is closed."""
    other = pwd.struct_passwd(("other", "x", os.geteuid() + 1000, os.getegid() + 1000, "", "/", "/bin/false"))
    layout.data.parent.chmod(0o700)
    with pytest.raises(errors.BadDataFolder, match=r"user other, which may not pass through .*chmod o\+x"):
        layout.check_reachable(other)


# The lock and the state


def test_status_is_stopped_when_there_was_never_a_yard(tmp_path: pathlib.Path) -> None:
    """A folder that is not there is no error."""
    assert not read_status(Layout(tmp_path / "nowhere")).is_running


def test_status_is_what_the_holder_published_while_it_holds_the_folder(layout: Layout) -> None:
    """State, processes and token are read from the state file, which only its owner can read."""
    published = YardStatus(
        data=str(layout.data),
        state="ready",
        url="http://x",
        token="t",
        processes=(ProcessStatus("envoy", 5, "running"),),
    )
    with state.hold(layout):
        assert read_status(layout).state == "starting"
        state.publish(layout, published)
        assert read_status(layout) == published
        assert mode(layout.state) == 0o600


def test_status_is_stopped_when_the_holder_left_its_state_file_behind(layout: Layout) -> None:
    """A supervisor that was killed leaves its file, and that is not believed."""
    with state.hold(layout):
        state.publish(layout, STATUS)
    assert layout.state.exists()
    assert not read_status(layout).is_running


def test_folder_is_refused_while_another_process_holds_it(layout: Layout) -> None:
    """The message has the process id of the holder."""
    with state.hold(layout), pytest.raises(errors.YardRunning, match=f"process {os.getpid()}"), state.hold(layout):
        pytest.fail("the folder was held twice")


def test_json_of_a_status_has_the_documented_members() -> None:
    """Scripts read url, token, data, version and processes."""
    assert list(STATUS.to_json()) == ["url", "token", "data", "version", "state", "supervisor", "processes"]
    assert str(STATUS.token) not in repr(STATUS)


# Secrets


def test_secrets_are_made_once_and_make_valid_settings(layout: Layout) -> None:
    """The first call makes them, the second reads the same, and a server would start on them."""
    made = load_secrets(layout)
    assert load_secrets(layout) == made
    assert mode(layout.secrets) == 0o600
    names = ("SECRETS_ENCRYPTION_KEY", "CODEYARD_ADMIN_KEY")
    load_settings({**{name: made[name] for name in names}, "DATABASE_URL": "postgresql:///x"})


def test_secrets_keep_what_the_administrator_wrote_when_one_is_missing(layout: Layout) -> None:
    """Own lines in every usual form are read; what is missing is added below them."""
    layout.secrets.write_text("# mine\nexport LOG_LEVEL='debug'\n\nBASE_URL=http://yard\nOTEL_SERVICE_NAME=\"a b\"")
    layout.secrets.chmod(0o600)
    found = load_secrets(layout)
    assert (found["LOG_LEVEL"], found["BASE_URL"], found["OTEL_SERVICE_NAME"]) == ("debug", "http://yard", "a b")
    assert layout.secrets.read_text().startswith("# mine\nexport LOG_LEVEL='debug'\n")
    assert load_secrets(layout) == found


def test_secrets_are_refused_when_others_can_read_them(layout: Layout) -> None:
    """A key that others could copy is said, not used."""
    load_secrets(layout)
    layout.secrets.chmod(0o640)
    with pytest.raises(errors.BadDataFolder, match="chmod 600"):
        load_secrets(layout)


def test_secrets_are_refused_with_the_line_when_one_makes_no_sense(layout: Layout) -> None:
    """The message has file and line, and not what stands there."""
    layout.secrets.write_text("LOG_LEVEL=info\nhunter2\n")
    layout.secrets.chmod(0o600)
    with pytest.raises(errors.BadDataFolder, match=r"secrets\.env:2: expected NAME=value$"):
        load_secrets(layout)


# Logs


def test_log_is_put_aside_when_it_has_grown_while_its_writer_goes_on(layout: Layout) -> None:
    """The writer keeps its descriptor; what it writes next starts the new file, without a hole."""
    path = layout.logs / "server-0.log"
    descriptor = logs.open_log(path)
    try:
        os.write(descriptor, b"old\n" * 10)
        logs.rotate(layout.logs, max_bytes=39)
        os.write(descriptor, b"new\n")
    finally:
        os.close(descriptor)
    assert path.read_bytes() == b"new\n"
    assert path.with_suffix(".log.1").read_bytes() == b"old\n" * 10
    assert mode(path) == 0o600


def test_tail_of_a_log_leaves_out_what_was_written_before(layout: Layout) -> None:
    """An error quotes only the run that failed."""
    path = layout.logs / "x.log"
    path.write_text("one\ntwo\n")
    since = logs.size(path)
    with path.open("a") as file:
        file.write("three\nfour\n")
    assert logs.tail(path, since) == "three\nfour"
    assert logs.tail(path, 0, lines=2) == "three\nfour"


# The port


def test_port_is_refused_when_something_listens_there_with_reuse() -> None:
    """Envoy would share such a port silently, so it is looked at first; it is free again afterwards."""
    import socket

    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(errors.PortTaken, match=f"127.0.0.1:{port} .*something else listens"):
            free_port("127.0.0.1", port)
    assert free_port("127.0.0.1", port) == port


# One program


async def ready() -> bool:
    """Say that a program is ready."""
    return True


def program(*command: str, is_ready: Callable[[], Awaitable[bool]] = ready, grace_seconds: float = 30) -> Program:
    """Describe a program for a test."""
    return Program("program", command, dict(os.environ), is_ready, grace_seconds=grace_seconds)


def python(code: str) -> Sequence[str]:
    """Return the command that runs these lines."""
    return (sys.executable, "-I", "-S", "-c", code)


class Watched:
    """A child whose states can be waited for."""

    def __init__(self, layout: Layout, description: Program) -> None:
        self.lines: list[str] = []
        self.log = layout.logs / "program.log"
        self._changed = asyncio.Event()
        self.child = Child(description, self.log, self.lines.append, self._changed.set)

    async def until(self, condition: Callable[[ProcessStatus], bool]) -> ProcessStatus:
        """Wait until the child's status fulfils a condition."""
        async with asyncio.timeout(60):
            while not condition(self.child.status):
                self._changed.clear()
                await self._changed.wait()
        return self.child.status


async def test_start_fails_with_the_log_when_the_program_ends_at_once(layout: Layout) -> None:
    """What a program says before it ends is what its administrator needs to read."""
    watched = Watched(layout, program(*python("print('no such database'); raise SystemExit(3)"), is_ready=never))
    with pytest.raises(errors.YardError, match=r"(?s)program ended with status 3.*no such database"):
        await watched.child.start()


async def never() -> bool:
    """Say that a program is not ready yet."""
    return False


async def test_program_is_started_again_when_it_is_killed(layout: Layout) -> None:
    """Its successor is another process, the restart is counted, and both ends are told."""
    watched = Watched(layout, program("sleep", "600"))
    await watched.child.start()
    keeping = asyncio.create_task(watched.child.keep_running())
    first = watched.child.status.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    again = await watched.until(lambda status: status.restarts == 1 and status.state == "running")
    assert again.pid != first
    await watched.child.stop()
    await keeping
    assert watched.child.status == ProcessStatus("program", None, "stopped", 1)
    assert [line.split()[1:4] for line in watched.lines[1:3]] == [["ended", "with", "signal"], ["runs", "again"]]


async def test_pauses_double_while_a_program_keeps_dying(layout: Layout) -> None:
    """A program that cannot run does not keep the machine busy."""
    watched = Watched(layout, program(*python("")))
    await watched.child.start()
    keeping = asyncio.create_task(watched.child.keep_running())
    await watched.until(lambda status: status.restarts == 3)
    await watched.child.stop()
    await keeping
    pauses = [line.rpartition("again in ")[2] for line in watched.lines if "again in" in line]
    assert pauses[:3] == ["0.2 s", "0.4 s", "0.8 s"]


async def test_program_is_killed_with_its_own_children_when_it_ignores_the_stop_signal(layout: Layout) -> None:
    """After its grace nothing of it is left, even what it started itself."""
    code = (
        "import os, signal, subprocess, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(subprocess.Popen(['sleep', '600']).pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    log = layout.logs / "program.log"

    async def has_printed() -> bool:
        return log.exists() and log.read_text().endswith("\n")

    watched = Watched(layout, program(*python(code), is_ready=has_printed, grace_seconds=0.1))
    await watched.child.start()
    grandchild = os.pidfd_open(int(log.read_text()))
    await watched.child.stop()
    assert await ends(grandchild)
    assert "is killed" in watched.lines[-1]


async def test_program_dies_when_the_process_that_started_it_is_killed(tmp_path: pathlib.Path) -> None:
    """The kernel does it, so nothing needs to be left that could."""
    report = tmp_path / "pid"
    child = ["sh", "-c", f"echo $$ > {report}.new && mv {report}.new {report} && exec sleep 600"]
    code = (
        "import subprocess, sys\n"
        "from codeyard_server.supervisor.processes import launcher\n"
        "import signal\n"
        f"subprocess.Popen([*launcher(None, signal.SIGKILL), *{child!r}], start_new_session=True).wait()\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    try:
        async with asyncio.timeout(60):
            while not report.exists():  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.02)
        orphan = os.pidfd_open(int(report.read_text()))
    finally:
        parent.kill()
        await parent.wait()
    assert await ends(orphan)


def test_program_does_not_run_when_its_parent_is_gone_before_it_starts() -> None:
    """A launcher that finds another parent than its maker ends instead."""
    command = launcher(None, signal.SIGKILL)
    command[command.index(str(os.getpid()))] = "1"
    done = subprocess.run([*command, "echo", "ran"], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 1)
    assert "supervisor is gone" in done.stderr


async def ends(descriptor: int) -> bool:
    """Wait for the process of a pidfd to end."""
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(descriptor, gone.set)
    try:
        async with asyncio.timeout(60):
            return await gone.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


# What is told


def test_lines_to_paste_are_valid_shell() -> None:
    """All four lines parse, with and without a token."""
    for status in (STATUS, YardStatus(data="/yard", state="ready", url="http://127.0.0.1:1")):
        for line in first_steps(status):
            subprocess.run(["bash", "-n", "-c", line], check=True)
