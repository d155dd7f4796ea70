"""A graph and its weights as one checked unit: what was hashed is what a runtime gets."""

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
from vqmon.scoring.runtime.model_file import check_graph, read_model

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
