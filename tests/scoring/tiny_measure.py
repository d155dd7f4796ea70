"""A small reference measure, written without the onnx package: the mean absolute difference of two pictures, 0..1."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from tests.scoring.tiny_levels import _model, _reduce, _tensor
from tests.scoring.tiny_onnx import _node, _number, _text
from vqmon.core.types import Pixels
from vqmon.scoring.manifests.frame_scorer import Licence
from vqmon.scoring.manifests.level_scorer import GraphSpec
from vqmon.scoring.manifests.reference_measure import (
    PairGolden,
    ReferenceMeasureSpec,
    golden_pair,
    save_reference_spec,
)

_FLOAT, _UINT8 = 1, 2
_GOLDEN = PairGolden(seed=7, height=24, width=32, output=0.0, tolerance=1e-4)


def measure_bytes() -> bytes:
    """The graph: reference and picture (n, height, width, 3) uint8 -> (n) float32."""
    to_float = [_text(1, "to") + _number(3, _FLOAT) + _number(20, 2)]
    nodes = [
        _node("Cast", ["reference"], "a", to_float),
        _node("Cast", ["picture"], "b", to_float),
        _node("Sub", ["a", "b"], "difference", []),
        _node("Abs", ["difference"], "distance", []),
        _reduce("distance", "mean", axes=(1, 2, 3)),
        _node("Mul", ["mean", "scale"], "value", []),
    ]
    inputs = [(name, _UINT8, ["n", "height", "width", 3]) for name in ("reference", "picture")]
    return _model(nodes, [_tensor("scale", np.array(1 / 255, np.float32))], inputs, ("value", _FLOAT, ["n"]))


def expected_value(reference: Pixels, picture: Pixels) -> float:
    """What the measure gives for two pictures of one shape."""
    return float(np.abs(reference.astype(float) - picture.astype(float)).mean() / 255)


def tiny_measure_spec(**changes: Any) -> ReferenceMeasureSpec:
    """The manifest that fits the graph."""
    content = measure_bytes()
    spec = ReferenceMeasureSpec(
        kind="reference",
        name="tiny-distance",
        version=1,
        description="the mean absolute difference",
        graph=GraphSpec(
            file="tiny-distance@1.onnx",
            has_data=False,
            sha256=sha256(content).hexdigest(),
            size_bytes=len(content),
            inputs=("reference", "picture"),
            output="value",
        ),
        short_side=0,
        min_side_px=16,
        low=0,
        high=1,
        higher_is_better=False,
        licence=Licence(name="Apache-2.0", commercial=True, note=""),
        provenance={"made_by": "a test"},
        golden=replace(_GOLDEN, output=expected_value(*golden_pair(_GOLDEN))),
    )
    return replace(spec, **changes)


def write_measure_bundle(folder: Path, **changes: Any) -> Path:
    """Write graph and manifest; returns the manifest's path."""
    spec = tiny_measure_spec(**changes)
    path = folder / f"{spec.id}.json"
    (folder / spec.graph.file).write_bytes(measure_bytes())
    save_reference_spec(spec, path)
    return path
