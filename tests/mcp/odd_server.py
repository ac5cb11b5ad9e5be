"""An MCP server with tools that misbehave, written from the protocol's text so that it can break it.

    python odd_server.py stdio          one client on standard input and output
    python odd_server.py PORT           streamable HTTP on the loopback
    python odd_server.py PORT modern    the same, for clients that know no handshake (2026-07-28 only)

It prints LISTED and CALLED <tool> on standard error.
"""

from __future__ import annotations

import http.server
import json
import os
import sys
import threading
import uuid
from typing import Any

_OBJECT = {"type": "object"}
_SIZE = {"type": "object", "properties": {"size": {"type": "integer"}}, "required": ["size"]}
# Takes a backtracking engine for ever on the value that the tool returns.
_EVIL = {"type": "object", "properties": {"value": {"type": "string", "pattern": "^(a+)+$"}}}
_tools: list[dict[str, Any]] = [
    {"name": "pid", "description": "Return the server's process id.", "inputSchema": _OBJECT},
    {"name": "crash", "description": "End the server in the middle of the call.", "inputSchema": _OBJECT},
    {"name": "hang", "description": "Never answer.", "inputSchema": _OBJECT},
    {"name": "text", "description": "Return a text of so many characters.", "inputSchema": _SIZE},
    {"name": "fail", "description": "Fail with an error of the protocol.", "inputSchema": _OBJECT},
    {"name": "garble", "description": "Answer with something that is no result.", "inputSchema": _OBJECT},
    {"name": "grow", "description": "Add a tool, and tell the client.", "inputSchema": _OBJECT},
    {"name": "evil", "description": "Declare odd output.", "inputSchema": _OBJECT, "outputSchema": _EVIL},
    {"name": "huge", "description": "Have a huge schema.", "inputSchema": {"type": "object", "$comment": "x" * 40_000}},
]
_MODERN = "2026-07-28"


def _log(*words: str) -> None:
    print(*words, file=sys.stderr, flush=True)


def _call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the result of a call, as the protocol has it."""
    _log("CALLED", name)
    text = name
    if name == "crash":
        os._exit(3)
    if name == "hang":
        threading.Event().wait()
    if name == "garble":
        return {"content": "not a list"}
    if name == "pid":
        text = str(os.getpid())
    if name == "text":
        text = "x" * arguments["size"]
    if name == "grow":
        _tools.append({"name": f"added-{len(_tools)}", "inputSchema": _OBJECT})
    result: dict[str, Any] = {"content": [{"type": "text", "text": text}]}
    if name == "evil":
        result["structuredContent"] = {"value": "a" * 60 + "!"}
    return result


def _answer(request: dict[str, Any], modern: bool) -> dict[str, Any]:
    """Return the response to a request."""
    method, params = request["method"], request.get("params") or {}
    described = {"capabilities": {"tools": {"listChanged": True}}, "serverInfo": {"name": "odd", "version": "1"}}
    result: dict[str, Any] | None = None
    if method == "initialize" and not modern:
        result = {"protocolVersion": params["protocolVersion"], **described}
    elif method == "server/discover" and modern:
        result = {"supportedVersions": [_MODERN], **described}
    elif method == "tools/list":
        _log("LISTED")
        result = {"tools": list(_tools)}
    elif method == "tools/call" and params["name"] == "fail":
        return {"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32050, "message": "out of luck"}}
    elif method == "tools/call":
        result = _call(params["name"], params.get("arguments") or {})
    if result is None:
        return {"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": f"no method {method}"}}
    if modern:
        result = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private", **result}
    return {"jsonrpc": "2.0", "id": request["id"], "result": result}


def serve_stdio() -> None:
    """Serve one client; each request in a thread of its own."""
    writing = threading.Lock()

    def send(message: dict[str, Any]) -> None:
        with writing:
            print(json.dumps(message), flush=True)

    def handle(request: dict[str, Any]) -> None:
        before = len(_tools)
        response = _answer(request, modern=False)
        if len(_tools) != before:
            send({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        send(response)

    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message and "method" in message:
            threading.Thread(target=handle, args=(message,), daemon=True).start()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Streamable HTTP, as far as requests and JSON answers go."""

    protocol_version = "HTTP/1.1"
    modern = False
    sessions: set[str] = set()  # noqa: RUF012 - of the process, on purpose

    def do_POST(self) -> None:
        """Take one message."""
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        starts = message.get("method") in ("initialize", "server/discover")
        if not starts and not self.modern and self.headers.get("Mcp-Session-Id") not in self.sessions:
            self._send(404, b"")
        elif "id" not in message:
            self._send(202, b"")
        else:
            session = str(uuid.uuid4())
            self.sessions.add(session)
            headers = {"Mcp-Session-Id": session} if message["method"] == "initialize" and not self.modern else {}
            self._send(200, json.dumps(_answer(message, self.modern)).encode(), headers)

    def do_GET(self) -> None:
        """Offer no stream of notifications."""
        self._send(405, b"")

    def do_DELETE(self) -> None:
        """End a session."""
        self._send(200, b"")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Print nothing."""

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve_http(port: int, *, modern: bool) -> None:
    """Serve any number of clients."""
    _Handler.modern = modern
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    _log(f"listening on port {port}")
    server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        serve_stdio()
    else:
        serve_http(int(sys.argv[1]), modern="modern" in sys.argv)
