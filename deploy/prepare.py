"""Make an installation ready for its servers and its Envoy: migrate the database, write the gateway's configuration.

    python prepare.py --server server:9090 --edge server:9091 /var/lib/codeyard/gateway

Everything else comes from the environment, as for the servers. A host name may stand for several processes: Envoy asks
the resolver for all of its addresses. Running it again is harmless.
"""

from __future__ import annotations

import argparse
import asyncio
import pathlib
import sys

from codeyard_gateway.compiler.model import CompileError
from codeyard_gateway.render import load_image, write_gateway
from codeyard_gateway.settings import GatewaySettings
from codeyard_server.core.migrate import MigrationError, migrate
from codeyard_server.settings import SettingsError, load_settings, split_address

_ADMIN = "127.0.0.1:9901"
"""Envoy's administration: only Envoy's own container reaches it."""


def prepare(servers: tuple[str, ...], edges: tuple[str, ...], folder: pathlib.Path) -> None:
    """Migrate and write the configuration into the folder, which Envoy must see under the same path.

    Raises:
        SettingsError, MigrationError, CompileError, ValueError, OSError: what is wrong, in words for an administrator.
    """
    settings = load_settings()
    for name in asyncio.run(migrate(settings.database_url.get_secret_value())):
        print(f"migrated {name}")
    host, port = split_address(settings.listen)
    gateway = GatewaySettings(
        server_sockets=servers,
        edge_sockets=edges,
        admin_socket=_ADMIN,
        listen_address=host,
        port=port,
        allowed_hosts=settings.allowed_hosts,
        allowed_origins=settings.cors_allowed_origins,
    )
    print(f"wrote {write_gateway(gateway, load_image(), folder)}")


def main() -> int:
    """Read the command line, prepare, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--server", action="append", required=True, help="endpoint of the servers, host:port")
    parser.add_argument("--edge", action="append", required=True, help="endpoint of the WebSocket edges, host:port")
    parser.add_argument("folder", type=pathlib.Path)
    options = parser.parse_args()
    try:
        prepare(tuple(options.server), tuple(options.edge), options.folder)
    except (SettingsError, MigrationError, CompileError, ValueError, OSError) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
