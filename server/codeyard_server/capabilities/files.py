"""The file store of sessions, in the database."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence

from codeyard_server.capabilities import files_store as store
from codeyard_server.capabilities import paths
from codeyard_server.capabilities.ports import FileInfo, GrepMatch, ToolError
from codeyard_server.core.clock import Clock
from codeyard_server.core.database import Database
from codeyard_server.core.scope import Scope

_BATCH_BYTES = 4 * 1024 * 1024


class SessionFiles:
    """Implements FileStore."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def read(self, scope: Scope, session_id: uuid.UUID, path: str) -> tuple[FileInfo, bytes]:
        """Return a file with its content.

        Raises:
            ToolError: there is no such file.
        """
        path = paths.normalise(path)
        if path == "/":
            raise ToolError("/ is a directory")
        async with self._database.connection() as tx:
            found = await store.with_content(tx, scope, session_id, path)
        if found is None:
            raise ToolError(f"{path} does not exist")
        if found[0].is_directory:
            raise ToolError(f"{path} is a directory")
        return found

    async def write(self, scope: Scope, session_id: uuid.UUID, path: str, content: bytes) -> FileInfo:
        """Store a file with this content, and the directories above it.

        Raises:
            ToolError: a bad path, a directory or a read-only file at it, a file above it, or a full store.
        """
        path = paths.writable(path)
        if len(content) > paths.MAX_FILE_BYTES:
            raise ToolError(f"A file can hold at most {paths.MAX_FILE_BYTES} bytes; this has {len(content)}")
        above = paths.ancestors(path)
        now = self._clock()
        async with self._database.transaction() as tx:
            await store.lock_files(tx, scope, session_id)
            known = await store.entries(tx, scope, session_id, [path, *above])
            missing = _check_place(path, above, known)
            entries, size = await store.usage(tx, scope, session_id)
            _check_quota(entries, size, known.get(path), len(missing), len(content))
            await store.insert_directories(tx, scope, session_id, missing, now)
            return await store.upsert_file(tx, scope, session_id, path, content, now)

    async def list(self, scope: Scope, session_id: uuid.UUID, path: str) -> Sequence[FileInfo]:
        """Return what a directory holds: directories first, then by path.

        Raises:
            ToolError: there is no such directory.
        """
        path = paths.normalise(path)
        async with self._database.connection() as tx:
            if path != "/":
                info = (await store.entries(tx, scope, session_id, [path])).get(path)
                if info is None:
                    raise ToolError(f"{path} does not exist")
                if not info.is_directory:
                    raise ToolError(f"{path} is a file, not a directory")
            return await store.directory(tx, scope, session_id, paths.prefix(path))

    async def grep(
        self, scope: Scope, session_id: uuid.UUID, pattern: str, path_pattern: str | None
    ) -> Sequence[GrepMatch]:
        """Return the lines of text files that match a regular expression, by path and line; at most MAX_MATCHES.

        Raises:
            ToolError: a bad pattern, or the search takes too long.
        """
        expression = paths.compile_pattern(pattern)
        deadline = time.monotonic() + paths.MAX_SEARCH_SECONDS
        async with self._database.connection() as tx:
            sizes = await store.sizes(tx, scope, session_id)
        found: list[GrepMatch] = []
        for batch in _batches(paths.select(sizes, path_pattern), sizes):
            async with self._database.connection() as tx:
                files = await store.contents(tx, scope, session_id, batch)
            room = paths.MAX_MATCHES - len(found)
            found += await asyncio.to_thread(paths.search, expression, files, room, deadline)
            if len(found) >= paths.MAX_MATCHES:
                break
        return found

    async def delete(self, scope: Scope, session_id: uuid.UUID, path: str, *, recursive: bool) -> None:
        """Delete a file, or a directory; one that holds anything only if ``recursive``.

        Raises:
            ToolError: there is no such thing, it is the root, or it holds something.
        """
        path = paths.normalise(path)
        if path == "/":
            raise ToolError("/ cannot be deleted")
        async with self._database.transaction() as tx:
            await store.lock_files(tx, scope, session_id)
            if path not in await store.entries(tx, scope, session_id, [path]):
                raise ToolError(f"{path} does not exist")
            if not recursive and await store.has_entries(tx, scope, session_id, path):
                raise ToolError(f"{path} is not empty; delete it with recursive")
            await store.delete_tree(tx, scope, session_id, path)

    async def stat(self, scope: Scope, session_id: uuid.UUID, path: str) -> FileInfo | None:
        """Return what is at a path, or None. The root has the current time as both its times.

        Raises:
            ToolError: a bad path.
        """
        path = paths.normalise(path)
        if path == "/":
            now = self._clock()
            return FileInfo("/", is_directory=True, is_readonly=False, size_bytes=0, created_at=now, updated_at=now)
        async with self._database.connection() as tx:
            return (await store.entries(tx, scope, session_id, [path])).get(path)


def _check_place(path: str, above: Sequence[str], known: Mapping[str, FileInfo]) -> Sequence[str]:
    """Return the directories that are missing above a path.

    Raises:
        ToolError: a file stands where a directory is needed, or what is at the path cannot be written.
    """
    for directory in above:
        if directory in known and not known[directory].is_directory:
            raise ToolError(f"{directory} is a file, not a directory")
    existing = known.get(path)
    if existing is not None and existing.is_directory:
        raise ToolError(f"{path} is a directory")
    if existing is not None and existing.is_readonly:
        raise ToolError(f"{path} is read-only")
    return [directory for directory in above if directory not in known]


def _check_quota(entries: int, size: int, existing: FileInfo | None, new_directories: int, new_size: int) -> None:
    """Check that the store has room for a file.

    Raises:
        ToolError: it has not.
    """
    if existing is not None:
        entries, size = entries - 1, size - existing.size_bytes
    if entries + new_directories + 1 > paths.MAX_ENTRIES:
        raise ToolError(f"The session already has {paths.MAX_ENTRIES} files and directories; delete some first")
    if size + new_size > paths.MAX_SESSION_BYTES:
        raise ToolError(f"The files of a session can hold at most {paths.MAX_SESSION_BYTES} bytes; delete some first")


def _batches(selected: Sequence[str], sizes: Mapping[str, int]) -> Iterator[Sequence[str]]:
    """Split paths into groups whose contents fit into memory together."""
    batch: list[str] = []
    total = 0
    for path in selected:
        if batch and total + sizes[path] > _BATCH_BYTES:
            yield batch
            batch, total = [], 0
        batch.append(path)
        total += sizes[path]
    if batch:
        yield batch
