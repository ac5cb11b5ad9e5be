"""The folder store beyond the conformance suite: links, modes, leftovers of crashes, a root that is gone."""

from __future__ import annotations

import asyncio
import os
import pathlib
import shutil
import stat
import time
from collections.abc import AsyncIterator

import pytest
from codeyard_server.adapters.file_blobs import FileBlobStore
from codeyard_server.blobs import ports


@pytest.fixture
async def store(tmp_path: pathlib.Path) -> AsyncIterator[FileBlobStore]:
    """A prepared store in ``tmp_path/blobs``."""
    made = FileBlobStore(tmp_path / "blobs")
    await made.prepare()
    yield made
    await made.close()


async def test_files_are_private_when_the_umask_is_open(store: FileBlobStore, tmp_path: pathlib.Path) -> None:
    """Blobs are 0600 and folders 0700, whatever the umask allows."""
    before = os.umask(0)
    try:
        await store.put("a/b", chunks(b"x"))
    finally:
        os.umask(before)
    found = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "blobs").rglob("*") if path.is_file()}
    folders = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "blobs").rglob("*") if path.is_dir()}
    assert (found, folders) == ({0o600}, {0o700})


async def test_get_does_not_follow_a_link_when_the_blob_is_one(store: FileBlobStore, tmp_path: pathlib.Path) -> None:
    """A link in the place of a blob leads nowhere: it is no blob for get and stat, and absent from the list."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "blobs" / "objects" / "key.blob").symlink_to(tmp_path / "secret")
    with pytest.raises(ports.BlobNotFound):
        await read(store, "key")
    with pytest.raises(ports.BlobNotFound):
        await store.stat("key")
    assert [info.key async for info in store.list()] == []


async def test_put_replaces_the_link_when_the_blob_is_one(store: FileBlobStore, tmp_path: pathlib.Path) -> None:
    """Writing to a link replaces the link and leaves its target alone."""
    (tmp_path / "target").write_text("before")
    (tmp_path / "blobs" / "objects" / "key.blob").symlink_to(tmp_path / "target")
    await store.put("key", chunks(b"after"))
    assert (tmp_path / "target").read_text() == "before"
    assert await read(store, "key") == b"after"


async def test_no_method_leaves_the_store_when_a_folder_is_a_link(store: FileBlobStore, tmp_path: pathlib.Path) -> None:
    """A link in the place of a folder is a dead end for reading, writing, deleting and listing."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file.blob").write_text("outside")
    (tmp_path / "blobs" / "objects" / "folder.d").symlink_to(outside)
    with pytest.raises(ports.BlobNotFound):
        await read(store, "folder/file")
    with pytest.raises(ports.BlobUnavailable):
        await store.put("folder/file", chunks(b"inside"))
    await store.delete("folder/file")
    assert (outside / "file.blob").read_text() == "outside"
    assert [info.key async for info in store.list("folder/")] == []


async def test_get_refuses_when_the_blob_is_a_pipe(store: FileBlobStore, tmp_path: pathlib.Path) -> None:
    """A FIFO in the place of a blob is no blob, and does not hang the reader."""
    os.mkfifo(tmp_path / "blobs" / "objects" / "pipe.blob")
    async with asyncio.timeout(10):
        with pytest.raises(ports.BlobNotFound):
            await read(store, "pipe")


async def test_prepare_removes_uploads_when_they_are_a_day_old(store: FileBlobStore, tmp_path: pathlib.Path) -> None:
    """What a crash left behind goes at the next start; the running uploads of other processes stay."""
    incoming = tmp_path / "blobs" / "incoming"
    for name, hours in (("old", 25), ("young", 23)):
        (incoming / name).touch()
        os.utime(incoming / name, times=(time.time() - hours * 3600,) * 2)
    await store.prepare()
    assert names(incoming) == ["young"]


async def test_every_method_is_unavailable_when_the_root_is_gone(store: FileBlobStore, tmp_path: pathlib.Path) -> None:
    """An unmounted disk is an outage, not a store without blobs."""
    await store.put("blob", chunks(b"x"))
    shutil.rmtree(tmp_path / "blobs")
    with pytest.raises(ports.BlobUnavailable):
        await read(store, "blob")
    with pytest.raises(ports.BlobUnavailable):
        await store.put("blob", chunks(b"x"))
    with pytest.raises(ports.BlobUnavailable):
        await store.delete("blob")
    with pytest.raises(ports.BlobUnavailable):
        await anext(store.list())


async def test_prepare_is_unavailable_when_the_root_cannot_be_made(tmp_path: pathlib.Path) -> None:
    """A root below a file is refused at the start, with its name."""
    (tmp_path / "file").touch()
    store = FileBlobStore(tmp_path / "file" / "blobs")
    with pytest.raises(ports.BlobUnavailable, match="file/blobs"):
        await store.prepare()
    await store.close()


async def test_no_descriptor_stays_open_when_transfers_end_in_every_way(
    store: FileBlobStore, tmp_path: pathlib.Path
) -> None:
    """Finished, refused, broken and abandoned transfers all close what they opened."""
    await store.put("blob", chunks(b"x" * 3_000_000))
    before = open_descriptors()
    for _ in range(20):
        async with store.get("blob") as blob:
            await anext(blob.chunks)
        with pytest.raises(ports.BlobMismatch):
            await store.put("blob", chunks(b"x"), length=2)
        with pytest.raises(ports.BlobNotFound):
            await read(store, "folder/missing")
        started = asyncio.Event()
        task = asyncio.create_task(store.put("blob", stalling(started)))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert open_descriptors() == before
    assert names(tmp_path / "blobs" / "incoming") == []


def open_descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(names(pathlib.Path("/proc/self/fd")))


def names(folder: pathlib.Path) -> list[str]:
    """Return the names in a folder."""
    return [path.name for path in folder.iterdir()]


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    """Yield the data in one chunk."""
    yield data


async def stalling(started: asyncio.Event) -> AsyncIterator[bytes]:
    """Yield one chunk, tell that it was taken, and never end."""
    yield b"x" * 3_000_000
    started.set()
    await asyncio.Event().wait()


async def read(store: FileBlobStore, key: str) -> bytes:
    """Return a blob as a whole."""
    async with store.get(key) as blob:
        return b"".join([chunk async for chunk in blob.chunks])
