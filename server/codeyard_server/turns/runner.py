"""Runs turns: takes a session's waiting messages, carries the loop to its end, picks up what others have left.

Every write goes through :meth:`_write`, which carries the generation of the lease: a process that wakes up late is
refused and lets go. Nothing that matters is only in memory: after a crash another process folds the turn's events and
goes on at the step that has no end.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import uuid
from collections.abc import Iterator, Mapping, Sequence

import structlog

from codeyard_server.agents import load_agent
from codeyard_server.capabilities import Catalogue
from codeyard_server.capabilities.ports import FileStore, Tool, ToolContext
from codeyard_server.core import telemetry
from codeyard_server.core.clock import Clock
from codeyard_server.core.database import Database, Transaction
from codeyard_server.core.events import DuplicateStep, EventLog, NewEvent, StaleGeneration
from codeyard_server.core.fanout import FanOut
from codeyard_server.core.ids import new_id
from codeyard_server.core.record import Record
from codeyard_server.core.scope import Scope
from codeyard_server.models import ResolvedModel, resolve_model
from codeyard_server.models.ports import ChatMessage, GenerationRequest, ToolCall, ToolSpec
from codeyard_server.turns import logic, payloads, store, tooling
from codeyard_server.turns.cancellation import SIGNAL
from codeyard_server.turns.generation import Generator
from codeyard_server.turns.settings import TurnSettings

log = structlog.get_logger(__name__)

SYSTEM = Scope.system("turns")
SWEEP_SECONDS = 0.5
SWEEP_LIMIT = 50
WAITING_SECONDS = 2.0


@dataclasses.dataclass(slots=True)
class Turn:
    """A turn this process owns."""

    id: uuid.UUID
    session_id: uuid.UUID
    agent_id: uuid.UUID
    owner_id: uuid.UUID | None
    model_id: uuid.UUID | None
    generation: int
    started_at: datetime.datetime
    events: payloads.TurnEvents
    controls: logic.TurnControls
    state: logic.TurnState
    resumed: bool
    task: asyncio.Task[None] | None = None
    cancelled: bool = False
    lost: bool = False
    more: bool = False
    """Whether messages may wait for the next turn."""


@dataclasses.dataclass(frozen=True, slots=True)
class Setup:
    """The configuration a turn has loaded; a change to the agent meanwhile is for the next one."""

    model: ResolvedModel | None
    system: str
    tools: Mapping[str, Tool]
    specs: tuple[ToolSpec, ...]


class TurnRunner:
    """The turns of one process."""

    def __init__(
        self,
        database: Database,
        events: EventLog,
        fanout: FanOut,
        catalogue: Catalogue,
        files: FileStore,
        generator: Generator,
        settings: TurnSettings,
        clock: Clock,
    ) -> None:
        self._database = database
        self._events = events
        self._catalogue = catalogue
        self._files = files
        self._generator = generator
        self._settings = settings
        self._clock = clock
        self._owner = new_id()
        self._turns: dict[uuid.UUID, Turn] = {}
        """By session: a process has at most one turn of each."""
        self._sweeps: set[asyncio.Task[None]] = set()
        fanout.on_signal[SIGNAL] = lambda key: self._cancel(uuid.UUID(key))

    # Entry points

    async def handle(self, payload: bytes) -> None:
        """Handle a job: see that the session's waiting messages are answered."""
        await self.run(uuid.UUID(bytes=payload))

    async def run(self, session_id: uuid.UUID) -> None:
        """Run turns of the session until no message waits, or another process runs one."""
        running = self._turns.get(session_id)
        if running is not None:
            # Its owner is here, and looks again after the turn's end: no need to ask the database.
            running.more = True
            return
        while (turn := await self._claim(session_id)) is not None:
            self._turns[session_id] = turn
            turn.task = asyncio.create_task(self._drive(turn), name=f"turn-{turn.id}")
            try:
                await asyncio.shield(turn.task)
            except asyncio.CancelledError:
                if not turn.task.done():
                    turn.lost = True
                    turn.task.cancel()
                    raise
            finally:
                del self._turns[session_id]
            if turn.lost or not turn.more:
                return

    async def keep_leases(self) -> None:
        """Renew the leases of this process's turns, and pass on cancels, until cancelled."""
        while True:
            await asyncio.sleep(self._settings.lease / 3)
            held = list(self._turns.values())
            if not held:
                continue
            try:
                async with self._database.connection() as tx:
                    owned = await store.renew_leases(
                        tx, SYSTEM, self._owner, [turn.id for turn in held], self._settings.lease
                    )
            except Exception as error:  # noqa: BLE001 - it is tried again, and the lease bears one failure
                log.warning("turns.renew_failed", error=repr(error))
                continue
            for turn in held:
                if turn.id not in owned and self._turns.get(turn.session_id) is turn:
                    self._interrupt(turn, lost=True)
                elif owned.get(turn.id):
                    self._interrupt(turn, lost=False)

    async def sweep(self) -> None:
        """Take care of turns and messages that others have left, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                async with self._database.connection() as tx:
                    sessions = await store.abandoned_sessions(
                        tx, SYSTEM, limit=SWEEP_LIMIT, waiting_seconds=WAITING_SECONDS
                    )
            except Exception as error:  # noqa: BLE001 - it comes again
                log.warning("turns.sweep_failed", error=repr(error))
                continue
            for session_id in sessions:
                task = asyncio.create_task(self._run_swept(session_id))
                self._sweeps.add(task)
                task.add_done_callback(self._sweeps.discard)

    async def _run_swept(self, session_id: uuid.UUID) -> None:
        try:
            await self.run(session_id)
        except Exception as error:  # noqa: BLE001 - the next sweep finds the session again
            log.warning("turns.swept_failed", session_id=str(session_id), error=repr(error))

    async def close(self) -> None:
        """Let go of all turns at once, so that another process goes on with them without waiting for their leases."""
        tasks = [turn.task for turn in self._turns.values() if turn.task]
        for turn in list(self._turns.values()):
            self._interrupt(turn, lost=True)
        for task in self._sweeps:
            task.cancel()
        await asyncio.gather(*tasks, *self._sweeps, return_exceptions=True)
        async with self._database.connection() as tx:
            await store.release_leases(tx, SYSTEM, self._owner)

    def _cancel(self, session_id: uuid.UUID) -> None:
        turn = self._turns.get(session_id)
        if turn is not None:
            self._interrupt(turn, lost=False)

    @staticmethod
    def _interrupt(turn: Turn, *, lost: bool) -> None:
        if turn.task is None or turn.task.done() or turn.cancelled or turn.lost:
            return
        turn.lost, turn.cancelled = lost, not lost
        turn.task.cancel()

    # Taking a turn

    async def _claim(self, session_id: uuid.UUID) -> Turn | None:
        """Start a turn of the waiting messages, or take over an abandoned one; None: there is neither."""
        async with self._database.transaction() as tx:
            session = await store.lock_session(tx, SYSTEM, session_id)
            if session is None or session.leased:
                return None
            if session.turn_id is not None:
                return await self._take_over(tx, session_id, session)
            if not session.waiting:
                return None
            return await self._start(tx, session_id, session)

    async def _start(self, tx: Transaction, session_id: uuid.UUID, session: store.LockedSession) -> Turn:
        waiting = session.waiting
        messages = [item.message for item in waiting]
        turn_id, now = new_id(), self._clock()
        events = payloads.TurnEvents(turn_id, uuid.UUID(messages[-1]["id"]))
        generation = await store.start_turn(
            tx, SYSTEM, session_id, turn_id, waiting[-1].seq, self._owner, self._settings.lease, now
        )
        first = [events.session_started(session.agent_id, session.model_id)] if session.first_turn else []
        await self._events.append(
            tx,
            session_id,
            [*first, *events.started(messages), events.reason_started(1, session.agent_id)],
            generation=generation,
        )
        return Turn(
            id=turn_id,
            session_id=session_id,
            agent_id=session.agent_id,
            owner_id=session.owner_id,
            model_id=session.model_id,
            generation=generation,
            started_at=now,
            events=events,
            controls=logic.controls(messages[-1]),
            state=logic.TurnState(iteration=1),
            resumed=False,
        )

    async def _take_over(self, tx: Transaction, session_id: uuid.UUID, session: store.LockedSession) -> Turn:
        assert session.turn_id is not None and session.turn_started_at is not None
        generation = await store.take_over_turn(
            tx, SYSTEM, session_id, session.turn_id, self._owner, self._settings.lease
        )
        records = await store.turn_events(tx, SYSTEM, session_id, session.turn_id)
        received = next(record for record in records if record.type == "input.received")
        assert received.input_message_id is not None
        log.info("turn.taken_over", turn_id=str(session.turn_id), session_id=str(session_id))
        return Turn(
            id=session.turn_id,
            session_id=session_id,
            agent_id=session.agent_id,
            owner_id=session.owner_id,
            model_id=session.model_id,
            generation=generation,
            started_at=session.turn_started_at,
            events=payloads.TurnEvents(session.turn_id, received.input_message_id),
            controls=logic.controls(payloads.stored_message(received.data)),
            state=logic.fold(records),
            resumed=True,
            cancelled=session.cancel_requested,
        )

    # The loop

    async def _drive(self, turn: Turn) -> None:
        """Carry a turn to its end. Never raises."""
        structlog.contextvars.bind_contextvars(turn_id=str(turn.id), session_id=str(turn.session_id))
        try:
            with telemetry.tracer.start_as_current_span(
                "invoke_agent",
                attributes={"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.id": str(turn.agent_id)},
            ):
                if turn.cancelled:
                    await self._fail(turn, "cancelled", "The turn was cancelled")
                    return
                remaining = self._settings.turn_timeout - (self._clock() - turn.started_at).total_seconds()
                async with asyncio.timeout(remaining):
                    await self._loop(turn)
        except TimeoutError:
            await self._fail(turn, "timeout", "The turn took too long")
        except asyncio.CancelledError:
            if turn.lost:
                return
            # The cancel is taken here: what follows must be able to wait.
            if turn.task is not None:
                turn.task.uncancel()
            await self._fail(turn, "cancelled", "The turn was cancelled")
        except (StaleGeneration, DuplicateStep):
            turn.lost = True
        except Exception as error:  # noqa: BLE001 - whatever it was, the turn must end
            await self._fault(turn, error)

    async def _fault(self, turn: Turn, error: Exception) -> None:
        """A fault ends the turn, so that it cannot fail for ever; a lost database only lets go of it."""
        if isinstance(error, self._database.unavailable):
            log.warning("turn.let_go", error=repr(error))
            turn.lost = True
            return
        log.error("turn.fault", exc_info=error)
        await self._fail(turn, "internal_error", "The turn failed because of an internal error")

    async def _loop(self, turn: Turn) -> None:
        setup, history = await asyncio.gather(self._setup(turn), self._history(turn))
        while True:
            if turn.state.phase == "act":
                await self._act(turn, setup)
                history = await self._history(turn)
            if turn.state.iteration > self._settings.max_iterations:
                turn.state.iteration -= 1  # the call that is due is not made
                await self._fail(turn, "max_iterations", "The turn made too many model calls")
                return
            if await self._reason(turn, setup, *history):
                return

    async def _setup(self, turn: Turn) -> Setup:
        scope = Scope(user_id=turn.owner_id)
        async with self._database.connection() as tx:
            agent = await load_agent(tx, SYSTEM, turn.agent_id)
            model = await resolve_model(tx, SYSTEM, [turn.controls.model_id, turn.model_id, agent.default_model_id])
        resolved = await self._catalogue.resolve(scope, agent.capabilities)
        return Setup(
            model=model,
            system=logic.system_prompt(resolved.prompt_additions, agent.system_prompt),
            tools={tool.name: tool for tool in resolved.tools},
            specs=tuple(ToolSpec(tool.name, tool.description, tool.parameters) for tool in resolved.tools),
        )

    async def _history(self, turn: Turn) -> tuple[tuple[ChatMessage, ...], int]:
        async with self._database.connection() as tx:
            records = await store.history(tx, SYSTEM, turn.session_id, self._settings.history_bytes)
        if not records:
            raise StaleGeneration  # the session has been deleted
        return logic.history(records), records[-1].seq

    async def _reason(self, turn: Turn, setup: Setup, messages: tuple[ChatMessage, ...], history_seq: int) -> bool:
        """Make a model call; return whether it ended the turn."""
        effort = turn.controls.reasoning_effort
        iteration = turn.state.iteration
        generation = payloads.Generation(None, 0, 1, history_seq)
        if setup.model is None:
            log.warning("turn.no_model")
        else:
            request = GenerationRequest(
                model=setup.model.name,
                system=setup.system,
                messages=messages,
                tools=setup.specs,
                reasoning_effort=effort,
                max_tokens=turn.controls.max_tokens,
                temperature=turn.controls.temperature,
            )
            generation = await self._generator.generate(
                setup.model,
                request,
                session_id=turn.session_id,
                turn_id=turn.id,
                message_id=turn.events.message_id(iteration),
                generation=turn.generation,
                history_seq=history_seq,
            )
        replied = turn.events.replied(iteration, _named(setup.model), generation, setup.specs, effort, self._clock())
        if generation.reply is None:
            text = (
                "No model is configured" if setup.model is None else "The model could not be reached or gave no answer"
            )
            await self._end(turn, "failed", [*replied, *turn.events.failed(iteration, "llm_error", text)])
            return True
        calls = generation.reply.tool_calls
        if calls:
            await self._write(turn, [*replied, *turn.events.act_started(iteration, calls)])
            turn.state.phase, turn.state.calls, turn.state.finished = "act", calls, {}
            turn.resumed = False
            return False
        await self._end(turn, "completed", [*replied, *turn.events.completed(iteration, self._elapsed_ms(turn))])
        return True

    async def _act(self, turn: Turn, setup: Setup) -> None:
        """Run the batch that is due, and announce the next model call."""
        state = turn.state
        places = [place for place in range(len(state.calls)) if place not in state.finished]
        again = tooling.to_run_again(setup.tools, state.calls, state.finished)
        context = ToolContext(
            scope=Scope(user_id=turn.owner_id), session_id=turn.session_id, files=self._files, now=self._clock()
        )

        async def run(place: int) -> None:
            call = state.calls[place]
            if turn.resumed and place not in again:
                outcome = tooling.Outcome("cancelled", error=logic.INTERRUPTED)
            elif place >= self._settings.max_calls:
                outcome = tooling.Outcome("error", error=f"More than {self._settings.max_calls} calls in one reply")
            else:
                outcome = await tooling.run_call(setup.tools, call, context, self._settings.tool_output_bytes)
            await self._write(turn, [self._ended(turn, place, call, outcome)])
            state.finished[place] = outcome.status == "success"

        with _unwrapped():
            async with asyncio.TaskGroup() as group:
                for place in places:
                    group.create_task(run(place))
        successes = sum(state.finished.values())
        completed = turn.events.act_completed(state.iteration, successes, len(state.calls) - successes)
        state.iteration += 1
        following: list[NewEvent] = [completed]
        if state.iteration <= self._settings.max_iterations:
            following.append(turn.events.reason_started(state.iteration, turn.agent_id))
        await self._write(turn, following)
        state.phase, turn.resumed = "reason", False

    @staticmethod
    def _ended(turn: Turn, place: int, call: ToolCall, outcome: tooling.Outcome) -> NewEvent:
        return turn.events.tool_ended(turn.state.iteration, place, call, outcome.status, outcome.answer, outcome.error)

    # Writing

    async def _write(self, turn: Turn, new: Sequence[NewEvent]) -> list[Record]:
        """Append in one statement, under the generation."""
        async with self._database.connection() as tx:
            return await self._events.append(tx, turn.session_id, new, generation=turn.generation)

    async def _end(self, turn: Turn, state: str, new: Sequence[NewEvent]) -> None:
        """Append the last events and end the turn, in one transaction."""
        async with self._database.transaction() as tx:
            await self._events.append(tx, turn.session_id, new, generation=turn.generation)
            more = await store.end_turn(tx, SYSTEM, turn.session_id, turn.id, state, self._clock())
        turn.more |= more
        telemetry.TURNS.labels(state).inc()
        telemetry.TURN_SECONDS.observe(self._elapsed_ms(turn) / 1000)

    async def _fail(self, turn: Turn, code: str, text: str) -> None:
        """End the turn without an answer; calls that have not ended are reported as cancelled first."""
        state = turn.state
        new: list[NewEvent] = []
        if state.phase == "act":
            left = tooling.Outcome("cancelled", error=logic.CANCELLED)
            new += [
                self._ended(turn, place, call, left)
                for place, call in enumerate(state.calls)
                if place not in state.finished
            ]
            successes = sum(state.finished.values())
            new.append(turn.events.act_completed(state.iteration, successes, len(state.calls) - successes))
        new += turn.events.failed(state.iteration, code, text)
        try:
            await self._end(turn, "cancelled" if code == "cancelled" else "failed", new)
        except (StaleGeneration, DuplicateStep):
            turn.lost = True
        except Exception as error:  # noqa: BLE001 - the sweep takes the turn up again
            log.warning("turn.end_failed", error=repr(error))
            turn.lost = True

    def _elapsed_ms(self, turn: Turn) -> int:
        return round((self._clock() - turn.started_at).total_seconds() * 1000)


def _named(model: ResolvedModel | None) -> payloads.Model | None:
    return None if model is None else payloads.Model(model.name, model.id, model.provider_id, model.provider_type)


@contextlib.contextmanager
def _unwrapped() -> Iterator[None]:
    """Let the first failure of a task group out as itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
