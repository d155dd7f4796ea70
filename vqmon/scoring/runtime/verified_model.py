"""Reads .onnx files and verifies them against their manifest before a runtime parses them.

Field numbers: `onnx.proto` of ONNX 1.21 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from vqmon.errors import ScorerError
from vqmon.scoring.manifests.frame_scorer import ScorerSpec
from vqmon.scoring.manifests.level_scorer import GraphSpec

# kind of message -> field number -> kind of the message in that field
_NESTED: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
}
_NODE_OPERATOR, _NODE_DOMAIN, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 4, 7, 13, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_MAX_DEPTH = 32

_ALLOWED_DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})

_MAX_GRAPH_BYTES = 2**31
"""The limit of a protobuf message."""
_MAX_IN_MEMORY_BYTES = 2**30
"""Weights up to this size are read once and passed on in memory; the runtime reads larger ones from their file."""
_CHUNK_BYTES = 2**24

_Fields = dict[int, memoryview | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFacts:
    """What an .onnx file contains, its subgraphs included."""

    node_count: int
    # "domain::operator" of every operator outside the allowed domains
    foreign_operators: tuple[str, ...]
    has_external_data: bool
    # names of the files with external data
    external_files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStamp:
    """Identity, size and times of a file: any write or replacement changes it."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class VerifiedModel:
    """A graph whose hash and content were checked.

    Its weights are in `graph_bytes`, in `data`, or in the file `data_name` of `folder`.
    """

    # the file, for messages
    where: str
    sha256: str
    graph_bytes: bytes
    folder: Path
    data_name: str = ""
    data: bytes | None = None
    # of a data file that the runtime reads by itself
    stamp: FileStamp | None = None

    def check_unchanged(self) -> None:
        """Raise ScorerError when the data file was changed between its verification and now."""
        if self.stamp is None:
            return
        path = self.folder / self.data_name
        if _stamp(os.stat(path, follow_symlinks=False)) != self.stamp:
            raise ScorerError(f"{path}: was changed while it was loaded; fetch it again")


def read_frame_model(spec: ScorerSpec, onnx: Path) -> VerifiedModel:
    """Read and verify the only file of a frame scorer; raises ScorerError."""
    return VerifiedModel(
        where=str(onnx), sha256=spec.sha256, graph_bytes=read_model_bytes(spec, onnx), folder=onnx.parent
    )


def read_model_bytes(spec: ScorerSpec, onnx: Path) -> bytes:
    """The bytes of a frame scorer's .onnx file; raises ScorerError unless they match the manifest and need no other."""
    try:
        with onnx.open("rb") as file:
            model = file.read(spec.size_bytes + 1)
    except OSError as error:
        raise ScorerError(f"{onnx}: cannot be read: {error.strerror}; it belongs beside {spec.id}.json") from error
    if len(model) != spec.size_bytes:
        size = "more" if len(model) > spec.size_bytes else f"only {len(model)}"
        raise ScorerError(f"{onnx}: the manifest says {spec.size_bytes} bytes, it has {size}; fetch the bundle again")
    digest = sha256(model).hexdigest()
    if digest != spec.sha256:
        raise ScorerError(f"{onnx}: sha256 {digest[:16]}..., the manifest says {spec.sha256[:16]}...; fetch it again")
    _check_graph(model, onnx, data_name="")
    return model


def read_graph_model(graph: GraphSpec, folder: Path, *, in_memory_bytes: int = _MAX_IN_MEMORY_BYTES) -> VerifiedModel:
    """Read and verify a graph and, where its manifest says so, `file`.data beside it; raises ScorerError.

    One hash covers both files. A data file over `in_memory_bytes` must be writable by its owner only.
    """
    onnx = folder / graph.file
    data_name = f"{graph.file}.data" if graph.has_data else ""
    digest = sha256()
    with _open_regular_file(onnx) as file:
        graph_bytes = file.read(_MAX_GRAPH_BYTES)
    digest.update(graph_bytes)
    data, stamp, size = None, None, len(graph_bytes)
    if data_name:
        with _open_regular_file(folder / data_name) as file:
            status = os.fstat(file.fileno())
            if status.st_size <= in_memory_bytes:
                data = file.read(in_memory_bytes)
                digest.update(data)
                size += len(data)
            else:
                _check_permissions(status, folder / data_name)
                stamp = _stamp(status)
                size += _hash_rest(file, digest.update)
    if (digest.hexdigest(), size) != (graph.sha256, graph.size_bytes):
        actual = f"sha256 {digest.hexdigest()[:16]}..., {size} bytes"
        expected = f"{graph.sha256[:16]}..., {graph.size_bytes} bytes"
        raise ScorerError(f"{onnx}: {actual}, the manifest says {expected}; fetch the bundle again")
    _check_graph(graph_bytes, onnx, data_name=data_name)
    return VerifiedModel(
        where=str(onnx),
        sha256=graph.sha256,
        graph_bytes=graph_bytes,
        folder=folder,
        data_name=data_name,
        data=data,
        stamp=stamp,
    )


def read_verified_file(path: Path, *, sha256_hex: str, size_bytes: int) -> bytes:
    """The content of a small file that a manifest names; raises ScorerError unless it has this hash and size."""
    with _open_regular_file(path) as file:
        content = file.read(size_bytes + 1)
    digest = sha256(content).hexdigest()
    if len(content) != size_bytes or digest != sha256_hex:
        expected = f"sha256 {sha256_hex[:16]}..., {size_bytes} bytes"
        raise ScorerError(f"{path}: sha256 {digest[:16]}..., the manifest says {expected}; fetch the bundle again")
    return content


def inspect_graph(model: bytes) -> GraphFacts:
    """Walk the messages of an .onnx file; raises ValueError when the bytes are not an ONNX model."""
    node_count = 0
    foreign_operators: dict[str, None] = {}
    has_external_data = False
    external_files: dict[str, None] = {}
    for kind, fields in _walk(memoryview(model), "model", 0):
        if kind == "tensor":
            has_external_data |= _TENSOR_EXTERNAL in fields or fields.get(_TENSOR_LOCATION, 0) != 0
        elif kind == "entry" and _text(fields.get(_ENTRY_KEY)) == "location":
            external_files[_text(fields.get(_ENTRY_VALUE))] = None
        elif kind == "node":
            node_count += 1
            domain = _text(fields.get(_NODE_DOMAIN))
            if domain not in _ALLOWED_DOMAINS:
                foreign_operators[f"{domain}::{_text(fields.get(_NODE_OPERATOR))}"] = None
    if node_count == 0:
        raise ValueError("it contains no graph")
    return GraphFacts(
        node_count=node_count,
        foreign_operators=tuple(foreign_operators),
        has_external_data=has_external_data,
        external_files=tuple(external_files),
    )


def _check_graph(model: bytes, onnx: Path, *, data_name: str) -> None:
    """Refuse bytes that are not ONNX, operators of other domains, and weights in any file other than `data_name`."""
    try:
        facts = inspect_graph(model)
    except ValueError as error:
        raise ScorerError(f"{onnx}: not an ONNX file: {error}") from error
    if facts.has_external_data and not data_name:
        raise ScorerError(f"{onnx}: has weights outside the file, which no hash covers; export it as one file")
    if facts.has_external_data and facts.external_files != (data_name,):
        files = ", ".join(facts.external_files) or "an unnamed file"
        raise ScorerError(f"{onnx}: has weights in {files}, but the manifest covers {data_name} only")
    if facts.foreign_operators:
        allowed = ", ".join(sorted(domain or "ai.onnx" for domain in _ALLOWED_DOMAINS - {"ai.onnx"}))
        raise ScorerError(f"{onnx}: unknown operators {', '.join(facts.foreign_operators)}; allowed domains: {allowed}")


def _walk(message: memoryview, kind: str, depth: int) -> Iterator[tuple[str, _Fields]]:
    """Every nested message as (kind, the last value of each field)."""
    if depth > _MAX_DEPTH:
        raise ValueError("messages are nested too deeply")
    fields: _Fields = {}
    for number, value in _fields(message):
        fields[number] = value
        nested_kind = _NESTED[kind].get(number)
        if nested_kind is not None:
            if isinstance(value, int):
                raise ValueError(f"field {number} of a {kind} is a number")
            yield from _walk(value, nested_kind, depth + 1)
    yield kind, fields


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """(field number, value) of one protobuf message; fixed-width values come as bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire_type = tag & 7
        if wire_type == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if wire_type == 2:
            length, at = _varint(message, at)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"wire type {wire_type} is unknown")
        if at + length > len(message):
            raise ValueError("it ends too early")
        yield tag >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number that starts at a position, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("it ends too early")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is too long")


def _text(value: memoryview | int | None) -> str:
    return bytes(value).decode("utf-8", "replace") if isinstance(value, memoryview) else ""


@contextmanager
def _open_regular_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file without following a link, whose target could change after the check."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        remedy = "it must lie beside the manifest, as a file and not as a link"
        raise ScorerError(f"{path}: cannot be read: {error.strerror}; {remedy}") from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ScorerError(f"{path}: is not a regular file")
        yield file


def _check_permissions(status: os.stat_result, path: Path) -> None:
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ScorerError(f"{path}: users other than its owner may write it; run chmod go-w {path.name}")


def _stamp(status: os.stat_result) -> FileStamp:
    return FileStamp(
        device=status.st_dev,
        inode=status.st_ino,
        size_bytes=status.st_size,
        modified_ns=status.st_mtime_ns,
        changed_ns=status.st_ctime_ns,
    )


def _hash_rest(file: BinaryIO, update: Callable[[bytes], None]) -> int:
    """Feed the rest of a file to a hash; returns its size in bytes."""
    size = 0
    while chunk := file.read(_CHUNK_BYTES):
        update(chunk)
        size += len(chunk)
    return size
