"""Writes a scorer of several graphs: an .onnx file per part, and a sheet of facts that says how they go together."""

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
    Assembly,
    Given,
    Interchange,
    Part,
    Source,
    Text,
    inputs_of,
    run_torch,
)
from models.export.graphs import Signature
from vqmon.scoring.manifests.composite_scorer import StepSpec
from vqmon.scoring.manifests.frame_scorer import Licence
from vqmon.scoring.manifests.level_scorer import GraphSpec

DTYPES: Mapping[str, torch.dtype] = MappingProxyType({"fp32": torch.float32, "fp16": torch.float16})
MOST_ROWS, MOST_SEGMENTS = 64, 16
BUCKETS = (1, 2, 4, 8)
"""How many rows are ever run at once."""
GOLDEN_ROWS, GOLDEN_SEED, GOLDEN_VALUES = 2, 384, 16
SLACK: Mapping[str, float] = MappingProxyType({"fp32": 1e-4, "fp16": 5e-3})
"""How far an answer may be from torch in float32, as a share of the largest value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What makes a feature that a scorer is given: sources and steps of a sheet, and what they say of golden rows."""

    sources: tuple[Source, ...]
    steps: tuple[StepSpec, ...]
    golden: Mapping[str, Mapping[str, Any]]
    # of the last step
    rows: Array


NOTHING: Mapping[str, Joined] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetFacts:
    """What a sheet says that graphs cannot."""

    description: str
    licence: Licence
    provenance: Mapping[str, str]


def write_assembly(
    assembly: Assembly, facts: SheetFacts, *, form: str, folder: Path, joined: Mapping[str, Joined] = NOTHING,
    one_file_bytes: int = graphs.ONE_FILE_BYTES,
) -> Path:  # fmt: skip
    """Write every part and the sheet `name-form@version.parts.json`; returns the latter's path.

    `joined` says by name what makes features that are given: steps of another sheet, whose graphs lie in `folder`.
    """
    known = {name: each.rows for name, each in joined.items()}
    values = run_torch(assembly, assembly.golden(GOLDEN_ROWS, seed=GOLDEN_SEED) | known)
    sources = [each for each in assembly.sources if each.name not in joined]
    sources += [source for each in joined.values() for source in each.sources]
    steps = [step for each in joined.values() for step in each.steps]
    for text in (each for each in sources if isinstance(each, Text)):
        (folder / text.spec.file).write_bytes(text.content)
    steps += write_parts(assembly, values, form=form, folder=folder, one_file_bytes=one_file_bytes)
    sheet = folder / f"{assembly.name}-{form}@{assembly.version}.parts.json"
    golden = {name: facts for each in joined.values() for name, facts in each.golden.items()}
    golden |= {part.name: golden_of(values[part.name]) for part in assembly.parts}
    write_sheet(sheet, facts, form=form, sources=sources, steps=steps, golden=golden)
    return sheet


def write_parts(
    assembly: Assembly, values: Mapping[str, Array], *, form: str, folder: Path,
    one_file_bytes: int = graphs.ONE_FILE_BYTES,
) -> list[StepSpec]:  # fmt: skip
    """Write every part's graph; returns the steps in order. Example values tell shapes and types."""
    steps = []
    for part in assembly.parts:
        file = folder / f"{part.name}-{form}@{assembly.version}.onnx"
        write_part(part, values, dtype=DTYPES[form], target=file, one_file_bytes=one_file_bytes)
        graph = graph_of(file, inputs=input_names(part), output=part.name)
        buckets = BUCKETS if part.each == "row" else (1,)
        steps.append(StepSpec(name=part.name, graph=graph, takes=part.takes, each=part.each, buckets=buckets))
    return steps


def graph_of(file: Path, *, inputs: tuple[str, ...], output: str) -> GraphSpec:
    """The facts of a written graph."""
    digest, size = graphs.unit_hash(file)
    return GraphSpec(
        file=file.name, has_data=graphs.data_file(file).exists(), sha256=digest, size_bytes=size, inputs=inputs,
        output=output,
    )  # fmt: skip


def write_sheet(
    sheet: Path, facts: SheetFacts, *, form: str, sources: Sequence[Source | Given | Text], steps: Sequence[StepSpec],
    golden: Mapping[str, Mapping[str, object]],
) -> None:  # fmt: skip
    """How graphs go together, and what each said of golden rows in float32 (`golden_of`)."""
    name, version = sheet.name.removesuffix(".parts.json").rsplit("@", 1)
    table = {
        "kind": "parts",
        "name": name,
        "version": int(version),
        "form": form,
        **asdict(facts),
        "sources": [_source(each) for each in sources],
        "steps": [asdict(step) for step in steps],
        "golden": dict(golden),
    }
    sheet.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


def _source(source: Source | Given | Text) -> dict[str, object]:
    facts = source.spec if isinstance(source, Text) else source
    return {"kind": type(source).__name__.lower(), **asdict(facts)}


def input_names(part: Part) -> tuple[str, ...]:
    """A graph's inputs are called after what is put there, which another scorer may call otherwise."""
    return tuple(f"input_{at}" for at in range(len(part.takes)))


def write_part(
    part: Part, values: Mapping[str, Array], *, dtype: torch.dtype, target: Path, one_file_bytes: int
) -> None:
    """One graph; example values tell the shapes and types of its inputs."""
    network = Interchange(copy.deepcopy(part.network).eval().to(dtype), dtype=dtype)
    state = dict(network.named_parameters()) | dict(network.named_buffers())
    examples = []
    for value in inputs_of(part.takes, values, each=part.each):
        example = torch.from_numpy(value)
        examples.append(example.expand(2, *example.shape[1:]).to("meta") if part.each == "segment" else example)
    signature = Signature(
        example=tuple(each.to("meta") for each in examples), inputs=input_names(part), output=part.name,
        varying=tuple(varying(part.each) for _ in examples),
    )  # fmt: skip
    model = graphs.trace(on_meta(network), signature)
    graphs.fill(model, {name: tensor.detach() for name, tensor in state.items()})
    graphs.write(model, target, one_file_bytes=one_file_bytes)


def varying(each: str) -> dict[int, tuple[str, int]]:
    """Which axes of a part's inputs have no fixed size."""
    return {0: ("rows", MOST_ROWS)} if each == "row" else {0: ("segments", MOST_SEGMENTS), 1: ("rows", MOST_ROWS)}


def on_meta(network: nn.Module) -> nn.Module:
    """A copy that has shapes alone."""
    memo: dict[int, Any] = {}
    for tensor in [*network.parameters(), *network.buffers()]:
        shape = tensor.detach().to("meta")
        memo[id(tensor)] = nn.Parameter(shape) if isinstance(tensor, nn.Parameter) else shape
    copied: nn.Module = copy.deepcopy(network, memo)
    return copied


def golden_of(value: Array, *, most: int = GOLDEN_VALUES) -> dict[str, object]:
    """Some values at equal steps of an answer, or all of them, and its largest."""
    flat = np.asarray(value, dtype=np.float64).ravel()
    steps = np.arange(len(flat)) if len(flat) <= most else np.linspace(0, len(flat) - 1, most).astype(int)
    return {
        "shape": list(value.shape),
        "at": steps.tolist(),
        "values": [float(f"{one:.7g}") for one in flat[steps]],
        "largest": float(f"{np.abs(flat).max():.7g}"),
    }
