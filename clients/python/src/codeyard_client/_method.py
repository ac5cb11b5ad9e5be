"""What the transport needs to know of an RPC. The table of all RPCs is generated: ``codeyard_client.gen.methods``."""

from __future__ import annotations

import dataclasses
from typing import Generic, TypeVar

import betterproto2

Q = TypeVar("Q", bound=betterproto2.Message)
R = TypeVar("R", bound=betterproto2.Message)


@dataclasses.dataclass(frozen=True, slots=True)
class Unary(Generic[Q, R]):
    """A method with one request and one answer.

    ``repeatable``: its ``idempotency_level`` says that a second call changes nothing more.
    ``keyed``: the server knows a repeated call by its Idempotency-Key and gives the first answer again.
    """

    path: str
    request: type[Q]
    response: type[R]
    repeatable: bool = False
    keyed: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Stream(Generic[Q, R]):
    """A method with one request and a stream of answers."""

    path: str
    request: type[Q]
    response: type[R]
    repeatable: bool = False
