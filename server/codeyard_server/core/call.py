"""One call, as a handler sees it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from codeyard_server.core import errors
from codeyard_server.core.ids import new_id

if TYPE_CHECKING:
    from codeyard_server.core.caller import Caller
    from codeyard_server.core.database import Transaction
    from codeyard_server.core.idempotency import Replay
    from codeyard_server.core.permission import Permission
    from codeyard_server.core.scope import Scope


@dataclasses.dataclass(slots=True, init=False)
class Call:
    """The caller, the request's metadata, and the headers of the answer."""

    method: str
    metadata: dict[str, str]
    caller: Caller | None
    headers: list[tuple[str, str]]
    request_id: str
    replay: Replay | None

    def __init__(self, method: str, metadata: Iterable[Any], context: Any = None) -> None:
        self.method = method
        self.metadata = {key: value for key, value in metadata if isinstance(value, str)}
        self.caller = None
        self.headers = []
        self.request_id = self.metadata.get("x-request-id") or str(new_id())
        self.replay = None

    @property
    def over_http(self) -> bool:
        """Whether the call came through the gateway's JSON transcoding."""
        return "x-envoy-original-path" in self.metadata

    def require(self, permission: Permission) -> Scope:
        """Return the scope in which the caller may use the permission.

        Raises:
            PermissionDenied: he may not.
        """
        if self.caller is None:
            raise errors.Unauthenticated("A credential is required")
        return self.caller.scope(permission)

    async def remember(self, tx: Transaction, answer: Message) -> None:
        """Store the answer of a creating call under its Idempotency-Key, in the transaction that creates."""
        if self.replay is not None:
            await self.replay.store(tx, answer)
