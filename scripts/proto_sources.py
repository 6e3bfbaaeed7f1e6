"""The protos as descriptors with their comments, for documents and tests."""

import functools
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"

# Field numbers inside descriptor.proto: they make up the paths of source locations.
_FILE_MESSAGES, _FILE_ENUMS, _FILE_SERVICES = 4, 5, 6
_MESSAGE_FIELDS, _MESSAGE_ONEOFS, _ENUM_VALUES, _SERVICE_METHODS = 2, 8, 2, 2

_SCALARS = {
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_BYTES: "bytes",
    FieldDescriptorProto.TYPE_DOUBLE: "double",
    FieldDescriptorProto.TYPE_INT32: "int32",
    FieldDescriptorProto.TYPE_INT64: "int64",
    FieldDescriptorProto.TYPE_STRING: "string",
    FieldDescriptorProto.TYPE_UINT32: "uint32",
    FieldDescriptorProto.TYPE_UINT64: "uint64",
}


@dataclass(frozen=True, slots=True)
class Item:
    """A field, an enum value, or an RPC. `type` is as a reader would write it; empty for enum values."""

    name: str
    number: int
    type: str
    comment: str
    oneof: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """A message, an enum, or a service, with what is in it, in the file's order."""

    kind: str
    name: str
    comment: str
    file: str
    items: tuple[Item, ...] = field(default=())


@functools.cache
def descriptors() -> FileDescriptorSet:
    """All files under protos/, with source locations."""
    with tempfile.TemporaryDirectory() as directory:
        image = Path(directory) / "image.binpb"
        sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
        well_known = str(files("grpc_tools").joinpath("_proto"))
        subprocess.run(
            [
                *(sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"-I{well_known}"),
                *(f"--descriptor_set_out={image}", "--include_source_info", *sources),
            ],
            check=True,
            cwd=PROTOS,
        )
        return FileDescriptorSet.FromString(image.read_bytes())


def blocks(package: str) -> list[Block]:
    """Every message, enum and service of a proto package, file by file."""
    return [
        block
        for file in descriptors().file
        if file.package == package
        for block in _blocks_of(file)
    ]


def _blocks_of(file: FileDescriptorProto) -> Iterator[Block]:
    comments = {
        tuple(location.path): _clean(location.leading_comments)
        for location in file.source_code_info.location
    }
    for index, service in enumerate(file.service):
        path = (_FILE_SERVICES, index)
        items = tuple(
            Item(
                method.name,
                position,
                f"{'stream ' * method.client_streaming}{_short(method.input_type)} → "
                f"{'stream ' * method.server_streaming}{_short(method.output_type)}",
                comments.get((*path, _SERVICE_METHODS, position), ""),
            )
            for position, method in enumerate(service.method)
        )
        yield Block("service", service.name, comments.get(path, ""), file.name, items)
    for index, message in enumerate(file.message_type):
        path = (_FILE_MESSAGES, index)
        yield Block(
            "message",
            message.name,
            comments.get(path, ""),
            file.name,
            tuple(_fields(message, path, comments)),
        )
    for index, enum in enumerate(file.enum_type):
        path = (_FILE_ENUMS, index)
        yield Block(
            "enum",
            enum.name,
            comments.get(path, ""),
            file.name,
            tuple(_values(enum, path, comments)),
        )


def _fields(
    message: DescriptorProto, path: tuple[int, ...], comments: dict[tuple[int, ...], str]
) -> Iterator[Item]:
    entries = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    for position, item in enumerate(message.field):
        oneof, comment = "", comments.get((*path, _MESSAGE_FIELDS, position), "")
        if item.HasField("oneof_index") and not item.proto3_optional:
            oneof = message.oneof_decl[item.oneof_index].name
            comment = comment or comments.get((*path, _MESSAGE_ONEOFS, item.oneof_index), "")
        entry = entries.get(_short(item.type_name))
        if entry is not None:
            kind = f"map<{_type(entry.field[0])}, {_type(entry.field[1])}>"
        else:
            kind = _type(item)
            if item.label == FieldDescriptorProto.LABEL_REPEATED:
                kind = f"repeated {kind}"
            elif item.proto3_optional:
                kind = f"optional {kind}"
        yield Item(item.name, item.number, kind, comment, oneof)


def _values(
    enum: EnumDescriptorProto, path: tuple[int, ...], comments: dict[tuple[int, ...], str]
) -> Iterator[Item]:
    for position, value in enumerate(enum.value):
        yield Item(value.name, value.number, "", comments.get((*path, _ENUM_VALUES, position), ""))


def _type(item: FieldDescriptorProto) -> str:
    return _SCALARS.get(item.type) or _short(item.type_name)


def _short(type_name: str) -> str:
    return type_name.rsplit(".", 1)[-1]


def _clean(comment: str) -> str:
    return "\n".join(line.removeprefix(" ") for line in comment.strip("\n").split("\n")).strip()
