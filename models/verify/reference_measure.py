"""Verifies an exported reference measure: hash, operators, golden value, sizes of pictures, agreement with torch."""

from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from models.export.graphs import FORBIDDEN_OPERATORS, hash_graph
from models.export.reference_measure import run_measure
from models.verify.pair import VerifyError
from vqmon.core.types import Pixels
from vqmon.scoring.manifests.reference_measure import PairGolden, golden_pair, load_reference_spec

_SIZES = ((64, 80), (101, 67), (135, 240))
_TOLERANCE = 1e-4


def verify_measure(manifest: Path, *, network: nn.Module | None) -> list[str]:
    """What was verified of a manifest and its graph, one line each; raises VerifyError."""
    spec = load_reference_spec(manifest)
    graph = manifest.with_name(spec.graph.file)
    if hash_graph(graph) != (spec.graph.sha256, spec.graph.size_bytes):
        raise VerifyError(f"{graph.name} is not the file of the manifest: its sha256 is {hash_graph(graph)[0]}")
    operators = {node.op_type for node in onnx.load(str(graph)).graph.node}
    if forbidden := sorted(operators & set(FORBIDDEN_OPERATORS)):
        raise VerifyError(f"{graph.name} holds {', '.join(forbidden)}")
    lines = [f"sha256 {spec.graph.sha256}", f"graph of {len(operators)} kinds of node"]
    reference, picture = np.split(golden_pair(spec.golden), 2)
    value = run_measure(graph, reference, picture)
    lines.append(_difference("golden value against the manifest", value, spec.golden.output, spec.golden.tolerance))
    pairs = [_pair(height, width, spec.golden.seed) for height, width in _SIZES]
    # the same picture twice is without any difference, whatever its size
    equal = np.concatenate([run_measure(graph, pair[:1], pair[:1]) for pair in pairs])
    best = spec.high if spec.higher_is_better else spec.low
    if best is not None:
        lines.append(_difference("pairs of equal pictures", equal, best, _TOLERANCE))
    if network is not None:
        for pair in pairs:
            with torch.inference_mode():
                expected = network.eval()(torch.from_numpy(pair[:1]), torch.from_numpy(pair[1:])).numpy()
            where = f"torch against ONNX, {pair.shape[2]} x {pair.shape[1]} px"
            lines.append(_difference(where, run_measure(graph, pair[:1], pair[1:]), expected, _TOLERANCE))
    return lines


def _pair(height: int, width: int, seed: int) -> Pixels:
    return golden_pair(PairGolden(seed=seed, height=height, width=width, output=0.0, tolerance=1.0))


def _difference(line: str, values: NDArray[np.float32], expected: NDArray[np.float32] | float, allowed: float) -> str:
    difference = float(np.abs(values - expected).max())
    if not difference <= allowed:
        raise VerifyError(f"{line}: {difference:.2e} apart, at most {allowed:.2e} is allowed")
    return f"{line}: {difference:.2e} apart"
