"""Verifies an exported pair: hash, operators, golden output, batches, and agreement with torch."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from models.export.pair import run_onnx, to_network_input
from vqmon.core.types import Pixels
from vqmon.scoring.manifests.frame_scorer import ScorerSpec, golden_frames, load_frame_spec

_FORBIDDEN_OPERATORS = {"NonZero", "If", "Loop", "Scan"}
_BATCH_SIZES = (1, 2, 5, 8)
_TOLERANCE = 5e-5
"""Of the native range, between two ways to compute one score."""
_ROUNDED_TOLERANCE = 2e-4
"""The same between weights and their float16 form."""


class VerifyError(Exception):
    """An export does not agree with its manifest, or with its network."""


def verify_pair(pair: Path, *, network: nn.Module | None, is_rounded: bool = False) -> list[str]:
    """What was verified of an .onnx file and the .json beside it, one line each; raises VerifyError.

    `is_rounded` says that the file holds the network's weights as float16.
    """
    spec = load_frame_spec(pair.with_suffix(".json"))
    lines = [_check_hash(pair, spec.sha256), _check_graph(pair), _check_golden(pair, spec)]
    lines.append(_check_batches(pair, spec))
    if network is not None:
        lines.append(_check_torch(pair, spec, network=network, is_rounded=is_rounded))
    return lines


def _golden_pixels(spec: ScorerSpec) -> Pixels:
    """The pictures of the manifest's golden input (frames, height, width, 3) uint8 RGB."""
    return golden_frames(spec.input.view, seed=spec.golden.input.seed, frames=spec.golden.input.frames)


def _require_within(difference: float, allowed: float, line: str) -> str:
    """A line with the difference of two results; raises VerifyError when it is larger than allowed, or not a number."""
    if not difference <= allowed:
        raise VerifyError(f"{line}: {difference:.2e} apart, at most {allowed:.2e} is allowed")
    return f"{line}: {difference:.2e} apart"


def _check_hash(pair: Path, expected: str) -> str:
    digest = hashlib.sha256(pair.read_bytes()).hexdigest()
    if digest != expected:
        raise VerifyError(f"sha256 of {pair.name} is {digest}, the manifest says {expected}")
    return f"sha256 {digest}"


def _check_graph(pair: Path) -> str:
    operators = {node.op_type for node in onnx.load(str(pair)).graph.node}
    if operators & _FORBIDDEN_OPERATORS:
        raise VerifyError(f"{pair.name} holds {', '.join(sorted(operators & _FORBIDDEN_OPERATORS))}")
    return f"graph of {len(operators)} kinds of node, none of {', '.join(sorted(_FORBIDDEN_OPERATORS))}"


def _check_golden(pair: Path, spec: ScorerSpec) -> str:
    scores = _run(pair, _golden_pixels(spec), spec)
    difference = float(np.abs(scores - np.array(spec.golden.output)).max())
    return _require_within(difference, spec.golden.tolerance, "golden result against the manifest")


def _check_batches(pair: Path, spec: ScorerSpec) -> str:
    """A picture has the same score alone and in batches of every size."""
    pictures = _golden_pixels(spec)
    batch = np.resize(pictures, (max(_BATCH_SIZES), *pictures.shape[1:]))
    single = np.concatenate([_run(pair, picture[None], spec) for picture in batch])
    difference = max(float(np.abs(_run(pair, batch[:size], spec) - single[:size]).max()) for size in _BATCH_SIZES)
    return _require_within(difference, _allowed(spec), f"batches of {_BATCH_SIZES} against one by one")


def _check_torch(pair: Path, spec: ScorerSpec, *, network: nn.Module, is_rounded: bool) -> str:
    pictures = _golden_pixels(spec)
    pixels = to_network_input(pictures, mean=spec.input.mean, std=spec.input.std)
    with torch.inference_mode():
        outputs = network.eval()(torch.from_numpy(pixels))
    expected = (outputs[0] if isinstance(outputs, tuple) else outputs).numpy()
    difference = float(np.abs(_run(pair, pictures, spec) - expected).max())
    share = _ROUNDED_TOLERANCE if is_rounded else _TOLERANCE
    return _require_within(difference, _allowed(spec, share), "torch against ONNX")


def _run(pair: Path, pictures: Pixels, spec: ScorerSpec) -> NDArray[np.float32]:
    return run_onnx(pair, pictures, mean=spec.input.mean, std=spec.input.std)


def _allowed(spec: ScorerSpec, share: float = _TOLERANCE) -> float:
    low, high = spec.native_range
    return share * (high - low)
