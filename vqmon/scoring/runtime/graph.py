"""What every inference runtime offers: a session that runs one ONNX graph, and the placement that it is opened with."""

import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from numpy.typing import NDArray

from vqmon.errors import ScoreError, ScorerError
from vqmon.scoring.runtime.verified_model import VerifiedModel
from vqmon.telemetry.logs import log_event

Array = NDArray[Any]
"""(rows, ...)."""
Device = Literal["auto", "cpu", "cuda", "tensorrt", "openvino"]
Precision = Literal["float32", "float16", "bfloat16"]
Priority = Literal["first", "background"]
"""Threads of `background` work get a CPU core only when no other thread of this machine wants it."""

BACKGROUND_NICENESS = 19
"""Added to the niceness of the process; at 19, Linux schedules a competing thread about 68 times as often."""
_MAX_NICENESS = 19
_OUT_OF_MEMORY_TEXTS = ("out of memory", "failed to allocate", "bad_alloc", "bad allocation")

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output of a graph; `dtype` is numpy's name, `shape` has None for each dimension that varies."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The device that a graph runs on and the resources that it may use."""

    device: Device = "auto"
    # as CUDA counts them, one session each; () = the first one
    gpus: tuple[int, ...] = ()
    # of the CPU, for all runs together; 0 = one per core
    threads: int = 0
    # CPU cores; more make one run shorter and reduce the throughput of concurrent runs
    cores_per_run: int = 1
    # device memory that one graph may use to compute; 0 = no limit
    memory_bytes: int = 0
    priority: Priority = "first"
    # what TensorRT computes in; the other devices compute in the types of the graph
    precision: Precision = "float32"
    # where TensorRT stores the engines that it builds; None = nowhere
    engine_cache: Path | None = None
    # whether runs of graphs with fixed shapes are captured as CUDA graphs and replayed
    cuda_graphs: bool = False
    # why `device` is not the one that was asked for
    fallback: str = ""

    def __post_init__(self) -> None:
        if self.threads < 0 or self.cores_per_run < 1 or self.memory_bytes < 0:
            raise ValueError("threads and memory_bytes must be 0 or more, cores_per_run 1 or more")

    @property
    def workers(self) -> int:
        """The number of concurrent runs on a CPU."""
        return max(1, (self.threads or len(os.sched_getaffinity(0))) // self.cores_per_run)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputShapes:
    """The smallest and the largest shape of one input of a graph, the batch included; None where one varies."""

    name: str
    smallest: tuple[int | None, ...]
    largest: tuple[int | None, ...]

    @property
    def is_fixed(self) -> bool:
        """Whether all but the size of the batch is known."""
        return None not in (*self.smallest, *self.largest)


class Session(Protocol):
    """A graph that is loaded on one device."""

    @property
    def device(self) -> str: ...
    @property
    def inputs(self) -> tuple[Port, ...]: ...
    @property
    def outputs(self) -> tuple[Port, ...]: ...
    def run(self, feed: Mapping[str, Array], output: str) -> Array:
        """Compute one output from the inputs by name; raises ScoreError."""


class Runtime(Protocol):
    """What opens sessions; `scoring.runtime.onnx_session` has the implementation."""

    def has_gpu_provider(self) -> bool:
        """Whether the installed runtime was built for CUDA; a GPU may be missing all the same."""

    def open(
        self, model: VerifiedModel, *, name: str, device: str, placement: Placement, shapes: tuple[InputShapes, ...]
    ) -> Session:
        """Open a session on "cpu", "openvino", or a GPU such as "cuda", "cuda:1" or "tensorrt:0".

        Raises ScorerError with the file, the problem and the remedy.
        """


def is_gpu(device: str) -> bool:
    """Whether the name of the device of a session is that of a GPU.

    >>> [is_gpu(device) for device in ("cpu", "openvino", "cuda", "tensorrt:1")]
    [False, False, True, True]
    """
    return device.startswith(("cuda", "tensorrt"))


def gpu_index(device: str) -> int:
    """The number of a GPU as CUDA counts them, from the name of the device.

    >>> [gpu_index(device) for device in ("cuda", "cuda:1")]
    [0, 1]
    """
    return int(device.partition(":")[2] or 0)


def to_score_error(error: Exception, scorer: str, device: str) -> ScoreError:
    """Translate an error of a run; `out_of_memory` is recognised by the message, as runtimes have no type for it."""
    return ScoreError(
        "out_of_memory" if is_out_of_memory(error) else "scorer_failed", f"{scorer} on {device}: {first_line(error)}"
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of a runtime says that there was too little memory, of the machine or of the device."""
    message = str(error).lower()
    return isinstance(error, MemoryError) or any(text in message for text in _OUT_OF_MEMORY_TEXTS)


def first_line(error: Exception) -> str:
    """The first line of an error's message, at most 300 characters; the error's type when there is no message."""
    return (str(error) or type(error).__name__).strip().splitlines()[0][:300]


def check_ports(session: Session, *, inputs: Mapping[str, tuple[int | None, ...]], output: str, where: str) -> None:
    """Raise ScorerError unless the session has the inputs and the output that the manifest names, in these shapes."""
    ports = {port.name: port for port in session.inputs}
    if list(ports) != list(inputs):
        raise ScorerError(f"{where}: the manifest names the inputs {list(inputs)}, the model has {list(ports)}")
    for name, expected in inputs.items():
        shape = ports[name].shape
        sizes = zip(shape, expected, strict=False)
        if len(shape) != len(expected) or any(None not in pair and pair[0] != pair[1] for pair in sizes):
            raise ScorerError(f"{where}: {name} is {list(shape)}, the manifest says {list(expected)}")
    if output not in (port.name for port in session.outputs):
        outputs = [port.name for port in session.outputs]
        raise ScorerError(f"{where}: the manifest names the output {output!r}, the model has {outputs}")


def lower_thread_priority() -> None:
    """Set the calling thread, and threads that it starts, to background niceness: on Linux niceness is per thread."""
    process_niceness = os.getpriority(os.PRIO_PROCESS, os.getpid())
    try:
        os.setpriority(os.PRIO_PROCESS, 0, min(process_niceness + BACKGROUND_NICENESS, _MAX_NICENESS))
    except OSError as error:  # a sandbox may forbid it; the number of cores is limited all the same
        _log.warning(**log_event("scorer.priority_refused", why=error.strerror))


def call_at_priority(priority: Priority, create: Callable[[], _T]) -> _T:
    """Call `create` in a thread of this priority, which the threads that a runtime starts in it inherit."""
    if priority == "first":
        return create()
    with ThreadPoolExecutor(1, thread_name_prefix="opener", initializer=lower_thread_priority) as pool:
        return pool.submit(create).result()
