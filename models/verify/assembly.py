"""Checks a written scorer of several graphs: hashes, nodes, golden answers, batches, agreement with torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
from pydantic import TypeAdapter

from models.export import graphs
from models.export.assembly.assembly import Array, Assembly, Given, Source, Text, golden_rows, inputs_of, run_torch
from models.export.assembly.writer import GOLDEN_ROWS, GOLDEN_SEED, SLACK
from models.export.graphs import FORBIDDEN
from models.verify.pair import VerifyError
from vqmon.errors import ScorerError
from vqmon.scoring.manifests.composite_scorer import StepSpec, TextSpec
from vqmon.scoring.runtime.model_file import read_verified_file

CPU = "CPUExecutionProvider"
LEAST = 0.01
"""Answers smaller than this are held to a share of this: scores of 0..1 end near 0, where a runtime's logistic
function has few digits."""
FOLDED_BYTES = 2**22
"""What a session may compute beforehand from constants: gated biases of a clip are 100 MB each and are better made
when they are needed."""
_STEPS = TypeAdapter(tuple[StepSpec, ...])


class PartsRunner:
    """All graphs of a sheet on one device."""

    def __init__(self, sheet: Path, *, provider: str = CPU, threads: int = 2) -> None:
        self.table: dict[str, Any] = json.loads(sheet.read_text())
        self.steps = _STEPS.validate_python(self.table["steps"])
        self.folder = sheet.parent
        self._sessions = {
            step.name: open_graph(self.folder / step.graph.file, provider, threads) for step in self.steps
        }

    def run(self, given: Mapping[str, Array]) -> dict[str, Array]:
        """What every step says of rows of all sources, with all rows as one segment where it wants them so."""
        values: dict[str, Array] = dict(given)
        for step in self.steps:
            values[step.name] = self.run_step(step, values, slice(None))
        return values

    def run_step(self, step: StepSpec, values: Mapping[str, Array], rows: slice) -> Array:
        """One step's answer about some of the rows."""
        some = {name: values[name][rows] for name in step.takes}
        fed = dict(zip(step.graph.inputs, inputs_of(step.takes, some, each=step.each), strict=True))
        answer: Array = self._sessions[step.name].run([step.graph.output], fed)[0]
        if step.each == "picture":
            return answer.reshape(*some[step.takes[0]].shape[:2], *answer.shape[1:])
        return answer

    def golden(self, rows: int) -> dict[str, Array]:
        """Golden rows of every source."""
        return golden_rows(read_sources(self.table, self.folder), rows, seed=GOLDEN_SEED)


def read_sources(table: Mapping[str, Any], folder: Path) -> list[Source | Given | Text]:
    """What goes into the graphs of a sheet that lies in `folder`."""
    made: list[Source | Given | Text] = []
    for each in table["sources"]:
        facts = {key: tuple(value) if isinstance(value, list) else value for key, value in each.items()}
        kind = facts.pop("kind")
        if kind == "text":
            text = TextSpec(**facts)
            made.append(Text(name=text.name, ids=text.ids, tokens=text.tokens, content=_content(text, folder)))
        else:
            made.append(Source(**facts) if kind == "source" else Given(**facts))
    return made


def _content(text: TextSpec, folder: Path) -> bytes:
    try:
        return read_verified_file(folder / text.file, sha256_hex=text.sha256, size_bytes=text.size_bytes)
    except ScorerError as error:
        raise VerifyError(str(error)) from error


def open_graph(file: Path, provider: str = CPU, threads: int = 2) -> onnxruntime.InferenceSession:
    """A session that keeps memory and idle cores to what is needed."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.spin_duration_us", "1000")
    options.add_session_config_entry("optimization.constant_folding_max_output_size_in_bytes", str(FOLDED_BYTES))
    return onnxruntime.InferenceSession(str(file), options, providers=[provider])


def verify(sheet: Path, *, assembly: Assembly | None = None, provider: str = CPU) -> list[str]:
    """What was checked, one line each; raises VerifyError. Against torch in float32 too when the assembly is given."""
    table = json.loads(sheet.read_text())
    lines = [_check_graph(sheet.parent, step) for step in _STEPS.validate_python(table["steps"])]
    runner = PartsRunner(sheet, provider=provider)
    slack = SLACK[table["form"]]
    given = runner.golden(GOLDEN_ROWS)
    said = runner.run(given)
    lines += [_check_golden(said[name], facts, name, slack) for name, facts in table["golden"].items()]
    lines += _check_alone(runner, given | said, slack)
    if assembly is not None:
        borrowed = {each.name: said[each.name] for each in assembly.sources if each.name in said}
        expected = run_torch(assembly, given | borrowed)
        for part in assembly.parts:
            apart = _share(said[part.name], expected[part.name])
            lines.append(_near(apart, slack, f"{part.name} against torch"))
    return lines


def _check_graph(folder: Path, step: StepSpec) -> str:
    graph, file = step.graph, folder / step.graph.file
    found = graphs.unit_hash(file)
    if found != (graph.sha256, graph.size_bytes) or graphs.data_file(file).exists() != graph.has_data:
        raise VerifyError(f"{graph.file}: sha256 is {found[0]}, the sheet says {graph.sha256}")
    model = onnx.load(str(file), load_external_data=False)
    kinds = [node.op_type for node in model.graph.node]
    if held := sorted(set(kinds) & set(FORBIDDEN)):
        raise VerifyError(f"{graph.file} holds {', '.join(held)}")
    opset = next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
    size = f"{graph.size_bytes / 2**20:.1f} MiB"
    return f"{graph.file}: sha256 {found[0]}, {size}, opset {opset}, {len(kinds)} nodes, none of {', '.join(FORBIDDEN)}"


def _check_golden(said: Array, facts: Mapping[str, Any], name: str, slack: float) -> str:
    if list(said.shape) != facts["shape"]:
        raise VerifyError(f"{name} gave {list(said.shape)}, the sheet says {facts['shape']}")
    apart = np.abs(said.astype(np.float64).ravel()[facts["at"]] - facts["values"]).max()
    return _near(float(apart) / max(facts["largest"], LEAST), slack, f"golden values of {name}")


def _check_alone(runner: PartsRunner, together: Mapping[str, Array], slack: float) -> list[str]:
    """Each row says alone what it says among others."""
    lines = []
    for step in runner.steps:
        if step.each != "segment":
            alone = [runner.run_step(step, together, slice(at, at + 1)) for at in range(GOLDEN_ROWS)]
            line = f"{step.name}: {GOLDEN_ROWS} rows together against one by one"
            lines.append(_near(_share(np.concatenate(alone), together[step.name]), slack, line))
    return lines


def _share(ours: Array, theirs: Array) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    largest = max(float(np.abs(theirs.astype(np.float64)).max()), LEAST)
    return float(np.abs(ours.astype(np.float64) - theirs).max()) / largest


def _near(apart: float, allowed: float, line: str) -> str:
    if not apart <= allowed:
        raise VerifyError(f"{line}: {apart:.2e} of the largest value apart, at most {allowed:.2e} is allowed")
    return f"{line}: {apart:.2e} of the largest value apart"
