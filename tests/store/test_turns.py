"""The turn loop on a real database: takeovers, late writers, limits, cancels, traces."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from codeyard_server.capabilities.definition import FunctionTool, arguments_schema
from codeyard_server.core import telemetry
from codeyard_server.turns import TurnSettings, logic
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.support.turns import Gate, Loop, loop


def tool(name: str, gate: Gate, *, read_only: bool) -> FunctionTool:
    """A tool that waits at a gate."""
    return FunctionTool(name, name, arguments_schema(), gate, read_only=read_only)


async def types(where: Loop, session_id: uuid.UUID) -> list[str]:
    """Return the types of a session's events."""
    return [record.type for record in await where.log(session_id)]


async def test_turn_takes_all_messages_that_wait_and_answers_once(database_url: str) -> None:
    """Messages sent before the turn starts belong to one turn, in their order."""
    async with loop(database_url) as one:
        session_id = await one.session("llmsim-echo")
        sent = [await one.say(session_id, text) for text in ("one", "two", "three")]
        await one.runner.run(session_id)
        (started,) = await one.of_type(session_id, "turn.started")
        assert started["message_ids"] == sent and started["input_message_id"] == sent[-1]
        (answer,) = await one.of_type(session_id, "message.agent")
        assert answer["message"]["content"] == [{"type": "text", "text": "Echo: three"}]


async def test_message_sent_while_a_turn_runs_starts_the_next_one(database_url: str) -> None:
    """It is neither lost nor answered by the turn that runs."""
    gate = Gate()
    async with loop(database_url, [tool("wait", gate, read_only=True)]) as one:
        session_id = await one.session("llmsim-tools")
        first = await one.say(session_id, "one")
        running = asyncio.create_task(one.runner.run(session_id))
        await gate.entered.wait()
        second = await one.say(session_id, "two")
        await one.runner.run(session_id)  # the second message's own job
        gate.opened.set()
        await running
        taken = [turn["message_ids"] for turn in await one.of_type(session_id, "turn.started")]
        assert taken == [[first], [second]]
        assert len(await one.of_type(session_id, "turn.completed")) == 2


async def test_takeover_repeats_reads_and_reports_other_calls_as_interrupted(database_url: str) -> None:
    """After a crash in a batch: a read-only call runs again, one that acts is not repeated, the turn completes."""
    read, act = Gate(), Gate()
    tools = [tool("read", read, read_only=True), tool("act", act, read_only=False)]
    async with loop(database_url, tools) as one, loop(database_url, tools) as other:
        session_id = await one.session("llmsim-tools")
        await one.say(session_id, "go")
        crashed = asyncio.create_task(one.runner.run(session_id))
        await asyncio.gather(read.entered.wait(), act.entered.wait())
        await one.lose_leases()
        following = asyncio.create_task(other.runner.run(session_id))
        await read.entered_again.wait()
        read.opened.set()
        await following
        act.opened.set()
        await crashed
        ended = {item["tool_name"]: item for item in await one.of_type(session_id, "tool.call_completed")}
        assert ended["read"]["status"] == "success" and ended["act"]["status"] == "cancelled"
        assert ended["act"]["error"] == logic.INTERRUPTED
        assert (read.began, act.began) == (2, 1)
        assert (await types(one, session_id)).count("turn.completed") == 1


async def test_late_writer_is_refused_after_a_takeover(database_url: str) -> None:
    """A process that stalls past its lease and wakes up writes nothing more."""
    gates = [Gate(), Gate()]
    async with (
        loop(database_url, [tool("wait", gates[0], read_only=True)]) as one,
        loop(database_url, [tool("wait", gates[1], read_only=True)]) as other,
    ):
        session_id = await one.session("llmsim-tools")
        await one.say(session_id, "go")
        stalled = asyncio.create_task(one.runner.run(session_id))
        await gates[0].entered.wait()
        await one.lose_leases()
        gates[1].opened.set()
        await other.runner.run(session_id)
        before = await one.log(session_id)
        gates[0].opened.set()
        await stalled
        assert await one.log(session_id) == before
        assert before[-1].type == "session.idled"


async def test_turn_of_a_process_that_stops_is_free_at_once(database_url: str) -> None:
    """Another process goes on without waiting for the lease."""
    gate = Gate()
    async with loop(database_url, [tool("wait", gate, read_only=True)]) as other:
        async with loop(database_url, [tool("wait", gate, read_only=True)]) as one:
            session_id = await one.session("llmsim-tools")
            await one.say(session_id, "go")
            running = asyncio.create_task(one.runner.run(session_id))
            await gate.entered.wait()
        await running
        gate.opened.set()
        await other.runner.run(session_id)
        assert (await types(other, session_id))[-2:] == ["turn.completed", "session.idled"]


async def test_cancel_ends_the_turn_and_closes_open_calls(database_url: str) -> None:
    """A cancelled turn leaves no call without an end; the next message is answered."""
    gate = Gate()
    async with loop(database_url, [tool("wait", gate, read_only=True)]) as one:
        session_id = await one.session("llmsim-tools")
        await one.say(session_id, "go")
        running = asyncio.create_task(one.runner.run(session_id))
        await gate.entered.wait()
        await one.cancel(session_id)
        await running
        (ended,) = await one.of_type(session_id, "tool.call_completed")
        assert ended["status"] == "cancelled"
        (failed,) = await one.of_type(session_id, "turn.failed")
        assert failed["error_code"] == "cancelled"
        gate.opened.set()
        await one.say(session_id, "again")
        await one.runner.run(session_id)
        assert len(await one.of_type(session_id, "turn.completed")) == 1


async def test_cancel_that_was_asked_for_before_a_crash_holds_after_it(database_url: str) -> None:
    """The wish is in the turn's row: who takes the turn over ends it."""
    gate = Gate()
    async with loop(database_url, [tool("wait", gate, read_only=True)]) as one, loop(database_url) as other:
        session_id = await one.session("llmsim-tools")
        await one.say(session_id, "go")
        running = asyncio.create_task(one.runner.run(session_id))
        await gate.entered.wait()
        await other.cancel(session_id)  # the other process's signal does not reach the first one here
        await one.lose_leases()
        await other.runner.run(session_id)
        (failed,) = await other.of_type(session_id, "turn.failed")
        assert failed["error_code"] == "cancelled"
        gate.opened.set()
        await running


@pytest.mark.parametrize(
    ("settings", "code"),
    [(TurnSettings(max_iterations=1), "max_iterations"), (TurnSettings(turn_timeout=0.2), "timeout")],
)
async def test_limits_end_the_turn_with_their_own_code(database_url: str, settings: TurnSettings, code: str) -> None:
    """Too many model calls and too long a time are told apart."""
    gate = Gate()
    if code == "max_iterations":
        gate.opened.set()
    async with loop(database_url, [tool("wait", gate, read_only=True)], settings) as one:
        session_id = await one.session("llmsim-tools")
        await one.say(session_id, "go")
        await one.runner.run(session_id)
        (failed,) = await one.of_type(session_id, "turn.failed")
        assert failed["error_code"] == code
        assert (await types(one, session_id))[-1] == "session.idled"


async def test_long_conversation_gives_the_model_its_newest_part(database_url: str) -> None:
    """What goes beyond the bound is left out from the beginning, and the turn goes on."""
    async with loop(database_url, settings=TurnSettings(history_bytes=2000)) as one:
        session_id = await one.session("llmsim-echo")
        for text in ("old " * 500, "new"):
            await one.say(session_id, text)
            await one.runner.run(session_id)
        answers = [item["message"]["content"][0]["text"] for item in await one.of_type(session_id, "message.agent")]
        assert answers[1] == "Echo: new"


async def test_calls_beyond_the_bound_of_a_reply_are_not_run(database_url: str) -> None:
    """The model is told, and the turn goes on."""
    gates = [Gate(), Gate()]
    for gate in gates:
        gate.opened.set()
    tools = [tool(f"wait{number}", gate, read_only=True) for number, gate in enumerate(gates)]
    async with loop(database_url, tools, TurnSettings(max_calls=1)) as one:
        session_id = await one.session("llmsim-tools")
        await one.say(session_id, "go")
        await one.runner.run(session_id)
        statuses = {item["tool_name"]: item["status"] for item in await one.of_type(session_id, "tool.call_completed")}
        assert statuses == {"wait0": "success", "wait1": "error"}
        assert [gate.began for gate in gates] == [1, 0]


async def test_model_failure_ends_with_an_apology_and_no_vendor_text(database_url: str) -> None:
    """The user sees that something went wrong; what exactly is in the log."""
    async with loop(database_url) as one:
        session_id = await one.session("llmsim-error")
        await one.say(session_id, "go")
        await one.runner.run(session_id)
        (failed,) = await one.of_type(session_id, "turn.failed")
        assert failed["error_code"] == "llm_error"
        (apology,) = await one.of_type(session_id, "message.agent")
        assert apology["message"]["content"][0]["text"].startswith("Sorry")
        assert not any(
            "simulat" in record.data.lower() for record in await one.log(session_id) if "error" in record.data
        )


async def test_flaky_model_is_asked_again_under_the_same_message(database_url: str) -> None:
    """A passing failure costs an attempt, not the turn."""
    settings = TurnSettings(retry_initial=0.001, retry_max=0.002)
    async with loop(database_url, settings=settings) as one:
        session_id = await one.session("llmsim-flaky")
        await one.say(session_id, "go")
        await one.runner.run(session_id)
        (generation,) = await one.of_type(session_id, "llm.generation")
        assert generation["metadata"]["attempts"] == 2 and generation["metadata"]["success"]
        assert len(await one.of_type(session_id, "turn.completed")) == 1


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What is traced."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "tracer", provider.get_tracer("test"))
    return exporter


async def test_turn_is_traced_with_the_generative_ai_attributes(database_url: str, spans: InMemorySpanExporter) -> None:
    """A turn is invoke_agent, its model calls are chat, its tool calls execute_tool, all in one trace."""
    gate = Gate()
    gate.opened.set()
    async with loop(database_url, [tool("wait", gate, read_only=True)]) as one:
        session_id = await one.session("llmsim-tools")
        await one.say(session_id, "go")
        await one.runner.run(session_id)
    found: Sequence[ReadableSpan] = spans.get_finished_spans()
    attributes: list[dict[str, Any]] = [dict(span.attributes or {}) for span in found]
    operations = [item["gen_ai.operation.name"] for item in attributes]
    assert sorted(operations) == ["chat", "chat", "execute_tool", "invoke_agent"]
    chat = attributes[operations.index("chat")]
    assert chat["gen_ai.request.model"] == "llmsim-tools" and chat["gen_ai.provider.name"] == "llmsim"
    assert chat["gen_ai.usage.input_tokens"] > 0 and chat["gen_ai.response.finish_reasons"] == ("tool_calls",)
    assert len({span.context.trace_id for span in found if span.context}) == 1
