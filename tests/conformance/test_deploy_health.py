"""The health checks of ``deploy/compose.yaml`` against the real programs they watch."""

from __future__ import annotations

import json
import pathlib
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from codeyard_gateway.render import envoy_binary

from tests.support.minio import MinioServer
from tests.support.processes import die_with_parent, free_port, stop

COMPOSE = pathlib.Path(__file__).parents[2] / "deploy" / "compose.yaml"
_START_SECONDS = 30.0


@pytest.fixture
def envoy_admin(tmp_path: pathlib.Path) -> Iterator[int]:
    """The administration port of an Envoy that does nothing else."""
    port = free_port()
    admin = {"admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}
    (tmp_path / "envoy.yaml").write_text(json.dumps(admin))
    with (tmp_path / "envoy.log").open("wb") as log:
        process = subprocess.Popen(
            [envoy_binary(), "--config-path", tmp_path / "envoy.yaml", "--disable-hot-restart", "--concurrency", "1"],
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,  # noqa: PLW1509  # one call of prctl, which takes no lock
        )
    yield port
    stop(process)


def test_health_check_of_s3_succeeds_exactly_when_it_answers(minio_server: MinioServer) -> None:
    """The command that compose runs in the container says 0 for a MinIO that is up, and not for a closed port."""
    port = int(minio_server.endpoint.rpartition(":")[2])
    assert health_check("s3", 9000, port) == 0
    assert health_check("s3", 9000, free_port()) != 0


def test_health_check_of_the_gateway_succeeds_exactly_when_envoy_is_live(envoy_admin: int) -> None:
    """The command that compose runs in the container says 0 for an Envoy that is live, and not for a closed port."""
    deadline = time.monotonic() + _START_SECONDS
    while health_check("gateway", 9901, envoy_admin) != 0:
        assert time.monotonic() < deadline, "the check never succeeded"
        time.sleep(0.1)
    assert health_check("gateway", 9901, free_port()) != 0


def health_check(service: str, port: int, actual: int) -> int:
    """Run a service's check with another port than in its container; return the exit status."""
    services: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    kind, *command = services[service]["healthcheck"]["test"]
    assert kind == "CMD"
    command = [word.replace(f"/dev/tcp/127.0.0.1/{port} ", f"/dev/tcp/127.0.0.1/{actual} ") for word in command]
    assert str(actual) in command[-1]
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False, timeout=10).returncode
