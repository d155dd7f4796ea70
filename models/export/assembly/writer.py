"""Writes and reads a scorer of several graphs: one .onnx file per part, and a sheet that says how they connect."""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from models.export import graphs
from models.export.assembly.assembly import (
    Array,
    AssemblyInput,
    FeatureInput,
    Float32Interface,
    GraphAssembly,
    GraphPart,
    PixelInput,
    TextInput,
    part_inputs,
    run_in_torch,
)
from models.export.graphs import GraphSignature, graph_spec
from models.weights import WeightsError
from vqmon.errors import ScorerError
from vqmon.scoring.manifests.composite_scorer import StepSpec, TextSpec
from vqmon.scoring.manifests.frame_scorer import Licence
from vqmon.scoring.runtime.verified_model import read_verified_file

DTYPES: Mapping[str, torch.dtype] = MappingProxyType({"fp32": torch.float32, "fp16": torch.float16})
_MAX_ROWS, _MAX_SEGMENTS = 64, 16
BATCH_BUCKETS = (1, 2, 4, 8)
"""Batch sizes, in rows, that the daemon runs."""
GOLDEN_ROWS, GOLDEN_SEED = 2, 384
_GOLDEN_VALUES = 16
RELATIVE_TOLERANCE: Mapping[str, float] = MappingProxyType({"fp32": 1e-4, "fp16": 5e-3, "int8": 0.05})
"""Allowed difference from torch in float32, as a share of the largest value; of int8 from int8 elsewhere, where another
rounding of an activation moves it by a step."""
MIN_LARGEST_VALUE = 0.01
"""Differences are divided by at least this: scores of 0..1 can all be near 0, where a runtime's logistic function has
few digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedFeatures:
    """Another scorer's graphs that compute a feature: its inputs, steps and golden outputs."""

    inputs: tuple[PixelInput, ...]
    steps: tuple[StepSpec, ...]
    golden: Mapping[str, Mapping[str, Any]]
    # output of the last step for the golden rows
    rows: Array


_NO_SHARED_FEATURES: Mapping[str, SharedFeatures] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetFacts:
    """What a sheet states that the graphs do not."""

    description: str
    licence: Licence
    provenance: Mapping[str, str]


def write_assembly(
    assembly: GraphAssembly, facts: SheetFacts, *, precision: str, folder: Path,
    shared: Mapping[str, SharedFeatures] = _NO_SHARED_FEATURES, max_embedded_bytes: int = graphs.MAX_EMBEDDED_BYTES,
) -> Path:  # fmt: skip
    """Write every part and the sheet `name-precision@version.parts.json`; returns the path of the sheet.

    `shared` has the graphs, already in `folder`, that compute feature inputs, by the inputs' names.
    """
    shared_rows = {name: features.rows for name, features in shared.items()}
    values = run_in_torch(assembly, assembly.golden(GOLDEN_ROWS, seed=GOLDEN_SEED) | shared_rows)
    inputs = [each for each in assembly.inputs if each.name not in shared]
    inputs += [each for features in shared.values() for each in features.inputs]
    steps = [step for features in shared.values() for step in features.steps]
    for text in (each for each in inputs if isinstance(each, TextInput)):
        (folder / text.spec.file).write_bytes(text.content)
    steps += write_graphs(assembly, values, precision=precision, folder=folder, max_embedded_bytes=max_embedded_bytes)
    sheet = folder / f"{assembly.name}-{precision}@{assembly.version}.parts.json"
    golden = {name: output for features in shared.values() for name, output in features.golden.items()}
    golden |= {part.name: golden_values(values[part.name]) for part in assembly.parts}
    write_sheet(sheet, facts, precision=precision, inputs=inputs, steps=steps, golden=golden)
    return sheet


def write_graphs(
    assembly: GraphAssembly, values: Mapping[str, Array], *, precision: str, folder: Path,
    max_embedded_bytes: int = graphs.MAX_EMBEDDED_BYTES,
) -> list[StepSpec]:  # fmt: skip
    """Write the graph of every part; returns the steps in order. `values` are examples of inputs and outputs."""
    steps = []
    for part in assembly.parts:
        file = folder / f"{part.name}-{precision}@{assembly.version}.onnx"
        _write_part(part, values, dtype=DTYPES[precision], target=file, max_embedded_bytes=max_embedded_bytes)
        graph = graph_spec(file, inputs=_input_names(part), output=part.name)
        buckets = (1,) if part.each == "segment" else BATCH_BUCKETS
        steps.append(StepSpec(name=part.name, graph=graph, takes=part.takes, each=part.each, buckets=buckets))
    return steps


def write_sheet(
    sheet: Path, facts: SheetFacts, *, precision: str, inputs: Sequence[AssemblyInput], steps: Sequence[StepSpec],
    golden: Mapping[str, Mapping[str, object]],
) -> None:  # fmt: skip
    """Write a sheet: how the graphs connect, and what each gives for the golden rows in float32 (`golden_values`)."""
    name, version = sheet.name.removesuffix(".parts.json").rsplit("@", 1)
    table = {
        "kind": "parts",
        "name": name,
        "version": int(version),
        "form": precision,
        **asdict(facts),
        "sources": [_input_to_json(each) for each in inputs],
        "steps": [asdict(step) for step in steps],
        "golden": dict(golden),
    }
    sheet.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


def read_sheet_inputs(table: Mapping[str, Any], folder: Path) -> list[AssemblyInput]:
    """The inputs of a parsed sheet that lies in `folder`; raises WeightsError when the vocabulary file is wrong."""
    return [_input_from_json(entry, folder) for entry in table["sources"]]


def _input_to_json(each: AssemblyInput) -> dict[str, object]:
    match each:
        case TextInput():
            return {"kind": "text", **asdict(each.spec)}
        case FeatureInput():
            return {"kind": "given", **asdict(each)}
        case PixelInput():
            return {
                "kind": "source", "name": each.name, "made": each.transform, "side": each.side, "order": each.order,
                "pictures": each.pictures, "stride": each.stride, "columns": each.columns,
                "short_side": each.short_side,
            }  # fmt: skip


def _input_from_json(entry: Mapping[str, Any], folder: Path) -> AssemblyInput:
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    kind = fields.pop("kind")
    if kind == "text":
        text = TextSpec(**fields)
        return TextInput(name=text.name, ids=text.ids, tokens=text.tokens, content=_read_vocabulary_file(text, folder))
    if kind == "given":
        return FeatureInput(**fields)
    return PixelInput(transform=fields.pop("made"), **fields)


def _read_vocabulary_file(text: TextSpec, folder: Path) -> bytes:
    try:
        return read_verified_file(folder / text.file, sha256_hex=text.sha256, size_bytes=text.size_bytes)
    except ScorerError as error:
        raise WeightsError(str(error)) from error


def golden_values(value: Array, *, max_values: int = _GOLDEN_VALUES) -> dict[str, object]:
    """Shape and largest value of an output, and at most `max_values` of its values at equal distances."""
    flat = np.asarray(value, dtype=np.float64).ravel()
    indices = np.arange(len(flat)) if len(flat) <= max_values else np.linspace(0, len(flat) - 1, max_values).astype(int)
    return {
        "shape": list(value.shape),
        "at": indices.tolist(),
        "values": [float(f"{number:.7g}") for number in flat[indices]],
        "largest": float(f"{np.abs(flat).max():.7g}"),
    }


def _input_names(part: GraphPart) -> tuple[str, ...]:
    """Numbered, because scorers that share a graph may name its inputs differently."""
    return tuple(f"input_{index}" for index in range(len(part.takes)))


def _write_part(
    part: GraphPart, values: Mapping[str, Array], *, dtype: torch.dtype, target: Path, max_embedded_bytes: int
) -> None:
    network = Float32Interface(copy.deepcopy(part.network).eval().to(dtype), dtype=dtype)
    state = dict(network.named_parameters()) | dict(network.named_buffers())
    examples = []
    for value in part_inputs(part.takes, values, each=part.each):
        example = torch.from_numpy(value)
        examples.append(example.expand(2, *example.shape[1:]).to("meta") if part.each == "segment" else example)
    signature = GraphSignature(
        example=tuple(example.to("meta") for example in examples), inputs=_input_names(part), output=part.name,
        dynamic_axes=tuple(_dynamic_axes(part.each) for _ in examples),
    )  # fmt: skip
    model = graphs.export_graph(_copy_to_meta(network), signature)
    graphs.fill_initializers(model, {name: tensor.detach() for name, tensor in state.items()})
    graphs.save_graph(model, target, max_embedded_bytes=max_embedded_bytes)


def _dynamic_axes(each: str) -> dict[int, tuple[str, int]]:
    return {0: ("segments", _MAX_SEGMENTS), 1: ("rows", _MAX_ROWS)} if each == "segment" else {0: ("rows", _MAX_ROWS)}


def _copy_to_meta(network: nn.Module) -> nn.Module:
    """A copy whose tensors are on the `meta` device: shapes and types without values."""
    memo: dict[int, Any] = {}
    for tensor in [*network.parameters(), *network.buffers()]:
        meta = tensor.detach().to("meta")
        memo[id(tensor)] = nn.Parameter(meta) if isinstance(tensor, nn.Parameter) else meta
    copied: nn.Module = copy.deepcopy(network, memo)
    return copied
