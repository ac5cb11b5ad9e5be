"""What both blob stores need: a bounded pool of threads for blocking calls, and the checks of an upload."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from typing import ParamSpec, TypeVar

from codeyard_server.blobs.ports import CHUNK_BYTES, BlobMismatch, BlobReceipt

P = ParamSpec("P")
T = TypeVar("T")


class BlockingCalls:
    """Run blocking calls in at most ``threads`` threads of their own, so that a slow disk cannot starve other work."""

    def __init__(self, name: str, threads: int) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the function returns.

        A thread cannot be interrupted: when the caller is cancelled, this waits for the call to end before it passes
        the cancellation on. So nobody closes a descriptor, or aborts an upload, that a thread is still using.
        """
        future = asyncio.wrap_future(self._pool.submit(function, *args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            if not future.cancelled():
                future.exception()  # seen: nobody else will ask for it
            raise

    def close(self) -> None:
        """Let the running calls end in their threads, and refuse new ones."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Upload:
    """The bytes of one upload on their way through: cut into pieces of one size, counted, hashed, checked at the end.

    Args:
        calls: where the hashing happens.
        piece_bytes: size of every piece but the last.
        length, sha256: what was announced; see :meth:`codeyard_server.blobs.ports.BlobStore.put`.
    """

    def __init__(self, calls: BlockingCalls, piece_bytes: int, length: int | None, sha256: str | None) -> None:
        self._calls = calls
        self._piece_bytes = piece_bytes
        self._length = length
        self._announced = sha256
        self._digest = hashlib.sha256()
        self._size = 0

    async def pieces(self, source: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
        """Yield the pieces; none when the source is empty.

        Raises:
            BlobMismatch: more bytes came than were announced.
        """
        waiting = bytearray()
        async for chunk in source:
            self._size += len(chunk)
            if self._length is not None and self._size > self._length:
                raise BlobMismatch(f"more than the announced {self._length} bytes")
            waiting += chunk
            while len(waiting) >= self._piece_bytes:
                piece = bytes(memoryview(waiting)[: self._piece_bytes])
                del waiting[: self._piece_bytes]
                yield await self._hashed(piece)
        if waiting:
            yield await self._hashed(bytes(waiting))

    def receipt(self) -> BlobReceipt:
        """Return size and hash. To be asked after the last piece and before anything becomes visible.

        Raises:
            BlobMismatch: the bytes are not the announced ones.
        """
        if self._length is not None and self._size != self._length:
            raise BlobMismatch(f"{self._size} bytes instead of the announced {self._length}")
        found = self._digest.hexdigest()
        if self._announced is not None and found != self._announced.lower():
            raise BlobMismatch(f"SHA-256 {found} instead of the announced {self._announced}")
        return BlobReceipt(size=self._size, sha256=found)

    async def _hashed(self, piece: bytes) -> bytes:
        await self._calls.run(self._hash, piece)
        return piece

    def _hash(self, piece: bytes) -> None:
        view = memoryview(piece)
        for start in range(0, len(piece), CHUNK_BYTES):
            self._digest.update(view[start : start + CHUNK_BYTES])
