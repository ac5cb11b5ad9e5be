"""Blobs on an S3 server, through the ``minio`` client.

The client blocks, so every call runs in one of a few threads. A thread is held only while bytes move between this
process and the S3 server, never while we wait for the sender or the reader at the other end: an upload collects one
part in memory and hands it to a thread; a download asks a thread for one chunk at a time. A blob of one part is stored
by a single PUT, a larger one as a multipart upload; either way size and hash are checked before the request that makes
it visible.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import email.utils
import itertools
import math
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator
from typing import ParamSpec, TypeVar

import minio
import structlog
import urllib3
from minio.credentials.providers import EnvAWSProvider, Provider, StaticProvider
from minio.datatypes import Object, Part
from minio.error import MinioException, S3Error

from codeyard_server.adapters.blob_upload import BlockingCalls, Upload
from codeyard_server.blobs.ports import (
    CHUNK_BYTES,
    BlobError,
    BlobInfo,
    BlobKeyInvalid,
    BlobMismatch,
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

log = structlog.get_logger(__name__)

PART_BYTES = 5 * 1024 * 1024
"""The smallest part S3 allows, and the memory that one upload takes."""

MAX_PARTS = 10_000

_THREADS = 16
_LIST_BATCH = 1000
_TIMEOUT = urllib3.Timeout(connect=5.0, read=60.0)
_RETRIES = urllib3.Retry(total=3, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504))
_NOT_FOUND = ("NoSuchKey", "NoSuchObject")
_KEY_REFUSED = ("KeyTooLongError", "XMinioInvalidObjectName")
_BUCKET_IS_THERE = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")
# What a browser makes of an object must not depend on what somebody stored in it.
_AS_ATTACHMENT: dict[str, str | list[str] | tuple[str]] = {
    "response-content-disposition": "attachment",
    "response-content-type": "application/octet-stream",
}


@dataclasses.dataclass(frozen=True, slots=True)
class S3Location:
    """Which bucket on which server.

    ``endpoint`` is ``http://host:port`` or ``https://host``. ``public_endpoint`` is how clients of the yard reach the
    same server, for presigned URLs; the endpoint itself when None. Without a key pair the environment's
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN are used.
    """

    bucket: str
    endpoint: str
    region: str = "us-east-1"
    public_endpoint: str | None = None
    access_key: str | None = dataclasses.field(default=None, repr=False)
    secret_key: str | None = dataclasses.field(default=None, repr=False)


class S3BlobStore:
    """A :class:`codeyard_server.blobs.ports.BlobStore` in a bucket. Requests are path-style: any S3 server will do."""

    def __init__(self, location: S3Location) -> None:
        self._bucket = location.bucket
        self._region = location.region
        self._client = _client(location, location.endpoint)
        self._public = _client(location, location.public_endpoint or location.endpoint)
        self._calls = BlockingCalls("s3-blobs", _THREADS)

    async def prepare(self) -> None:
        """Make the bucket when it is missing. See BlobStore."""
        await self._call("", self._make_bucket)

    async def put(
        self, key: str, source: AsyncIterable[bytes], *, length: int | None = None, sha256: str | None = None
    ) -> BlobReceipt:
        """Store the bytes of ``source``. See BlobStore. Without an announced length at most 10,000 × 5 MiB."""
        validate_key(key)
        part_bytes = max(PART_BYTES, math.ceil((length or 0) / MAX_PARTS))
        upload = Upload(self._calls, part_bytes, length, sha256)
        async with contextlib.aclosing(upload.pieces(source)) as pieces:
            first = await anext(pieces, b"")
            second = await anext(pieces, None)
            if second is not None:
                return await self._put_parts(key, upload, _chain((first, second), pieces))
        receipt = upload.receipt()
        await self._call(key, self._client.put_whole, self._bucket, key, first)
        return receipt

    @contextlib.asynccontextmanager
    async def get(self, key: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[OpenBlob]:
        """Open a blob or a range of it. See BlobStore."""
        validate_key(key)
        validate_range(offset, length)
        download = _Download(self._client, self._bucket, key)
        try:
            info = await self._call(key, download.open, offset, length)
            async with contextlib.aclosing(self._chunks(download)) as chunks:
                yield OpenBlob(info, chunks)
        finally:
            download.close()

    async def stat(self, key: str) -> BlobInfo:
        """Return what is known about a blob. See BlobStore."""
        return _info(await self._call(key, self._client.stat_object, self._bucket, validate_key(key)))

    async def delete(self, key: str) -> None:
        """Remove a blob, if there is one. See BlobStore."""
        validate_key(key)
        with contextlib.suppress(BlobNotFound):
            await self._call(key, self._client.remove_object, self._bucket, key)

    async def list(self, prefix: str = "") -> AsyncIterator[BlobInfo]:
        """Yield the blobs whose key starts with ``prefix``. See BlobStore."""
        found: Iterator[Object] = iter(self._client.list_objects(self._bucket, validate_prefix(prefix), recursive=True))
        while batch := await self._call(prefix, _take, found):
            for item in batch:
                if not item.is_dir:
                    yield _info(item)

    async def presigned_get(self, key: str, expires: datetime.timedelta) -> str | None:
        """Return a URL to download the blob from. See BlobStore."""
        validate_key(key)
        validate_expiry(expires)
        return self._public.presigned_get_object(self._bucket, key, expires, response_headers=dict(_AS_ATTACHMENT))

    async def presigned_put(self, key: str, expires: datetime.timedelta) -> str | None:
        """Return a URL to upload the blob to. See BlobStore."""
        validate_key(key)
        validate_expiry(expires)
        return self._public.presigned_put_object(self._bucket, key, expires)

    async def close(self) -> None:
        """End threads and connections. See BlobStore."""
        self._calls.close()

    async def _put_parts(self, key: str, upload: Upload, parts: AsyncIterator[bytes]) -> BlobReceipt:
        multipart = _Multipart(self._client, self._bucket, key)
        try:
            await self._call(key, multipart.begin)
            async for part in parts:
                await self._call(key, multipart.add, part)
            receipt = upload.receipt()
            await self._call(key, multipart.complete)
        except BaseException:
            # Also when cancelled: the parts would stay on the server, invisible and paid for.
            try:
                await self._call(key, multipart.abort)
            except BlobError as error:
                log.warning("multipart upload could not be aborted", key=key, error=str(error))
            raise
        return receipt

    async def _chunks(self, download: _Download) -> AsyncGenerator[bytes, None]:
        while chunk := await self._call(download.key, download.read):
            yield chunk

    def _make_bucket(self) -> None:
        if self._client.bucket_exists(self._bucket):
            return
        try:
            self._client.make_bucket(self._bucket, self._region)
        except S3Error as error:
            if error.code not in _BUCKET_IS_THERE:  # another server process was faster
                raise

    async def _call(self, key: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await self._calls.run(function, *args, **kwargs)
        except S3Error as error:
            if error.code in _NOT_FOUND:
                raise BlobNotFound(f"there is no blob {key}") from error
            if error.code in _KEY_REFUSED:
                raise BlobKeyInvalid(f"the store refuses the key {key}: {error.code}") from error
            raise BlobUnavailable(f"{key}: {error.code}: {error.message}") from error
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            raise BlobUnavailable(f"{key}: {error}") from error


class _Client(minio.Minio):
    """The client with the single steps of a multipart upload, which it keeps to itself.

    Its own ``put_object`` takes a blocking reader and so a thread for as long as the sender likes to take.
    """

    def put_whole(self, bucket: str, key: str, data: bytes) -> None:
        self._put_object(bucket, key, data, {"Content-Type": "application/octet-stream"})

    def begin_upload(self, bucket: str, key: str) -> str:
        return self._create_multipart_upload(bucket, key, {})

    def upload_part(self, bucket: str, key: str, upload_id: str, number: int, data: bytes) -> Part:
        return Part(number, self._upload_part(bucket, key, data, None, upload_id, number))

    def complete_upload(self, bucket: str, key: str, upload_id: str, parts: list[Part]) -> None:
        # S3 may answer 200 and put an error into the body; only a real answer has an ETag.
        if not self._complete_multipart_upload(bucket, key, upload_id, parts).etag:
            raise BlobUnavailable(f"{key}: the store did not put the parts together")

    def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        self._abort_multipart_upload(bucket, key, upload_id)


class _Multipart:
    """One multipart upload; its methods run in threads, one at a time."""

    def __init__(self, client: _Client, bucket: str, key: str) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._upload_id: str | None = None
        self._parts: list[Part] = []

    def begin(self) -> None:
        self._upload_id = self._client.begin_upload(self._bucket, self._key)

    def add(self, data: bytes) -> None:
        number = len(self._parts) + 1
        if number > MAX_PARTS:
            raise BlobMismatch(f"more than {MAX_PARTS * PART_BYTES} bytes need an announced length")
        self._parts.append(self._client.upload_part(self._bucket, self._key, self._begun(), number, data))

    def complete(self) -> None:
        self._client.complete_upload(self._bucket, self._key, self._begun(), self._parts)

    def abort(self) -> None:
        if self._upload_id is not None:
            self._client.abort_upload(self._bucket, self._key, self._upload_id)

    def _begun(self) -> str:
        if self._upload_id is None:
            raise RuntimeError("the multipart upload was not begun")
        return self._upload_id


class _Download:
    """One GET; ``open`` and ``read`` run in threads, one at a time."""

    def __init__(self, client: _Client, bucket: str, key: str) -> None:
        self._client = client
        self._bucket = bucket
        self.key = key
        self._response: urllib3.BaseHTTPResponse | None = None
        self._complete = False

    def open(self, offset: int, length: int | None) -> BlobInfo:
        if length != 0:  # 0 means "all" to the client
            try:
                self._response = self._client.get_object(self._bucket, self.key, offset, length or 0)
                return _response_info(self.key, self._response)
            except S3Error as error:
                if error.code != "InvalidRange":
                    raise
        return _info(self._client.stat_object(self._bucket, self.key))

    def read(self) -> bytes:
        chunk = b"" if self._response is None else self._response.read(CHUNK_BYTES, decode_content=False)
        self._complete = not chunk
        return chunk

    def close(self) -> None:
        if self._response is not None:
            if not self._complete:
                self._response.close()  # the rest of the body would poison the pooled connection
            self._response.release_conn()


def _client(location: S3Location, endpoint: str) -> _Client:
    scheme, _, host = endpoint.partition("://")
    if scheme not in ("http", "https") or not host:
        raise ValueError(f"an S3 endpoint is http://host:port or https://host, not {endpoint}")
    credentials: Provider = EnvAWSProvider()
    if location.access_key and location.secret_key:
        credentials = StaticProvider(location.access_key, location.secret_key)
    pool = urllib3.PoolManager(
        maxsize=_THREADS,
        timeout=_TIMEOUT,
        retries=_RETRIES,
        ssl_context=ssl.create_default_context(),  # the system's authorities, or those of $SSL_CERT_FILE
    )
    client = _Client(host, secure=scheme == "https", region=location.region, credentials=credentials, http_client=pool)
    client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]  # the client annotates no None
    return client


def _info(item: Object) -> BlobInfo:
    if item.object_name is None or item.size is None or item.last_modified is None:
        raise BlobUnavailable(f"the store described {item.object_name} without size or time")
    return BlobInfo(item.object_name, item.size, item.last_modified)


def _response_info(key: str, response: urllib3.BaseHTTPResponse) -> BlobInfo:
    # "bytes 0-9/1000" for a range, otherwise the length of the body.
    size = response.headers.get("content-range", "").rpartition("/")[2] or response.headers["content-length"]
    return BlobInfo(key, int(size), email.utils.parsedate_to_datetime(response.headers["last-modified"]))


def _take(found: Iterator[Object]) -> list[Object]:
    return list(itertools.islice(found, _LIST_BATCH))


async def _chain(first: tuple[bytes, ...], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for piece in first:
        yield piece
    async for piece in rest:
        yield piece
