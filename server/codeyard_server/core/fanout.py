"""Fan-out: from a commit in one process to the subscribers of a stream in all of them.

The log in Postgres is the truth; everything here only makes it fast. Each stream with a subscriber in this process
has a :class:`Channel`: a short ring of its newest events, shared by all subscribers. A subscriber reads the log after
its cursor, then takes from the ring; one that falls off the end of the ring, or finds a gap, reads the log again.
Nobody has a queue of his own, so a slow reader costs nothing and delays no one.

Between processes go hints ("stream S is now at n"), sent over NOTIFY off the write path: the first at once, then
merged for 2 to 10 ms. A lost hint is harmless: the heads of subscribed streams are polled every 500 ms, and after each
reconnect. Live-only events (token deltas) travel in the notification itself and may be lost.
"""

from __future__ import annotations

import asyncio
import collections
import datetime
import json
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import structlog

from codeyard_server.core.record import Record

log = structlog.get_logger(__name__)

T = TypeVar("T")

CHANNEL = "codeyard_events"
QUIET_SECONDS, BUSY_SECONDS = 0.002, 0.010
"""How long hints are merged after a notification that carried few, and after one that carried more than BUSY_HINTS."""
BUSY_HINTS = 16
POLL_SECONDS = 0.5
RING_EVENTS = 4096
RING_BYTES = 1 << 20
# NOTIFY takes 7,999 bytes; live text is cut so that a payload stays below with its envelope and escapes.
_PAYLOAD_BYTES = 7000
_HINTS_PER_PAYLOAD = 120


class Reader(Protocol):
    """What the fan-out asks of the log."""

    async def read_many(self, cursors: Iterable[tuple[uuid.UUID, int]]) -> list[Record]:
        """Return what the streams have after the cursors, by stream and sequence."""
        ...

    async def heads(self, stream_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, int]:
        """Return the last sequence of each stream that exists."""
        ...


class Channel:
    """The newest events of one stream, for its subscribers in this process."""

    __slots__ = ("_bytes", "_ring", "_waiters", "closed", "first", "head", "hinted", "stream_id", "subscribers")

    def __init__(self, stream_id: uuid.UUID) -> None:
        self.stream_id = stream_id
        self.head: int | None = None
        """Sequence of the newest stored event in the ring, or what the first subscriber had read; None before that."""
        self.hinted = 0
        self.closed = False
        self.first = 0
        """Position of the oldest entry; positions count every entry there has ever been."""
        self._ring: collections.deque[Record] = collections.deque()
        self._bytes = 0
        self._waiters: set[asyncio.Future[None]] = set()
        self.subscribers = 0

    @property
    def end(self) -> int:
        """Position after the newest entry."""
        return self.first + len(self._ring)

    def since(self, position: int) -> list[Record]:
        """Return the entries from position on; empty when it lies before the ring, see :attr:`first`."""
        if position < self.first:
            return []
        skip = position - self.first
        return [self._ring[index] for index in range(skip, len(self._ring))]

    def seed(self, seq: int) -> None:
        """Say up to where the log has been read, when nothing is known yet."""
        if self.head is None:
            self.head = seq

    @property
    def behind(self) -> bool:
        """Whether the stream is known to be further than the ring."""
        return self.head is not None and self.hinted > self.head

    def offer(self, records: Sequence[Record]) -> None:
        """Add stored events that follow the head; what is known is passed over, and so is what would leave a gap."""
        added = False
        for record in records:
            if self.head is not None and record.seq == self.head + 1:
                self.head = record.seq
                self._push(record)
                added = True
            self.hinted = max(self.hinted, record.seq)
        if added:
            self.wake()

    def offer_live(self, record: Record) -> None:
        """Add a live-only event."""
        self._push(record)
        self.wake()

    def _push(self, record: Record) -> None:
        self._ring.append(record)
        self._bytes += len(record.data)
        while len(self._ring) > RING_EVENTS or (self._bytes > RING_BYTES and len(self._ring) > 1):
            self._bytes -= len(self._ring.popleft().data)
            self.first += 1

    def close(self) -> None:
        """Say that the stream is gone."""
        self.closed = True
        self.wake()

    def wake(self) -> None:
        """Wake everybody who waits."""
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, position: int, seconds: float) -> bool:
        """Wait until there is something from position on, or the stream closes; False when the time is up."""
        if self.end > position or self.closed:
            return True
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.add(waiter)
        timer = loop.call_later(seconds, waiter.cancel)
        try:
            await waiter
            return True
        except asyncio.CancelledError:
            # The timer cancels the future, a caller cancels the task: only the latter must go on up.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return False
        finally:
            timer.cancel()
            self._waiters.discard(waiter)


class FanOut:
    """The channels of this process and the hints between processes."""

    def __init__(self) -> None:
        self.channels: dict[uuid.UUID, Channel] = {}
        self.origin = uuid.uuid4().hex
        self.on_signal: dict[str, Callable[[str], None]] = {}
        """Name of a signal -> what to call with its key, in every process."""
        self._hints: dict[uuid.UUID, int] = {}
        self._live: list[dict[str, Any]] = []
        self._closed: set[uuid.UUID] = set()
        self._signals: set[tuple[str, str]] = set()
        self._outgoing = asyncio.Event()
        self._dirty: set[uuid.UUID] = set()
        self._incoming = asyncio.Event()
        self._poll_now = asyncio.Event()

    # Subscribers

    def acquire(self, stream_id: uuid.UUID) -> Channel:
        """Return the stream's channel and count a subscriber; give it back with :meth:`release`."""
        channel = self.channels.get(stream_id)
        if channel is None:
            channel = self.channels[stream_id] = Channel(stream_id)
        channel.subscribers += 1
        return channel

    def release(self, channel: Channel) -> None:
        """Count a subscriber less; the last one takes the channel with it."""
        channel.subscribers -= 1
        if not channel.subscribers and self.channels.get(channel.stream_id) is channel:
            del self.channels[channel.stream_id]

    def seed(self, channel: Channel, seq: int) -> None:
        """Start the channel at seq, and read on at once when a hint has come meanwhile."""
        channel.seed(seq)
        if channel.behind:
            self._mark(channel)

    # Writers

    def publish(self, stream_id: uuid.UUID, records: Sequence[Record]) -> None:
        """Tell of committed events. Called after the commit, in any order."""
        channel = self.channels.get(stream_id)
        if channel is not None:
            channel.offer(records)
            if channel.behind:
                self._mark(channel)
        self._hints[stream_id] = max(self._hints.get(stream_id, 0), records[-1].seq)
        self._outgoing.set()

    def publish_live(self, record: Record) -> None:
        """Tell of a live-only event."""
        channel = self.channels.get(record.stream_id)
        if channel is not None:
            channel.offer_live(record)
        self._live.append(
            {
                "s": record.stream_id.hex,
                "t": record.type,
                "d": record.data,
                "u": record.turn_id.hex if record.turn_id else None,
                "x": record.exec_id.hex if record.exec_id else None,
            }
        )
        self._outgoing.set()

    def publish_closed(self, stream_id: uuid.UUID) -> None:
        """Tell that a stream was deleted."""
        channel = self.channels.get(stream_id)
        if channel is not None:
            channel.close()
        self._closed.add(stream_id)
        self._outgoing.set()

    def signal(self, name: str, key: str = "") -> None:
        """Call the signal's receiver in every process, in this one at once. May be lost between processes."""
        self._signals.add((name, key))
        self._outgoing.set()
        self._deliver(name, key)

    def _deliver(self, name: str, key: str) -> None:
        receiver = self.on_signal.get(name)
        if receiver is not None:
            receiver(key)

    # Between processes

    def receive(self, payload: str) -> None:
        """Take a notification of another process."""
        message = json.loads(payload)
        if message["o"] == self.origin:
            return
        for item in message.get("l", ()):
            channel = self.channels.get(uuid.UUID(item["s"]))
            if channel is not None:
                channel.offer_live(_live_record(item))
        for stream, seq in message.get("h", {}).items():
            channel = self.channels.get(uuid.UUID(stream))
            if channel is not None:
                channel.hinted = max(channel.hinted, seq)
                if channel.behind:
                    self._mark(channel)
        for stream in message.get("c", ()):
            channel = self.channels.get(uuid.UUID(stream))
            if channel is not None:
                channel.close()
        for name, key in message.get("g", ()):
            self._deliver(name, key)

    def poll_soon(self) -> None:
        """Compare heads at once, as after a reconnect."""
        self._poll_now.set()

    async def run_sender(self, send: Callable[[list[str]], Awaitable[None]]) -> None:
        """Send hints until cancelled: the first at once, then merged. The poll makes up for failures."""
        while True:
            await self._outgoing.wait()
            self._outgoing.clear()
            busy = len(self._hints) + len(self._live) > BUSY_HINTS
            payloads = self._drain()
            try:
                await send(payloads)
            except Exception as error:  # noqa: BLE001 - a lost hint is harmless, an ended sender is not
                log.warning("fanout.send_failed", error=repr(error), payloads=len(payloads))
            await asyncio.sleep(BUSY_SECONDS if busy else QUIET_SECONDS)

    def _drain(self) -> list[str]:
        live, self._live = self._live, []
        messages: list[dict[str, Any]] = [{"l": part} for part in _by_size(live)]
        hints, self._hints = list(self._hints.items()), {}
        messages += [{"h": {key.hex: seq for key, seq in part}} for part in _parts(hints)]
        closed, self._closed = list(self._closed), set()
        messages += [{"c": [key.hex for key in part]} for part in _parts(closed)]
        signals, self._signals = list(self._signals), set()
        messages += [{"g": part} for part in _parts(signals)]
        return [json.dumps({"o": self.origin, **message}, separators=(",", ":")) for message in messages]

    # Reading on

    def _mark(self, channel: Channel) -> None:
        self._dirty.add(channel.stream_id)
        self._incoming.set()

    async def run_reader(self, reader: Reader) -> None:
        """Read hinted streams from the log until cancelled, all that are due in one statement."""
        while True:
            await self._incoming.wait()
            self._incoming.clear()
            dirty, self._dirty = self._dirty, set()
            channels = [channel for key in dirty if (channel := self.channels.get(key)) and channel.behind]
            if not channels:
                continue
            try:
                records = await reader.read_many([(channel.stream_id, channel.head or 0) for channel in channels])
            except Exception as error:  # noqa: BLE001 - the poll marks them again
                log.warning("fanout.read_failed", error=repr(error))
                continue
            found: dict[uuid.UUID, list[Record]] = collections.defaultdict(list)
            for record in records:
                found[record.stream_id].append(record)
            for channel in channels:
                channel.offer(found[channel.stream_id])
                if channel.behind and found[channel.stream_id]:
                    self._mark(channel)

    async def run_poll(self, reader: Reader) -> None:
        """Compare the heads of subscribed streams with the log every 500 ms until cancelled."""
        while True:
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._poll_now.wait()
            except TimeoutError:
                pass
            self._poll_now.clear()
            try:
                await self._poll(reader)
            except Exception as error:  # noqa: BLE001 - it comes again in half a second
                log.warning("fanout.poll_failed", error=repr(error))

    async def _poll(self, reader: Reader) -> None:
        known = [channel for channel in self.channels.values() if channel.head is not None]
        if not known:
            return
        heads = await reader.heads([channel.stream_id for channel in known])
        for channel in known:
            head = heads.get(channel.stream_id)
            if head is None:
                channel.close()
                continue
            channel.hinted = max(channel.hinted, head)
            if channel.behind:
                self._mark(channel)


def _parts(items: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), _HINTS_PER_PAYLOAD):
        yield items[start : start + _HINTS_PER_PAYLOAD]


def _by_size(items: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    part: list[dict[str, Any]] = []
    size = 0
    for item in items:
        length = len(json.dumps(item))
        if part and size + length > _PAYLOAD_BYTES:
            yield part
            part, size = [], 0
        part.append(item)
        size += length
    if part:
        yield part


def _live_record(item: dict[str, Any]) -> Record:
    return Record(
        stream_id=uuid.UUID(item["s"]),
        seq=0,
        id=None,
        type=item["t"],
        data=item["d"],
        created_at=datetime.datetime.now(datetime.UTC),
        turn_id=uuid.UUID(item["u"]) if item["u"] else None,
        exec_id=uuid.UUID(item["x"]) if item["x"] else None,
    )
