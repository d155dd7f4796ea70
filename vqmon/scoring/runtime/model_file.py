"""The bytes of an .onnx file, checked before any runtime may read them.

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

ALLOWED_DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFacts:
    """What was found anywhere in the file, subgraphs included."""

    node_count: int
    # "domain::operator" of every operator outside ALLOWED_DOMAINS
    foreign: tuple[str, ...]
    has_external_data: bool
    # file names of that data
    locations: tuple[str, ...] = ()


def read_model(spec: ScorerSpec, onnx: Path) -> bytes:
    """The .onnx file's bytes when they are those of the manifest and hold all there is; else ScorerError."""
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
    check_graph(model, onnx, data_name="")
    return model


def check_graph(model: bytes, onnx: Path, *, data_name: str) -> None:
    """Refuse what is no ONNX file, operators of unknown origin, and weights anywhere but in the file `data_name`."""
    try:
        facts = read_graph(model)
    except ValueError as error:
        raise ScorerError(f"{onnx}: not an ONNX file: {error}") from error
    if facts.has_external_data and not data_name:
        raise ScorerError(f"{onnx}: keeps weights outside the file, which no hash covers; export it as one file")
    if facts.has_external_data and facts.locations != (data_name,):
        named = ", ".join(facts.locations) or "nowhere"
        raise ScorerError(f"{onnx}: keeps weights in {named}, the manifest vouches for {data_name} alone")
    if facts.foreign:
        allowed = ", ".join(sorted(domain or "ai.onnx" for domain in ALLOWED_DOMAINS - {"ai.onnx"}))
        raise ScorerError(f"{onnx}: unknown operators {', '.join(facts.foreign)}; allowed domains: {allowed}")


def read_graph(model: bytes) -> GraphFacts:
    """Walk an ONNX file; raises ValueError when the bytes are no such file."""
    node_count = 0
    foreign: dict[str, None] = {}
    has_external_data = False
    locations: dict[str, None] = {}
    for kind, fields in _walk(memoryview(model), "model", 0):
        if kind == "tensor":
            has_external_data |= _TENSOR_EXTERNAL in fields or fields.get(_TENSOR_LOCATION, 0) != 0
        elif kind == "entry" and _text(fields.get(_ENTRY_KEY)) == "location":
            locations[_text(fields.get(_ENTRY_VALUE))] = None
        elif kind == "node":
            node_count += 1
            domain = _text(fields.get(_NODE_DOMAIN))
            if domain not in ALLOWED_DOMAINS:
                foreign[f"{domain}::{_text(fields.get(_NODE_OPERATOR))}"] = None
    if node_count == 0:
        raise ValueError("no graph in it")
    return GraphFacts(
        node_count=node_count,
        foreign=tuple(foreign),
        has_external_data=has_external_data,
        locations=tuple(locations),
    )


Fields = dict[int, memoryview | int]


def _walk(message: memoryview, kind: str, depth: int) -> Iterator[tuple[str, Fields]]:
    """Every nested message as (kind, its last value per field)."""
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    fields: Fields = {}
    for number, value in _fields(message):
        fields[number] = value
        inner = _NESTED[kind].get(number)
        if inner is not None:
            if isinstance(value, int):
                raise ValueError(f"field {number} of a {kind} is a number")
            yield from _walk(value, inner, depth + 1)
    yield kind, fields


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """(field number, value) of one protobuf message; fixed-width values come as bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if wire == 2:
            length, at = _varint(message, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} is unknown")
        if at + length > len(message):
            raise ValueError("it ends too early")
        yield tag >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
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


MOST_GRAPH_BYTES = 2**31
"""A protobuf message holds less."""
IN_MEMORY_BYTES = 2**30
"""Weights up to this size are read once and handed over from memory; larger ones stay where they are."""
_CHUNK = 2**24

Stamp = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class GraphUnit:
    """A graph that may be loaded; its weights are inside `model`, in `data`, or in the file `data_name` of `folder`."""

    # for messages
    where: str
    sha256: str
    model: bytes
    folder: Path
    data_name: str = ""
    data: bytes | None = None
    stamp: Stamp | None = None

    def check_unchanged(self) -> None:
        """After a runtime has read a large data file by itself: it is still the file that was hashed, untouched."""
        if (
            self.stamp is not None
            and _stamp(os.stat(self.folder / self.data_name, follow_symlinks=False)) != self.stamp
        ):
            raise ScorerError(f"{self.folder / self.data_name}: was changed while it was loaded; fetch it again")


def unit_of_frames(spec: ScorerSpec, onnx: Path) -> GraphUnit:
    """The one file of a frame scorer; raises ScorerError."""
    return GraphUnit(where=str(onnx), sha256=spec.sha256, model=read_model(spec, onnx), folder=onnx.parent)


def read_unit(graph: GraphSpec, folder: Path, *, in_memory_bytes: int = IN_MEMORY_BYTES) -> GraphUnit:
    """A graph and, where its manifest says so, `file`.data beside it, hashed as one; raises ScorerError.

    A data file that is too large for memory must be a plain file that nobody but its owner may write.
    """
    onnx = folder / graph.file
    data_name = f"{graph.file}.data" if graph.has_data else ""
    digest = sha256()
    with _opened(onnx) as file:
        model = file.read(MOST_GRAPH_BYTES)
    digest.update(model)
    data, stamp, size = None, None, len(model)
    if data_name:
        with _opened(folder / data_name) as file:
            facts = os.fstat(file.fileno())
            if facts.st_size <= in_memory_bytes:
                data = file.read(in_memory_bytes)
                digest.update(data)
                size += len(data)
            else:
                stamp = _guarded(facts, folder / data_name)
                size += _hash_rest(file, digest.update)
    if (digest.hexdigest(), size) != (graph.sha256, graph.size_bytes):
        found = f"sha256 {digest.hexdigest()[:16]}..., {size} bytes"
        wanted = f"{graph.sha256[:16]}..., {graph.size_bytes} bytes"
        raise ScorerError(f"{onnx}: {found}, the manifest says {wanted}; fetch the bundle again")
    check_graph(model, onnx, data_name=data_name)
    return GraphUnit(
        where=str(onnx), sha256=graph.sha256, model=model, folder=folder, data_name=data_name, data=data, stamp=stamp
    )


def read_beside(path: Path, *, sha256_hex: str, size_bytes: int) -> bytes:
    """A small plain file that a manifest names, when it holds what is promised; raises ScorerError."""
    with _opened(path) as file:
        content = file.read(size_bytes + 1)
    found = sha256(content).hexdigest()
    if len(content) != size_bytes or found != sha256_hex:
        wanted = f"sha256 {sha256_hex[:16]}..., {size_bytes} bytes"
        raise ScorerError(f"{path}: sha256 {found[:16]}..., the manifest says {wanted}; fetch the bundle again")
    return content


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A plain file in that very folder: a link could be turned elsewhere after it was checked."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        remedy = "it must lie beside the manifest, as a file and not as a link"
        raise ScorerError(f"{path}: cannot be read: {error.strerror}; {remedy}") from error
    with os.fdopen(number, "rb") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise ScorerError(f"{path}: is no file")
        yield file


def _guarded(facts: os.stat_result, path: Path) -> Stamp:
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ScorerError(f"{path}: others than its owner may write it; chmod go-w {path.name}")
    return _stamp(facts)


def _stamp(facts: os.stat_result) -> Stamp:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _hash_rest(file: BinaryIO, update: Callable[[bytes], None]) -> int:
    size = 0
    while chunk := file.read(_CHUNK):
        update(chunk)
        size += len(chunk)
    return size
