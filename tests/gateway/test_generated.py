"""The committed files, the written configuration, and the command line."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml
from codeyard_gateway.__main__ import GENERATED, golden_files
from codeyard_gateway.compiler.descriptors import descriptor_set
from codeyard_gateway.compiler.model import Casing
from codeyard_gateway.compiler.reader import read_image
from codeyard_gateway.render import envoy_binary, envoy_command, load_api, load_image, write_gateway
from codeyard_gateway.settings import GatewaySettings, golden_settings
from google.protobuf import descriptor_pb2, descriptor_pool

from tests.gateway.fixture_api import ROOT, compile_protos, fixture_image, fixture_model

TCP = {"server_sockets": ("server-0:9000", "server-1:9000"), "edge_sockets": ("server-0:9001",)}
WIDE = {
    "listen_address": "::",
    "allowed_hosts": ("*",),
    "allowed_origins": ("https://a.example",),
    "access_log": "/dev/stdout",
    "admin_socket": "127.0.0.1:9901",
}


def validate(config: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """Let Envoy check a configuration."""
    command = [str(envoy_binary()), "--mode", "validate", "--disable-hot-restart", "--config-path", str(config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", ["envoy.yaml", "openapi.json", "routes.json"])
def test_committed_file_is_what_the_compiler_writes(name: str) -> None:
    """Renew it with `make gen` after a change of the protos or of the compiler."""
    assert (GENERATED / name).read_text() == golden_files(load_image())[name]


@pytest.mark.parametrize("changes", [{}, TCP, WIDE, {"allowed_hosts": ("*.yard.example", "yard.example")}])
@pytest.mark.parametrize("fixture", [False, True])
def test_envoy_accepts_the_configuration(tmp_path: pathlib.Path, changes: dict[str, Any], fixture: bool) -> None:
    """With every kind of setting, for the real API and for the fixture."""
    settings = dataclasses.replace(golden_settings(), **changes)
    config = write_gateway(settings, fixture_image() if fixture else load_image(), tmp_path)
    ended = validate(config)
    assert ended.returncode == 0, ended.stderr
    assert "[warning]" not in ended.stderr


def test_envoy_accepts_five_hundred_methods(tmp_path: pathlib.Path) -> None:
    """All reads share one regular expression, whose size Envoy would limit to that of a dozen names."""
    methods = "".join(
        f"""rpc GetSomethingWithALongName{number}(google.protobuf.Empty) returns (google.protobuf.Empty) {{
        option idempotency_level = NO_SIDE_EFFECTS;
        option (google.api.http) = {{get: "/v1/some/path/{number}"}};
        option (codeyard.http.v1.method) = {{auth: AUTH_NONE}}; }}"""
        for number in range(500)
    )
    (tmp_path / "many.proto").write_text(
        'syntax = "proto3"; package many.v1; import "codeyard/http/v1/options.proto";'
        'import "google/api/annotations.proto"; import "google/protobuf/empty.proto"; service ManyService {'
        'option (codeyard.http.v1.service) = {casing: CASING_CAMEL error_shape: ERROR_SHAPE_NESTED tag: "many"};'
        + methods
        + "}"
    )
    config = write_gateway(golden_settings(), compile_protos(tmp_path, "many.proto"), tmp_path / "out")
    ended = validate(config)
    assert ended.returncode == 0, ended.stderr


def test_camel_case_transcoder_exists_only_when_a_service_uses_it(tmp_path: pathlib.Path) -> None:
    """A filter without services would cost every request."""
    for image, casings in ((load_image(), {"snake"}), (fixture_image(), {"snake", "camel"})):
        api = load_api(image)
        folder = tmp_path / str(len(casings))
        config = write_gateway(golden_settings(), image, folder).read_text()
        assert set(re.findall(r"grpc_json_transcoder\.(\w+)\n", config)) == casings == {str(c) for c in api.casings()}
        assert len(list(folder.glob("descriptors-*.binpb"))) == len(casings)


def test_changed_content_gets_another_file_name(tmp_path: pathlib.Path) -> None:
    """Envoy does not look into a file again whose name it knows; equal content keeps its name."""
    write_gateway(golden_settings(), fixture_image(), tmp_path)
    first = {path.name for path in tmp_path.iterdir()}
    write_gateway(golden_settings(), fixture_image(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == first
    settings = dataclasses.replace(golden_settings(), allowed_origins=("https://a.example",))
    write_gateway(settings, fixture_image(), tmp_path)
    assert len({path.name for path in tmp_path.glob("filter-*.lua")}) == 2
    assert len({path.name for path in tmp_path.glob("descriptors-snake-*.binpb")}) == 1


@pytest.mark.parametrize("casing", Casing)
def test_descriptors_of_a_casing_are_valid_and_follow_it(casing: Casing) -> None:
    """json_name decides about the casing; hand-written names, twins and hidden fields are as the options say."""
    index, api = fixture_model()
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set(index, api, casing))
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    fields = pool.FindMessageTypeByName("yardtest.v1.PutPlaceRequest").fields_by_number
    assert fields[2].json_name == {"snake": "display_name", "camel": "displayName"}[casing]
    assert fields[3].json_name == "access_token"
    assert fields[1].name == "path_of_place_id"
    thing = pool.FindMessageTypeByName("yardtest.v1.Thing")
    assert "internal_note" not in thing.fields_by_name
    service = pool.FindServiceByName("yardtest.v1.ThingService")
    assert {"WatchHttp", "ListEventsHttp", "Watch"} <= set(service.methods_by_name)
    assert not any(file.HasField("source_code_info") for file in files.file)


def test_oneof_that_loses_its_fields_disappears() -> None:
    """An event's payload is for gRPC clients only, and an empty oneof would be no valid descriptor."""
    index, api = read_image(load_image())
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set(index, api, Casing.SNAKE))
    event = next(
        m for f in files.file for m in f.message_type if f.package == "codeyard.sessions.v1" and m.name == "Event"
    )
    assert [oneof.name for oneof in event.oneof_decl] == ["_sequence"]
    sequence = next(field for field in event.field if field.name == "sequence")
    assert (sequence.proto3_optional, sequence.oneof_index) == (True, 0)


def test_route_table_lists_every_rpc_with_its_twins() -> None:
    """The authorisation test reads it, so a method that is missing there would go unchecked."""
    table = json.loads((GENERATED / "routes.json").read_text())
    rpcs = {entry["rpc"]: entry for entry in table["rpcs"]}
    assert set(rpcs) == {rpc.path for rpc in load_api().rpcs}
    twin = rpcs["/codeyard.sessions.v1.EventService/SubscribeHttp"]
    assert twin["twin_of"] == "/codeyard.sessions.v1.EventService/Subscribe"
    assert twin["authenticated"] is True
    events = next(route for route in table["routes"] if route["sse"])
    assert events["json_rpc"] == "/codeyard.sessions.v1.EventService/ListEventsHttp"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"server_sockets": ()}, "server_sockets is empty"),
        ({"server_sockets": ("/a.sock", "host:1")}, "mixes"),
        ({"server_sockets": ("relative.sock",)}, "neither an absolute path nor host:port"),
        ({"server_sockets": ("/" + "a" * 107,)}, "at most 107 bytes"),
        ({"port": 70000}, "port 70000"),
        ({"listen_address": "localhost"}, "localhost"),
        ({"allowed_hosts": ("*",)}, "DNS rebinding"),
        ({"allowed_hosts": ("a.*",)}, "not a host name"),
        ({"allowed_origins": ("*",)}, "not of the form"),
        ({"allowed_origins": ("https://a.example/",)}, "not of the form"),
    ],
)
def test_setting_that_makes_no_sense_is_refused(changes: dict[str, Any], reason: str) -> None:
    """Before Envoy says something less clear, or nothing."""
    with pytest.raises(ValueError, match=re.escape(reason)):
        dataclasses.replace(golden_settings(), **changes)


def test_render_command_writes_a_configuration_envoy_accepts(tmp_path: pathlib.Path) -> None:
    """For installations with an Envoy of their own."""
    command = [sys.executable, "-m", "codeyard_gateway", "render", str(tmp_path), "--server", "server:9000"]
    command += ["--edge", "server:9001", "--listen", "0.0.0.0", "--port", "8080", "--allow-host", "yard.example"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    config = pathlib.Path(ended.stdout.strip())
    assert validate(config).returncode == 0
    domains = yaml.safe_load(config.read_text())["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
    hosts = domains["typed_config"]["route_config"]["virtual_hosts"]
    assert hosts[0]["domains"] == ["localhost", "127.0.0.1", "[::1]", "yard.example"]
    assert hosts[1]["routes"][0]["direct_response"]["status"] == 421


def test_render_command_explains_a_wrong_setting(tmp_path: pathlib.Path) -> None:
    """Without a traceback."""
    command = [
        sys.executable,
        "-m",
        "codeyard_gateway",
        "render",
        str(tmp_path),
        "--server",
        "nonsense",
        "--edge",
        "a:1",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "neither an absolute path nor host:port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_every_test_the_record_names_exists() -> None:
    """docs/adr/0002-gateway.md says where each finding is kept; a renamed test must not get lost there."""
    record = (ROOT / "docs" / "adr" / "0002-gateway.md").read_text()
    sources = "".join(path.read_text() for path in pathlib.Path(__file__).parent.glob("test_*.py"))
    names = set(re.findall(r"`(test_[a-z0-9_]+)`", record))
    assert len(names) > 50
    assert not [name for name in names if f"def {name}(" not in sources]


def test_command_line_keeps_envoys_apart(tmp_path: pathlib.Path) -> None:
    """Two Envoys of one machine must not take each other for parent and child."""
    settings = GatewaySettings(server_sockets=("/a",), edge_sockets=("/b",), admin_socket="/c", concurrency=3)
    command = envoy_command(settings, tmp_path / "envoy.yaml")
    assert "--disable-hot-restart" in command
    assert command[command.index("--concurrency") + 1] == "3"
