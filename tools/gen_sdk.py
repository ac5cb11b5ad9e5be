"""Write the generated part of the SDKs, from build/image.binpb (see gen_protos.py):

    python tools/gen_sdk.py python        one language, or several

Public is every package below codeyard/ but the faces, which only map other products' shapes, and the HTTP options.
What the plugins see has no custom options, so that no SDK needs buf/validate or google/api: the server checks bounds.
A language is an entry of LANGUAGES, and a function where a plugin alone does not do.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import unasync
from codeyard.http.v1 import options_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, MethodOptions
from google.rpc import error_details_pb2, status_pb2

ROOT = pathlib.Path(__file__).resolve().parents[1]
IMAGE = ROOT / "build" / "image.binpb"
PUBLIC = ROOT / "build" / "public.binpb"
PYTHON = ROOT / "clients" / "python" / "src" / "codeyard_client"

PRIVATE = ("codeyard/faces/", "codeyard/http/")
ANNOTATIONS = ("buf/validate/validate.proto", "codeyard/http/v1/options.proto", "google/api/annotations.proto")
# How an error travels in a gRPC status.
ERROR_MODEL = {descriptor.name: descriptor for descriptor in (status_pb2.DESCRIPTOR, error_details_pb2.DESCRIPTOR)}

# The blocking Python client is the asynchronous one without async and await, and with these names.
BLOCKING = {
    "AsyncAgent": "Agent",
    "AsyncAgentSessions": "AgentSessions",
    "AsyncAgents": "Agents",
    "AsyncCapabilities": "Capabilities",
    "AsyncClient": "Client",
    "AsyncMcpServers": "McpServers",
    "AsyncModels": "Models",
    "AsyncProviders": "Providers",
    "AsyncSession": "Session",
    "AsyncSessions": "Sessions",
    "AsyncTransport": "Transport",
    "aclosing": "closing",
    "asyncio": "time",
    "close_async_channel": "close_channel",
    "open_async_channel": "open_channel",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Language:
    """How one SDK is written: a protoc plugin, its options, the folder that is its own, and what is made besides."""

    plugin: str
    options: str
    out: pathlib.Path
    finish: Callable[[FileDescriptorSet, pathlib.Path], None] | None = None


def is_public(name: str) -> bool:
    """Whether the SDKs get code for the file of this name."""
    return name in ERROR_MODEL or (name.startswith("codeyard/") and not name.startswith(PRIVATE))


def public_files(image: FileDescriptorSet) -> FileDescriptorSet:
    """Return the public files and what they import, each after its imports, without custom options."""
    files = {file.name: file for file in image.file}
    for name, descriptor in ERROR_MODEL.items():
        descriptor.CopyToProto(files.setdefault(name, FileDescriptorProto()))
        # The Python plugin reads the comments of every file; these have none.
        files[name].source_code_info.SetInParent()
    result: dict[str, FileDescriptorProto] = {}

    def add(name: str) -> None:
        if name in result or name in ANNOTATIONS:
            return
        for other in files[name].dependency:
            add(other)
        result[name] = file = FileDescriptorProto()
        file.CopyFrom(files[name])
        file.dependency[:] = [other for other in file.dependency if other not in ANNOTATIONS]

    for name in sorted(filter(is_public, files)):
        add(name)
    return without_custom_options(FileDescriptorSet(file=result.values()))


def without_custom_options(files: FileDescriptorSet) -> FileDescriptorSet:
    """Return these files without what a reader that knows no extension cannot read."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(descriptor_pb2.DESCRIPTOR.serialized_pb)
    plain = message_factory.GetMessageClass(pool.FindMessageTypeByName(FileDescriptorSet.DESCRIPTOR.full_name))
    read = plain.FromString(files.SerializeToString())
    read.DiscardUnknownFields()
    return FileDescriptorSet.FromString(read.SerializeToString())


def finish_python(image: FileDescriptorSet, out: pathlib.Path) -> None:
    """Write the table of methods, and the blocking client from the asynchronous one."""
    (out / "methods.py").write_text("\n".join(methods_module(image)) + "\n")
    sources = sorted((PYTHON / "aio").glob("*.py"))
    unasync.unasync_files([str(path) for path in sources], [unasync.Rule("/aio/", "/gen/sync/", BLOCKING)])
    for path in (out / "sync").glob("*.py"):
        code = path.read_text().replace("codeyard_client.aio", "codeyard_client.gen.sync")
        path.write_text(f"# Written by tools/gen_sdk.py from ../../aio/{path.name}: change that one.\n{code}")
    written = [str(out / "methods.py"), str(out / "sync")]
    options = ["--quiet", "--isolated", "--line-length", "120"]
    run("ruff", "check", "--select", "I", "--fix", *options, *written)
    run("ruff", "format", *options, *written)


def methods_module(image: FileDescriptorSet) -> Iterator[str]:
    """Yield the lines of ``methods.py``: a class per service, an attribute per unary or server-streaming method."""
    files = [file for file in image.file if is_public(file.name) and file.service]
    methods = [method for file in files for service in file.service for method in service.method]
    yield "# Written by tools/gen_sdk.py from the protos."
    yield '"""Every method of the API: its path, its messages, and whether it may be sent again."""'
    yield "from typing import Final"
    yield "from codeyard_client._method import Stream, Unary"
    for package in sorted({_package(type_) for method in methods for type_ in (method.input_type, method.output_type)}):
        parent, _, module = package.rpartition(".")
        yield f"from codeyard_client.gen.{parent} import {module} as {_alias(package)}"
    for file in files:
        for service in file.service:
            path = f"{file.package}.{service.name}"
            yield f"class {service.name}:"
            yield f'    """Methods of {path}."""'
            yield from (f"    {_entry(path, method)}" for method in service.method if not method.client_streaming)


def _entry(service: str, method: MethodDescriptorProto) -> str:
    kind = "Stream" if method.server_streaming else "Unary"
    arguments = [f'"/{service}/{method.name}"', _class(method.input_type), _class(method.output_type)]
    if method.options.idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN:
        arguments.append("repeatable=True")
    rules = cast(options_pb2.MethodRules, method.options.Extensions[cast(Any, options_pb2.method)])
    if rules.idempotency_key:
        arguments.append("keyed=True")
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).upper()
    return f"{name}: Final = {kind}({', '.join(arguments)})"


def _package(message: str) -> str:
    return message.removeprefix(".").rpartition(".")[0]


def _alias(package: str) -> str:
    return "_".join(package.split(".")[-2:])


def _class(message: str) -> str:
    return f"{_alias(_package(message))}.{message.rpartition('.')[2]}"


def run(*command: str) -> None:
    """Run a tool of this environment at the root; leave with its status when it fails."""
    bin_folder = pathlib.Path(sys.executable).parent
    path = f"{bin_folder}{os.pathsep}{os.environ.get('PATH', '')}"
    program = shutil.which(command[0], path=path) or command[0]
    done = subprocess.run([program, *command[1:]], cwd=ROOT, env={**os.environ, "PATH": path}, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def generate(language: Language, image: FileDescriptorSet, names: Iterable[str]) -> None:
    """Write one SDK anew."""
    shutil.rmtree(language.out, ignore_errors=True)
    language.out.mkdir(parents=True)
    out, options = f"--{language.plugin}_out={language.out}", f"--{language.plugin}_opt={language.options}"
    run(sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={PUBLIC}", out, options, *names)
    if language.finish:
        language.finish(image, language.out)


LANGUAGES = {
    # Without the plugin's stubs: the blocking ones take neither metadata nor a deadline, the others need a second gRPC.
    "python": Language("python_betterproto2", "client_generation=none", PYTHON / "gen", finish_python),
}


def main() -> None:
    """Write the SDKs that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("languages", nargs="+", choices=sorted(LANGUAGES))
    image = FileDescriptorSet.FromString(IMAGE.read_bytes())
    public = public_files(image)
    PUBLIC.write_bytes(public.SerializeToString())
    for name in parser.parse_args().languages:
        generate(LANGUAGES[name], image, [file.name for file in public.file if is_public(file.name)])


if __name__ == "__main__":
    main()
