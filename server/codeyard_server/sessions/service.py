"""RPCs of sessions, messages and events."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from codeyard.sessions.v1 import event_service_pb2, message_pb2, session_pb2
from codeyard.sessions.v1 import message_service_pb2 as message_api
from codeyard.sessions.v1 import session_service_pb2 as pb
from google.protobuf.empty_pb2 import Empty

from codeyard_server.agents import load_agent
from codeyard_server.core import errors, paging, telemetry
from codeyard_server.core.call import Call
from codeyard_server.core.clock import Clock
from codeyard_server.core.database import Database, Transaction
from codeyard_server.core.events import EventLog, StaleGeneration
from codeyard_server.core.fanout import FanOut
from codeyard_server.core.lists import Page, envelope, optional_strings
from codeyard_server.core.permission import Permission
from codeyard_server.core.queue import Queue
from codeyard_server.core.record import Record
from codeyard_server.core.scope import Scope
from codeyard_server.core.subscribe import Subscriptions
from codeyard_server.models import require_model
from codeyard_server.sessions import jobs, logic, projection, store
from codeyard_server.sessions.ports import TurnControl

EventBatch = Sequence[Record] | None
"""Events, or None after a time of silence."""


class SessionService:
    """Sessions of an agent."""

    def __init__(
        self,
        database: Database,
        events: EventLog,
        fanout: FanOut,
        turns: TurnControl,
        messages: MessageService,
        stream: EventService,
        clock: Clock,
    ) -> None:
        self._database = database
        self._events = events
        self._fanout = fanout
        self._turns = turns
        self._messages = messages
        self._stream = stream
        self._clock = clock

    async def create_session(self, request: pb.CreateSessionRequest, call: Call) -> session_pb2.Session:
        scope = call.require(Permission.SESSION_WRITE)
        async with self._database.transaction() as tx:
            agent = await load_agent(tx, scope, uuid.UUID(request.agent_id))
            draft = logic.draft_session(request, agent.default_model_id, self._clock())
            if request.HasField("model_id"):
                await require_model(tx, scope, draft.model_id)
            await self._events.create_stream(tx, draft.id, "session", scope.user_id)
            session = await store.insert_session(tx, scope, draft)
            await call.remember(tx, session)
        return session

    async def list_sessions(self, request: pb.ListSessionsRequest, call: Call) -> pb.ListSessionsResponse:
        scope = call.require(Permission.SESSION_READ)
        page = Page(request)
        agent_id = uuid.UUID(request.agent_id)
        async with self._database.connection() as tx:
            await load_agent(tx, scope, agent_id)
            rows = await store.list_sessions(
                tx, scope, agent_id, after=page.after, limit=page.limit + 1, offset=page.offset
            )
            total = await store.count_sessions(tx, scope, agent_id)
        items, last = page.split(rows)
        token = None
        if last is not None:
            token = paging.encode(last.created_at.ToDatetime(tzinfo=datetime.UTC), uuid.UUID(last.id))
        response: pb.ListSessionsResponse = envelope(
            call, pb.ListSessionsResponse(items=items, total=total, next_page_token=token)
        )
        return response

    async def get_session(self, request: pb.GetSessionRequest, call: Call) -> session_pb2.Session:
        scope = call.require(Permission.SESSION_READ)
        async with self._database.connection() as tx:
            return await store.get_session(tx, scope, uuid.UUID(request.agent_id), uuid.UUID(request.session_id))

    async def update_session(self, request: pb.UpdateSessionRequest, call: Call) -> session_pb2.Session:
        scope = call.require(Permission.SESSION_WRITE)
        model_id = uuid.UUID(request.model_id) if request.HasField("model_id") else None
        async with self._database.transaction() as tx:
            await require_model(tx, scope, model_id)
            return await store.update_session(
                tx,
                scope,
                uuid.UUID(request.agent_id),
                uuid.UUID(request.session_id),
                title=request.title if request.HasField("title") else None,
                tags=optional_strings(request, "tags"),
                model_id=model_id,
                now=self._clock(),
            )

    async def delete_session(self, request: pb.DeleteSessionRequest, call: Call) -> Empty:
        scope = call.require(Permission.SESSION_WRITE)
        agent_id, session_id = uuid.UUID(request.agent_id), uuid.UUID(request.session_id)
        async with self._database.transaction() as tx:
            await store.lock_session(tx, scope, agent_id, session_id)
            await self._turns.request_cancel(tx, scope, session_id)
            await store.delete_session(tx, scope, agent_id, session_id)
            tx.after_commit(lambda: self._fanout.publish_closed(session_id))
        return Empty()

    async def cancel_turn(self, request: pb.CancelTurnRequest, call: Call) -> session_pb2.Session:
        scope = call.require(Permission.SESSION_WRITE)
        agent_id, session_id = uuid.UUID(request.agent_id), uuid.UUID(request.session_id)
        async with self._database.transaction() as tx:
            session = await store.get_session(tx, scope, agent_id, session_id)
            await self._turns.request_cancel(tx, scope, session_id)
        return session

    async def attach(self, requests: AsyncIterator[pb.AttachRequest], call: Call) -> AsyncIterator[EventBatch]:
        read, write = call.require(Permission.SESSION_READ), call.require(Permission.SESSION_WRITE)
        first = await anext(requests, None)
        if first is None or first.WhichOneof("action") != "start":
            raise errors.InvalidArgument("The first request of an attachment must be a start")
        start = first.start
        since = uuid.UUID(start.since_id) if start.HasField("since_id") else None
        agent_id, session_id = uuid.UUID(start.agent_id), uuid.UUID(start.session_id)
        batches = self._stream.follow(read, agent_id, session_id, since)
        yield await anext(batches)
        incoming = asyncio.create_task(self._act(requests, write, agent_id, session_id))
        following: asyncio.Task[EventBatch] | None = None
        try:
            while True:
                following = asyncio.ensure_future(anext(batches))
                waiting = {following, incoming} if not incoming.done() else {following}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if incoming.done() and incoming.exception():
                    raise incoming.exception() or errors.Internal()
                with contextlib.suppress(StopAsyncIteration):
                    yield await following
                    continue
                return
        finally:
            for task in (incoming, following):
                if task is not None:
                    task.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
                await asyncio.gather(incoming, *([following] if following else []), return_exceptions=True)
            await batches.aclose()

    async def _act(
        self, requests: AsyncIterator[pb.AttachRequest], scope: Scope, agent_id: uuid.UUID, session_id: uuid.UUID
    ) -> None:
        """Carry out what an attached client sends after its start."""
        async for request in requests:
            action = request.WhichOneof("action")
            if action == "start":
                raise errors.InvalidArgument("An attachment has only one start")
            if action == "cancel":
                async with self._database.transaction() as tx:
                    await store.require_session(tx, scope, agent_id, session_id)
                    await self._turns.request_cancel(tx, scope, session_id)
                continue
            sent = request.message
            message = message_api.CreateMessageRequest(
                message=message_api.InputMessage(content=sent.content),
                controls=sent.controls if sent.HasField("controls") else None,
                metadata=sent.metadata if sent.HasField("metadata") else None,
            )
            draft = logic.draft_message(message, self._clock())
            async with self._database.transaction() as tx:
                await self._messages.add(tx, scope, agent_id, session_id, draft)


class MessageService:
    """Messages of a session."""

    def __init__(self, database: Database, events: EventLog, queue: Queue, clock: Clock) -> None:
        self._database = database
        self._events = events
        self._queue = queue
        self._clock = clock

    async def create_message(self, request: message_api.CreateMessageRequest, call: Call) -> message_pb2.Message:
        scope = call.require(Permission.SESSION_WRITE)
        draft = logic.draft_message(request, self._clock())
        agent_id, session_id = uuid.UUID(request.agent_id), uuid.UUID(request.session_id)
        async with self._database.transaction() as tx:
            record = await self.add(tx, scope, agent_id, session_id, draft)
            message = projection.message(record)
            await call.remember(tx, message)
        return message

    async def add(
        self, tx: Transaction, scope: Scope, agent_id: uuid.UUID, session_id: uuid.UUID, draft: logic.MessageDraft
    ) -> Record:
        """Store a message, and the job that answers a user's.

        Raises:
            NotFound: the agent has no such session.
        """
        if not draft.starts_turn:
            await store.require_session(tx, scope, agent_id, session_id)
        try:
            (record,) = await self._events.append(tx, session_id, [draft.event()])
        except StaleGeneration as error:
            raise errors.NotFound("Session not found") from error
        if draft.starts_turn:
            # This also finds out whether the session is the agent's; if not, the event goes with the transaction.
            await store.message_asked(tx, scope, agent_id, session_id, record.seq, draft.now)
            await jobs.enqueue_turn(self._queue, tx, session_id)
        return record

    async def list_messages(
        self, request: message_api.ListMessagesRequest, call: Call
    ) -> message_api.ListMessagesResponse:
        scope = call.require(Permission.SESSION_READ)
        agent_id, session_id = uuid.UUID(request.agent_id), uuid.UUID(request.session_id)
        page = logic.message_page(request)
        async with self._database.connection() as tx:
            await store.require_session(tx, scope, agent_id, session_id)
            rows, more = await store.conversation(
                tx, scope, session_id, after=page.after, limit=page.limit, offset=page.offset
            )
            total = await store.conversation_size(tx, scope, session_id)
        response: message_api.ListMessagesResponse = envelope(
            call,
            message_api.ListMessagesResponse(
                items=[projection.message(row) for row in rows],
                total=total,
                next_page_token=str(rows[-1].seq) if more else None,
            ),
        )
        return response


class EventService:
    """The event log of a session."""

    def __init__(self, database: Database, events: EventLog, subscriptions: Subscriptions) -> None:
        self._database = database
        self._events = events
        self._subscriptions = subscriptions

    async def subscribe(self, request: event_service_pb2.SubscribeRequest, call: Call) -> AsyncIterator[EventBatch]:
        scope = call.require(Permission.SESSION_READ)
        since = logic.cursor(call.metadata.get("last-event-id"), request.since_id)
        call.headers += [("cache-control", "no-cache"), ("x-accel-buffering", "no")]
        async with contextlib.aclosing(
            self.follow(scope, uuid.UUID(request.agent_id), uuid.UUID(request.session_id), since)
        ) as batches:
            async for batch in batches:
                yield batch

    async def follow(
        self, scope: Scope, agent_id: uuid.UUID, session_id: uuid.UUID, since: uuid.UUID | None
    ) -> AsyncGenerator[EventBatch, None]:
        """Yield [] once the session and the cursor are known to exist, then batches of events."""
        async with self._database.connection() as tx:
            await store.require_session(tx, scope, agent_id, session_id)
            after = await self._events.resolve_cursor(tx, session_id, since)
        telemetry.SUBSCRIBERS.inc()
        try:
            yield []
            async with contextlib.aclosing(self._subscriptions.follow(session_id, after)) as batches:
                async for batch in batches:
                    yield batch
        finally:
            telemetry.SUBSCRIBERS.dec()

    async def list_events(self, request: event_service_pb2.ListEventsRequest, call: Call) -> Sequence[Record]:
        scope = call.require(Permission.SESSION_READ)
        since = logic.cursor(None, request.since_id)
        session_id = uuid.UUID(request.session_id)
        limit = request.limit if request.HasField("limit") else paging.DEFAULT_LIMIT
        async with self._database.connection() as tx:
            await store.require_session(tx, scope, uuid.UUID(request.agent_id), session_id)
            after = await self._events.resolve_cursor(tx, session_id, since)
            records, _ = await self._events.read(tx, session_id, after=after, limit=limit)
            return records
