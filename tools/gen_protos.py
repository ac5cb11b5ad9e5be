"""Build everything that comes straight from proto/: the descriptor image and the Python stubs.

    python tools/gen_protos.py            build/image.binpb and build/stubs/
    python tools/gen_protos.py --golden   also proto/api.txtpb, the committed text of the whole API

No network: google/api comes from googleapis-common-protos, google/protobuf from grpcio-tools, and buf/validate, which
no wheel holds as text, from the descriptor inside protovalidate.
"""

import argparse
import importlib
import pathlib
import shutil
import sys

import google.api
from google.protobuf import descriptor_pb2, text_format
from grpc_tools import protoc
from protovalidate._gen.buf.validate import validate_pb

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROTO = ROOT / "proto"
BUILD = ROOT / "build"
STUBS = BUILD / "stubs"
IMAGE = BUILD / "image.binpb"
GOLDEN = PROTO / "api.txtpb"


def validate_descriptor() -> bytes:
    """Return buf/validate/validate.proto with its imports as a serialised FileDescriptorSet."""
    proto = descriptor_pb2.FileDescriptorProto.FromString(validate_pb.desc().proto.to_binary())
    files = descriptor_pb2.FileDescriptorSet()
    for name in proto.dependency:
        importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2").DESCRIPTOR.CopyToProto(
            files.file.add()
        )
    files.file.add().CopyFrom(proto)
    return files.SerializeToString()


def run_protoc(*arguments: str) -> None:
    """Run protoc over every proto of the project; its messages go to stderr."""
    validate = BUILD / "validate.binpb"
    common = pathlib.Path(next(iter(google.api.__path__))).parents[1]
    wellknown = pathlib.Path(protoc.__file__).parent / "_proto"
    sources = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    status = protoc.main(
        [
            "protoc",
            f"-I{PROTO}",
            f"-I{common}",
            f"-I{wellknown}",
            f"--descriptor_set_in={validate}",
            *arguments,
            *sources,
        ]
    )
    if status:
        sys.exit(status)


def golden_text(image: bytes) -> str:
    """Return the project's own files of the image as text: what a reviewer reads when the API changes."""
    files = descriptor_pb2.FileDescriptorSet.FromString(image)
    own = descriptor_pb2.FileDescriptorSet()
    for file in files.file:
        if file.name.startswith("codeyard/"):
            copy = own.file.add()
            copy.CopyFrom(file)
            copy.ClearField("source_code_info")
    return text_format.MessageToString(own, indent=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--golden", action="store_true")
    options = parser.parse_args()
    BUILD.mkdir(exist_ok=True)
    (BUILD / "validate.binpb").write_bytes(validate_descriptor())
    run_protoc("--include_imports", "--include_source_info", f"--descriptor_set_out={IMAGE}")
    shutil.rmtree(STUBS, ignore_errors=True)
    STUBS.mkdir()
    run_protoc(f"--python_out={STUBS}", f"--pyi_out={STUBS}")
    (STUBS / "buf" / "validate").mkdir(parents=True)
    status = protoc.main(
        ["protoc", f"--descriptor_set_in={BUILD / 'validate.binpb'}", f"--python_out={STUBS}", f"--pyi_out={STUBS}",
         "buf/validate/validate.proto"]
    )  # fmt: skip
    if status:
        sys.exit(status)
    for folder in [path for path in STUBS.rglob("*") if path.is_dir()]:
        (folder / "__init__.py").touch()
        (folder / "py.typed").touch()
    if options.golden:
        GOLDEN.write_text(golden_text(IMAGE.read_bytes()))


if __name__ == "__main__":
    main()
