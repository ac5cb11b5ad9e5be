"""Blobs as files, written as ``<root>/incoming/<random>`` and renamed into ``<root>/objects`` when complete.

The key ``a/b`` is the file ``objects/a.d/b.blob``: with the two endings a name can be a blob and a folder at once, as
it can on an S3 server. Every path is walked with one descriptor per folder and O_NOFOLLOW, so a symbolic link below the
root leads nowhere, whoever put it there and whenever. Files are 0600, folders 0700. A blob is on the disk (fsync of the
file, then of its folder) before :meth:`FileBlobStore.put` returns. Folders that a delete empties are removed.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import itertools
import os
import pathlib
import secrets
import stat
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator, Sequence
from typing import ParamSpec, TypeVar

from codeyard_server.adapters.blob_upload import BlockingCalls, Upload
from codeyard_server.blobs.ports import (
    CHUNK_BYTES,
    BlobInfo,
    BlobNotFound,
    BlobReceipt,
    BlobUnavailable,
    OpenBlob,
    validate_expiry,
    validate_key,
    validate_prefix,
    validate_range,
)

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 8
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO that somebody put there must not hang the thread.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_SUCH_BLOB = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_FOLDER_ENDING = ".d"
_BLOB_ENDING = ".blob"
_ABANDONED_SECONDS = 24 * 60 * 60
_PLACE_ATTEMPTS = 10
_LIST_BATCH = 1000


class FileBlobStore:
    """A :class:`codeyard_server.blobs.ports.BlobStore` in a folder of a local file system.

    Args:
        root: the folder; it may itself be a symbolic link. Nothing else may be kept in it.
    """

    def __init__(self, root: pathlib.Path) -> None:
        self._root = root
        self._calls = BlockingCalls("file-blobs", _THREADS)

    async def prepare(self) -> None:
        """Make the folders and remove uploads that were abandoned a day ago. See BlobStore."""
        try:
            await self._calls.run(_prepare, self._root)
        except OSError as error:
            raise BlobUnavailable(f"{self._root} cannot hold blobs: {error}") from error

    async def put(
        self, key: str, source: AsyncIterable[bytes], *, length: int | None = None, sha256: str | None = None
    ) -> BlobReceipt:
        """Store the bytes of ``source``. See BlobStore."""
        validate_key(key)
        upload = Upload(self._calls, CHUNK_BYTES, length, sha256)
        incoming = _Incoming(self._root)
        try:
            await self._write(key, incoming.open)
            async with contextlib.aclosing(upload.pieces(source)) as pieces:
                async for piece in pieces:
                    await self._write(key, incoming.write, piece)
            receipt = upload.receipt()
            await self._write(key, incoming.place, key)
        finally:
            incoming.close()
        return receipt

    @contextlib.asynccontextmanager
    async def get(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[OpenBlob]:
        """Open a blob or a range of it. See BlobStore."""
        validate_key(key)
        validate_range(offset, length)
        reading = _Reading(self._root, key)
        try:
            info = await self._read(key, reading.open)
            end = info.size if length is None else min(info.size, offset + length)
            async with contextlib.aclosing(self._chunks(reading, offset, end)) as chunks:
                yield OpenBlob(info, chunks)
        finally:
            reading.close()

    async def stat(self, key: str) -> BlobInfo:
        """Return what is known about a blob. See BlobStore."""
        return await self._read(key, _stat, self._root, validate_key(key))

    async def delete(self, key: str) -> None:
        """Remove a blob, if there is one. See BlobStore."""
        validate_key(key)
        with contextlib.suppress(BlobNotFound):
            await self._read(key, _delete, self._root, key)

    async def list(self, prefix: str = "") -> AsyncIterator[BlobInfo]:
        """Yield the blobs whose key starts with ``prefix``. See BlobStore."""
        walk = _walk(self._root, validate_prefix(prefix))
        while batch := await self._read(prefix, _take, walk):
            for info in batch:
                yield info

    async def presigned_get(self, key: str, expires: datetime.timedelta) -> str | None:
        """Return None: nobody serves this folder over HTTP."""
        validate_key(key)
        validate_expiry(expires)
        return None

    async def presigned_put(self, key: str, expires: datetime.timedelta) -> str | None:
        """Return None: nobody serves this folder over HTTP."""
        return await self.presigned_get(key, expires)

    async def close(self) -> None:
        """End the threads. See BlobStore."""
        self._calls.close()

    async def _chunks(self, reading: _Reading, offset: int, end: int) -> AsyncGenerator[bytes, None]:
        while offset < end:
            chunk = await self._read(reading.key, reading.read, offset, min(CHUNK_BYTES, end - offset))
            if not chunk:
                raise BlobUnavailable(f"{reading.key} became shorter while it was read")
            yield chunk
            offset += len(chunk)

    async def _read(self, key: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await self._calls.run(function, *args, **kwargs)
        except OSError as error:
            if error.errno in _NO_SUCH_BLOB:
                raise BlobNotFound(f"there is no blob {key}") from error
            raise BlobUnavailable(f"{key}: {error}") from error

    async def _write(self, key: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await self._calls.run(function, *args, **kwargs)
        except OSError as error:
            raise BlobUnavailable(f"{key}: {error}") from error


class _Incoming:
    """A file that is being written. The event loop may close it at any time; the threads do the rest."""

    def __init__(self, root: pathlib.Path) -> None:
        self._root = root
        self._path = root / "incoming" / secrets.token_hex(16)
        self._descriptor = -1

    def open(self) -> None:
        self._descriptor = os.open(self._path, _CREATE, 0o600)

    def write(self, piece: bytes) -> None:
        view = memoryview(piece)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def place(self, key: str) -> None:
        os.fsync(self._descriptor)
        folders, name = _place_of(key)
        for attempt in itertools.count(1):
            try:
                with _folder(self._root, folders, create=True) as folder:
                    os.replace(self._path, name, dst_dir_fd=folder)
                    os.fsync(folder)
                return
            except FileNotFoundError:
                # A delete of the folder's last blob removed it between our mkdir and our rename.
                if attempt == _PLACE_ATTEMPTS:
                    raise

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._path.unlink(missing_ok=True)


class _Reading:
    """A file that is being read; what is renamed over it meanwhile is not seen."""

    def __init__(self, root: pathlib.Path, key: str) -> None:
        self._root = root
        self.key = key
        self._descriptor = -1

    def open(self) -> BlobInfo:
        folders, name = _place_of(self.key)
        with _folder(self._root, folders) as folder:
            self._descriptor = os.open(name, _READ, dir_fd=folder)
        return _info(self.key, os.fstat(self._descriptor))

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def _place_of(key: str) -> tuple[list[str], str]:
    """Return the names of the folders and of the file below ``objects``."""
    *folders, name = key.split("/")
    return [folder + _FOLDER_ENDING for folder in folders], name + _BLOB_ENDING


@contextlib.contextmanager
def _folder(root: pathlib.Path, folders: Sequence[str], *, create: bool = False) -> Iterator[int]:
    """Lend a descriptor of the folder below ``objects``; folders that are missing are made when asked to."""
    try:
        descriptor = os.open(root / "objects", _FOLDER)
    except OSError as error:
        # An unmounted disk must not look like a store in which every blob is missing.
        raise BlobUnavailable(f"the folder of the blobs is gone: {error}") from error
    try:
        for name in folders:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=descriptor)
                    os.fsync(descriptor)
            inner = os.open(name, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _prepare(root: pathlib.Path) -> None:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("objects", "incoming"):
        (root / name).mkdir(mode=0o700, exist_ok=True)
    with os.scandir(root / "incoming") as entries:
        for entry in entries:
            # Another process may be deleting the same file, or still writing a young one.
            with contextlib.suppress(FileNotFoundError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED_SECONDS:
                    pathlib.Path(entry).unlink()


def _stat(root: pathlib.Path, key: str) -> BlobInfo:
    folders, name = _place_of(key)
    with _folder(root, folders) as folder:
        return _info(key, os.stat(name, dir_fd=folder, follow_symlinks=False))


def _info(key: str, found: os.stat_result) -> BlobInfo:
    if not stat.S_ISREG(found.st_mode):
        raise FileNotFoundError(errno.ENOENT, "not a regular file", key)
    return BlobInfo(key, found.st_size, datetime.datetime.fromtimestamp(found.st_mtime, datetime.UTC))


def _delete(root: pathlib.Path, key: str) -> None:
    folders, name = _place_of(key)
    with _folder(root, folders) as folder:
        os.unlink(name, dir_fd=folder)
    with contextlib.suppress(OSError):  # not empty, or taken by somebody else: then it stays
        while folders:
            *folders, name = folders
            with _folder(root, folders) as folder:
                os.rmdir(name, dir_fd=folder)


def _walk(root: pathlib.Path, prefix: str) -> Iterator[BlobInfo]:
    """Yield the blobs in key order. No folder stays open between two of them, so depth costs no descriptors."""
    waiting: list[BlobInfo | str] = [prefix[: prefix.rfind("/") + 1]]
    while waiting:
        item = waiting.pop()
        if isinstance(item, BlobInfo):
            yield item
        else:
            waiting.extend(reversed(_children(root, item, prefix)))


def _children(root: pathlib.Path, path: str, prefix: str) -> list[BlobInfo | str]:
    """Return what lies directly in the folder: blobs, and folders as ``path/``, in the order of the keys below them."""
    found: list[tuple[bytes, BlobInfo | str]] = []
    folders, _ = _place_of(path)
    # A folder can vanish while the walk is on its way to it, and so can a file.
    with (
        contextlib.suppress(FileNotFoundError, NotADirectoryError),
        _folder(root, folders) as folder,
        os.scandir(folder) as entries,
    ):
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                key = f"{path}{entry.name.removesuffix(_FOLDER_ENDING)}/"
                if key.startswith(prefix) or prefix.startswith(key):
                    found.append((os.fsencode(key), key))
            else:
                key = path + entry.name.removesuffix(_BLOB_ENDING)
                if key.startswith(prefix):
                    with contextlib.suppress(FileNotFoundError):
                        found.append((os.fsencode(key), _info(key, entry.stat(follow_symlinks=False))))
    return [item for _, item in sorted(found, key=lambda pair: pair[0])]


def _take(walk: Iterator[BlobInfo]) -> list[BlobInfo]:
    return list(itertools.islice(walk, _LIST_BATCH))
