"""What every list method does alike: paging members of the request, and the doubled list of the REST envelope."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from codeyard_server.core import errors, paging
from codeyard_server.core.call import Call


class Row(Protocol):
    """A row as its message."""

    def ByteSize(self) -> int:  # noqa: N802 - protobuf's name
        """Its size on the wire."""
        ...


R = TypeVar("R", bound=Row)


class PageRequest(Protocol):
    """A request with limit, offset and page_token, all optional."""

    limit: int
    offset: int
    page_token: str

    def HasField(self, field_name: Any) -> bool:  # noqa: N802 - protobuf's name
        """Whether the member is present."""
        ...


class Page:
    """The page a request asks for. One row more than the limit is read, to know whether there is a next page."""

    def __init__(self, request: PageRequest) -> None:
        self.limit = request.limit if request.HasField("limit") else paging.DEFAULT_LIMIT
        self.offset = request.offset if request.HasField("offset") else 0
        self.after: tuple[datetime.datetime, uuid.UUID] | None = None
        if request.HasField("page_token"):
            if self.offset:
                raise errors.InvalidArgument("offset and page_token cannot be used together")
            self.after = paging.decode(request.page_token)

    def split(self, rows: Sequence[R]) -> tuple[Sequence[R], R | None]:
        """Return the rows of this page, and the last of them when there is a next page."""
        page = rows[: self.limit]
        size = 0
        for place, row in enumerate(page):
            size += row.ByteSize()
            if size > paging.PAGE_BYTES and place:
                page = page[:place]
                break
        return page, page[-1] if len(page) < len(rows) else None


def optional_strings(request: Any, name: str) -> list[str] | None:
    """Return a list of strings that replaces another; None when it is absent or null. The proto checks its types."""
    if not request.HasField(name) or getattr(request, name).WhichOneof("kind") != "list_value":
        return None
    return [value.string_value for value in getattr(request, name).list_value.values]


def envelope(call: Call, response: Any) -> Any:
    """Fill ``data`` with the same list as ``items`` for REST clients; over gRPC the list is sent once."""
    if call.over_http:
        response.data.extend(response.items)
    return response
