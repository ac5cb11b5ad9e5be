"""An answered message over native gRPC, without generated stubs: the methods come from the server's reflection.

    python docs/examples/answer_grpc.py [TEXT]

Address and token come from CODEYARD_URL and CODEYARD_TOKEN, else from `codeyard status`.
"""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def local_yard() -> tuple[str, str]:
    """Return address and token."""
    if "CODEYARD_URL" in os.environ:
        return os.environ["CODEYARD_URL"], os.environ["CODEYARD_TOKEN"]
    command = pathlib.Path(sys.executable).with_name("codeyard")
    status = json.loads(subprocess.run([command, "status", "--output", "json"], check=True, capture_output=True).stdout)
    return status["url"], status["token"]


class Reflected:
    """Calls methods by name, with JSON in and out."""

    def __init__(self, url: str, token: str) -> None:
        self._channel = grpc.insecure_channel(url.removeprefix("http://"))
        self._pool = DescriptorPool(ProtoReflectionDescriptorDatabase(self._channel))
        self._metadata = (("authorization", f"Bearer {token}"),)

    def _method(self, service: str, name: str) -> Any:
        return self._pool.FindServiceByName(service).FindMethodByName(name)

    def call(self, service: str, name: str, request: dict[str, Any]) -> dict[str, Any]:
        """Make a unary call."""
        method = self._method(service, name)
        invoke = self._channel.unary_unary(
            f"/{service}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        message = json_format.ParseDict(request, message_factory.GetMessageClass(method.input_type)())
        answer: dict[str, Any] = json_format.MessageToDict(invoke(message, metadata=self._metadata))
        return answer

    def follow(self, service: str, name: str, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Make a server-streaming call."""
        method = self._method(service, name)
        invoke = self._channel.unary_stream(
            f"/{service}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        message = json_format.ParseDict(request, message_factory.GetMessageClass(method.input_type)())
        for item in invoke(message, metadata=self._metadata):
            yield json_format.MessageToDict(item)


def main() -> None:
    """Create an agent, open a session, send a message, print the events until the turn is over."""
    yard = Reflected(*local_yard())
    agent = yard.call("codeyard.agents.v1.AgentService", "CreateAgent", {"name": "gRPC", "systemPrompt": ""})
    session = yard.call("codeyard.sessions.v1.SessionService", "CreateSession", {"agentId": agent["id"]})
    place = {"agentId": agent["id"], "sessionId": session["id"]}
    text = sys.argv[1] if len(sys.argv) > 1 else "Hello"
    yard.call("codeyard.sessions.v1.MessageService", "CreateMessage", {**place, "content": text})
    for event in yard.follow("codeyard.sessions.v1.EventService", "Subscribe", place):
        print(event["type"])
        if event["type"] == "message.agent":
            print("  " + event["messageAgent"]["message"]["content"][0]["text"])
        if event["type"] == "session.idled":
            return


if __name__ == "__main__":
    main()
