"""Which GPUs graphs run on: the names that the settings give them, and one engine on each of them."""

import logging
import queue
import threading
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from vqmon.errors import ScoreError, ScorerError
from vqmon.scoring.manifests.frame_scorer import ScorerSpec
from vqmon.scoring.manifests.level_scorer import GraphSpec
from vqmon.scoring.runtime.batcher import Engine
from vqmon.scoring.runtime.engines import FrameEngine, GraphEngine
from vqmon.scoring.runtime.graph import Array, Placement, Runtime, first_line
from vqmon.scoring.runtime.onnx_session import ONNX_RUNTIME
from vqmon.scoring.runtime.verified_model import VerifiedModel, read_frame_model
from vqmon.telemetry.logs import log_event

_VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
_DEVICE_ORDER = "CUDA_DEVICE_ORDER"
_AnyEngine = TypeVar("_AnyEngine", bound=Engine)

_log = logging.getLogger(__name__)


def select_gpus(names: Sequence[str], environment: MutableMapping[str, str]) -> tuple[int, ...]:
    """The numbers by which CUDA knows the GPUs of `scoring.devices`; raises ScorerError.

    Names are numbers as `nvidia-smi` counts, or UUIDs of GPUs (GPU-...) or of one MIG slice (MIG-...). CUDA reads
    `environment` when its first session opens: call this before, for UUIDs are made visible there.

    >>> environment = {}
    >>> select_gpus(["GPU-5c89852c", "GPU-8f1d2a77"], environment), environment["CUDA_VISIBLE_DEVICES"]
    ((0, 1), 'GPU-5c89852c,GPU-8f1d2a77')
    """
    if not names:
        return ()
    # CUDA's own order is by speed
    environment.setdefault(_DEVICE_ORDER, "PCI_BUS_ID")
    if all(name.isdecimal() for name in names):
        return tuple(int(name) for name in names)
    if any(name.isdecimal() for name in names):
        raise ScorerError("scoring.devices: numbers and UUIDs are mixed; give all GPUs in one way")
    if len(names) > 1 and any(name.startswith("MIG-") for name in names):
        raise ScorerError(
            "scoring.devices: CUDA shows a process one MIG slice at most; run one worker for each slice, with its UUID"
        )
    visible = ",".join(names)
    if environment.get(_VISIBLE_DEVICES, visible) != visible:
        raise ScorerError(
            f"scoring.devices: {_VISIBLE_DEVICES} is {environment[_VISIBLE_DEVICES]!r} already; unset it, or give the "
            "numbers of the GPUs in it: 0 is the first"
        )
    environment[_VISIBLE_DEVICES] = visible
    return tuple(range(len(names)))


class _Turns(Generic[_AnyEngine]):
    """Whose turn it is among engines, for groups that follow one another: what one of them runs still runs there."""

    def __init__(self, engines: Sequence[_AnyEngine]) -> None:
        self._idle: queue.SimpleQueue[_AnyEngine] = queue.SimpleQueue()
        for engine in engines:
            for _ in range(engine.workers):
                self._idle.put(engine)
        # device -> how its last run failed
        self._failures: dict[str, str] = {}
        self._lock = threading.Lock()

    def take(self, members: Sequence[_AnyEngine]) -> _AnyEngine:
        """The member that has been idle for longest; others have left."""
        while (engine := self._idle.get()) not in members:
            pass
        return engine

    def give_back(self, engine: _AnyEngine, *, failure: str = "") -> None:
        """An engine after a run, which failed where `failure` says how."""
        with self._lock:
            self._failures.pop(engine.device, None)
            if failure:
                self._failures[engine.device] = failure
        self._idle.put(engine)

    def failures_of(self, members: Sequence[_AnyEngine]) -> dict[str, str]:
        """Device -> how its last run failed, of those whose last run failed."""
        with self._lock:
            return {each.device: self._failures[each.device] for each in members if each.device in self._failures}


class EngineGroup(Generic[_AnyEngine]):
    """One engine on each of several GPUs, which take the batches in turn; see `batcher.Engine`.

    The batcher puts each batch's outputs where its rows came from, so the order of rows does not depend on which GPU is
    faster. A GPU that fails leaves the group, and the last one to fail leaves to the CPU.
    """

    def __init__(
        self, engines: Sequence[_AnyEngine], *, fallback: str = "", turns: _Turns[_AnyEngine] | None = None
    ) -> None:
        self.engines, self.fallback = tuple(engines), fallback
        self.device = " + ".join(engine.device for engine in engines)
        self.workers = sum(engine.workers for engine in engines)
        self.buckets = self.engines[0].buckets
        self._turns = turns or _Turns(self.engines)

    def run(self, *rows: Array) -> Array:
        """As the engine that has been idle for longest; raises ScoreError."""
        engine, failure = self._turns.take(self.engines), ""
        try:
            return engine.run(*rows)
        except ScoreError as error:
            failure = first_line(error)
            raise
        finally:
            self._turns.give_back(engine, failure=failure)

    def fall_back(self, reason: str) -> Engine:
        """The engines whose last run did not fail, or the same model on the CPU; raises ScorerError."""
        failures = self._turns.failures_of(self.engines)
        left = [engine for engine in self.engines if engine.device not in failures]
        if not left:
            return self.engines[0].fall_back(reason)
        if not failures:
            # of a GPU that has left already, or has run again since
            return self
        lost = "; ".join(f"{device} failed: {failure}" for device, failure in failures.items())
        _log.warning(**log_event("scorer.fell_back", device=" + ".join(engine.device for engine in left), why=lost))
        return self._of(left, fallback="; ".join(filter(None, (self.fallback, lost))))

    def _of(self, engines: Sequence[_AnyEngine], *, fallback: str) -> "EngineGroup[_AnyEngine]":
        return EngineGroup(engines, fallback=fallback, turns=self._turns)


class GraphEngineGroup(EngineGroup[GraphEngine]):
    """The engines of a graph of a scorer that has several."""

    def run_at_load(self, *rows: Array) -> Array:
        """As the first engine; raises ScorerError."""
        return self.engines[0].run_at_load(*rows)

    def set_golden_output(self, inputs: tuple[Array, ...], output: Array) -> None:
        """Store an output of the first engine that passed the self-test; raises ScorerError where another differs."""
        for engine in self.engines:
            engine.set_golden_output(inputs, output)
        for engine in self.engines[1:]:
            engine.check_golden_output(self.engines[0].device)

    def warm_up(self, *row: Array) -> None:
        """Run every bucket on every GPU; raises ScorerError."""
        for engine in self.engines:
            engine.warm_up(*row)

    def _of(self, engines: Sequence[GraphEngine], *, fallback: str) -> "GraphEngineGroup":
        return GraphEngineGroup(engines, fallback=fallback, turns=self._turns)


def open_frame_engine(spec: ScorerSpec, onnx: Path, placement: Placement, *, runtime: Runtime = ONNX_RUNTIME) -> Engine:
    """The model of a frame scorer on every device of a placement, self-tested; see `_open_engines`.

    The runtime loads the same bytes that were verified. Raises ScorerError with the file, the problem and the remedy.
    """
    model = read_frame_model(spec, onnx)

    def open_on(device: str, fallback: str) -> FrameEngine:
        return FrameEngine(spec, model, placement, device=device, fallback=fallback, runtime=runtime)

    engines, fallback = _open_engines(open_on, placement, runtime=runtime)
    return engines[0] if len(engines) == 1 and not fallback else EngineGroup(engines, fallback=fallback)


def open_graph_engine(
    graph: GraphSpec,
    model: VerifiedModel,
    placement: Placement,
    *,
    shapes: tuple[tuple[int | None, ...], ...],
    buckets: tuple[int, ...],
    runtime: Runtime = ONNX_RUNTIME,
) -> GraphEngine | GraphEngineGroup:
    """One graph on every device of a placement; see `_open_engines` and `GraphEngine`."""

    def open_on(device: str, fallback: str) -> GraphEngine:
        return GraphEngine(
            graph,
            model,
            placement,
            shapes=shapes,
            buckets=buckets,
            device=device,
            fallback=fallback,
            runtime=runtime,
        )

    engines, fallback = _open_engines(open_on, placement, runtime=runtime)
    return engines[0] if len(engines) == 1 and not fallback else GraphEngineGroup(engines, fallback=fallback)


def _open_engines(
    open_on: Callable[[str, str], _AnyEngine], placement: Placement, *, runtime: Runtime
) -> tuple[list[_AnyEngine], str]:
    """The engines, and why some of the GPUs have none ("" when all have one).

    `open_on(device, fallback)` opens one. With the device "auto", GPUs that cannot be used or that compute something
    else than the manifest says are left out, and with none left the CPU is used; with another device they are errors.
    Raises ScorerError.
    """
    device = placement.device
    if device in ("cpu", "openvino") or (device == "auto" and not runtime.has_gpu_provider()):
        return [open_on("openvino" if device == "openvino" else "cpu", placement.fallback)], ""
    kind = "cuda" if device == "auto" else device
    engines: list[_AnyEngine] = []
    unusable: list[str] = []
    for name in [f"{kind}:{number}" for number in placement.gpus] or [kind]:
        try:
            engines.append(open_on(name, ""))
        except ScorerError as error:
            if device != "auto":
                raise
            unusable.append(name)
            _log.warning(**log_event("scorer.fell_back", device=name, why=str(error)))
    fallback = f"{', '.join(unusable)} cannot be used" if unusable else ""
    if not engines:
        return [open_on("cpu", fallback)], ""
    return engines, fallback
