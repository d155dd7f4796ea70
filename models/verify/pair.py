"""Checks an exported pair: its hash, its golden result, its graph, its batches, and its agreement with torch."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from models.export.pair import normalise, run_onnx
from vqmon.core.types import Pixels
from vqmon.scoring.manifests.frame_scorer import ScorerSpec, golden_frames, load_frame_spec

FORBIDDEN = {"NonZero", "If", "Loop", "Scan"}
BATCHES = (1, 2, 5, 8)
TOLERANCE = 1e-4


class VerifyError(Exception):
    """An exported pair is not what its manifest, or its network, says."""


def verify(pair: Path, *, network: nn.Module | None) -> list[str]:
    """What was checked, one line each, of an .onnx file with its .json beside it; raises VerifyError."""
    spec = load_frame_spec(pair.with_suffix(".json"))
    lines = [_check_hash(pair, spec.sha256), _check_graph(pair), _check_golden(pair, spec)]
    lines.append(_check_batches(pair, golden_pixels(spec)))
    if network is not None:
        lines.append(_check_torch(pair, golden_pixels(spec), network=network))
    return lines


def golden_pixels(spec: ScorerSpec) -> Pixels:
    """The pictures of a manifest's golden self-test (frames, height, width, 3) uint8 RGB."""
    return golden_frames(spec.input.view, seed=spec.golden.input.seed, frames=spec.golden.input.frames)


def _near(apart: float, allowed: float, line: str) -> str:
    """The line with how far apart two results are; raises VerifyError beyond what is allowed (or not a number)."""
    if not apart <= allowed:
        raise VerifyError(f"{line}: {apart:.2e} apart, at most {allowed:.2e} is allowed")
    return f"{line}: {apart:.2e} apart"


def _check_hash(pair: Path, expected: str) -> str:
    found = hashlib.sha256(pair.read_bytes()).hexdigest()
    if found != expected:
        raise VerifyError(f"sha256 of {pair.name} is {found}, the manifest says {expected}")
    return f"sha256 {found}"


def _check_graph(pair: Path) -> str:
    kinds = {node.op_type for node in onnx.load(str(pair)).graph.node}
    if kinds & FORBIDDEN:
        raise VerifyError(f"{pair.name} holds {', '.join(sorted(kinds & FORBIDDEN))}")
    return f"graph of {len(kinds)} kinds of node, none of {', '.join(sorted(FORBIDDEN))}"


def _check_golden(pair: Path, spec: ScorerSpec) -> str:
    found = run_onnx(pair, golden_pixels(spec))
    apart = float(np.abs(found - np.array(spec.golden.output)).max())
    return _near(apart, spec.golden.tolerance, "golden result against the manifest")


def _check_batches(pair: Path, pictures: Pixels) -> str:
    """The same picture scores the same alone and in batches of every size."""
    many = np.resize(pictures, (max(BATCHES), *pictures.shape[1:]))
    alone = np.concatenate([run_onnx(pair, picture[None]) for picture in many])
    apart = max(float(np.abs(run_onnx(pair, many[:size]) - alone[:size]).max()) for size in BATCHES)
    return _near(apart, TOLERANCE, f"batches of {BATCHES} against one by one")


def _check_torch(pair: Path, pictures: Pixels, *, network: nn.Module) -> str:
    with torch.inference_mode():
        expected = network.eval()(torch.from_numpy(normalise(pictures))).numpy()
    apart = float(np.abs(run_onnx(pair, pictures) - expected).max())
    return _near(apart, TOLERANCE, "torch against ONNX")
