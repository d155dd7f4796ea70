"""Verifies an exported scorer of several graphs: hashes, operators, golden outputs, batches, agreement with torch."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
from pydantic import TypeAdapter

from models.export import graphs
from models.export.assembly.assembly import Array, GraphAssembly, golden_inputs, part_inputs, run_in_torch
from models.export.assembly.writer import (
    GOLDEN_ROWS,
    GOLDEN_SEED,
    MIN_LARGEST_VALUE,
    RELATIVE_TOLERANCE,
    read_sheet_inputs,
)
from models.export.graphs import FORBIDDEN_OPERATORS
from models.verify.owl_runner import session_options, with_exact_float32
from models.verify.pair import VerifyError
from vqmon.scoring.manifests.composite_scorer import StepSpec

_CPU_PROVIDER = "CPUExecutionProvider"
_MAX_FOLDED_BYTES = 2**22
"""Largest constant that a session may fold: gated position biases of a clip are 100 MB each, and are better computed
when they are needed."""
_STEPS = TypeAdapter(tuple[StepSpec, ...])


class AssemblyRunner:
    """Runs all graphs of a sheet on one device."""

    def __init__(
        self, sheet: Path, *, provider: str = _CPU_PROVIDER, threads: int = 2, steps: Sequence[StepSpec] = ()
    ) -> None:
        """`steps` are run in place of those of the sheet."""
        self.table: dict[str, Any] = json.loads(sheet.read_text())
        self.steps = tuple(steps) or _STEPS.validate_python(self.table["steps"])
        self.folder = sheet.parent
        self._sessions = {
            step.name: _open_session(self.folder / step.graph.file, provider, threads) for step in self.steps
        }

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs and the outputs of every step, by name; steps per segment see all rows as one segment."""
        values: dict[str, Array] = dict(inputs)
        for step in self.steps:
            values[step.name] = self.run_step(step, values, slice(None))
        return values

    def run_step(
        self,
        step: StepSpec,
        values: Mapping[str, Array],
        rows: slice,
        *,
        run: Callable[[Mapping[str, Array]], Array] | None = None,
    ) -> Array:
        """The output of one step for some of the rows; `run` takes the place of the step's session."""
        selected = {name: values[name][rows] for name in step.takes}
        feeds = dict(zip(step.graph.inputs, part_inputs(step.takes, selected, each=step.each), strict=True))
        if step.each == "picture":
            output = run(feeds) if run else self._run_one_by_one(step, feeds)
            return output.reshape(*selected[step.takes[0]].shape[:2], *output.shape[1:])
        return run(feeds) if run else self.run_graph(step, feeds)

    def run_graph(self, step: StepSpec, feeds: Mapping[str, Array]) -> Array:
        """The output of a step's graph for its inputs by name."""
        output: Array = self._sessions[step.name].run([step.graph.output], dict(feeds))[0]
        return output

    def _run_one_by_one(self, step: StepSpec, feeds: Mapping[str, Array]) -> Array:
        """As `run_graph`, with the memory that one picture takes: a clip has dozens of them."""
        count = len(next(iter(feeds.values())))
        slices = ({name: array[at : at + 1] for name, array in feeds.items()} for at in range(count))
        return np.concatenate([self.run_graph(step, each) for each in slices])

    def golden(self, rows: int) -> dict[str, Array]:
        """Golden rows of every input."""
        return golden_inputs(read_sheet_inputs(self.table, self.folder), rows, seed=GOLDEN_SEED)


def _open_session(file: Path, provider: str = _CPU_PROVIDER, threads: int = 2) -> onnxruntime.InferenceSession:
    """A session that folds no large constants."""
    options = session_options(threads)
    options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", str(_MAX_FOLDED_BYTES))
    return onnxruntime.InferenceSession(str(file), options, providers=[with_exact_float32(provider)])


def verify_assembly(sheet: Path, *, assembly: GraphAssembly | None = None, provider: str = _CPU_PROVIDER) -> list[str]:
    """What was verified, one line each; with an assembly also against torch in float32. Raises VerifyError."""
    table = json.loads(sheet.read_text())
    lines = [_check_graph(sheet.parent, step) for step in _STEPS.validate_python(table["steps"])]
    runner = AssemblyRunner(sheet, provider=provider)
    tolerance = RELATIVE_TOLERANCE[table["form"]]
    inputs = runner.golden(GOLDEN_ROWS)
    outputs = runner.run(inputs)
    lines += [_check_golden(outputs[name], facts, name, tolerance) for name, facts in table["golden"].items()]
    lines += _check_single_rows(runner, inputs | outputs, tolerance)
    if assembly is not None:
        shared = {each.name: outputs[each.name] for each in assembly.inputs if each.name in outputs}
        expected = run_in_torch(assembly, inputs | shared)
        for part in assembly.parts:
            error = _relative_error(outputs[part.name], expected[part.name])
            lines.append(_require_within(error, tolerance, f"{part.name} against torch"))
    return lines


def _check_graph(folder: Path, step: StepSpec) -> str:
    graph, file = step.graph, folder / step.graph.file
    digest_and_size = graphs.hash_graph(file)
    if (
        digest_and_size != (graph.sha256, graph.size_bytes)
        or graphs.external_data_file(file).exists() != graph.has_data
    ):
        raise VerifyError(f"{graph.file}: sha256 is {digest_and_size[0]}, the sheet says {graph.sha256}")
    model = onnx.load(str(file), load_external_data=False)
    operators = [node.op_type for node in model.graph.node]
    if forbidden := sorted(set(operators) & set(FORBIDDEN_OPERATORS)):
        raise VerifyError(f"{graph.file} holds {', '.join(forbidden)}")
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    size = f"{graph.size_bytes / 2**20:.1f} MiB"
    return (
        f"{graph.file}: sha256 {digest_and_size[0]}, {size}, opset {opset}, {len(operators)} nodes, "
        f"none of {', '.join(FORBIDDEN_OPERATORS)}"
    )


def _check_golden(output: Array, facts: Mapping[str, Any], name: str, tolerance: float) -> str:
    if list(output.shape) != facts["shape"]:
        raise VerifyError(f"{name} gave {list(output.shape)}, the sheet says {facts['shape']}")
    difference = np.abs(output.astype(np.float64).ravel()[facts["at"]] - facts["values"]).max()
    return _require_within(
        float(difference) / max(facts["largest"], MIN_LARGEST_VALUE), tolerance, f"golden values of {name}"
    )


def _check_single_rows(runner: AssemblyRunner, values: Mapping[str, Array], tolerance: float) -> list[str]:
    """Each row, or picture, gives alone what it gives in a batch."""
    lines = []
    for step in runner.steps:
        if step.each == "row":
            alone = np.concatenate([runner.run_step(step, values, slice(row, row + 1)) for row in range(GOLDEN_ROWS)])
            together = values[step.name]
        elif step.each == "picture":
            alone = values[step.name].reshape(-1, *values[step.name].shape[2:])[:GOLDEN_ROWS]
            arguments = (each[:GOLDEN_ROWS] for each in part_inputs(step.takes, values, each=step.each))
            together = runner.run_graph(step, dict(zip(step.graph.inputs, arguments, strict=True)))
        else:
            continue
        line = f"{step.name}: {GOLDEN_ROWS} {step.each}s together against one by one"
        lines.append(_require_within(_relative_error(alone, together), tolerance, line))
    return lines


def _relative_error(output: Array, expected: Array) -> float:
    if output.shape != expected.shape:
        return float("inf")
    largest = max(float(np.abs(expected.astype(np.float64)).max()), MIN_LARGEST_VALUE)
    return float(np.abs(output.astype(np.float64) - expected).max()) / largest


def _require_within(error: float, allowed: float, line: str) -> str:
    if not error <= allowed:
        raise VerifyError(f"{line}: {error:.2e} of the largest value apart, at most {allowed:.2e} is allowed")
    return f"{line}: {error:.2e} of the largest value apart"
