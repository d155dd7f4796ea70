"""Makes an 8-bit form of an exported scorer: calibrated on its owner's pictures, its last product refitted.

The products that 8 bits cost most stay in float32, as many as it takes until the scores of pictures that were held out
follow those of float32.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from models.commands.quantize.calibration import GraphCalibration, ProductProbe, ValueProbe
from models.commands.quantize.human_scores import NOT_MEASURED, Loss, RatedFiles, measure_loss
from models.commands.quantize.refit import Rows, refit_product
from models.data.csv_scores import DataError
from models.export import graphs
from models.export.assembly import composite
from models.export.assembly.composite import ScoreScale
from models.export.assembly.writer import GOLDEN_ROWS, golden_values
from models.export.graphs import graph_spec
from models.export.quantize import quantize_statically, stored_products, weight_values
from models.verify.assembly import AssemblyRunner
from vqmon.core.evaluation.correlations import spearman
from vqmon.scoring.manifests.composite_scorer import CompositeSpec, StepSpec, load_composite_spec

Array = NDArray[np.generic]
Segment = Mapping[str, Array]
"""The source arrays of one picture or clip, by name."""
FLOAT, INT8 = "fp32", "int8"
_FLOAT_SHARES = (0.0, 0.125, 0.25, 0.5)
"""Shares of the products that stay in float32, tried in this order."""
_RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
"""Weights of the squared change of the last product, as shares of the mean square of its inputs, times the rows."""
_MIN_HELD_OUT = 4
_TRIED = ".tried"
"""In the names of graphs until they are accepted, so that a try does not touch an earlier form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Follows:
    """How the scores in 8 bits follow those in float32 on the held-out pictures."""

    srcc: float
    # of native values, as a share of their standard deviation in float32
    rms: float
    products: int
    in_float: int
    ridge: float | None

    def describe(self) -> str:
        """One line for the card and the report."""
        head = "as it was" if self.ridge is None else f"refitted (ridge {self.ridge:g})"
        return (
            f"{self.products - self.in_float} of {self.products} products in 8 bits, the last one {head}; held out: "
            f"SRCC with float32 {self.srcc:.4f}, rms difference {self.rms:.3f} of the scores' deviation"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """The last product of matrices of a scorer, which stays in float32."""

    step: str
    output: str
    source: str


def quantize_scorer(
    sheet: Path, calibration: Sequence[Segment], held_out: Sequence[Segment], *, max_loss: float, threads: int,
    rated: RatedFiles | None, read_segment: Callable[[Path], Segment],
) -> Iterator[str]:  # fmt: skip
    """Write the 8-bit graphs, sheet and manifest of a scorer beside those in float32; what was done, line by line.

    Raises DataError for a scorer without a manifest or without products of matrices, and when even with half of the
    products in float32 1 - SRCC of the held-out scores with those of float32 is above `max_loss`, or what is lost of
    the SRCC with the human scores of `rated`, whose files `read_segment` reads: nothing is left then.
    """
    if min(len(calibration), len(held_out)) < _MIN_HELD_OUT:
        raise DataError(
            f"{len(calibration) + len(held_out)} files are too few: {3 * _MIN_HELD_OUT} are needed, or more"
        )
    work = _Quantization(sheet, threads=threads)
    yield f"{len(calibration)} pictures and clips calibrate {', '.join(work.probed)}; {len(held_out)} are held out"
    expected = work.run_float(calibration, held_out)
    best: _Follows | None = None
    loss: Loss | None = None
    exact = work.score_files(rated.files, read_segment, form=FLOAT) if rated else None
    try:
        for share in _FLOAT_SHARES:
            follows = work.write(share, calibration, held_out, expected=expected)
            yield follows.describe()
            if 1 - follows.srcc <= max_loss:
                if rated and exact is not None:
                    rounded = work.score_files(rated.files, read_segment, form=INT8)
                    loss = measure_loss(rated, exact, rounded, max_loss=max_loss)
                yield loss.describe() if loss else NOT_MEASURED
                if loss is None or loss.is_allowed:
                    yield f"written: {work.finish(follows, len(calibration), loss)}"
                    return
            best = follows if best is None or follows.srcc > best.srcc else best
        assert best is not None
        if loss is not None:
            raise DataError(f"8 bits cost too much: {loss.describe()}; allow more by --max-loss, or stay in float32")
        raise DataError(
            f"8 bits cost too much: SRCC {best.srcc:.4f} with float32 at best, {1 - max_loss:g} is asked for; give "
            "more pictures, or allow more by --max-loss"
        )
    except BaseException:
        work.discard()
        raise


class _Quantization:
    """The graphs of one scorer on their way to 8 bits."""

    def __init__(self, sheet: Path, *, threads: int) -> None:
        self._sheet, self._folder, self._threads = sheet, sheet.parent, threads
        self._float = AssemblyRunner(sheet, threads=threads)
        self._manifest = _read_manifest(sheet, self._float.table)
        self._probes = {
            step.name: ProductProbe(self._folder / step.graph.file, output=step.graph.output, threads=threads)
            for step in self._float.steps
            if _has_products(self._folder, step)
        }
        self._head = self._find_head()
        head = (self._head.step, self._head.output)
        if all((name, output) == head for name, probe in self._probes.items() for output in probe.outputs):
            raise DataError(
                f"{sheet}: has no products of matrices with weights but the last one; convolutions stay in float32, as "
                "their 8-bit forms are not faster on CPUs: there is nothing to gain"
            )
        self._calibrations: dict[str, GraphCalibration] = {}
        self._exact_head_rows: list[Rows] = []
        self._written: list[Path] = []
        self._steps: tuple[StepSpec, ...] = ()

    @property
    def probed(self) -> tuple[str, ...]:
        """The steps whose graphs have products."""
        return tuple(self._probes)

    def run_float(self, calibration: Sequence[Segment], held_out: Sequence[Segment]) -> NDArray[np.float64]:
        """Native scores of the held-out pictures in float32; the products' inputs are measured on the others."""
        for segment in calibration:
            values = dict(segment)
            for step in self._float.steps:
                probe = self._probes.get(step.name)
                values[step.name] = self._float.run_step(step, values, slice(None), run=probe and probe.run)
        self._calibrations = {name: probe.calibrate() for name, probe in self._probes.items()}
        self._exact_head_rows = self._head_rows(self._float, calibration)
        self._probes.clear()
        return _native_scores(self._float, held_out)

    def write(
        self,
        float_share: float,
        calibration: Sequence[Segment],
        held_out: Sequence[Segment],
        *,
        expected: NDArray[np.float64],
    ) -> _Follows:
        """Write the graphs with a share of the products in float32, refit the last one, and compare the scores."""
        errors = {
            (step, each.output): each.error
            for step, graph in self._calibrations.items()
            for each in graph.errors
            if (step, each.output) != (self._head.step, self._head.output)
        }
        by_cost = sorted(errors, key=errors.__getitem__, reverse=True)
        quantized = set(by_cost[round(float_share * len(by_cost)) :])
        for step, graph in self._calibrations.items():
            model = ir.load(self._folder / self._step(step).graph.file)
            outputs = {output for name, output in quantized if name == step}
            quantize_statically(model, graph.ranges, outputs=outputs)
            self._save(step, model)
        ridge = self._refit_head(calibration)
        scores = _native_scores(self._runner(), held_out)
        return _Follows(
            srcc=float(spearman(scores, expected)),
            rms=float(np.sqrt(np.mean((scores - expected) ** 2)) / max(float(expected.std()), 1e-12)),
            products=len(errors) + 1,
            in_float=len(errors) + 1 - len(quantized),
            ridge=ridge,
        )

    def score_files(self, files: Sequence[Path], read: Callable[[Path], Segment], *, form: str) -> NDArray[np.float64]:
        """Native scores of files, one in memory at a time, in float32 or as written last."""
        runner = self._float if form == FLOAT else self._runner()
        return np.concatenate([_native_scores(runner, [read(file)]) for file in files])

    def finish(self, follows: _Follows, pictures: int, loss: Loss | None) -> Path:
        """Write sheet and manifest; returns the path of the manifest."""
        for file in dict.fromkeys(self._written):
            file.replace(file.with_name(file.name.replace(_TRIED, "")))
        self._steps = tuple(
            replace(step, graph=replace(step.graph, file=step.graph.file.replace(_TRIED, ""))) for step in self._steps
        )
        table = self._float.table
        name = f"{table['name'].removesuffix(f'-{FLOAT}')}-{INT8}"
        target = self._folder / f"{name}@{table['version']}.parts.json"
        provenance = {
            **table["provenance"],
            "quantized from": f"{table['name']}@{table['version']}, sha256 {self._manifest.sha256[:16]}",
            "calibration": f"{pictures} pictures and clips; {follows.describe()}",
            **({"human scores": loss.describe()} if loss else {}),
        }
        changed = {**table, "name": name, "form": INT8, "provenance": provenance}
        changed["steps"] = [asdict(step) for step in self._steps]
        target.write_text(json.dumps(changed, indent=2) + "\n", encoding="utf-8")
        runner = AssemblyRunner(target, threads=self._threads)
        values = runner.run(runner.golden(GOLDEN_ROWS))
        changed["golden"] = {step.name: golden_values(values[step.name]) for step in runner.steps}
        target.write_text(json.dumps(changed, indent=2) + "\n", encoding="utf-8")
        scale = ScoreScale(native_range=self._manifest.native_range, calibration=self._manifest.calibration)
        return composite.write_composite_manifest(target, scale)

    def discard(self) -> None:
        """Remove the graphs that were written."""
        for file in self._written:
            file.unlink(missing_ok=True)

    def _find_head(self) -> _Head:
        """The last product of the last graph that has one, whose input a graph can give."""
        for step in reversed(self._float.steps):
            if step.name in self._probes:
                node, _ = stored_products(ir.load(self._folder / step.graph.file))[-1]
                assert node.inputs[0] is not None
                return _Head(step=step.name, output=str(node.outputs[0].name), source=str(node.inputs[0].name))
        raise DataError(f"{self._sheet}: has no products of matrices with weights")

    def _refit_head(self, calibration: Sequence[Segment]) -> float | None:
        """Refit the last product to what it gives in float32, and save its graph; returns the ridge that was chosen.

        It is chosen on the last quarter of the calibration; None, where no refit is nearer there than none.
        """
        exact, rounded = self._exact_head_rows, self._head_rows(self._runner(), calibration)
        model = ir.load(self._path(self._head.step))
        node, weight = next(
            (node, weight) for node, weight in stored_products(model) if node.outputs[0].name == self._head.output
        )
        is_transposed = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1
        before = weight_values(weight).T if is_transposed else weight_values(weight)
        share = max(1, len(calibration) // 4)
        fitted_on, chosen_on = (np.concatenate(each) for each in (rounded[:-share], rounded[-share:]))
        targets, expected = (np.concatenate(each) @ before for each in (exact[:-share], exact[-share:]))
        errors = {
            ridge: np.linalg.norm(chosen_on @ refit_product(fitted_on, targets, before, ridge=ridge) - expected)
            for ridge in _RIDGES
        }
        ridge = min(errors, key=errors.__getitem__)
        if errors[ridge] >= np.linalg.norm(chosen_on @ before - expected):
            return None
        every, wanted = np.concatenate(rounded), np.concatenate(exact) @ before
        after = refit_product(every, wanted, before, ridge=ridge)
        tensor = ir.tensor(np.ascontiguousarray(after.T if is_transposed else after), name=str(weight.name))
        weight.const_value = tensor
        self._save(self._head.step, model)
        return ridge

    def _head_rows(self, runner: AssemblyRunner, segments: Sequence[Segment]) -> list[Rows]:
        """The inputs (rows, width) of the last product, for each segment."""
        step = next(step for step in runner.steps if step.name == self._head.step)
        probe = ValueProbe(
            self._folder / step.graph.file,
            output=step.graph.output,
            watched=(self._head.source,),
            threads=self._threads,
        )
        rows: list[Rows] = []

        def run(feeds: Segment) -> Array:
            output, source = probe.run(feeds)
            rows.append(np.asarray(source, dtype=np.float32).reshape(-1, source.shape[-1]))
            return output

        for segment in segments:
            values = dict(segment)
            for each in runner.steps:
                values[each.name] = runner.run_step(each, values, slice(None), run=run if each == step else None)
        return rows

    def _runner(self) -> AssemblyRunner:
        return AssemblyRunner(self._sheet, threads=self._threads, steps=self._steps)

    def _step(self, name: str) -> StepSpec:
        return next(step for step in self._float.steps if step.name == name)

    def _path(self, step: str) -> Path:
        file = self._step(step).graph.file
        return self._folder / file.replace(f"-{FLOAT}@", f"-{INT8}{_TRIED}@")

    def _save(self, step: str, model: ir.Model) -> None:
        path = self._path(step)
        self._written.append(path)
        graphs.save_graph(model, path)
        changed = self._step(step)
        graph = graph_spec(path, inputs=changed.graph.inputs, output=changed.graph.output)
        current = self._steps or self._float.steps
        self._steps = tuple(replace(each, graph=graph) if each.name == step else each for each in current)


def _native_scores(runner: AssemblyRunner, segments: Sequence[Segment]) -> NDArray[np.float64]:
    """The mean native value of each segment."""
    last = runner.steps[-1].name
    return np.array([float(np.mean(runner.run(segment)[last])) for segment in segments])


def _has_products(folder: Path, step: StepSpec) -> bool:
    """Whether 8 bits can replace some of a graph; graphs larger than a file of ONNX stay as they are."""
    return not step.graph.has_data and bool(stored_products(ir.load(folder / step.graph.file)))


def _read_manifest(sheet: Path, table: Mapping[str, object]) -> CompositeSpec:
    if table["form"] != FLOAT:
        raise DataError(f"{sheet}: is {table['form']}; export the scorer with --dtype {FLOAT} first")
    manifest = sheet.with_name(f"{table['name']}@{table['version']}.json")
    if not manifest.is_file():
        raise DataError(f"{manifest}: missing, so it gives no score; export the scorer with --scale FILE.toml")
    return load_composite_spec(manifest)
