"""The WebSocket edge: it carries bidirectional gRPC methods over WebSockets, which Envoy cannot.

It knows no method by name. Every method with the option ``(codeyard.http.v1.method).websocket`` gets its path; a frame
from the client is the JSON of one request message, a frame to it is one document that the server printed. The server
process runs it as part of itself, behind the gateway.

    messages.py   path, query and frames -> request messages
    handshake.py  what is checked before a call is made: host, upgrade, origin, credential
    failures.py   failed calls -> HTTP errors before the upgrade, close codes after it
    socket.py     one open WebSocket and its call
    server.py     routes, limits, start and stop
"""

from codeyard_gateway.edge.server import Edge, EdgeSettings

__all__ = ["Edge", "EdgeSettings"]
