"""Look up messages, enums and comments of a descriptor set by full name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from google.protobuf import descriptor_pb2

from codeyard_gateway.compiler import options
from codeyard_gateway.compiler.model import Casing

Field = descriptor_pb2.FieldDescriptorProto

HTTP_BODY = "google.api.HttpBody"
EMPTY = "google.protobuf.Empty"
_FOREIGN = ("google.", "buf.", "grpc.")


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """A message of the descriptor set with the comments above it and above its fields."""

    name: str
    file: str
    proto: descriptor_pb2.DescriptorProto
    comment: str
    field_comments: dict[str, str]
    named_by_hand: frozenset[str]
    """Fields whose json_name is written in the proto, and therefore the same in every casing."""

    def field(self, name: str) -> Field | None:
        """Return the field with this proto name."""
        return next((field for field in self.proto.field if field.name == name), None)

    def known_field(self, name: str) -> Field:
        """Return the field with this proto name, which the checks have found. Raises KeyError without one."""
        field = self.field(name)
        if field is None:
            raise KeyError(f"{self.name}.{name}")
        return field

    def json_fields(self) -> list[Field]:
        """Return the fields that reach JSON, in order."""
        return [field for field in self.proto.field if not options.is_grpc_only(field)]

    def json_name(self, field: Field, casing: Casing) -> str:
        """Return the member's name in JSON of this casing."""
        if casing is Casing.SNAKE and field.name not in self.named_by_hand:
            return field.name
        return field.json_name


@dataclasses.dataclass(frozen=True, slots=True)
class ServiceEntry:
    """A service of the project with its file, package and comments by method name."""

    name: str
    file: str
    proto: descriptor_pb2.ServiceDescriptorProto
    comment: str
    method_comments: dict[str, str]


class Index:
    """Everything of a descriptor set by full name, without a leading dot."""

    def __init__(self, image: descriptor_pb2.FileDescriptorSet) -> None:
        self.image = image
        self.messages: dict[str, Message] = {}
        self.enums: dict[str, descriptor_pb2.EnumDescriptorProto] = {}
        self.services: list[ServiceEntry] = []
        for file in image.file:
            self._add_file(file)

    def message_of(self, field: Field) -> Message:
        """Return the message type of a message field."""
        return self.messages[field.type_name.removeprefix(".")]

    def is_map(self, field: Field) -> bool:
        """Whether the field is a map: protoc writes it as a repeated entry message."""
        return field.type == Field.TYPE_MESSAGE and self.message_of(field).proto.options.map_entry

    def resolve(self, message: str, path: str) -> Field | None:
        """Return the field at a dotted path below a message, or None."""
        found: Field | None = None
        for part in path.split("."):
            if message not in self.messages:
                return None
            found = self.messages[message].field(part)
            if found is None:
                return None
            message = found.type_name.removeprefix(".")
        return found

    def _add_file(self, file: descriptor_pb2.FileDescriptorProto) -> None:
        comments, by_hand = _locations(file)
        prefix = f"{file.package}." if file.package else ""
        for position, message in enumerate(file.message_type):
            self._add_message(file, f"{prefix}{message.name}", message, (4, position), comments, by_hand)
        for enum in file.enum_type:
            self.enums[f"{prefix}{enum.name}"] = enum
        if file.package.startswith(_FOREIGN):
            return
        for position, service in enumerate(file.service):
            methods = {m.name: comments.get((6, position, 2, number), "") for number, m in enumerate(service.method)}
            comment = comments.get((6, position), "")
            self.services.append(ServiceEntry(f"{prefix}{service.name}", file.name, service, comment, methods))

    def _add_message(
        self,
        file: descriptor_pb2.FileDescriptorProto,
        name: str,
        proto: descriptor_pb2.DescriptorProto,
        path: tuple[int, ...],
        comments: dict[tuple[int, ...], str],
        by_hand: set[tuple[int, ...]],
    ) -> None:
        field_comments = {f.name: comments.get((*path, 2, number), "") for number, f in enumerate(proto.field)}
        named = frozenset(f.name for number, f in enumerate(proto.field) if (*path, 2, number) in by_hand)
        self.messages[name] = Message(name, file.name, proto, comments.get(path, ""), field_comments, named)
        for number, nested in enumerate(proto.nested_type):
            self._add_message(file, f"{name}.{nested.name}", nested, (*path, 3, number), comments, by_hand)
        for enum in proto.enum_type:
            self.enums[f"{name}.{enum.name}"] = enum


def _locations(file: descriptor_pb2.FileDescriptorProto) -> tuple[dict[tuple[int, ...], str], set[tuple[int, ...]]]:
    """Return the comments by path, and the paths of fields whose json_name is written out.

    protoc fills json_name of every field; only a hand-written one has a source location of its own (field 10).
    """
    comments: dict[tuple[int, ...], str] = {}
    by_hand: set[tuple[int, ...]] = set()
    for location in file.source_code_info.location:
        path = tuple(location.path)
        if location.leading_comments:
            comments[path] = "\n".join(line.strip() for line in location.leading_comments.strip().splitlines())
        if len(path) >= 5 and path[-1] == 10 and path[-3] == 2:
            by_hand.add(path[:-1])
    return comments, by_hand


def walk_fields(index: Index, root: str) -> Iterator[tuple[Message, Field]]:
    """Yield every field that reaches JSON below a message, each message once; google's own messages are not entered."""
    pending, seen = [root], {root}
    while pending:
        message = index.messages[pending.pop()]
        for field in message.json_fields():
            yield message, field
            target = field.type_name.removeprefix(".")
            if field.type == Field.TYPE_MESSAGE and not target.startswith("google.") and target not in seen:
                seen.add(target)
                pending.append(target)
