"""Exports a learned reference measure as one graph and its manifest."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray
from torch import nn

from models.export.graphs import GraphSignature, export_graph, graph_spec, save_graph
from vqmon.scoring.manifests.frame_scorer import Licence
from vqmon.scoring.manifests.reference_measure import (
    PairGolden,
    ReferenceMeasureSpec,
    golden_pair,
    save_reference_spec,
)

_INPUTS, _OUTPUT = ("reference", "picture"), "value"
_MAX_PAIRS, _MAX_SIDE = 64, 8192
_MIN_SIDE_PX = 64
_GOLDEN_SEED, _GOLDEN_SIZE, _GOLDEN_TOLERANCE = 2018, (96, 128), 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureFacts:
    """What a manifest states that the graph does not; see `ReferenceMeasureSpec`."""

    description: str
    short_side: int
    low: float | None
    high: float | None
    higher_is_better: bool
    licence: Licence
    provenance: Mapping[str, str]


def read_measure_facts(file: Path, name: str) -> MeasureFacts:
    """Read one table of a file of facts; a bound or a permission that is missing there is None."""
    table: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))[name]
    licence = table["licence"]
    return MeasureFacts(
        description=table["description"],
        short_side=table["short_side"],
        low=table.get("low"),
        high=table.get("high"),
        higher_is_better=table["higher_is_better"],
        licence=Licence(commercial=licence.pop("commercial", None), **licence),
        provenance=table["provenance"],
    )


def write_measure(network: nn.Module, name: str, *, version: int, facts: MeasureFacts, folder: Path) -> Path:
    """Write `name@version.onnx` and its manifest `name@version.json`; returns the path of the latter."""
    target = folder / f"{name}@{version}.onnx"
    # two tensors: the exporter would take one tensor given twice for one input
    example = tuple(torch.zeros((2, *_GOLDEN_SIZE, 3), dtype=torch.uint8) for _ in _INPUTS)
    axes = {0: ("pairs", _MAX_PAIRS), 1: ("height", _MAX_SIDE), 2: ("width", _MAX_SIDE)}
    signature = GraphSignature(
        example=example, inputs=_INPUTS, output=_OUTPUT, dynamic_axes=(axes, axes),
        least_sizes={"height": _MIN_SIDE_PX, "width": _MIN_SIDE_PX},
    )  # fmt: skip
    save_graph(export_graph(network, signature), target)
    golden = PairGolden(
        seed=_GOLDEN_SEED, height=_GOLDEN_SIZE[0], width=_GOLDEN_SIZE[1], output=0.0, tolerance=_GOLDEN_TOLERANCE
    )
    pair = golden_pair(golden)
    (value,) = run_measure(target, pair[:1], pair[1:]).tolist()
    spec = ReferenceMeasureSpec(
        kind="reference",
        name=name,
        version=version,
        description=facts.description,
        graph=graph_spec(target, inputs=_INPUTS, output=_OUTPUT),
        short_side=facts.short_side,
        min_side_px=_MIN_SIDE_PX,
        low=facts.low,
        high=facts.high,
        higher_is_better=facts.higher_is_better,
        licence=facts.licence,
        provenance=facts.provenance,
        golden=PairGolden(
            seed=_GOLDEN_SEED,
            height=_GOLDEN_SIZE[0],
            width=_GOLDEN_SIZE[1],
            output=round(value, 6),
            tolerance=_GOLDEN_TOLERANCE,
        ),
    )
    manifest = target.with_suffix(".json")
    save_reference_spec(spec, manifest)
    return manifest


def run_measure(
    file: Path, reference: NDArray[np.uint8], picture: NDArray[np.uint8], *, threads: int = 2
) -> NDArray[np.float32]:
    """Values (pairs,) of pictures (pairs, height, width, 3) by ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    values: NDArray[np.float32] = session.run([_OUTPUT], {_INPUTS[0]: reference, _INPUTS[1]: picture})[0]
    return values
