"""Failures of the Python client: one class per reason, with what the server said."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import grpc
import pytest
from codeyard.agents.v1 import agent_service_pb2
from codeyard.errors.v1 import reason_pb2
from codeyard_client import AsyncClient, CodeyardError, TurnFailed, errors
from google.rpc import error_details_pb2, status_pb2

from tests.support.scripted_yard import fail, scripted_yard

GET_AGENT = "codeyard.agents.v1.AgentService/GetAgent"
REASONS = sorted(name.removeprefix("REASON_") for name, number in reason_pb2.Reason.items() if number)


async def failure(answer: Any) -> CodeyardError:
    """Return what a client raises when a call ends as the handler ends it."""
    async with scripted_yard() as yard, AsyncClient(yard.url, retry_seconds=0) as client:
        yard.unary(GET_AGENT, agent_service_pb2.GetAgentRequest, answer)
        with pytest.raises(CodeyardError) as raised:
            await client.agents.get("a")
        return raised.value


@pytest.mark.parametrize("reason", REASONS)
async def test_error_is_of_the_class_of_its_reason_when_a_call_fails(reason: str) -> None:
    """Every reason of the API has a class of its own, named like it."""

    async def answer(_: Any, context: Any) -> None:
        await fail(context, grpc.StatusCode.UNKNOWN, reason, "text", **{"x-request-id": "r1"})

    raised = await failure(answer)
    assert type(raised).__name__.upper() == reason.replace("_", "")
    assert (raised.reason, raised.message, str(raised), raised.request_id) == (reason, "text", "text", "r1")


async def test_error_names_the_fields_when_a_request_is_bad() -> None:
    """The fields of a bad request arrive as details."""

    async def answer(_: Any, context: Any) -> None:
        status = status_pb2.Status(code=3, message="bad")
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason="INVALID_ARGUMENT", domain="codeyard"))
        violation = error_details_pb2.BadRequest.FieldViolation(field="message.content", description="too short")
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
        details = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "bad", details)

    raised = await failure(answer)
    assert isinstance(raised, errors.InvalidArgument)
    assert raised.details == (errors.FieldViolation("message.content", "too short"),)


async def test_error_says_when_to_come_back_when_calls_are_too_many() -> None:
    """The header Retry-After becomes a number of seconds."""

    async def answer(_: Any, context: Any) -> None:
        await fail(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED", **{"retry-after": "7"})

    raised = await failure(answer)
    assert isinstance(raised, errors.RateLimited)
    assert raised.retry_after == 7


async def test_error_keeps_its_word_when_the_reason_is_newer_than_the_client() -> None:
    """A reason that this client does not know is the base class with that reason."""

    async def answer(_: Any, context: Any) -> None:
        await fail(context, grpc.StatusCode.FAILED_PRECONDITION, "MOON_TOO_FULL")

    raised = await failure(answer)
    assert (type(raised), raised.reason) == (CodeyardError, "MOON_TOO_FULL")


@pytest.mark.parametrize("details", [b"\xff\xff\xff", b"\x08", b"\x1a\x02\x0a\xff", b""])
async def test_error_follows_the_status_when_its_details_are_not_of_a_yard(details: bytes) -> None:
    """Details that cannot be read are passed over."""

    async def answer(_: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.NOT_FOUND, "nothing here", (("grpc-status-details-bin", details),))

    raised = await failure(answer)
    assert (type(raised), raised.message) == (errors.NotFound, "nothing here")


async def test_error_is_unimplemented_when_the_yard_is_older() -> None:
    """A method that the server does not have is not a fault of the connection."""
    async with scripted_yard() as yard, AsyncClient(yard.url) as client:
        with pytest.raises(errors.Unimplemented):
            await client.health()


async def test_error_is_a_deadline_when_the_answer_takes_too_long() -> None:
    """The timeout of the client ends a call that nobody answers."""

    async def answer(*_: Any) -> Any:
        await asyncio.Event().wait()

    async with scripted_yard() as yard, AsyncClient(yard.url, timeout=0.2) as client:
        yard.unary(GET_AGENT, agent_service_pb2.GetAgentRequest, answer)
        with pytest.raises(errors.DeadlineExceeded):
            await client.agents.get("a")


@pytest.mark.parametrize(
    "error",
    [
        errors.NotFound("gone", request_id="r"),
        errors.InvalidArgument("bad", details=[errors.FieldViolation("a", "b")]),
        TurnFailed("no answer", "llm_error", "t1"),
    ],
)
def test_error_is_the_same_when_it_crosses_processes(error: CodeyardError) -> None:
    """Errors can be pickled, as task queues do."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - made in this test
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
