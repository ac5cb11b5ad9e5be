"""Choose the blob store from one URL of the settings."""

from __future__ import annotations

import pathlib
import urllib.parse

from codeyard_server.adapters.file_blobs import FileBlobStore
from codeyard_server.adapters.s3_blobs import S3BlobStore, S3Location
from codeyard_server.blobs.ports import BlobStore

_S3_PARAMETERS = {"endpoint", "region", "public_endpoint"}


def open_blob_store(url: str, *, access_key: str | None = None, secret_key: str | None = None) -> BlobStore:
    """Return the store of this URL; nothing is contacted before ``prepare``.

    * ``file:///var/lib/codeyard/blobs``: a folder
    * ``s3://bucket?endpoint=http://host:9000``: an S3 server; ``&region=…`` and ``&public_endpoint=…`` are optional.
    See
      :class:`codeyard_server.adapters.s3_blobs.S3Location`, also for the credentials.

    Raises:
        ValueError: the URL is none of these. Its text is not quoted: it may hold a password.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/") and not parts.query:
        return FileBlobStore(pathlib.Path(urllib.parse.unquote(parts.path)))
    if parts.scheme == "s3":
        return S3BlobStore(_s3_location(parts, access_key, secret_key))
    raise ValueError("a blob store is file:///folder or s3://bucket?endpoint=http://host:port")


def _s3_location(parts: urllib.parse.SplitResult, access_key: str | None, secret_key: str | None) -> S3Location:
    if "@" in parts.netloc:
        raise ValueError("credentials do not belong into the blob store's URL: it is shown in logs and process lists")
    if not parts.netloc or parts.path not in ("", "/"):
        raise ValueError("an S3 blob store names a bucket and no folder: s3://bucket?endpoint=…")
    parameters = dict(urllib.parse.parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    if unknown := parameters.keys() - _S3_PARAMETERS:
        raise ValueError(f"unknown parameters in the blob store's URL: {', '.join(sorted(unknown))}")
    if "endpoint" not in parameters:
        raise ValueError("the blob store's URL needs an endpoint: s3://bucket?endpoint=http://host:port")
    return S3Location(bucket=parts.netloc, access_key=access_key, secret_key=secret_key, **parameters)
