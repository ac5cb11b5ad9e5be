"""``deploy/prepare.py``, which makes an installation in containers ready, against a real database."""

from __future__ import annotations

import base64
import os
import pathlib
import secrets
import subprocess
import sys

import asyncpg
import pytest
import yaml

PREPARE = pathlib.Path(__file__).parents[2] / "deploy" / "prepare.py"


@pytest.fixture
def environment(empty_database_url: str) -> dict[str, str]:
    """The environment of the container ``prepare``."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "DATABASE_URL": empty_database_url,
        "SECRETS_ENCRYPTION_KEY": f"k1:{base64.b64encode(secrets.token_bytes(32)).decode()}",
        "CODEYARD_ADMIN_KEY": f"cyk_{secrets.token_hex(32)}",
        "CODEYARD_LISTEN": "0.0.0.0:8080",
        "ALLOWED_HOSTS": "yard.example.com",
    }


async def test_prepare_migrates_and_writes_the_gateway_when_run_twice(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    """After it the schema is there and Envoy's configuration names servers and hosts; a second run changes nothing."""
    first = run(environment, tmp_path)
    assert first.returncode == 0, first.stderr
    assert "migrated 0001_" in first.stdout
    written = contents(tmp_path)
    second = run(environment, tmp_path)
    assert second.returncode == 0, second.stderr
    assert "migrated" not in second.stdout
    assert contents(tmp_path) == written
    clusters = yaml.safe_load(written["envoy.yaml"])["static_resources"]["clusters"]
    assert {cluster["type"] for cluster in clusters} == {"STRICT_DNS"}
    assert any(b"yard.example.com" in content for content in written.values())
    connection = await asyncpg.connect(environment["DATABASE_URL"])
    assert await connection.fetchval("SELECT to_regclass('sessions')") == "sessions"
    await connection.close()


def test_prepare_explains_when_a_setting_is_wrong(environment: dict[str, str], tmp_path: pathlib.Path) -> None:
    """A wrong value ends it with status 1 and the variable's name, without a traceback or a secret."""
    failed = run({**environment, "CODEYARD_ADMIN_KEY": "short-secret"}, tmp_path)
    assert failed.returncode == 1
    assert "CODEYARD_ADMIN_KEY" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "short-secret" not in failed.stderr


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """Return name -> content of the files in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run(environment: dict[str, str], folder: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """Run the program as the container does."""
    command: list[str | pathlib.Path] = [
        sys.executable,
        PREPARE,
        "--server",
        "server:9090",
        "--edge",
        "server:9091",
        folder,
    ]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
