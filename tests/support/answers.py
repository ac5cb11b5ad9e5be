"""Raw HTTP answers, and the rule that every error of the flat family keeps."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

from codeyard_server.core import errors

from tests.support.client import Rest

JSON = {"content-type": "application/json"}

# What a text for a caller must never hold: names of parts, of exceptions, of tables, of files.
_INTERNALS = re.compile(
    r"Traceback|asyncpg|postgres|SELECT |INSERT |UPDATE |\.py\b|\.sock\b|codeyard_server|<class|Exception|upstream"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it came over the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed. Raises ValueError when it is no JSON."""
        return json.loads(self.body)


async def send(
    client: Rest, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """Send exactly these bytes; the path may hold a query. Without headers a body is sent as JSON."""
    sent = JSON if headers is None and body is not None else headers or {}
    async with client.session.request(
        method, client.yard.url + path, data=body, headers=sent, allow_redirects=False
    ) as answer:
        return Answer(answer.status, answer.headers.copy(), await answer.read())


def check_error(answer: Answer, status: int, code: str | None = None) -> dict[str, Any]:
    """Check that an answer is this error in the flat shape, and return its body."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    body: dict[str, Any] = answer.json
    assert body.keys() <= {"error", "status", "code", "details"}, body
    assert isinstance(body["error"], str) and body["error"]
    assert not _INTERNALS.search(body["error"]), body
    assert body["status"] == status
    assert body["code"] in errors.reasons()
    if code is not None:
        assert body["code"] == code, body
    return body
