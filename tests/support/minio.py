"""A real S3 server for tests: MinIO, built by ``tools/real_parts.py``, on a loopback port with keys of its own."""

from __future__ import annotations

import dataclasses
import http.client
import pathlib
import secrets
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.support.processes import die_with_parent, free_port, stop
from tools import real_parts

_START_SECONDS = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class MinioServer:
    """A running server: its endpoint ``http://127.0.0.1:port`` and the key pair of its administrator."""

    endpoint: str
    access_key: str
    secret_key: str


@pytest.fixture(scope="session")
def minio_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    """The session's MinIO server."""
    folder = tmp_path_factory.mktemp("minio")
    server = MinioServer(f"http://127.0.0.1:{free_port()}", secrets.token_hex(8), secrets.token_hex(16))
    with (folder / "minio.log").open("wb") as log:
        process = subprocess.Popen(
            [real_parts.find_minio(), "server", folder / "data", "--address", server.endpoint.removeprefix("http://")],
            env={
                "HOME": str(folder),
                "MINIO_ROOT_USER": server.access_key,
                "MINIO_ROOT_PASSWORD": server.secret_key,
                "MINIO_BROWSER": "off",
                "MINIO_UPDATE": "off",
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,  # noqa: PLW1509  # one call of prctl, which takes no lock
        )
    try:
        _wait_until_ready(server, process, folder / "minio.log")
        yield server
    finally:
        stop(process)


def _wait_until_ready(server: MinioServer, process: subprocess.Popen[bytes], log: pathlib.Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _is_ready(server):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"MinIO did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.05)


def _is_ready(server: MinioServer) -> bool:
    connection = http.client.HTTPConnection(server.endpoint.removeprefix("http://"), timeout=5)
    try:
        connection.request("GET", "/minio/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
