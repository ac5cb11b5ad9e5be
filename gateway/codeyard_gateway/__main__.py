"""Commands for builds, and for installations that run an Envoy of their own.

python -m codeyard_gateway compile [--golden]     check the protos; --golden renews gateway/generated/
python -m codeyard_gateway render --help          write the files an Envoy runs on
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys

from codeyard_gateway.compiler.envoy import GatewayFiles, envoy_yaml
from codeyard_gateway.compiler.model import CompileError
from codeyard_gateway.compiler.openapi import openapi_document
from codeyard_gateway.compiler.reader import read_image
from codeyard_gateway.compiler.route_table import route_table
from codeyard_gateway.render import load_image, write_gateway
from codeyard_gateway.settings import GatewaySettings, golden_settings

GENERATED = pathlib.Path(__file__).parents[1] / "generated"
_GOLDEN_VERSION = "0.0.0"


def golden_files(image: bytes) -> dict[str, str]:
    """Return the committed files by name. They change exactly when the API or the compiler does."""
    index, api = read_image(image)
    folder = pathlib.PurePosixPath("/var/lib/codeyard/gateway")
    files = GatewayFiles(folder / "filter.lua", {c: folder / f"descriptors-{c}.binpb" for c in api.casings()})
    return {
        "envoy.yaml": envoy_yaml(index, api, golden_settings(), files),
        "openapi.json": json.dumps(openapi_document(index, api, _GOLDEN_VERSION), ensure_ascii=False, indent=1) + "\n",
        "routes.json": json.dumps(route_table(api), indent=1) + "\n",
    }


def _compile(options: argparse.Namespace) -> None:
    files = golden_files(load_image())
    if options.golden:
        GENERATED.mkdir(exist_ok=True)
        for name, text in files.items():
            (GENERATED / name).write_text(text)


def _render(options: argparse.Namespace) -> None:
    settings = GatewaySettings(
        server_sockets=tuple(options.server),
        edge_sockets=tuple(options.edge),
        admin_socket=options.admin,
        listen_address=options.listen,
        port=options.port,
        allowed_hosts=tuple(options.allow_host),
        allowed_origins=tuple(options.allow_origin),
        trusted_proxies=options.trusted_proxies,
        access_log=options.access_log,
    )
    print(write_gateway(settings, load_image(), options.folder))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m codeyard_gateway", description=__doc__.split("\n")[0] if __doc__ else ""
    )
    commands = parser.add_subparsers(required=True)
    compile_command = commands.add_parser("compile", help="check the protos")
    compile_command.add_argument("--golden", action="store_true", help="renew the committed files")
    compile_command.set_defaults(run=_compile)
    render = commands.add_parser("render", help="write envoy.yaml and what it refers to")
    render.add_argument("folder", type=pathlib.Path, help="where to write; Envoy must see the same path")
    render.add_argument(
        "--server", action="append", required=True, help="endpoint of a server: unix socket or host:port"
    )
    render.add_argument("--edge", action="append", required=True, help="endpoint of a WebSocket edge")
    render.add_argument("--admin", default="127.0.0.1:9901", help="Envoy's administration: unix socket or address")
    render.add_argument("--listen", default="127.0.0.1", help="address of the public port")
    render.add_argument("--port", type=int, default=8080, help="the public port")
    render.add_argument(
        "--allow-host", action="append", default=[], help="host name to answer to, besides loopback names"
    )
    render.add_argument("--allow-origin", action="append", default=[], help="origin of pages that may call")
    render.add_argument("--trusted-proxies", type=int, default=0, help="proxies in front that set X-Forwarded-For")
    render.add_argument("--access-log", help="file for the access log, such as /dev/stdout")
    render.set_defaults(run=_render)
    return parser


def main() -> int:
    """Run one command; return the exit status."""
    options = _parser().parse_args()
    try:
        options.run(options)
    except (CompileError, ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
