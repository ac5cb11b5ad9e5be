# Written by tools/gen_sdk.py from ../../aio/sessions.py: change that one.
"""Sessions: send messages, follow events, wait for answers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from time import sleep
from typing import Unpack

from codeyard_client._backoff import Backoff
from codeyard_client._channel import SyncStream
from codeyard_client._content import Content, TurnOptions, message_request, strings, text_of
from codeyard_client._event import Event
from codeyard_client._fields import SessionFields
from codeyard_client.errors import ConnectionFailed, NotFound, TurnFailed, Unavailable
from codeyard_client.gen.codeyard.agents.v1 import ListAgentsRequest
from codeyard_client.gen.codeyard.sessions import v1
from codeyard_client.gen.methods import AgentService, EventService, MessageService, SessionService
from codeyard_client.gen.sync.transport import Transport

log = logging.getLogger("codeyard_client")


class Session(SessionFields):
    """One conversation with one agent."""

    def __init__(self, transport: Transport, message: v1.Session) -> None:
        self._transport = transport
        self.message = message
        self._seen: Event | None = None

    def refresh(self) -> None:
        """Read it again."""
        request = v1.GetSessionRequest(agent_id=self.agent_id, session_id=self.id)
        self.message = self._transport.call(SessionService.GET_SESSION, request)

    def update(
        self, *, title: str | None = None, tags: Sequence[str] | None = None, model_id: str | None = None
    ) -> None:
        """Change what is given; tags are replaced as a whole."""
        request = v1.UpdateSessionRequest(
            agent_id=self.agent_id, session_id=self.id, title=title, tags=strings(tags), model_id=model_id
        )
        self.message = self._transport.call(SessionService.UPDATE_SESSION, request)

    def delete(self) -> None:
        """Delete it with its messages, events and files. A running turn is cancelled, streams of its events end."""
        request = v1.DeleteSessionRequest(agent_id=self.agent_id, session_id=self.id)
        self._transport.call(SessionService.DELETE_SESSION, request)

    def cancel(self) -> None:
        """Cancel the turn that runs, if one does; it ends with ``turn.failed`` and the code ``cancelled``."""
        request = v1.CancelTurnRequest(agent_id=self.agent_id, session_id=self.id)
        self.message = self._transport.call(SessionService.CANCEL_TURN, request)

    def send(self, content: Content, **options: Unpack[TurnOptions]) -> v1.Message:
        """Add a message and return it at once. It starts a turn; while one runs, it waits for the next.

        ``content`` is text, or parts (``codeyard_client.image`` makes one). For the options see ``TurnOptions``.
        """
        request = message_request(self.agent_id, self.id, content, options)
        key = options.get("idempotency_key")
        return self._transport.call(MessageService.CREATE_MESSAGE, request, idempotency_key=key)

    def messages(self, *, page_size: int = 100) -> SyncStream[v1.Message]:
        """Yield the conversation, oldest first; pages are fetched as they are needed."""
        request = v1.ListMessagesRequest(agent_id=self.agent_id, session_id=self.id, limit=page_size)
        while True:
            page = self._transport.call(MessageService.LIST_MESSAGES, request)
            for message in page.items:
                yield message
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def stored_events(self, *, since: str | None = None, page_size: int = 1000) -> SyncStream[Event]:
        """Yield the events that are stored now, from the first, or after the one whose id is ``since``."""
        request = v1.ListEventsRequest(agent_id=self.agent_id, session_id=self.id, since_id=since, limit=page_size)
        while True:
            page = self._transport.call(EventService.LIST_EVENTS, request)
            if not page.items:
                return
            for message in page.items:
                yield Event.of(message)
            # A page can be short and not the last: it ends early where its events are large.
            request.since_id = page.items[-1].id

    def events(self, *, since: str | None = None) -> SyncStream[Event]:
        """Yield every event from the first, or after the one whose id is ``since``, and go on with those to come.

        A connection that breaks is made again where it broke: each stored event is yielded once, in order. Live events
        (``message.delta``) of the gap are lost, the message that they announce follows. Ends when the session is
        deleted.

        Raises:
            NotFound: there is no such session.
            CursorUnknown: ``since`` is not an event of this session.
            Unavailable: the yard did not answer for ``retry_seconds`` at the start, or ``reconnect_seconds`` later.
        """
        request = v1.SubscribeRequest(agent_id=self.agent_id, session_id=self.id, since_id=since)
        backoff, known = Backoff(self._transport.retry_seconds), False
        while True:
            failure: Unavailable = ConnectionFailed("The yard ended the stream")
            try:
                with closing(self._transport.stream(EventService.SUBSCRIBE, request)) as messages:
                    for message in messages:
                        known = True
                        backoff.answered(self._transport.reconnect_seconds)
                        if message is None:
                            continue
                        backoff.progressed()
                        # Before the yield: whoever closes this iterator there has had the event.
                        request.since_id = message.id or request.since_id
                        yield Event.of(message)
                # It ends by itself when the session is deleted, or with the server process: the next attempt tells.
                known = True
            except NotFound:
                if known:
                    return
                raise
            except Unavailable as error:
                failure = error
            pause = backoff.pause(failure)
            log.info("events of session %s: %s; again in %.1f s", self.id, failure, pause)
            sleep(pause)

    def turn(self, content: Content, **options: Unpack[TurnOptions]) -> SyncStream[Event]:
        """Send a message and yield the events of the turn that answers it: ``turn.started`` to its end.

        The last event is ``turn.completed`` or ``turn.failed``. In a session that was not created by this object, the
        first turn reads the log from its beginning to find its place.

        Raises:
            NotFound: there is no such session, or it was deleted meanwhile.
        """
        seen = self._seen
        sent = self.send(content, **options)
        # With a key that was used before, the message may be older than what has been seen.
        since = seen.id if seen and (seen.sequence or 0) < sent.sequence else None
        turn_id = None
        with closing(self.events(since=since)) as events:
            for event in events:
                if event.id:
                    self._seen = event
                if isinstance(event.data, v1.TurnStarted) and sent.id in event.data.message_ids:
                    turn_id = event.data.turn_id
                if turn_id is None or event.turn_id != turn_id:
                    continue
                yield event
                if isinstance(event.data, v1.TurnCompleted | v1.TurnFailed):
                    return
        raise NotFound(f"session {self.id} was deleted")

    def ask(self, content: Content, **options: Unpack[TurnOptions]) -> str:
        """Send a message, wait for the end of its turn, and return the text of the answer.

        Raises:
            TurnFailed: the turn ended without an answer.
        """
        answer = ""
        with closing(self.turn(content, **options)) as events:
            for event in events:
                if isinstance(event.data, v1.MessageStored) and event.type == "message.agent" and event.data.message:
                    answer = text_of(event.data.message)
                elif isinstance(event.data, v1.TurnFailed):
                    raise TurnFailed(event.data.error, event.data.error_code, event.data.turn_id)
        return answer


class AgentSessions:
    """The sessions of one agent."""

    def __init__(self, transport: Transport, agent_id: str) -> None:
        self._sessions = Sessions(transport)
        self._agent_id = agent_id

    def create(
        self,
        *,
        title: str | None = None,
        tags: Sequence[str] = (),
        model_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Session:
        """Open a session. Nothing runs until a message arrives."""
        return self._sessions.create(
            self._agent_id, title=title, tags=tags, model_id=model_id, idempotency_key=idempotency_key
        )

    def list(self, *, page_size: int = 100) -> SyncStream[Session]:
        """Yield the sessions, newest first; pages are fetched as they are needed."""
        return self._sessions.list(self._agent_id, page_size=page_size)

    def get(self, session_id: str) -> Session:
        """Return one session.

        Raises:
            NotFound: this agent has none with this id.
        """
        return self._sessions.get(self._agent_id, session_id)


class Sessions:
    """The sessions of any agent."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        agent_id: str,
        *,
        title: str | None = None,
        tags: Sequence[str] = (),
        model_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Session:
        """Open a session. A second call with the same ``idempotency_key`` within a day returns the first one's.

        Raises:
            NotFound: there is no such agent.
        """
        request = v1.CreateSessionRequest(agent_id=agent_id, title=title, tags=list(tags), model_id=model_id)
        message = self._transport.call(SessionService.CREATE_SESSION, request, idempotency_key=idempotency_key)
        return Session(self._transport, message)

    def list(self, agent_id: str, *, page_size: int = 100) -> SyncStream[Session]:
        """Yield the sessions of an agent, newest first; pages are fetched as they are needed."""
        request = v1.ListSessionsRequest(agent_id=agent_id, limit=page_size)
        while True:
            page = self._transport.call(SessionService.LIST_SESSIONS, request)
            for message in page.items:
                yield Session(self._transport, message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def get(self, agent_id: str, session_id: str) -> Session:
        """Return one session of an agent.

        Raises:
            NotFound: the agent has none with this id.
        """
        request = v1.GetSessionRequest(agent_id=agent_id, session_id=session_id)
        return Session(self._transport, self._transport.call(SessionService.GET_SESSION, request))

    def find(self, session_id: str) -> Session:
        """Return a session whose agent is not known, by asking one active agent after the other.

        Raises:
            NotFound: no active agent has it.
        """
        request = ListAgentsRequest()
        while True:
            page = self._transport.call(AgentService.LIST_AGENTS, request)
            for agent in page.items:
                try:
                    return self.get(agent.id, session_id)
                except NotFound:
                    continue
            if not page.next_page_token:
                raise NotFound(f"no active agent has a session {session_id}")
            request.page_token = page.next_page_token
