"""What the yard asks of a store of large bytes. Two adapters fulfil it: a folder, and any S3 server.

    BlobError
    ├── BlobKeyInvalid    the key breaks the rules of validate_key
    ├── BlobNotFound      no blob has this key
    ├── BlobMismatch      the bytes are not what was announced; nothing was stored
    └── BlobUnavailable   the store cannot be reached, is full or refuses; the same call may work later

Bytes travel in chunks, never as a whole. A blob becomes visible complete or not at all: readers of an overwritten blob
see the old bytes or the new ones, and an upload that fails, is cancelled or ends early leaves nothing behind.
"""

from __future__ import annotations

import dataclasses
import datetime
import unicodedata
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

CHUNK_BYTES = 1024 * 1024
"""Largest chunk that :meth:`BlobStore.get` yields."""

MAX_KEY_BYTES = 1024
MAX_SEGMENT_BYTES = 250
"""Longest part of a key between two slashes: what a file system holds (255 bytes) less the folder store's endings."""

MAX_PRESIGNED = datetime.timedelta(days=7)


class BlobError(Exception):
    """Base of what a blob store raises. The text is for the log: it may hold keys and the store's own words."""


class BlobKeyInvalid(BlobError):
    """The key cannot name a blob."""


class BlobNotFound(BlobError):
    """No blob has this key."""


class BlobMismatch(BlobError):
    """Length or SHA-256 of the received bytes differ from what was announced."""


class BlobUnavailable(BlobError):
    """The store failed, and not because of the caller."""


@dataclasses.dataclass(frozen=True, slots=True)
class BlobReceipt:
    """What was stored: the number of bytes, and their SHA-256 in 64 lower-case hexadecimal digits."""

    size: int
    sha256: str


@dataclasses.dataclass(frozen=True, slots=True)
class BlobInfo:
    """A stored blob. ``size`` is in bytes; ``modified_at`` is when it became visible, with a time zone."""

    key: str
    size: int
    modified_at: datetime.datetime


@dataclasses.dataclass(frozen=True, slots=True)
class OpenBlob:
    """A blob that is being read. ``info`` describes the whole blob, also when ``chunks`` is only a range of it."""

    info: BlobInfo
    chunks: AsyncIterator[bytes]


class BlobStore(Protocol):
    """A store of blobs. Safe for concurrent calls from one event loop, and for several processes on one store.

    Keys are checked by :func:`validate_key` in every method. Two blobs ``a`` and ``a/b`` do not disturb each other, but
    not every server lists both: choose keys of which none is the folder of another.
    """

    async def prepare(self) -> None:
        """Make the folder or bucket when it is missing; called once at start.

        A folder is also cleared of what crashed uploads left. An S3 server does that itself: MinIO after a day, others
        by a lifecycle rule for incomplete multipart uploads.

        Raises:
            BlobUnavailable: it does not exist and cannot be made.
        """
        ...

    async def put(
        self, key: str, source: AsyncIterable[bytes], *, length: int | None = None, sha256: str | None = None
    ) -> BlobReceipt:
        """Store the bytes of ``source``, replacing a blob of that key; return their size and hash.

        Args:
            key: where to.
            source: the bytes in chunks of at most 1 MiB. An exception from it ends the upload and is passed on.
            length: the announced number of bytes. None only when the sender could not know it.
            sha256: the announced hash, 64 hexadecimal digits.

        Raises:
            BlobMismatch: ``source`` ended early, did not end, or has another hash.
            BlobKeyInvalid, BlobUnavailable: see there.
        """
        ...

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> AbstractAsyncContextManager[OpenBlob]:
        """Open a blob, or ``length`` bytes of it from ``offset``. A range beyond the end is cut; it may be empty.

        Entering raises before the first byte, so that a status can still be chosen; leaving early ends the transfer.

        Raises:
            BlobNotFound, BlobKeyInvalid, BlobUnavailable: see there.
            ValueError: a negative offset or length.
        """
        ...

    async def stat(self, key: str) -> BlobInfo:
        """Return what is known about a blob. Raises BlobNotFound, BlobKeyInvalid, BlobUnavailable."""
        ...

    async def delete(self, key: str) -> None:
        """Remove a blob. It is no error when there is none. Raises BlobKeyInvalid, BlobUnavailable."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[BlobInfo]:
        """Yield every blob whose key starts with ``prefix``, in the order of the keys' UTF-8 bytes.

        Raises:
            BlobKeyInvalid: the prefix cannot begin a key.
            BlobUnavailable: see there.
        """
        ...

    async def presigned_get(self, key: str, expires: datetime.timedelta) -> str | None:
        """Return a URL that downloads the blob without credentials, or None when this store has none.

        The answer to it is an attachment, so that a browser never runs stored HTML. A URL is made without asking the
        store: that of a missing blob answers 404. ``expires`` is at most :data:`MAX_PRESIGNED`.
        """
        ...

    async def presigned_put(self, key: str, expires: datetime.timedelta) -> str | None:
        """Return a URL that accepts the blob by HTTP PUT without credentials, or None when this store has none.

        The store does not know what was announced: compare size and hash afterwards.
        """
        ...

    async def close(self) -> None:
        """End threads and connections."""
        ...


def validate_key(key: str) -> str:
    """Return the key when it can name a blob on every store.

    It has 1 to 1,024 bytes of UTF-8 in segments of 1 to 250 bytes between single slashes, no segment is ``.`` or
    ``..``, and there is no control character and no backslash.

    Raises:
        BlobKeyInvalid: a rule is broken.
    """
    segments = _check_text(key).split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        raise BlobKeyInvalid(f"a key has no empty, '.' or '..' segment: {key!r}")
    return key


def validate_prefix(prefix: str) -> str:
    """Return the prefix when it can begin a valid key; unlike a key it may be empty, or end with a slash.

    Raises:
        BlobKeyInvalid: a rule of :func:`validate_key` is broken.
    """
    *folders, _ = _check_text(prefix).split("/")
    if any(segment in ("", ".", "..") for segment in folders):
        raise BlobKeyInvalid(f"a prefix has no empty, '.' or '..' folder: {prefix!r}")
    return prefix


def validate_range(offset: int, length: int | None) -> None:
    """Raise ValueError when the range has a negative end."""
    if offset < 0 or (length is not None and length < 0):
        raise ValueError(f"a range is not negative: offset {offset}, length {length}")


def validate_expiry(expires: datetime.timedelta) -> None:
    """Raise ValueError when a presigned URL cannot live this long."""
    if not datetime.timedelta(seconds=1) <= expires <= MAX_PRESIGNED:
        raise ValueError(f"a presigned URL lives between one second and {MAX_PRESIGNED.days} days, not {expires}")


def _check_text(text: str) -> str:
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise BlobKeyInvalid("a key is valid Unicode") from None
    if len(encoded) > MAX_KEY_BYTES:
        raise BlobKeyInvalid(f"a key has at most {MAX_KEY_BYTES} bytes, not {len(encoded)}")
    if any(len(segment) > MAX_SEGMENT_BYTES for segment in encoded.split(b"/")):
        raise BlobKeyInvalid(f"a segment of a key has at most {MAX_SEGMENT_BYTES} bytes")
    if "\\" in text or any(unicodedata.category(character) == "Cc" for character in text):
        raise BlobKeyInvalid("a key has no control character and no backslash")
    return text
