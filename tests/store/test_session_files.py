"""The files of a session, on a real database."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from codeyard_server.capabilities import SessionFiles, ToolContext, ToolError, execute, paths
from codeyard_server.capabilities.builtin.file_system import MAX_READ_CHARACTERS, SESSION_FILE_SYSTEM
from codeyard_server.core.database import Database
from codeyard_server.core.ids import new_id
from codeyard_server.core.scope import Role, Scope

SCOPE = Scope(user_id=uuid.UUID(int=1), roles=frozenset({Role.USER}))
START = datetime.datetime(2026, 1, 15, 12, 0, tzinfo=datetime.UTC)

_SESSION = """
WITH stream AS (INSERT INTO streams (id, kind) VALUES ($1, 'session') RETURNING id),
     agent AS (
         INSERT INTO agents (id, name, system_prompt, tags, capabilities, status, created_at, updated_at)
         VALUES ($2, 'a', '', '{}', '{}', 'active', now(), now()) RETURNING id
     )
INSERT INTO sessions (id, agent_id, tags, status, created_at, updated_at)
SELECT stream.id, agent.id, '{}', 'idle', now(), now() FROM stream, agent
"""


@dataclasses.dataclass
class Tree:
    """The files of one session, and a clock that a test moves."""

    database: Database
    session_id: uuid.UUID
    now: datetime.datetime = START

    def __post_init__(self) -> None:
        self.files = SessionFiles(self.database, lambda: self.now)

    async def write(self, path: str, content: bytes = b"x") -> Any:
        """Write a file."""
        return await self.files.write(SCOPE, self.session_id, path, content)

    async def paths(self, path: str = "/") -> list[str]:
        """Return what a directory holds."""
        return [info.path for info in await self.files.list(SCOPE, self.session_id, path)]

    async def content(self, path: str) -> bytes:
        """Return a file's content."""
        return (await self.files.read(SCOPE, self.session_id, path))[1]

    async def delete(self, path: str, *, recursive: bool = False) -> None:
        """Delete a path."""
        await self.files.delete(SCOPE, self.session_id, path, recursive=recursive)

    async def grep(self, pattern: str, glob: str | None = None) -> list[tuple[str, int, str]]:
        """Search."""
        found = await self.files.grep(SCOPE, self.session_id, pattern, glob)
        return [(match.path, match.line_number, match.line) for match in found]

    async def call(self, name: str, **arguments: Any) -> Any:
        """Call a tool of the capability as a turn does."""
        tool = next(tool for tool in SESSION_FILE_SYSTEM.tools if tool.name == name)
        outcome = await execute(tool, arguments, ToolContext(SCOPE, self.session_id, self.files, self.now))
        assert outcome.status == "success"
        return outcome.result

    async def execute(self, statement: str, *arguments: Any) -> None:
        """Run a statement on the database."""
        async with self.database.connection() as tx:
            await tx.execute(statement, *arguments)


async def new_session(database: Database) -> uuid.UUID:
    """Create a session with an agent of its own."""
    session_id = new_id()
    async with database.connection() as tx:
        await tx.execute(_SESSION, session_id, new_id())
    return session_id


@pytest.fixture
async def tree(database_url: str) -> AsyncIterator[Tree]:
    """The empty tree of a new session."""
    database = await Database.connect(database_url, size=8)
    yield Tree(database, await new_session(database))
    await database.close()


async def test_root_exists_in_an_empty_session(tree: Tree) -> None:
    """Nothing has to be created before the first file."""
    assert await tree.paths("/") == []
    root = await tree.files.stat(SCOPE, tree.session_id, "/")
    assert root is not None
    assert (root.path, root.name, root.is_directory, root.created_at) == ("/", "/", True, START)


async def test_file_is_read_as_it_was_written(tree: Tree) -> None:
    """Every byte comes back, with size and times."""
    content = bytes(range(256)) * 40
    info = await tree.write("/data.bin", content)
    assert (info.path, info.name, info.size_bytes, info.is_directory) == ("/data.bin", "data.bin", len(content), False)
    assert await tree.files.read(SCOPE, tree.session_id, "/data.bin/") == (info, content)
    assert (await tree.write("/empty", b"")).size_bytes == 0
    assert await tree.content("/empty") == b""


async def test_parents_are_created_with_a_file(tree: Tree) -> None:
    """Every directory above a file exists, and is not a file."""
    await tree.write("/a/b/c.txt")
    assert await tree.paths("/") == ["/a"]
    assert await tree.paths("/a") == ["/a/b"]
    assert await tree.paths("/a/b/") == ["/a/b/c.txt"]
    for path in ("/a", "/a/b"):
        info = await tree.files.stat(SCOPE, tree.session_id, path)
        assert info is not None
        assert (info.is_directory, info.size_bytes) == (True, 0)


async def test_second_write_replaces_the_content_and_keeps_the_creation(tree: Tree) -> None:
    """Only the time of the change moves on."""
    first = await tree.write("/a.txt", b"one")
    tree.now += datetime.timedelta(hours=1)
    second = await tree.write("/a.txt", b"three")
    assert (second.created_at, second.updated_at, second.size_bytes) == (first.created_at, tree.now, 5)
    assert await tree.content("/a.txt") == b"three"


async def test_list_has_directories_first_then_names_in_byte_order(tree: Tree) -> None:
    """Only direct entries are listed; names that share a beginning do not get mixed up."""
    for path in ("/b.txt", "/a.txt", "/Z.txt", "/ü.txt", "/dir/inner/x", "/dir-2/x", "/dir0", "/dir.txt"):
        await tree.write(path)
    assert await tree.paths("/") == ["/dir", "/dir-2", "/Z.txt", "/a.txt", "/b.txt", "/dir.txt", "/dir0", "/ü.txt"]
    assert await tree.paths("/dir") == ["/dir/inner"]


async def test_wildcards_of_the_database_are_plain_characters(tree: Tree) -> None:
    """A % or _ in a name matches itself only."""
    for path in ("/a%/x", "/ab/x", "/a_c/x", "/abc/x"):
        await tree.write(path)
    assert await tree.paths("/a%") == ["/a%/x"]
    await tree.delete("/a_c", recursive=True)
    assert await tree.paths("/") == ["/a%", "/ab", "/abc"]


async def test_sessions_do_not_see_each_other(tree: Tree) -> None:
    """The same path in two sessions is two files."""
    other = Tree(tree.database, await new_session(tree.database))
    await tree.write("/a.txt", b"mine")
    await other.write("/a.txt", b"theirs")
    await other.delete("/a.txt")
    assert await tree.content("/a.txt") == b"mine"
    assert await other.grep("mine") == []


async def test_files_go_with_their_session(tree: Tree) -> None:
    """Deleting a session leaves no file behind."""
    await tree.write("/a/b.txt")
    await tree.execute("DELETE FROM streams WHERE id = $1", tree.session_id)
    async with tree.database.connection() as tx:
        assert await tx.value("SELECT count(*) FROM session_files") == 0
    with pytest.raises(ToolError, match="session does not exist"):
        await tree.write("/late.txt")


@pytest.mark.parametrize("path", ["a.txt", "/a/../b", "//a", "/a\0b", "/\ud800", "", "/" + "x" * 1024])
async def test_bad_path_is_refused_by_every_operation(tree: Tree, path: str) -> None:
    """No operation takes a path that is not absolute and plain."""
    for operation in (tree.write, tree.content, tree.paths, tree.delete):
        with pytest.raises(ToolError):
            await operation(path)
    with pytest.raises(ToolError):
        await tree.files.stat(SCOPE, tree.session_id, path)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/", "/ is a directory"),
        ("/_/stat", "reserved"),
        ("/dir/_x", "reserved"),
        ("/dir", "/dir is a directory"),
        ("/file.txt/x", "/file.txt is a file, not a directory"),
        ("/dir/inner.txt/x/y", "/dir/inner.txt is a file, not a directory"),
        ("/read-only.txt", "/read-only.txt is read-only"),
    ],
)
async def test_write_fails_when_something_is_in_the_way(tree: Tree, path: str, problem: str) -> None:
    """The model reads what stands there, and nothing has changed."""
    for name in ("/file.txt", "/dir/inner.txt", "/read-only.txt"):
        await tree.write(name, b"before")
    await tree.execute("UPDATE session_files SET is_readonly = true WHERE path = '/read-only.txt'")
    with pytest.raises(ToolError, match=problem):
        await tree.write(path, b"after")
    assert await tree.grep("after") == []
    assert await tree.paths("/dir") == ["/dir/inner.txt"]


@pytest.mark.parametrize(
    ("operation", "path", "problem"),
    [
        ("content", "/none", "/none does not exist"),
        ("content", "/dir", "/dir is a directory"),
        ("content", "/", "/ is a directory"),
        ("paths", "/none", "/none does not exist"),
        ("paths", "/dir/file.txt", "is a file, not a directory"),
        ("delete", "/none", "/none does not exist"),
        ("delete", "/dir", "/dir is not empty"),
        ("delete", "/", "/ cannot be deleted"),
    ],
)
async def test_operation_fails_when_the_path_is_of_the_wrong_kind(
    tree: Tree, operation: str, path: str, problem: str
) -> None:
    """The model reads why."""
    await tree.write("/dir/file.txt")
    with pytest.raises(ToolError, match=problem):
        await getattr(tree, operation)(path)


async def test_delete_takes_a_directory_with_all_it_holds(tree: Tree) -> None:
    """Recursive deletion takes the tree and nothing beside it; an empty directory needs no flag."""
    for path in ("/a/b/c", "/a/d", "/a.txt", "/ab/c", "/a-b"):
        await tree.write(path)
    await tree.delete("/a", recursive=True)
    assert await tree.paths("/") == ["/ab", "/a-b", "/a.txt"]
    await tree.delete("/ab/c")
    await tree.delete("/ab")
    assert await tree.paths("/") == ["/a-b", "/a.txt"]


async def test_read_only_file_can_be_deleted(tree: Tree) -> None:
    """Read-only protects the content, not the place."""
    await tree.write("/a.txt")
    await tree.execute("UPDATE session_files SET is_readonly = true")
    await tree.delete("/a.txt")
    assert await tree.paths("/") == []


async def test_file_may_have_a_mebibyte_and_no_more(tree: Tree) -> None:
    """The limit of one file is exact."""
    await tree.write("/a", b"x" * paths.MAX_FILE_BYTES)
    with pytest.raises(ToolError, match="at most 1048576 bytes; this has 1048577"):
        await tree.write("/b", b"x" * (paths.MAX_FILE_BYTES + 1))


async def test_session_may_have_fifty_mebibytes_and_no_more(tree: Tree) -> None:
    """The limit counts what is there now: replaced and deleted content is free again."""
    await tree.execute(
        "INSERT INTO session_files (session_id, path, id, is_directory, content, created_at, updated_at) "
        "SELECT $1, '/' || n, gen_random_uuid(), false, convert_to(repeat('x', 1048576), 'UTF8'), now(), now() "
        "FROM generate_series(1, 50) AS n",
        tree.session_id,
    )
    with pytest.raises(ToolError, match="files of a session can hold at most"):
        await tree.write("/more", b"y")
    await tree.write("/1", b"y")
    await tree.write("/more", b"y" * (paths.MAX_FILE_BYTES - 1))
    with pytest.raises(ToolError, match="files of a session can hold at most"):
        await tree.write("/1", b"yy")


async def test_session_may_have_a_thousand_entries_and_no_more(tree: Tree) -> None:
    """Directories that a write would create count; replacing a file needs no room."""
    await tree.execute(
        "INSERT INTO session_files (session_id, path, id, is_directory, content, created_at, updated_at) "
        "SELECT $1, '/' || n, gen_random_uuid(), false, '', now(), now() FROM generate_series(1, 998) AS n",
        tree.session_id,
    )
    with pytest.raises(ToolError, match="already has 1000 files and directories"):
        await tree.write("/a/b/c")
    await tree.write("/a/b")
    with pytest.raises(ToolError, match="already has 1000 files and directories"):
        await tree.write("/one-more")
    await tree.write("/1", b"replaced")
    await tree.delete("/2")
    await tree.write("/one-more")


async def test_limits_hold_when_calls_of_a_turn_write_at_the_same_time(tree: Tree) -> None:
    """Parallel writes follow each other, so that they cannot pass the limit together."""
    await tree.execute(
        "INSERT INTO session_files (session_id, path, id, is_directory, content, created_at, updated_at) "
        "SELECT $1, '/' || n, gen_random_uuid(), false, '', now(), now() FROM generate_series(1, 995) AS n",
        tree.session_id,
    )
    results = await asyncio.gather(*(tree.write(f"/new-{n}") for n in range(12)), return_exceptions=True)
    assert sum(isinstance(result, ToolError) for result in results) == 7
    assert len(await tree.paths("/")) == 1000


async def test_parallel_writes_share_their_parents(tree: Tree) -> None:
    """Two calls that need the same new directory both succeed."""
    await asyncio.gather(*(tree.write(f"/same/dir/{n}.txt") for n in range(8)))
    assert len(await tree.paths("/same/dir")) == 8


async def test_grep_searches_text_files_by_line(tree: Tree) -> None:
    """Matches come by path and line; binary files are passed over, a glob narrows down."""
    await tree.write("/b/notes.md", b"first\nhello there\r\nlast hello")
    await tree.write("/a.txt", b"HELLO\nhello")
    await tree.write("/z.bin", b"\0hello")
    assert await tree.grep("hel+o") == [
        ("/a.txt", 2, "hello"),
        ("/b/notes.md", 2, "hello there"),
        ("/b/notes.md", 3, "last hello"),
    ]
    assert await tree.grep("(?i)^hello$", "*.txt") == [("/a.txt", 1, "HELLO"), ("/a.txt", 2, "hello")]
    assert await tree.grep("hello", "/b/**") == [("/b/notes.md", 2, "hello there"), ("/b/notes.md", 3, "last hello")]
    with pytest.raises(ToolError, match="regular expression"):
        await tree.grep("(")


async def test_grep_returns_a_bounded_number_of_lines_over_many_files(tree: Tree) -> None:
    """The search ends at its limit, in the middle of a file if need be."""
    for number in range(6):
        await tree.write(f"/{number}.txt", b"match\n" * 300 + b"y" * 900_000)
    found = await tree.grep("match")
    assert len(found) == paths.MAX_MATCHES
    assert found[-1][:2] == ("/3.txt", 100)


async def test_tools_do_what_the_prompt_says(tree: Tree) -> None:
    """The six tools in one story, each with its documented result."""
    assert await tree.call("write_file", path="/notes/plan.md", content="step 1\nstep 2") == {
        "path": "/notes/plan.md",
        "size_bytes": 13,
        "created": True,
    }
    assert await tree.call("read_file", path="/notes/plan.md") == {
        "path": "/notes/plan.md",
        "content": "step 1\nstep 2",
        "encoding": "text",
        "size_bytes": 13,
    }
    assert await tree.call("list_directory") == {
        "path": "/",
        "entries": [{"name": "notes", "path": "/notes", "is_directory": True, "size_bytes": 0, "is_readonly": False}],
        "count": 1,
    }
    assert await tree.call("grep_files", pattern="2$", path_pattern="*.md") == {
        "pattern": "2$",
        "matches": [{"path": "/notes/plan.md", "line_number": 2, "line": "step 2"}],
        "match_count": 1,
    }
    assert await tree.call("stat_file", path="/notes/plan.md") == {
        "path": "/notes/plan.md",
        "exists": True,
        "name": "plan.md",
        "is_directory": False,
        "is_readonly": False,
        "size_bytes": 13,
        "created_at": "2026-01-15T12:00:00.000Z",
        "updated_at": "2026-01-15T12:00:00.000Z",
    }
    assert "not empty" in (await tree.call("delete_file", path="/notes"))["error"]
    assert await tree.call("delete_file", path="/notes", recursive=True) == {"path": "/notes", "deleted": True}
    assert await tree.call("stat_file", path="/notes") == {"path": "/notes", "exists": False}
    assert await tree.call("read_file", path="/notes") == {"error": "/notes does not exist"}


async def test_binary_content_travels_as_base64(tree: Tree) -> None:
    """What is no text is written and read in base64; a broken encoding is an error."""
    await tree.call("write_file", path="/x.bin", content="AP8=", encoding="base64")
    assert await tree.content("/x.bin") == b"\0\xff"
    result = await tree.call("read_file", path="/x.bin")
    assert (result["content"], result["encoding"], result["size_bytes"]) == ("AP8=", "base64", 2)
    for content, encoding in (("?", "base64"), ("A", "base64"), ("\ud800", "text")):
        assert "error" in await tree.call("write_file", path="/y", content=content, encoding=encoding)


async def test_long_content_is_cut_for_the_model(tree: Tree) -> None:
    """A file may be larger than what a model can take at once."""
    await tree.write("/long.txt", b"x" * (MAX_READ_CHARACTERS + 1))
    result = await tree.call("read_file", path="/long.txt")
    assert (len(result["content"]), result["truncated"]) == (MAX_READ_CHARACTERS, True)
    assert result["size_bytes"] == MAX_READ_CHARACTERS + 1
    await tree.write("/long.bin", b"\0" * (MAX_READ_CHARACTERS + 1))
    binary = await tree.call("read_file", path="/long.bin")
    assert (len(binary["content"]), binary["truncated"]) == (MAX_READ_CHARACTERS, True)
