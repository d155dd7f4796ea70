"""Engines, which the batcher runs: a session checked against its manifest, warmed up, with a fallback on the CPU."""

import logging
from dataclasses import dataclass

import numpy as np

from vqmon.errors import MEMORY_REMEDY, ScoreError, ScorerError
from vqmon.scoring.manifests.frame_scorer import ScorerSpec, golden_frames
from vqmon.scoring.manifests.level_scorer import GraphSpec
from vqmon.scoring.runtime.graph import Array, InputShapes, Placement, Runtime, check_ports, is_gpu, to_score_error
from vqmon.scoring.runtime.onnx_session import ONNX_RUNTIME
from vqmon.scoring.runtime.tensors import to_tensor
from vqmon.scoring.runtime.verified_model import VerifiedModel
from vqmon.telemetry.logs import log_event

_OUTPUT_DTYPES = ("float32", "float16", "float64")
_FALLBACK_TOLERANCE = 0.02
"""The CPU's output may differ by this share of the largest value: more than the rounding of half precision."""

_log = logging.getLogger(__name__)


class FrameEngine:
    """The model of a frame scorer; `run` may be called by as many threads at once as `workers` says.

    On a CPU each run takes one picture (or the smallest bucket) and one thread: as fast as larger batches on more
    threads, cheaper beside other work, and the same to the last bit whatever else is scored at the same time.
    """

    def __init__(
        self,
        spec: ScorerSpec,
        model: VerifiedModel,
        placement: Placement,
        *,
        device: str = "cpu",
        fallback: str = "",
        runtime: Runtime = ONNX_RUNTIME,
    ) -> None:
        self.spec, self._model, self._placement, self._runtime = spec, model, placement, runtime
        self.device, self.fallback = device, fallback
        self.workers = 1 if is_gpu(device) else placement.workers
        self.buckets = spec.batch_buckets if is_gpu(device) else spec.batch_buckets[:1]
        shapes = _input_shapes(spec.input.name, (3, spec.input.view.height, spec.input.view.width), self.buckets)
        self._session = runtime.open(model, name=spec.id, device=device, placement=placement, shapes=(shapes,))
        self._check_contract()
        self._warm_up()
        self._check_golden()

    def run(self, *rows: Array) -> Array:
        """Native values of pictures (bucket, height, width, 3), which may be NaN or infinite; raises ScoreError."""
        (pixels,) = rows
        try:
            tensor = to_tensor(pixels, self.spec.input)
        except (MemoryError, ValueError) as error:
            raise to_score_error(error, self.spec.id, self.device) from error
        values = self._session.run({self.spec.input.name: tensor}, self.spec.output.name)
        return np.asarray(values, dtype=np.float64).reshape(len(pixels))

    def fall_back(self, reason: str) -> "FrameEngine":
        """The same model on the CPU after this device failed; raises ScorerError when it cannot run there either."""
        _log.warning(**log_event("scorer.fell_back", scorer=self.spec.id, device="cpu", why=reason))
        return FrameEngine(self.spec, self._model, self._placement, fallback=reason, runtime=self._runtime)

    def _check_contract(self) -> None:
        spec, view = self.spec, self.spec.input.view
        check_ports(
            self._session,
            inputs={spec.input.name: (None, 3, view.height, view.width)},
            output=spec.output.name,
            where=self._model.where,
        )
        (source,) = self._session.inputs
        output = next(port for port in self._session.outputs if port.name == spec.output.name)
        if source.dtype != spec.input.dtype or output.dtype not in _OUTPUT_DTYPES:
            raise self._error(f"takes {source.dtype} and gives {output.dtype}, the manifest says {spec.input.dtype}")
        if source.shape[0] is not None and spec.batch_buckets != (source.shape[0],):
            raise self._error(f"takes batches of {source.shape[0]} only, batch_buckets says {spec.batch_buckets}")
        if not (len(output.shape) == 1 or (len(output.shape) == 2 and output.shape[1] in (None, 1))):
            raise self._error(f"gives {list(output.shape)}, a scalar head gives [batch] or [batch, 1]")

    def _warm_up(self) -> None:
        # The largest bucket first: memory use peaks at the start and does not grow later.
        view = self.spec.input.view
        for bucket in reversed(self.buckets):
            self._run_at_load(np.zeros((bucket, view.height, view.width, 3), dtype=np.uint8))

    def _check_golden(self) -> None:
        golden = self.spec.golden
        frames = golden_frames(self.spec.input.view, seed=golden.input.seed, frames=golden.input.frames)
        for index, expected in enumerate(golden.output):
            value = self._run_at_load(np.repeat(frames[index : index + 1], self.buckets[0], axis=0))[0]
            if not abs(value - expected) <= golden.tolerance:
                raise self._error(
                    f"self-test on {self.device}: golden frame {index} gave {value:.6g}, the manifest says "
                    f"{expected:.6g} (tolerance {golden.tolerance:g}); either the bundle is not the one that was "
                    "exported or this machine computes it wrongly: fetch or export the bundle again"
                )

    def _run_at_load(self, pixels: Array) -> Array:
        try:
            return self.run(pixels)
        except ScoreError as error:
            raise self._error(_self_test_problem(error)) from error
        except ValueError as error:
            raise self._error(f"does not give one value per picture: {error}") from error

    def _error(self, problem: str) -> ScorerError:
        return ScorerError(f"{self._model.where}: {problem}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _GoldenRun:
    """Inputs (rows, ...) and the output (rows, ...) that passed the self-test."""

    inputs: tuple[Array, ...]
    output: Array


class GraphEngine:
    """One graph of a scorer that has several: takes arrays (rows, ...) and gives one array (rows, ...).

    `shapes` are those of one row of each input, with None for each dimension that varies. On a CPU rows run one by one.
    """

    def __init__(
        self,
        graph: GraphSpec,
        model: VerifiedModel,
        placement: Placement,
        *,
        shapes: tuple[tuple[int | None, ...], ...],
        buckets: tuple[int, ...],
        device: str = "cpu",
        fallback: str = "",
        runtime: Runtime = ONNX_RUNTIME,
    ) -> None:
        self.spec, self._model, self._placement, self._shapes = graph, model, placement, shapes
        self._device_buckets, self._runtime = buckets, runtime
        self.device, self.fallback = device, fallback
        self.workers = 1 if is_gpu(device) else placement.workers
        self.buckets = buckets if is_gpu(device) else buckets[:1]
        named_shapes = zip(graph.inputs, shapes, strict=True)
        self._session = runtime.open(
            model,
            name=graph.file,
            device=device,
            placement=placement,
            shapes=tuple(_input_shapes(name, shape, self.buckets) for name, shape in named_shapes),
        )
        inputs = {name: (None, *shape) for name, shape in zip(graph.inputs, shapes, strict=True)}
        check_ports(self._session, inputs=inputs, output=graph.output, where=model.where)
        self._golden_run: _GoldenRun | None = None

    def run(self, *rows: Array) -> Array:
        """The output (bucket, ...) for the inputs (bucket, ...); raises ScoreError."""
        output = self._session.run(dict(zip(self.spec.inputs, rows, strict=True)), self.spec.output)
        if len(output) != len(rows[0]):
            raise ScoreError("scorer_failed", f"{self.spec.file}: {len(output)} output rows for {len(rows[0])} rows")
        return output

    def warm_up(self, *row: Array) -> None:
        """Run every bucket with copies of one row, the largest first; raises ScorerError."""
        for bucket in reversed(self.buckets):
            self.run_at_load(*(np.repeat(array[:1], bucket, axis=0) for array in row))

    def run_at_load(self, *rows: Array) -> Array:
        """As `run`, but a failure is a fault of the bundle; raises ScorerError."""
        try:
            return self.run(*rows)
        except ScoreError as error:
            raise ScorerError(f"{self._model.where}: {_self_test_problem(error)}") from error

    def set_golden_output(self, inputs: tuple[Array, ...], output: Array) -> None:
        """Store an output that passed the self-test; a fallback on the CPU, and other GPUs, must give it too."""
        self._golden_run = _GoldenRun(inputs=inputs, output=output)

    def check_golden_output(self, other_device: str) -> None:
        """Raise ScorerError unless this engine gives the stored output, which another device gave."""
        if self._golden_run is None:
            return
        inputs, expected = self._golden_run.inputs, self._golden_run.output
        rows = [
            self.run_at_load(*(np.repeat(array[index : index + 1], self.buckets[0], axis=0) for array in inputs))[:1]
            for index in range(len(expected))
        ]
        difference = float(np.abs(np.concatenate(rows).astype(np.float64) - expected).max())
        if not difference <= _FALLBACK_TOLERANCE * float(np.abs(expected).max()):
            where, device = self._model.where, "CPU" if self.device == "cpu" else self.device
            raise ScorerError(f"{where}: the {device}'s output differs by {difference:g} from that of {other_device}")

    def fall_back(self, reason: str) -> "GraphEngine":
        """The same graph on the CPU after this device failed; raises ScorerError when it cannot run there either."""
        _log.warning(**log_event("scorer.fell_back", scorer=self.spec.file, device="cpu", why=reason))
        engine = GraphEngine(
            self.spec,
            self._model,
            self._placement,
            shapes=self._shapes,
            buckets=self._device_buckets,
            fallback=reason,
            runtime=self._runtime,
        )
        if self._golden_run is not None:
            engine.set_golden_output(self._golden_run.inputs, self._golden_run.output)
            engine.check_golden_output(self.device)
        return engine


def _input_shapes(name: str, row_shape: tuple[int | None, ...], buckets: tuple[int, ...]) -> InputShapes:
    return InputShapes(name=name, smallest=(buckets[0], *row_shape), largest=(buckets[-1], *row_shape))


def _self_test_problem(error: ScoreError) -> str:
    remedy = f"; there is too little memory: {MEMORY_REMEDY}" if error.reason == "out_of_memory" else ""
    return f"self-test failed: {error.detail}{remedy}"
