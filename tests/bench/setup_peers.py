"""Install what the peers are made of into a virtual environment of their own, in the cache of the real parts.

    python -m tests.bench.setup_peers           install what tests/bench/requirements.lock pins; print its Python
    python -m tests.bench.setup_peers --lock    renew the lock from tests/bench/requirements.in

The peers' packages stay out of the project's environment: none of them is a dependency of ours.
"""

from __future__ import annotations

import argparse
import hashlib
import pathlib
import sys

from tools import real_parts

FOLDER = pathlib.Path(__file__).parent
PEERS = FOLDER / "peers"
"""The folder of the peers' programs."""

_WANTED = FOLDER / "requirements.in"
_LOCK = FOLDER / "requirements.lock"


def peers_python() -> pathlib.Path:
    """Return the Python that runs the peers; its environment is made when the lock has changed since.

    Raises:
        real_parts.MissingPart: the packages could not be installed; the message holds the reason.
    """
    digest = hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:16]
    target = real_parts.cache_dir() / "peers" / f"{digest}-py{sys.version_info.major}{sys.version_info.minor}"
    with real_parts.installed_once(target) as work:
        if work is not None:
            real_parts.say("peers: installing")
            made = work / "venv"
            real_parts.run([sys.executable, "-m", "venv", *(["--without-pip"] if real_parts.find_uv() else []), made])
            real_parts.run([*real_parts.pip_install(made / "bin" / "python"), "--requirement", _LOCK])
            # Scripts in bin/ would name the old place; they are not used. The interpreter finds itself.
            real_parts.place(made, target)
    return target / "bin" / "python"


def renew_lock() -> None:
    """Resolve requirements.in anew, for every platform, with hashes and without the address of an index."""
    uv = real_parts.find_uv()
    if uv is None:
        raise real_parts.MissingPart("uv is missing: make setup")
    options = [
        "--universal",
        "--python-version",
        "3.11",
        "--generate-hashes",
        "--no-emit-index-url",
        "--no-emit-find-links",
    ]
    real_parts.run(
        [
            uv,
            "pip",
            "compile",
            "--upgrade",
            "--quiet",
            *options,
            "--no-header",
            "--output-file",
            _LOCK.name,
            _WANTED.name,
        ],
        cwd=FOLDER,
    )


def main() -> int:
    """Do what the command line says and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lock", action="store_true")
    try:
        if parser.parse_args().lock:
            renew_lock()
        print(peers_python())
    except real_parts.MissingPart as problem:
        real_parts.say(f"peers: {problem}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
