"""Graphs that several scorers share: each is opened once, and its output for a row is computed once and cached."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Self, TypeVar

import numpy as np

from vqmon.errors import ScoreError, ScorerError
from vqmon.scoring.manifests.level_scorer import GraphSpec
from vqmon.scoring.runtime.batcher import Batcher, BatchFacts, Engine
from vqmon.scoring.runtime.devices import GraphEngineGroup, open_graph_engine
from vqmon.scoring.runtime.engines import GraphEngine
from vqmon.scoring.runtime.graph import Array, Placement, Runtime, call_at_priority, is_gpu
from vqmon.scoring.runtime.onnx_session import ONNX_RUNTIME
from vqmon.scoring.runtime.verified_model import read_graph_model
from vqmon.telemetry.logs import log_event

_CACHE_BYTES = 256 * 2**20
"""Size of the cache of all graphs together; the features of one picture of Q-Align take half a megabyte."""
_CLOSE_GRACE_SECONDS = 30.0

_log = logging.getLogger(__name__)
_Opened = TypeVar("_Opened")


class OutputCache:
    """Outputs by row key, least recently used ones evicted first; an output being computed is a pending future."""

    def __init__(self, *, cache_bytes: int = _CACHE_BYTES) -> None:
        self._max_bytes, self._bytes = cache_bytes, 0
        self._outputs: OrderedDict[bytes, asyncio.Future[Array]] = OrderedDict()

    def get(self, key: bytes) -> asyncio.Future[Array] | None:
        """The output of a row, done or pending; None when it is not cached."""
        output = self._outputs.get(key)
        if output is not None:
            self._outputs.move_to_end(key)
        return output

    def add_pending(self, key: bytes, output: asyncio.Future[Array]) -> None:
        """Store the future of an output that the caller is about to compute."""
        self._outputs[key] = output

    def complete(self, key: bytes, value: Array) -> None:
        """Resolve a pending output; evicts others while the cache is over its size."""
        self._outputs[key].set_result(value)
        self._bytes += value.nbytes
        for other_key in list(self._outputs):
            if self._bytes <= self._max_bytes:
                break
            output = self._outputs[other_key]
            if output.done() and other_key != key:
                del self._outputs[other_key]
                self._bytes -= output.result().nbytes

    def discard_pending(self, keys: Sequence[bytes], error: BaseException) -> None:
        """Remove pending outputs: a failure of the graph reaches all who wait; otherwise they compute the rows anew."""
        for key in keys:
            output = self._outputs.pop(key)
            if isinstance(error, ScoreError) and error.reason != "timeout":
                output.set_exception(error)
                output.exception()  # marks it as retrieved: there may be nobody who waits
            else:
                output.cancel()


class SharedGraph:
    """One graph behind its batcher, with cached outputs."""

    def __init__(
        self, engine: GraphEngine | GraphEngineGroup, batcher: Batcher, *, sha256: str, cache: OutputCache
    ) -> None:
        self.batcher, self._sha256, self._cache = batcher, sha256, cache
        # for the self-test at load, which does not go through the batcher
        self.load_engine = engine

    @property
    def engine(self) -> Engine:
        """The engine in use: the CPU's after a fallback."""
        return self.batcher.engine

    async def infer(self, *inputs: Array, deadline_seconds: float) -> Array:
        """Outputs (rows, ...), computed without the cache; raises ScoreError."""
        return await self.batcher.infer(*inputs, deadline_seconds=deadline_seconds)

    async def infer_cached(self, *inputs: Array, deadline_seconds: float) -> Array:
        """Outputs (rows, ...); rows with content that any caller sent recently are not computed again.

        Raises ScoreError.
        """
        loop = asyncio.get_running_loop()
        due_at = loop.time() + deadline_seconds
        keys = await loop.run_in_executor(None, _row_keys, self._sha256, inputs)
        try:
            async with asyncio.timeout_at(due_at):
                while True:
                    outputs = await self._cached_outputs(keys, inputs, due_at)
                    await asyncio.wait(set(outputs))
                    # Cancelled: the caller that computed the row left, so it is computed again.
                    if not any(output.cancelled() for output in outputs):
                        return np.stack([output.result() for output in outputs])
        except TimeoutError:
            raise ScoreError("timeout", f"no features within {deadline_seconds:g} s") from None

    async def _cached_outputs(
        self, keys: Sequence[bytes], inputs: tuple[Array, ...], due_at: float
    ) -> list[asyncio.Future[Array]]:
        """The outputs of all rows, done or pending elsewhere, after computing those that are not in the cache."""
        loop = asyncio.get_running_loop()
        outputs: dict[bytes, asyncio.Future[Array]] = {}
        missing_rows: dict[bytes, int] = {}
        for row, key in enumerate(keys):
            output = outputs.get(key) or self._cache.get(key)
            if output is None:
                missing_rows[key] = row
                output = loop.create_future()
                self._cache.add_pending(key, output)
            outputs[key] = output
        if missing_rows:
            rows = list(missing_rows.values())
            try:
                values = await self.batcher.infer(
                    *(array[rows] for array in inputs), deadline_seconds=due_at - loop.time()
                )
            except BaseException as error:
                self._cache.discard_pending(list(missing_rows), error)
                raise
            for key, value in zip(missing_rows, values, strict=True):
                self._cache.complete(key, value.copy())
        return [outputs[key] for key in keys]


class SharedGraphs:
    """Opens each graph once by its sha256 and closes all of them; opening takes seconds and blocks the event loop."""

    def __init__(
        self,
        *,
        cache_bytes: int = _CACHE_BYTES,
        runtime: Runtime = ONNX_RUNTIME,
        on_batch: Callable[[BatchFacts], None] = lambda facts: None,
    ) -> None:
        self._cache = OutputCache(cache_bytes=cache_bytes)
        # what opens the sessions, also those of frame scorers
        self.runtime, self._on_batch = runtime, on_batch
        self._graphs: dict[str, SharedGraph] = {}
        self._batchers: list[Batcher] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for batcher in self._batchers:
            await batcher.close(grace_seconds=_CLOSE_GRACE_SECONDS)

    def add_batcher(
        self,
        engine: Engine,
        placement: Placement,
        *,
        max_batch_elements: int | None = None,
        on_run: Callable[[float], None] = lambda seconds: None,
    ) -> Batcher:
        """A batcher for an engine, which closes with the graphs."""
        batcher = Batcher(
            engine,
            priority=placement.priority,
            max_batch_elements=max_batch_elements,
            on_run=on_run,
            on_batch=self._on_batch,
        )
        self._batchers.append(batcher)
        return batcher

    def open(
        self,
        graph: GraphSpec,
        folder: Path,
        placement: Placement,
        *,
        shapes: tuple[tuple[int | None, ...], ...],
        buckets: tuple[int, ...],
        max_batch_elements: int | None = None,
        on_run: Callable[[float], None] = lambda seconds: None,
    ) -> tuple[SharedGraph, bool]:
        """The graph of a manifest in `folder`, and whether this call opened it; raises ScorerError.

        `shapes` are those of one row of each input. A graph that is open keeps the placement that it was opened with.
        """
        shared_graph = self._graphs.get(graph.sha256)
        if shared_graph is not None:
            return shared_graph, False
        model = read_graph_model(graph, folder)
        engine = call_at_priority(
            placement.priority,
            lambda: open_graph_engine(graph, model, placement, shapes=shapes, buckets=buckets, runtime=self.runtime),
        )
        batcher = self.add_batcher(engine, placement, max_batch_elements=max_batch_elements, on_run=on_run)
        shared_graph = SharedGraph(engine, batcher, sha256=graph.sha256, cache=self._cache)
        self._graphs[graph.sha256] = shared_graph
        return shared_graph, True

    def open_or_fall_back(self, scorer: str, placement: Placement, open_on: Callable[[Placement], _Opened]) -> _Opened:
        """What `open_on` opens on a placement; with the device "auto", on the CPU when a self-test fails on a GPU.

        Raises ScorerError.
        """
        others = set(self._graphs)
        try:
            return open_on(placement)
        except ScorerError as error:
            opened = [sha256 for sha256 in self._graphs if sha256 not in others]
            if placement.device != "auto" or not any(is_gpu(self._graphs[each].engine.device) for each in opened):
                raise
            for sha256 in opened:
                batcher = self._graphs.pop(sha256).batcher
                self._batchers.remove(batcher)
                batcher.discard()
            _log.warning(**log_event("scorer.fell_back", scorer=scorer, device="cpu", why=str(error)))
        return open_on(replace(placement, device="cpu", fallback="the self-test failed on the GPU"))


def describe_devices(*graphs: SharedGraph) -> str:
    """The devices that the graphs run on now, and why these are not the devices that were asked for."""
    engines = [graph.engine for graph in graphs]
    devices = " + ".join(dict.fromkeys(engine.device for engine in engines))
    reasons = "; ".join(dict.fromkeys(engine.fallback for engine in engines if engine.fallback))
    return f"{devices} (fallback: {reasons})" if reasons else devices


def run_row_by_row(graph: SharedGraph, *inputs: Array) -> Array:
    """Outputs (rows, ...) for the self-test at load, one run per row and without the batcher; raises ScorerError."""
    engine = graph.load_engine
    outputs = []
    for row in range(len(inputs[0])):
        batch = (np.repeat(array[row : row + 1], engine.buckets[0], axis=0) for array in inputs)
        outputs.append(engine.run_at_load(*batch)[:1])
    return np.concatenate(outputs)


def warm_up(graph: SharedGraph, inputs: tuple[Array, ...], outputs: Array) -> None:
    """After the self-test: run every bucket once, and store the outputs that a fallback must reproduce."""
    graph.load_engine.set_golden_output(inputs, outputs)
    graph.load_engine.warm_up(*inputs)


def powers_of_two(limit: int) -> tuple[int, ...]:
    """1, 2, 4 ... up to `limit`."""
    return tuple(2**power for power in range(limit.bit_length()) if 2**power <= limit)


def _row_keys(sha256: str, inputs: tuple[Array, ...]) -> list[bytes]:
    """A digest of the graph and of the content of each row; computed in a thread."""
    keys = []
    for row in range(len(inputs[0])):
        digest = blake2b(sha256.encode(), digest_size=20)
        for array in inputs:
            digest.update(f"{array.shape[1:]}{array.dtype.str}".encode())
            digest.update(np.ascontiguousarray(array[row]).data)
        keys.append(digest.digest())
    return keys
