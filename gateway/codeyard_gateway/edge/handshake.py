"""What is checked before a call is made: the host, the upgrade, the page behind it, the credential."""

from __future__ import annotations

import re
from collections.abc import Collection

from aiohttp import web

from codeyard_gateway.edge.failures import Refused

PROTOCOL = "codeyard.v1"
"""The sub-protocol. A client that offers any must offer this one."""

_BEARER = "bearer."
_DEFAULT_PORTS = {"http": 80, "https": 443}
_AUTHORITY = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/?#@\[\]]+)(?::([0-9]{1,5}))?")
_ORIGIN = re.compile(r"(https?)://([^/?#@]+)")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")
_PRINTABLE = re.compile(r"[\x20-\x7e]+")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def check_host(request: web.BaseRequest, hosts: Collection[str]) -> None:
    """Refuse names this installation does not have: a web page could make one of its own point here.

    ``hosts`` are host names without a port, ``*.suffix`` or ``*``.

    Raises:
        Refused: 421.
    """
    match = _AUTHORITY.fullmatch(request.headers.get("Host", ""))
    name = match[1].lower() if match else ""
    suffixes = tuple(host[1:] for host in hosts if host.startswith("*."))
    if not name or not ("*" in hosts or name in hosts or name.endswith(suffixes)):
        raise Refused(421, "HOST_UNKNOWN", "This installation does not answer to this host name.")


def check_upgrade(request: web.BaseRequest) -> None:
    """Refuse what is not the opening of a WebSocket of version 13.

    Raises:
        Refused: 426.
    """
    headers = request.headers
    connection = {word.strip().lower() for word in headers.get("Connection", "").split(",")}
    is_upgrade = headers.get("Upgrade", "").strip().lower() == "websocket" and "upgrade" in connection
    if not is_upgrade or headers.get("Sec-WebSocket-Version") != "13":
        needed = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        raise Refused(426, "INVALID_ARGUMENT", "This path takes WebSocket upgrades only.", headers=needed)


def check_origin(request: web.BaseRequest, allowed: Collection[str]) -> None:
    """Refuse pages of other origins: browsers let any page open a socket to anywhere. No Origin, no page.

    ``allowed`` are origins in lower case, besides the one that is this host itself.

    Raises:
        Refused: 403.
    """
    origins = request.headers.getall("Origin", [])
    if not origins or (len(origins) == 1 and _is_own(origins[0].lower(), request.headers.get("Host", "").lower())):
        return
    if len(origins) > 1 or origins[0].lower() not in allowed:
        raise Refused(403, "PERMISSION_DENIED", "Pages of this origin may not call this installation.")


def _is_own(origin: str, host: str) -> bool:
    page, here = _ORIGIN.fullmatch(origin), _AUTHORITY.fullmatch(host)
    there = _AUTHORITY.fullmatch(page[2]) if page else None
    if page is None or here is None or there is None or there[1] != here[1]:
        return False
    # A browser leaves the scheme's own port out, in both headers.
    default = _DEFAULT_PORTS[page[1]]
    return int(there[2] or default) == int(here[2] or default)


def call_metadata(request: web.BaseRequest) -> tuple[tuple[str, str], ...]:
    """Return the metadata of the call: the credential and the request id.

    The credential is the Authorization header, or the sub-protocol ``bearer.<token>``, which wins because a browser
    adds the header by itself. It is never in the query, where it would end up in logs and histories.

    Raises:
        Refused: 400, the sub-protocols on offer are not ours.
    """
    metadata = []
    credential = _offered_credential(request) or request.headers.get("Authorization")
    # What is no legal metadata cannot be a credential either: without one, the server says so.
    if credential is not None and _PRINTABLE.fullmatch(credential):
        metadata.append(("authorization", credential))
    request_id = request.headers.get("X-Request-Id", "")
    if _REQUEST_ID.fullmatch(request_id):
        metadata.append(("x-request-id", request_id))
    return tuple(metadata)


def _offered_credential(request: web.BaseRequest) -> str | None:
    """Return the credential among the sub-protocols. An offer without ours ends here: the library would log it."""
    lines = request.headers.getall("Sec-WebSocket-Protocol", [])
    if not lines:
        return None
    offered = [word.strip() for word in lines[0].split(",")]
    tokens = [word.removeprefix(_BEARER) for word in offered if word.startswith(_BEARER)]
    if len(lines) > 1 or PROTOCOL not in offered:
        raise Refused(400, "INVALID_ARGUMENT", f"Sec-WebSocket-Protocol must be one header that offers {PROTOCOL}")
    if len(tokens) > 1 or not all(map(_TOKEN.fullmatch, tokens)):
        raise Refused(400, "INVALID_ARGUMENT", "Sec-WebSocket-Protocol must hold one credential, as bearer.<token>")
    return f"Bearer {tokens[0]}" if tokens else None
