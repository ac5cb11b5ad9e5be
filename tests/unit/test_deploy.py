"""The files of ``deploy/``: what compose.yaml, the environment file and the Dockerfiles must hold to."""

from __future__ import annotations

import asyncio
import base64
import itertools
import pathlib
import re
import secrets
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
import yaml
from codeyard_gateway.settings import GatewaySettings
from codeyard_server.adapters.blob_stores import open_blob_store
from codeyard_server.settings import Settings, load_settings, split_address
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from tests.support.processes import free_port
from tools import real_parts

ROOT = pathlib.Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"

SECRETS = {
    "POSTGRES_PASSWORD",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "SECRETS_ENCRYPTION_KEY",
    "CODEYARD_ADMIN_KEY",
}
ONE_SHOT = {"prepare"}

# NAME=value or #NAME=value: set, or shown with its default.
_LINE = re.compile(r"(?P<off>#?)(?P<name>[A-Z][A-Z0-9_]*)=(?P<value>.*)")
_REFERENCE = re.compile(r"\$\{(?P<name>[A-Z][A-Z0-9_]*)(?P<operator>:[?-]|)(?P<word>[^}]*)\}")
_FROM = re.compile(r"^FROM (?P<image>\S+)", re.MULTILINE)


def compose_text() -> str:
    """Return compose.yaml as it is."""
    return (DEPLOY / "compose.yaml").read_text()


def services(text: str | None = None) -> dict[str, dict[str, Any]]:
    """Return the services with YAML's anchors and merges resolved."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(text or compose_text())["services"]
    return found


def lines() -> dict[str, tuple[bool, str]]:
    """Return name -> (whether it is set, value) of the environment file."""
    text = (DEPLOY / "codeyard.env.example").read_text()
    found = [match for line in text.splitlines() if (match := _LINE.fullmatch(line))]
    names = [match["name"] for match in found]
    assert len(names) == len(set(names)), "a variable appears twice"
    return {match["name"]: (not match["off"], match["value"]) for match in found}


def settings_by_variable() -> dict[str, Any]:
    """Return variable -> default of every setting; a required one has the default ``""``."""
    fields = Settings.model_fields.values()
    return {str(field.validation_alias): "" if field.is_required() else field.default for field in fields}


def own_variables() -> set[str]:
    """Return what compose.yaml itself reads and is no setting."""
    return {match["name"] for match in _REFERENCE.finditer(compose_text())} - settings_by_variable().keys()


def interpolate(text: str, environment: dict[str, str]) -> str:
    """Replace ${NAME}, ${NAME:-default} and ${NAME:?message} as compose does."""

    def value(match: re.Match[str]) -> str:
        found = environment.get(match["name"], "")
        if not found and match["operator"] == ":?":
            raise KeyError(match["name"])
        return found or (match["word"] if match["operator"] == ":-" else "")

    return _REFERENCE.sub(value, text)


@pytest.fixture
def filled() -> dict[str, str]:
    """The environment file as an administrator would fill it in."""
    values = {
        "POSTGRES_PASSWORD": secrets.token_hex(32),
        "AWS_ACCESS_KEY_ID": secrets.token_hex(10),
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(32),
        "SECRETS_ENCRYPTION_KEY": f"k1:{base64.b64encode(secrets.token_bytes(32)).decode()}",
        "CODEYARD_ADMIN_KEY": f"cyk_{secrets.token_hex(32)}",
    }
    assert values.keys() == {name for name, (is_set, _) in lines().items() if is_set}
    return values


def test_environment_file_names_only_what_somebody_reads() -> None:
    """Every variable is a setting of the servers or is read by compose.yaml: a misspelt one does not linger."""
    assert lines().keys() - settings_by_variable().keys() == own_variables()


def test_environment_file_names_every_setting() -> None:
    """Whoever reads the file has seen all there is to set."""
    assert settings_by_variable().keys() <= lines().keys()


def test_environment_file_shows_the_default_when_a_line_is_off() -> None:
    """A line that begins with # shows what applies without it."""
    defaults = {name: shown(default) for name, default in settings_by_variable().items()}
    defaults |= {match["name"]: match["word"] for match in _REFERENCE.finditer(compose_text()) if ":-" in match[0]}
    found = {name: value for name, (is_set, value) in lines().items() if not is_set}
    assert found == {name: defaults[name] for name in found}


def test_environment_file_holds_no_secret() -> None:
    """The secrets, and only they, are set, to nothing: a yard cannot start on a key that others know."""
    assert {name: value for name, (is_set, value) in lines().items() if is_set} == dict.fromkeys(SECRETS, "")


@pytest.mark.parametrize("missing", ["POSTGRES_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_compose_stops_when_a_secret_of_its_own_is_missing(filled: dict[str, str], missing: str) -> None:
    """compose demands each secret that it passes on by ``:?``, and has a default for none."""
    with pytest.raises(KeyError, match=missing):
        interpolate(compose_text(), {**filled, missing: ""})
    references = [match for match in _REFERENCE.finditer(compose_text()) if match["name"] in SECRETS]
    assert {match["operator"] for match in references} == {":?"}


@pytest.mark.parametrize("name", ["prepare", "server"])
def test_settings_are_valid_when_the_secrets_are_filled_in(filled: dict[str, str], name: str) -> None:
    """What reaches a container makes settings, a blob store and a gateway that their own code accepts."""
    service = services(interpolate(compose_text(), filled))[name]
    assert service["env_file"] == ["codeyard.env"]
    environment = {**filled, **service["environment"]}
    assert service["environment"].keys() <= settings_by_variable().keys()
    settings = load_settings(environment)
    assert filled["POSTGRES_PASSWORD"] in settings.database_url.get_secret_value()
    open_blob_store(
        settings.blob_url, access_key=filled["AWS_ACCESS_KEY_ID"], secret_key=filled["AWS_SECRET_ACCESS_KEY"]
    )
    host, port = split_address(settings.listen)
    GatewaySettings(("server:9090",), ("server:9091",), "127.0.0.1:9901", listen_address=host, port=port)


def test_settings_are_refused_when_everybody_would_be_let_in(filled: dict[str, str]) -> None:
    """Inside containers nothing is loopback, so AUTH_MODE=none does not start."""
    environment = {**filled, **services(interpolate(compose_text(), filled))["server"]["environment"]}
    with pytest.raises(Exception, match="AUTH_MODE none lets everybody in"):
        load_settings({**environment, "AUTH_MODE": "none"})


@pytest.mark.parametrize("name", sorted(services()))
def test_service_is_confined(name: str) -> None:
    """Nobody is root, has a capability, can gain one, or writes outside of volumes and tmpfs."""
    service = services()[name]
    user, group = service["user"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["pids_limit"] > 0
    dangerous = {"privileged", "cap_add", "devices", "pid", "ipc", "userns_mode", "network_mode", "extra_hosts"}
    assert not dangerous & service.keys()
    assert all(volume.split(":")[0] in ("postgres", "s3", "gateway") for volume in service.get("volumes", []))


@pytest.mark.parametrize("name", sorted(services()))
def test_service_is_watched(name: str) -> None:
    """A service that stays has a health check and comes back after a crash; one that ends has neither."""
    service = services()[name]
    if name in ONE_SHOT:
        assert (service["restart"], "healthcheck" in service) == ("no", False)
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD"
        assert {"interval", "timeout", "retries"} <= service["healthcheck"].keys()


def test_services_start_in_order_when_each_waits_for_what_it_needs() -> None:
    """The database before the migration, the migration and the blobs before the servers, the servers before Envoy."""
    waits = {
        name: {k: v["condition"] for k, v in each.get("depends_on", {}).items()} for name, each in services().items()
    }
    assert waits == {
        "postgres": {},
        "s3": {},
        "prepare": {"postgres": "service_healthy"},
        "server": {"prepare": "service_completed_successfully", "s3": "service_healthy"},
        "gateway": {"prepare": "service_completed_successfully", "server": "service_healthy"},
    }


def test_only_the_gateway_is_published_and_on_loopback() -> None:
    """The database, the blobs and the servers have no port outside; the gateway has one, which others must ask for."""
    published = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert {name: interpolate(ports[0], {}) for name, ports in published.items()} == {"gateway": "127.0.0.1:8080:8080"}
    assert yaml.safe_load(compose_text())["networks"]["state"]["internal"] is True
    assert services()["gateway"]["networks"] == ["yard"]


def images() -> Iterator[str]:
    """Yield every image that compose.yaml and the Dockerfiles name."""
    yield from (service["image"] for service in services().values())
    for dockerfile in sorted(DEPLOY.glob("*Dockerfile")):
        yield from (match["image"] for match in _FROM.finditer(dockerfile.read_text()))


def test_no_image_floats() -> None:
    """Every image has a tag that names a version down to its last digit."""
    found = sorted(set(images()))
    assert len(found) >= 6
    for image in found:
        name, _, tag = image.rpartition(":")
        assert name, image
        assert re.match(r"v?\d+\.\d+|\d{14}$", tag), image


def test_image_of_the_servers_has_the_version_of_the_project() -> None:
    """A release changes one number in pyproject.toml, and this test finds the other."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {services()[name]["image"] for name in ("prepare", "server")} == {f"codeyard/server:{version}"}


@pytest.mark.parametrize(("file", "service"), [("Dockerfile", "server"), ("minio.Dockerfile", "s3")])
def test_image_runs_as_the_user_of_its_service(file: str, service: str) -> None:
    """The image's last user is the one compose names, made with that number; no instruction after it is root's."""
    text = (DEPLOY / file).read_text()
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == [services()[service]["user"]]
    assert f"--uid {services()[service]['user'].split(':')[0]} " in text
    assert not re.search(r"^(RUN|COPY|ADD)", text[text.index("\nUSER ") :], re.MULTILINE)


def test_dockerfile_copies_only_what_exists_and_is_let_in() -> None:
    """Each COPY names files of the checkout that the ignore file lets into the build; nothing is fetched by ADD."""
    allowed = {
        line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    }
    text = (DEPLOY / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE)
    sources = set(itertools.chain.from_iterable(line.split()[:-1] for line in copied))
    assert sources == allowed
    assert all((ROOT / source).exists() for source in sources)
    assert "ADD " not in text


def test_minio_image_is_the_version_of_the_tests() -> None:
    """The conformance suite and the container run the same MinIO."""
    assert f"{real_parts.MINIO_MODULE}@{real_parts.MINIO_VERSION}" in (DEPLOY / "minio.Dockerfile").read_text()
    assert services()["s3"]["image"].rpartition(":")[2] in real_parts.MINIO_VERSION


@pytest.fixture
async def grpc_server() -> AsyncIterator[tuple[HealthServicer, str]]:
    """A gRPC server with the health service, and its address."""
    server = grpc.aio.server()
    servicer = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield servicer, f"127.0.0.1:{port}"
    await server.stop(None)


async def test_healthcheck_succeeds_exactly_when_the_server_serves(
    grpc_server: tuple[HealthServicer, str],
) -> None:
    """Exit status 0 for a server that serves; 1 for one that is stopping, and for none."""
    servicer, address = grpc_server
    assert await healthcheck(address) == 0
    await servicer.enter_graceful_shutdown()
    assert await healthcheck(address) == 1
    assert await healthcheck(f"127.0.0.1:{free_port()}") == 1


async def healthcheck(address: str) -> int:
    """Run the containers' health check and return its exit status."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, DEPLOY / "healthcheck.py", address, stderr=subprocess.DEVNULL
    )
    return await process.wait()


def shown(default: object) -> str:
    """Return a default as the environment file writes it."""
    if default is None or default == ():
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)
