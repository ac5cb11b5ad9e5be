"""Idempotency-Key: the same key of the same caller on the same method gets the first answer again, for 24 hours.

The answer is stored in the transaction that creates the object, so there is either both or neither. Two calls with one
key at the same time meet at the primary key: the second waits for the first, rolls back and reads its answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from google.protobuf.message import Message

from codeyard_server.core import errors
from codeyard_server.core.call import Call
from codeyard_server.core.database import Database, Transaction

MAX_KEY = 255

_FIND = "SELECT request_hash, response FROM idempotency_keys WHERE caller = $1 AND method = $2 AND key = $3"
_STORE = "INSERT INTO idempotency_keys (caller, method, key, request_hash, response) VALUES ($1, $2, $3, $4, $5)"
_PURGE = "DELETE FROM idempotency_keys WHERE created_at < now() - interval '24 hours'"


class _Repeated(Exception):
    """Another call with this key has committed."""


class Replay:
    """The key of one call."""

    def __init__(self, caller: str, method: str, key: str, request_hash: bytes) -> None:
        self.identity = (caller, method, key)
        self.request_hash = request_hash
        self.stored = False

    async def store(self, tx: Transaction, answer: Message) -> None:
        """Store the answer; the transaction must not go on when this raises."""
        try:
            await tx.execute(_STORE, *self.identity, self.request_hash, answer.SerializeToString())
        except asyncpg.UniqueViolationError as error:
            raise _Repeated from error
        self.stored = True


class Idempotency:
    """Runs creating handlers under a key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(
        self, call: Call, key: str, request: Message, implementation: Callable[[Any, Call], Awaitable[Any]]
    ) -> Message | bytes:
        """Return the stored answer, or run the handler, which must store its answer with ``call.remember``.

        Raises:
            InvalidArgument: the key is empty or longer than 255 characters.
            IdempotencyKeyReused: the key was used with another request.
        """
        if not 0 < len(key) <= MAX_KEY:
            raise errors.InvalidArgument("Idempotency-Key must have 1 to 255 characters")
        caller = "" if call.caller is None else str(call.caller.user_id)
        digest = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
        replay = Replay(caller, call.method, key, digest)
        stored = await self._find(replay)
        if stored is not None:
            return stored
        call.replay = replay
        try:
            answer: Message = await implementation(request, call)
        except (_Repeated, errors.Failure) as error:
            # A twin that came first may also have taken a name that is unique.
            stored = await self._find(replay)
            if stored is not None:
                return stored
            if isinstance(error, _Repeated):
                raise errors.Unavailable("A call with this Idempotency-Key is under way; try again") from None
            raise
        if not replay.stored:
            raise RuntimeError(f"{call.method} takes an Idempotency-Key and does not remember its answer")
        return answer

    async def _find(self, replay: Replay) -> bytes | None:
        async with self._database.connection() as connection:
            row = await connection.row(_FIND, *replay.identity)
        if row is None:
            return None
        if row["request_hash"] != replay.request_hash:
            raise errors.IdempotencyKeyReused("The Idempotency-Key was used with another request")
        return bytes(row["response"])

    async def purge(self) -> None:
        """Forget keys older than 24 hours."""
        async with self._database.connection() as connection:
            await connection.execute(_PURGE)
