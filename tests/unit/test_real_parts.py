"""The installer of the real parts: nothing half done, nothing done twice, and a message that helps."""

from __future__ import annotations

import pathlib
import threading

import pytest

from tools import real_parts


@pytest.fixture(autouse=True)
def cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty cache for this test."""
    monkeypatch.setenv("CODEYARD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_find_minio_names_the_command_when_it_is_not_built() -> None:
    """A test without its real part fails with the line that installs it."""
    with pytest.raises(real_parts.MissingPart, match=r"python tools/real_parts\.py minio"):
        real_parts.find_minio()


def test_find_chromium_names_the_package_when_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not root learns what to install."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(real_parts.MissingPart, match="package 'chromium'"):
        real_parts.find_chromium()


def test_npm_package_is_missing_when_the_lock_has_changed(tmp_path: pathlib.Path) -> None:
    """An installed copy belongs to one lock: a test never runs on packages of another."""
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "package.json").write_text("{}")
    (folder / "package-lock.json").write_text("{}")
    with pytest.raises(real_parts.MissingPart) as before:
        real_parts.npm_package(folder)
    pathlib.Path(str(before.value).split()[0]).mkdir(parents=True)
    assert real_parts.npm_package(folder).name.startswith("server-")
    (folder / "package-lock.json").write_text('{"lockfileVersion": 3}')
    with pytest.raises(real_parts.MissingPart):
        real_parts.npm_package(folder)


def test_installed_once_leaves_nothing_when_the_work_fails(tmp_path: pathlib.Path) -> None:
    """An interrupted installation is not taken for a finished one."""
    target = tmp_path / "parts" / "part"
    with pytest.raises(KeyboardInterrupt):
        interrupted_install(target)
    assert [path.name for path in target.parent.iterdir()] == [".part.lock"]
    with real_parts.installed_once(target) as work:
        assert work is not None


def interrupted_install(target: pathlib.Path) -> None:
    """Write half of a part and be interrupted."""
    with real_parts.installed_once(target) as work:
        assert work is not None
        (work / "half").write_text("half")
        raise KeyboardInterrupt


def test_installed_once_works_once_when_many_ask_at_the_same_time(tmp_path: pathlib.Path) -> None:
    """Of several processes one installs; the others wait and find it done."""
    target = tmp_path / "parts" / "part"
    installed: list[str] = []

    def install() -> None:
        with real_parts.installed_once(target) as work:
            if work is not None:
                installed.append(work.name)
                (work / "made").write_text("#!/bin/sh\n")
                real_parts.place(work / "made", target)

    threads = [threading.Thread(target=install) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(installed) == 1
    assert target.stat().st_mode & 0o777 == 0o755


def test_run_shows_the_output_when_the_command_fails() -> None:
    """The reason of a failure is in the message, not lost in a log."""
    with pytest.raises(real_parts.MissingPart, match="the reason"):
        real_parts.run(["sh", "-c", "echo the reason; exit 3"])
