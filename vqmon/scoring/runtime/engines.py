"""Graphs as the batcher runs them: checked against their manifest, warmed, and with a spare on the CPU."""

from pathlib import Path

import numpy as np

from vqmon.errors import ScoreError, ScorerError
from vqmon.scoring.manifests.frame_scorer import ScorerSpec, golden_frames
from vqmon.scoring.manifests.level_scorer import GraphSpec
from vqmon.scoring.runtime.graph import Array, Graph, Placement, check_ports, translate
from vqmon.scoring.runtime.model_file import GraphUnit, unit_of_frames
from vqmon.scoring.runtime.onnx_session import open_graph, open_spare
from vqmon.scoring.runtime.tensors import to_tensor

_OUTPUT_TYPES = ("float32", "float16", "float64")
SPARE_SLACK = 0.02
"""How far a spare's answer may be from the lost device's, as a share of the largest value: half precision and more."""


class FrameEngine:
    """A frame scorer's graph; `run` may be called by as many threads at once as `workers` says.

    On a CPU each run holds one picture (or the smallest bucket) and one thread: as fast as larger batches on more
    threads, cheaper beside other work, and the same to the last bit whatever else is being scored.
    """

    def __init__(self, spec: ScorerSpec, unit: GraphUnit, placement: Placement, *, spare_for: str = "") -> None:
        self.spec, self._unit, self._placement = spec, unit, placement
        self._graph, self.fallback = _opened(spec.id, unit, placement, spare_for=spare_for)
        self.device = self._graph.device
        on_cpu = self.device != "cuda"
        self.workers = placement.workers if on_cpu else 1
        self.buckets = spec.batch_buckets[:1] if on_cpu else spec.batch_buckets
        self._check_contract()
        self._warm()
        self._check_golden()

    def run(self, *rows: Array) -> Array:
        """Native values of pictures (bucket, height, width, 3), not checked for being finite; raises ScoreError."""
        (pixels,) = rows
        try:
            tensor = to_tensor(pixels, self.spec.input)
        except (MemoryError, ValueError) as error:
            raise translate(error, self.spec.id, self.device) from error
        values = self._graph.run({self.spec.input.name: tensor}, self.spec.output.name)
        return np.asarray(values, dtype=np.float64).reshape(len(pixels))

    def fall_back(self, why: str) -> "FrameEngine":
        """The same model on the CPU after this device failed; raises ScorerError when it cannot run there either."""
        return FrameEngine(self.spec, self._unit, self._placement, spare_for=why)

    def _check_contract(self) -> None:
        spec, view = self.spec, self.spec.input.view
        check_ports(
            self._graph,
            inputs={spec.input.name: (None, 3, view.height, view.width)},
            output=spec.output.name,
            where=self._unit.where,
        )
        (source,) = self._graph.inputs
        result = next(port for port in self._graph.outputs if port.name == spec.output.name)
        if source.dtype != spec.input.dtype or result.dtype not in _OUTPUT_TYPES:
            raise self._refusal(f"takes {source.dtype} and gives {result.dtype}, the manifest says {spec.input.dtype}")
        if source.shape[0] is not None and spec.batch_buckets != (source.shape[0],):
            raise self._refusal(f"takes batches of {source.shape[0]} only, batch_buckets says {spec.batch_buckets}")
        if not (len(result.shape) == 1 or (len(result.shape) == 2 and result.shape[1] in (None, 1))):
            raise self._refusal(f"gives {list(result.shape)}, a scalar head gives [batch] or [batch, 1]")

    def _warm(self) -> None:
        # The largest first: memory is at its highest mark from the start and never grows.
        view = self.spec.input.view
        for bucket in reversed(self.buckets):
            self._try(np.zeros((bucket, view.height, view.width, 3), dtype=np.uint8))

    def _check_golden(self) -> None:
        golden = self.spec.golden
        frames = golden_frames(self.spec.input.view, seed=golden.input.seed, frames=golden.input.frames)
        for at, expected in enumerate(golden.output):
            found = self._try(np.repeat(frames[at : at + 1], self.buckets[0], axis=0))[0]
            if not abs(found - expected) <= golden.tolerance:
                raise self._refusal(
                    f"self-test on {self.device}: golden frame {at} gave {found:.6g}, the manifest says {expected:.6g} "
                    f"(tolerance {golden.tolerance:g}); the bundle is not what was exported, or it is computed wrongly "
                    "here: fetch or export the bundle again"
                )

    def _try(self, pixels: Array) -> Array:
        try:
            return self.run(pixels)
        except ScoreError as error:
            raise self._refusal(f"self-test failed: {error.detail}") from error
        except ValueError as error:
            raise self._refusal(f"does not give one value per picture: {error}") from error

    def _refusal(self, what: str) -> ScorerError:
        return ScorerError(f"{self._unit.where}: {what}")


class RowEngine:
    """One graph of several: arrays (rows, ...) in, one array (rows, ...) out.

    `shapes` are those of one row of each input, None where it varies. On a CPU rows run one by one.
    """

    def __init__(
        self,
        graph: GraphSpec,
        unit: GraphUnit,
        placement: Placement,
        *,
        shapes: tuple[tuple[int | None, ...], ...],
        buckets: tuple[int, ...],
        spare_for: str = "",
    ) -> None:
        self.spec, self._unit, self._placement, self._shapes = graph, unit, placement, shapes
        self._all_buckets = buckets
        self._graph, self.fallback = _opened(graph.file, unit, placement, spare_for=spare_for)
        self.device = self._graph.device
        on_cpu = self.device != "cuda"
        self.workers = placement.workers if on_cpu else 1
        self.buckets = buckets[:1] if on_cpu else buckets
        inputs = {name: (None, *shape) for name, shape in zip(graph.inputs, shapes, strict=True)}
        check_ports(self._graph, inputs=inputs, output=graph.output, where=unit.where)
        self.dtypes = tuple(port.dtype for port in self._graph.inputs)
        self._known: tuple[tuple[Array, ...], Array] | None = None

    @property
    def where(self) -> str:
        """The file, for messages."""
        return self._unit.where

    def run(self, *rows: Array) -> Array:
        """What the graph says of rows that are as many as a bucket; raises ScoreError."""
        values = self._graph.run(dict(zip(self.spec.inputs, rows, strict=True)), self.spec.output)
        if len(values) != len(rows[0]):
            raise ScoreError("scorer_failed", f"{self.spec.file}: {len(values)} answers to {len(rows[0])} rows")
        return values

    def warm(self, *row: Array) -> None:
        """Run every bucket with copies of one row, the largest first; raises ScorerError."""
        for bucket in reversed(self.buckets):
            self.tried(*(np.repeat(each[:1], bucket, axis=0) for each in row))

    def tried(self, *rows: Array) -> Array:
        """As `run`, and what fails is a fault of the bundle; raises ScorerError."""
        try:
            return self.run(*rows)
        except ScoreError as error:
            raise ScorerError(f"{self._unit.where}: self-test failed: {error.detail}") from error

    def remember(self, rows: tuple[Array, ...], answer: Array) -> None:
        """An answer that passed the golden test: a spare has to give it too."""
        self._known = (rows, answer)

    def fall_back(self, why: str) -> "RowEngine":
        """The same graph on the CPU after this device failed; raises ScorerError when it cannot run there either."""
        spare = RowEngine(
            self.spec, self._unit, self._placement, shapes=self._shapes, buckets=self._all_buckets, spare_for=why
        )
        if self._known is not None:
            rows, answer = self._known
            found = np.concatenate([spare.tried(*(each[at : at + 1] for each in rows)) for at in range(len(answer))])
            apart = float(np.abs(found.astype(np.float64) - answer).max())
            if not apart <= SPARE_SLACK * float(np.abs(answer).max()):
                raise ScorerError(f"{self._unit.where}: the CPU's answer is {apart:g} from that of {self.device}")
            spare.remember(rows, answer)
        return spare


def open_frames(spec: ScorerSpec, onnx: Path, placement: Placement) -> FrameEngine:
    """Load the model beside a manifest; raises ScorerError: what, where, remedy.

    The bytes that were checked are the bytes that are loaded.
    """
    return FrameEngine(spec, unit_of_frames(spec, onnx), placement)


def _opened(name: str, unit: GraphUnit, placement: Placement, *, spare_for: str) -> tuple[Graph, str]:
    if spare_for:
        return open_spare(unit, name=name, placement=placement, why=spare_for), spare_for
    return open_graph(unit, name=name, placement=placement)
