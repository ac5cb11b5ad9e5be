"""The fixture protos, compiled at run time, and message classes for them without generated modules."""

from __future__ import annotations

import functools
import os
import pathlib
import tempfile
from typing import Any

import google.api
from codeyard_gateway.compiler.index import Index
from codeyard_gateway.compiler.model import Api
from codeyard_gateway.compiler.reader import read_image
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROTOS = pathlib.Path(__file__).parent / "protos"
PACKAGE = "yardtest.v1"
IMAGE_VARIABLE = "YARDTEST_IMAGE"


def compile_protos(folder: pathlib.Path, *names: str) -> bytes:
    """Compile protos below a folder to an image with imports and source info. Raises AssertionError if protoc fails."""
    common = pathlib.Path(next(iter(google.api.__path__))).parents[1]
    wellknown = pathlib.Path(protoc.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as scratch:
        image = pathlib.Path(scratch) / "image.binpb"
        # Later descriptor sets come first for protoc's search; the source tree wins over all of them.
        arguments = [
            "protoc",
            f"-I{folder}",
            f"-I{ROOT / 'proto'}",
            f"-I{common}",
            f"-I{wellknown}",
            f"--descriptor_set_in={ROOT / 'build' / 'validate.binpb'}",
            "--include_imports",
            "--include_source_info",
            f"--descriptor_set_out={image}",
            *names,
        ]
        assert protoc.main(arguments) == 0, f"protoc failed on {names}"
        return image.read_bytes()


@functools.cache
def fixture_image() -> bytes:
    """Return the image of the fixture services; a backend finds it compiled in the file its parent names."""
    if IMAGE_VARIABLE in os.environ:
        return pathlib.Path(os.environ[IMAGE_VARIABLE]).read_bytes()
    return compile_protos(PROTOS, "yardtest/v1/thing_service.proto", "yardtest/v1/camel_service.proto")


@functools.cache
def fixture_model() -> tuple[Index, Api]:
    """Return the compiler's model of the fixture services."""
    return read_image(fixture_image())


@functools.cache
def _pool() -> Any:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(fixture_image()).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


@functools.cache
def message_class(name: str) -> Any:
    """Return the class of a message by full name; bare names are of the fixture package."""
    full = name if "." in name else f"{PACKAGE}.{name}"
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(full))
