"""What every runtime gives: a loaded graph that turns arrays into one array, and where it may run."""

import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from numpy.typing import NDArray

from vqmon.errors import ScoreError, ScorerError
from vqmon.telemetry.logs import event

Array = NDArray[Any]
"""(rows, ...)."""
Device = Literal["auto", "cpu", "cuda", "openvino"]
Priority = Literal["first", "background"]
"""`background` work takes a core only when nothing else on this machine wants it."""

BACKGROUND_NICENESS = 19
"""Above the process's own: a core that both want goes to the others about 68 times as often."""
log = logging.getLogger(__name__)

_FULL = ("out of memory", "failed to allocate", "bad_alloc", "bad allocation")
MOST_NICENESS = 19
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output of a graph; `dtype` as numpy calls it, `shape` with None where it varies."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a graph runs and what it may use; `threads` of the CPU, 0 = one per core."""

    device: Device = "auto"
    threads: int = 0
    # of the CPU; more makes one run shorter and all of them together slower
    cores_per_run: int = 1
    # of the device's memory for what one graph computes with; 0 = no limit
    memory_bytes: int = 0
    priority: Priority = "first"

    def __post_init__(self) -> None:
        if self.threads < 0 or self.cores_per_run < 1 or self.memory_bytes < 0:
            raise ValueError("threads and memory_bytes are 0 or more, cores_per_run 1 or more")

    @property
    def workers(self) -> int:
        """How many runs may go on at once on a CPU."""
        return max(1, (self.threads or len(os.sched_getaffinity(0))) // self.cores_per_run)


class Graph(Protocol):
    """A loaded graph on one device."""

    @property
    def device(self) -> str: ...
    @property
    def inputs(self) -> tuple[Port, ...]: ...
    @property
    def outputs(self) -> tuple[Port, ...]: ...
    def run(self, feed: Mapping[str, Array], output: str) -> Array:
        """One output for named inputs; raises ScoreError."""


def translate(error: Exception, scorer: str, device: str) -> ScoreError:
    """What a failed run means; runtimes tell a full memory by words only."""
    is_full = isinstance(error, MemoryError) or any(words in str(error).lower() for words in _FULL)
    return ScoreError("out_of_memory" if is_full else "scorer_failed", f"{scorer} on {device}: {first_line(error)}")


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error) or type(error).__name__).strip().splitlines()[0][:300]


def check_ports(graph: Graph, *, inputs: Mapping[str, tuple[int | None, ...]], output: str, where: str) -> None:
    """Refuse a graph whose names or known sizes are not those of the manifest; raises ScorerError."""
    found = {port.name: port for port in graph.inputs}
    if list(found) != list(inputs):
        raise ScorerError(f"{where}: the manifest names the inputs {list(inputs)}, the model has {list(found)}")
    for name, wanted in inputs.items():
        shape = found[name].shape
        pairs = zip(shape, wanted, strict=False)
        if len(shape) != len(wanted) or any(None not in (a, b) and a != b for a, b in pairs):
            raise ScorerError(f"{where}: {name} is {list(shape)}, the manifest says {list(wanted)}")
    if output not in (port.name for port in graph.outputs):
        outputs = [port.name for port in graph.outputs]
        raise ScorerError(f"{where}: the manifest names the output {output!r}, the model has {outputs}")


def stand_back() -> None:
    """Let this thread, and threads that it starts, claim a core last: Linux keeps niceness per thread."""
    own = os.getpriority(os.PRIO_PROCESS, os.getpid())
    try:
        os.setpriority(os.PRIO_PROCESS, 0, min(own + BACKGROUND_NICENESS, MOST_NICENESS))
    except OSError as error:  # a sandbox may forbid it; the work is still confined to its cores
        log.warning(**event("scorer.priority_refused", why=error.strerror))


def made_at(priority: Priority, make: Callable[[], Made]) -> Made:
    """Call `make` in a thread of this priority: threads that a runtime starts take after the one that opens it."""
    if priority == "first":
        return make()
    with ThreadPoolExecutor(1, thread_name_prefix="opener", initializer=stand_back) as pool:
        return pool.submit(make).result()
