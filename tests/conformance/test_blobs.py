"""What every blob store must do: one suite for the folder and for a real S3 server."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import hashlib
import pathlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

import aiohttp
import minio
import pytest
from codeyard_server.adapters.blob_stores import open_blob_store
from codeyard_server.blobs import ports

from tests.support.minio import MinioServer

MIB = 1024 * 1024
HOUR = datetime.timedelta(hours=1)

HOSTILE_KEYS = (
    "",
    "/",
    "/etc/passwd",
    "..",
    "../outside",
    "a/../../outside",
    "a/./b",
    ".",
    "a//b",
    "a/",
    "a\\b",
    "a\x00b",
    "a\nb",
    "\ud800",
    "k" * 251,
    "/".join(["k" * 128] * 8) + "k",
)


@dataclasses.dataclass(frozen=True)
class Driver:
    """A store under test, and the question what unfinished uploads it still holds for a key."""

    store: ports.BlobStore
    leftovers: Callable[[str], Awaitable[list[str]]]


@pytest.fixture(params=["file", "s3"])
async def driver(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Driver]:
    """An empty store of each kind."""
    made = _file_driver(tmp_path) if request.param == "file" else _s3_driver(request, monkeypatch)
    await made.store.prepare()
    yield made
    await made.store.close()


@pytest.fixture
def store(driver: Driver) -> ports.BlobStore:
    """The store of the driver."""
    return driver.store


@pytest.mark.parametrize("size", [0, 1, MIB, 5 * MIB, 5 * MIB + 1, 10_000_000])
async def test_put_returns_size_and_hash_and_get_the_same_bytes_when_round_tripped(
    store: ports.BlobStore, size: int
) -> None:
    """What was put comes back byte for byte, in chunks of at most 1 MiB."""
    data = pattern(size)
    digest = hashlib.sha256(data).hexdigest()
    receipt = await store.put("folder/blob", chunked(data), length=size, sha256=digest)
    assert receipt == ports.BlobReceipt(size, digest)
    async with store.get("folder/blob") as blob:
        chunks = [chunk async for chunk in blob.chunks]
    assert b"".join(chunks) == data
    assert all(0 < len(chunk) <= ports.CHUNK_BYTES for chunk in chunks)
    assert blob.info.size == size


async def test_put_stores_the_bytes_when_nothing_was_announced(store: ports.BlobStore) -> None:
    """A sender that knows neither length nor hash is served, whatever the size of its chunks."""
    data = pattern(6 * MIB)
    receipt = await store.put("blob", chunked(data, size=7_777))
    assert receipt.size == len(data)
    assert await read(store, "blob") == data


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (0, 1),
        (0, 10),
        (3, 4),
        (MIB - 1, 2),
        (2 * MIB - 1, 1),
        (2 * MIB - 5, 100),
        (5, None),
        (2 * MIB, 1),
        (9 * MIB, None),
        (7, 0),
    ],
)
async def test_get_returns_the_range_when_asked_for_one(
    store: ports.BlobStore, offset: int, length: int | None
) -> None:
    """A range is what slicing gives, also beyond the end; the info still describes the whole blob."""
    data = pattern(2 * MIB)
    await store.put("blob", chunked(data))
    async with store.get("blob", offset=offset, length=length) as blob:
        found = b"".join([chunk async for chunk in blob.chunks])
    assert found == data[offset:][:length]
    assert blob.info.size == len(data)


async def test_get_returns_nothing_when_an_empty_blob_is_asked_for_a_range(store: ports.BlobStore) -> None:
    """A range of an empty blob is empty and no error."""
    await store.put("empty", chunked(b""))
    assert await read(store, "empty", length=5) == b""


async def test_get_refuses_when_the_range_is_negative(store: ports.BlobStore) -> None:
    """A negative range is a mistake of the caller, not a suffix."""
    await store.put("blob", chunked(b"data"))
    for offset, length in ((-1, None), (0, -1)):
        with pytest.raises(ValueError, match="not negative"):
            await read(store, "blob", offset=offset, length=length)


async def test_get_frees_the_transfer_when_the_reader_leaves_early(store: ports.BlobStore) -> None:
    """A reader may stop after one chunk, as often as it likes, and the store still serves."""
    data = pattern(3 * MIB)
    await store.put("blob", chunked(data))
    for _ in range(40):
        async with store.get("blob") as blob:
            assert data.startswith(await anext(blob.chunks))
    assert await read(store, "blob") == data


@pytest.mark.parametrize("size", [10, 11 * MIB])
@pytest.mark.parametrize("fault", ["hash", "early", "late"])
async def test_put_leaves_nothing_when_the_bytes_are_not_the_announced_ones(
    driver: Driver, size: int, fault: str
) -> None:
    """A wrong hash, an early end and bytes too many are refused, and no trace of the upload stays."""
    data = pattern(size)
    digest = hashlib.sha256(data if fault != "hash" else b"other").hexdigest()
    length = size + {"hash": 0, "early": 1, "late": -1}[fault]
    with pytest.raises(ports.BlobMismatch):
        await driver.store.put("blob", chunked(data), length=length, sha256=digest)
    assert await keys(driver.store) == []
    assert await driver.leftovers("blob") == []


@pytest.mark.parametrize("size", [10, 11 * MIB])
async def test_put_keeps_the_old_blob_when_an_overwrite_fails(driver: Driver, size: int) -> None:
    """The blob of an earlier put survives a failed one unchanged."""
    await driver.store.put("blob", chunked(b"old"))
    with pytest.raises(ports.BlobMismatch):
        await driver.store.put("blob", chunked(pattern(size)), sha256="0" * 64)
    assert await read(driver.store, "blob") == b"old"
    assert await driver.leftovers("blob") == []


@pytest.mark.parametrize("size", [10, 11 * MIB])
async def test_put_passes_the_error_on_and_leaves_nothing_when_the_source_breaks(driver: Driver, size: int) -> None:
    """A sender that breaks off in the middle is not a shorter blob, and its own error reaches the caller."""

    async def breaking() -> AsyncIterator[bytes]:
        async for chunk in chunked(pattern(size)):
            yield chunk
        raise ConnectionResetError("the sender is gone")

    with pytest.raises(ConnectionResetError, match="the sender is gone"):
        await driver.store.put("blob", breaking())
    assert await keys(driver.store) == []
    assert await driver.leftovers("blob") == []


@pytest.mark.parametrize("size", [10, 11 * MIB])
async def test_put_leaves_nothing_when_it_is_cancelled(driver: Driver, size: int) -> None:
    """A cancelled upload ends at once and leaves no trace."""
    stalled = asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        async for chunk in chunked(pattern(size)):
            yield chunk
        stalled.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(driver.store.put("blob", stalling()))
    await stalled.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await keys(driver.store) == []
    assert await driver.leftovers("blob") == []


async def test_get_sees_one_version_when_writers_and_readers_run_at_once(store: ports.BlobStore) -> None:
    """Readers of a blob that is overwritten all the time see whole versions, never a mixture or a gap."""
    versions = {number: bytes([number]) * (6 * MIB + number) for number in range(1, 7)}
    await store.put("blob", chunked(versions[1]))
    writing = True

    async def read_until_written() -> set[int]:
        seen: set[int] = set()
        while writing or not seen:
            found = await read(store, "blob")
            assert found == versions[found[0]]
            seen.add(found[0])
        return seen

    readers = [asyncio.create_task(read_until_written()) for _ in range(3)]
    for _ in range(2):
        for version in versions.values():
            await store.put("blob", chunked(version))
    writing = False
    seen = await asyncio.gather(*readers)
    assert len(set().union(*seen)) > 1


async def test_stat_describes_the_blob_when_it_exists(store: ports.BlobStore) -> None:
    """Key, size and the moment it became visible, with a time zone."""
    before = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=2)  # S3 cuts to whole seconds
    await store.put("a/blob", chunked(b"12345"))
    info = await store.stat("a/blob")
    assert (info.key, info.size) == ("a/blob", 5)
    assert before < info.modified_at < datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=2)


async def test_stat_and_get_raise_when_the_blob_is_missing(store: ports.BlobStore) -> None:
    """A missing key is BlobNotFound, before any byte: also below another blob and for a folder."""
    await store.put("folder/blob", chunked(b"data"))
    for key in ("missing", "folder", "folder/missing", "folder/blob/below"):
        with pytest.raises(ports.BlobNotFound):
            await store.stat(key)
        with pytest.raises(ports.BlobNotFound):
            await read(store, key)


async def test_delete_removes_the_blob_and_is_silent_when_there_is_none(store: ports.BlobStore) -> None:
    """Deleting twice is as good as once; neighbours stay."""
    await store.put("folder/one", chunked(b"1"))
    await store.put("folder/two", chunked(b"2"))
    await store.delete("folder/one")
    await store.delete("folder/one")
    await store.delete("folder")
    await store.delete("nowhere/at/all")
    assert await keys(store) == ["folder/two"]


async def test_put_accepts_a_folder_as_key_when_its_last_blob_was_deleted(store: ports.BlobStore) -> None:
    """Folders exist only through the blobs in them."""
    await store.put("a/b/c", chunked(b"1"))
    await store.delete("a/b/c")
    await store.put("a", chunked(b"2"))
    assert await read(store, "a") == b"2"


async def test_blobs_are_independent_when_one_key_is_the_folder_of_another(store: ports.BlobStore) -> None:
    """``a``, ``a/b`` and names that look like endings are different blobs: none hides, replaces or deletes another."""
    names = ("a/b", "a", "a/b/c", "a.d", "a.blob/b", "a.blob")
    for key in names:
        await store.put(key, chunked(key.encode()))
    assert [await read(store, key) for key in names] == [key.encode() for key in names]
    for key in ("a", "a/b/c", "a.blob"):
        await store.delete(key)
    assert await keys(store) == ["a.blob/b", "a.d", "a/b"]


async def test_put_succeeds_when_deletes_empty_the_same_folder(store: ports.BlobStore) -> None:
    """Uploads into a folder that deletes keep emptying all arrive."""

    async def put_and_delete(name: str) -> None:
        for _ in range(20):
            await store.put(f"folder/{name}", chunked(b"x"))
            await store.delete(f"folder/{name}")

    await asyncio.gather(*(put_and_delete(str(number)) for number in range(8)))
    assert await keys(store) == []


async def test_list_is_in_byte_order_when_names_straddle_the_slash(store: ports.BlobStore) -> None:
    """The order is that of the UTF-8 bytes of the whole keys, folders or not."""
    names = ["a-b", "a.txt", "a/b", "a/b.txt", "a/c/d", "a0", "b", "z", "é", "語/一", "😀"]
    for name in reversed(names):
        await store.put(name, chunked(name.encode()))
    assert await keys(store) == sorted(names, key=str.encode) == names
    assert [info.size async for info in store.list("a/")] == [3, 7, 5]


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", ["x/1", "x/10/1", "x/2", "xy", "y/1"]),
        ("x", ["x/1", "x/10/1", "x/2", "xy"]),
        ("x/", ["x/1", "x/10/1", "x/2"]),
        ("x/1", ["x/1", "x/10/1"]),
        ("x/10/", ["x/10/1"]),
        ("nothing/", []),
        ("xy/", []),
    ],
)
async def test_list_returns_the_keys_that_start_with_the_prefix(
    store: ports.BlobStore, prefix: str, expected: list[str]
) -> None:
    """A prefix is text, not a folder."""
    for key in ("x/1", "x/10/1", "x/2", "xy", "y/1"):
        await store.put(key, chunked(b"x"))
    assert await keys(store, prefix) == expected


async def test_list_returns_everything_when_there_is_more_than_one_page(store: ports.BlobStore) -> None:
    """Nothing is lost or doubled at the seams of the store's pages of 1,000."""
    expected = [f"many/{number:04}" for number in range(1003)]
    for start in range(0, len(expected), 32):
        await asyncio.gather(*(store.put(key, chunked(b"")) for key in expected[start : start + 32]))
    assert await keys(store, "many/") == expected


@pytest.mark.parametrize("key", HOSTILE_KEYS, ids=range(len(HOSTILE_KEYS)))
async def test_every_method_refuses_when_the_key_is_hostile(store: ports.BlobStore, key: str) -> None:
    """A key that could leave the store, or that one of the stores cannot hold, is refused before anything happens."""
    attempts: list[Callable[[], Awaitable[object]]] = [
        lambda: store.put(key, chunked(b"x")),
        lambda: read(store, key),
        lambda: store.stat(key),
        lambda: store.delete(key),
        lambda: store.presigned_get(key, HOUR),
        lambda: store.presigned_put(key, HOUR),
    ]
    for attempt in attempts:
        with pytest.raises(ports.BlobKeyInvalid):
            await attempt()
    assert await keys(store) == []


@pytest.mark.parametrize("prefix", ["/", "../", "a/../", "a//", "\x00", "k" * 1025])
async def test_list_refuses_when_the_prefix_is_hostile(store: ports.BlobStore, prefix: str) -> None:
    """A prefix that begins no key is a mistake, not an empty answer."""
    with pytest.raises(ports.BlobKeyInvalid):
        await keys(store, prefix)


async def test_put_accepts_the_key_when_it_is_as_long_as_allowed(store: ports.BlobStore) -> None:
    """1,024 bytes in segments of up to 250 bytes are a key everywhere, and so are a hundred folders."""
    longest = "/".join(["s" * 250] * 4) + "/" + "s" * 20
    deepest = "/".join(["d"] * 100)
    assert len(longest) == ports.MAX_KEY_BYTES
    for key in (longest, deepest):
        await store.put(key, chunked(key.encode()))
        assert await read(store, key) == key.encode()
    assert await keys(store) == [deepest, longest]


async def test_presigned_urls_serve_plain_http_when_the_store_has_them(store: ports.BlobStore) -> None:
    """Anybody with the URL can upload or download this one blob, and do nothing else with it.

    A folder has no URLs, and says so by None.
    """
    put_url = await store.presigned_put("shared/blob", HOUR)
    get_url = await store.presigned_get("shared/blob", HOUR)
    missing_url = await store.presigned_get("shared/missing", HOUR)
    if put_url is None or get_url is None or missing_url is None:
        assert (put_url, get_url, missing_url) == (None, None, None)
        return
    async with aiohttp.ClientSession() as http:
        async with http.put(
            put_url, data=b"<script>alert(1)</script>", headers={"content-type": "text/html"}
        ) as answer:
            assert answer.status == 200
        async with http.get(get_url) as answer:
            assert (answer.status, await answer.read()) == (200, b"<script>alert(1)</script>")
            assert answer.headers["content-disposition"] == "attachment"
            assert answer.headers["content-type"] == "application/octet-stream"
        assert await read(store, "shared/blob") == b"<script>alert(1)</script>"
        assert await status(http.get(missing_url)) == 404
        assert await status(http.get(get_url.replace("shared/blob", "shared/other"))) == 403
        assert await status(http.get(get_url[:-1] + ("0" if get_url[-1] != "0" else "1"))) == 403
        assert await status(http.put(get_url, data=b"changed")) == 403


async def test_presigned_urls_refuse_when_they_would_live_too_long(store: ports.BlobStore) -> None:
    """A URL lives between a second and seven days."""
    for expires in (datetime.timedelta(0), datetime.timedelta(days=7, seconds=1)):
        with pytest.raises(ValueError, match="presigned"):
            await store.presigned_get("blob", expires)
        with pytest.raises(ValueError, match="presigned"):
            await store.presigned_put("blob", expires)


async def test_prepare_keeps_the_blobs_when_it_runs_again(store: ports.BlobStore) -> None:
    """Every server process prepares the store at its start, many at once."""
    await store.put("blob", chunked(b"data"))
    await asyncio.gather(*(store.prepare() for _ in range(4)))
    assert await read(store, "blob") == b"data"


def pattern(size: int) -> bytes:
    """Return bytes in which every misplaced piece shows."""
    return (b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1)))[:size]


async def chunked(data: bytes, size: int = MIB) -> AsyncIterator[bytes]:
    """Yield the data in chunks, as a handler would."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def read(store: ports.BlobStore, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
    """Return a blob, or a range of it, as a whole."""
    async with store.get(key, offset=offset, length=length) as blob:
        return b"".join([chunk async for chunk in blob.chunks])


async def keys(store: ports.BlobStore, prefix: str = "") -> list[str]:
    """Return the listed keys."""
    return [info.key async for info in store.list(prefix)]


async def status(request: aiohttp.client._RequestContextManager) -> int:
    """Return the status of an answer."""
    async with request as answer:
        return answer.status


def _file_driver(folder: pathlib.Path) -> Driver:
    async def leftovers(_: str) -> list[str]:
        return _names((folder / "blobs" / "incoming").iterdir())

    return Driver(open_blob_store(f"file://{folder}/blobs"), leftovers)


def _s3_driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Driver:
    server: MinioServer = request.getfixturevalue("minio_server")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    bucket = f"test-{uuid.uuid4().hex}"
    client = minio.Minio(
        server.endpoint.removeprefix("http://"), server.access_key, server.secret_key, secure=False, region="us-east-1"
    )

    async def leftovers(key: str) -> list[str]:
        found = await asyncio.to_thread(client._list_multipart_uploads, bucket, prefix=key)
        return [f"{upload.object_name} {upload.upload_id}" for upload in found.uploads]

    return Driver(open_blob_store(f"s3://{bucket}?endpoint={server.endpoint}&region=us-east-1"), leftovers)


def _names(paths: Iterable[pathlib.Path]) -> list[str]:
    return sorted(path.name for path in paths)
