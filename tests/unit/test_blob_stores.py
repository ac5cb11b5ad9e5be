"""The choice of the blob store from a URL, and an S3 store that nobody answers for."""

from __future__ import annotations

import datetime
import pathlib
import urllib.parse

import pytest
from codeyard_server.adapters.blob_stores import open_blob_store
from codeyard_server.adapters.file_blobs import FileBlobStore
from codeyard_server.adapters.s3_blobs import S3BlobStore, S3Location
from codeyard_server.blobs import ports

from tests.support.processes import free_port


async def test_open_returns_the_folder_store_when_the_url_is_a_file(tmp_path: pathlib.Path) -> None:
    """``file:///folder`` is that folder, with percent-encoding decoded."""
    store = open_blob_store(f"file://{tmp_path}/my%20blobs")
    await store.prepare()
    assert isinstance(store, FileBlobStore)
    assert (tmp_path / "my blobs" / "objects").is_dir()
    await store.close()


async def test_open_returns_the_s3_store_when_the_url_names_a_bucket() -> None:
    """Clients are sent to the public endpoint, with the given region and key in the signature."""
    store = open_blob_store(
        "s3://yard?endpoint=http://10.0.0.1:9000&region=eu-central-1&public_endpoint=https://s3.example.org",
        access_key="the-access-key",
        secret_key="the-secret-key",
    )
    assert isinstance(store, S3BlobStore)
    url = urllib.parse.urlsplit(await store.presigned_get("a/b", datetime.timedelta(minutes=5)) or "")
    assert (url.scheme, url.netloc, url.path) == ("https", "s3.example.org", "/yard/a/b")
    query = dict(urllib.parse.parse_qsl(url.query))
    assert query["X-Amz-Credential"].startswith("the-access-key/")
    assert "/eu-central-1/s3/" in query["X-Amz-Credential"]
    assert query["X-Amz-Expires"] == "300"
    await store.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "blobs",
        "/var/lib/blobs",
        "file://host/folder",
        "file:relative",
        "file:///folder?mode=1",
        "http://host/bucket",
        "s3://?endpoint=http://host",
        "s3://bucket",
        "s3://bucket/folder?endpoint=http://host",
        "s3://bucket?endpoint=ftp://host",
        "s3://bucket?endpoint=host:9000",
        "s3://bucket?endpoint=http://host&secret=hunter2",
        "s3://key:hunter2@bucket?endpoint=http://host",
    ],
)
def test_open_refuses_when_the_url_is_no_store(url: str) -> None:
    """A wrong URL stops the start with a reason that never quotes a secret."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the texts differ; what matters is below
        open_blob_store(url)
    assert "hunter2" not in str(caught.value)


def test_location_hides_the_keys_when_it_is_printed() -> None:
    """A location in a log line or traceback shows no credential."""
    location = S3Location("bucket", "http://host", access_key="the-access-key", secret_key="the-secret-key")
    assert "the-access-key" not in repr(location)
    assert "the-secret-key" not in repr(location)


async def test_s3_is_unavailable_when_nobody_listens() -> None:
    """A server that is down is an outage for every method, with the key in the text and no credential."""
    store = open_blob_store(
        f"s3://bucket?endpoint=http://127.0.0.1:{free_port()}", access_key="the-access-key", secret_key="the-secret-key"
    )
    with pytest.raises(ports.BlobUnavailable) as caught:
        await store.stat("some/key")
    assert "some/key" in str(caught.value)
    assert "the-secret-key" not in str(caught.value)
    with pytest.raises(ports.BlobUnavailable):
        await store.prepare()
    await store.close()
