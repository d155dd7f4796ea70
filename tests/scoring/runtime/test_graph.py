"""What all runtimes share: errors translated, ports checked, and the priority of threads."""

import contextlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tests.scoring.runtime.test_batcher import FOREVER, FakeEngine, frames
from tests.scoring.tiny_levels import write_levels
from vqmon.errors import ScorerError
from vqmon.scoring.manifests.level_scorer import load_level_spec
from vqmon.scoring.runtime.batcher import Batcher
from vqmon.scoring.runtime.engines import GraphEngine
from vqmon.scoring.runtime.graph import (
    BACKGROUND_NICENESS,
    Placement,
    Port,
    Priority,
    Session,
    call_at_priority,
    check_ports,
    first_line,
    to_score_error,
)
from vqmon.scoring.runtime.verified_model import read_graph_model


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer"), "out_of_memory"),
        (RuntimeError("CUDA failure 2: out of memory ; GPU=0"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("CUDA failure 700: an illegal memory access was encountered"), "scorer_failed"),
        (ValueError("Got invalid dimensions for input: pixels"), "scorer_failed"),
    ],
)
def test_out_of_memory_is_recognised_by_the_message(error: Exception, reason: str) -> None:
    """All other failures are `scorer_failed`."""
    assert to_score_error(error, "tiny@1", "cuda").reason == reason


class NicenessEngine(FakeEngine):
    """Its output is the niceness of the thread that runs it."""

    def run(self, *rows: Any) -> np.ndarray:
        return np.full(len(rows[0]), os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))


@pytest.mark.parametrize(
    ("priority", "device", "is_lowered"),
    [("first", "cpu", False), ("background", "cpu", True), ("background", "cuda", False)],
)
async def test_background_threads_run_at_the_lowest_priority(priority: Priority, device: str, is_lowered: bool) -> None:
    """Other threads keep theirs, also those that only feed a GPU."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    async with Batcher(NicenessEngine(device=device), priority=priority) as batcher:
        (niceness,) = await batcher.infer(frames(1), deadline_seconds=FOREVER)
    assert niceness == (min(19, own + BACKGROUND_NICENESS) if is_lowered else own)
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


def test_the_threads_of_a_runtime_inherit_the_priority(tmp_path: Path) -> None:
    """The threads of a heavy graph that uses several cores have the priority of the thread that opens it."""
    spec = load_level_spec(write_levels(tmp_path)).encoder
    placement = Placement(device="cpu", threads=3, cores_per_run=3, priority="background")
    before = set(os.listdir("/proc/self/task"))
    model = read_graph_model(spec, tmp_path)
    engine = call_at_priority(
        "background", lambda: GraphEngine(spec, model, placement, shapes=((3, 8, 16),), buckets=(1,))
    )
    assert engine.workers == 1
    ranks = []
    for task in set(os.listdir("/proc/self/task")) - before:
        with contextlib.suppress(ProcessLookupError):  # the opener may just have ended
            ranks.append(os.getpriority(os.PRIO_PROCESS, int(task)))
    assert len(ranks) >= 2
    assert set(ranks) == {min(19, os.getpriority(os.PRIO_PROCESS, os.getpid()) + BACKGROUND_NICENESS)}


@dataclass(frozen=True)
class PortsOnly:
    """A session that has ports and cannot run."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...] = (Port(name="score", dtype="float32", shape=(None,)),)


@pytest.mark.parametrize(
    ("inputs", "output", "message"),
    [
        ({"pixels": (None, 3, 8, 16)}, "score", ""),
        ({"pixels": (4, 3, 8, 16)}, "score", ""),
        ({"frames": (None, 3, 8, 16)}, "score", r"names the inputs \['frames'\], the model has \['pixels'\]"),
        ({"pixels": (None, 3, 9, 16)}, "score", r"pixels is \[None, 3, 8, 16\], the manifest says \[None, 3, 9, 16\]"),
        ({"pixels": (None, 3, 8)}, "score", "the manifest says"),
        ({"pixels": (None, 3, 8, 16)}, "quality", r"names the output 'quality', the model has \['score'\]"),
    ],
)
def test_ports_must_have_the_names_and_known_sizes_of_the_manifest(
    inputs: dict[str, tuple[int | None, ...]], output: str, message: str
) -> None:
    """A size that varies in the graph or in the manifest fits any size."""
    session = cast(Session, PortsOnly(inputs=(Port(name="pixels", dtype="float32", shape=(None, 3, 8, 16)),)))
    if not message:
        check_ports(session, inputs=inputs, output=output, where="a.onnx")
        return
    with pytest.raises(ScorerError, match=f"a.onnx: .*{message}"):
        check_ports(session, inputs=inputs, output=output, where="a.onnx")


def test_the_first_line_of_an_error_is_short_and_never_empty() -> None:
    """An error without a message is named by its type."""
    assert first_line(RuntimeError("\n one\n two")) == "one"
    assert first_line(RuntimeError("x" * 1000)) == "x" * 300
    assert first_line(MemoryError()) == "MemoryError"


@pytest.mark.parametrize(("threads", "cores_per_run", "workers"), [(4, 1, 4), (4, 2, 2), (3, 2, 1), (1, 4, 1)])
def test_the_threads_are_divided_among_concurrent_runs(threads: int, cores_per_run: int, workers: int) -> None:
    """There is always one worker."""
    assert Placement(threads=threads, cores_per_run=cores_per_run).workers == workers
    with pytest.raises(ValueError, match="cores_per_run 1 or more"):
        Placement(cores_per_run=0)
