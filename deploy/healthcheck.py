"""Ask a server process by gRPC whether it serves: exit status 0 when it does. The health check of the containers.

python healthcheck.py 127.0.0.1:9090
"""

from __future__ import annotations

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_TIMEOUT_SECONDS = 3.0


def is_serving(address: str) -> bool:
    """Whether the process at ``host:port`` (or ``unix:/path``) answers SERVING within three seconds."""
    with grpc.insecure_channel(address) as channel:
        try:
            reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_SECONDS)
        except grpc.RpcError:
            return False
    serving: bool = reply.status == health_pb2.HealthCheckResponse.SERVING
    return serving


if __name__ == "__main__":
    sys.exit(0 if is_serving(sys.argv[1]) else 1)
