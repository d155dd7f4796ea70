"""Writes a trained network as an ONNX file with its manifest beside it."""

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray
from torch import nn

from models.data.photos import COLUMNS, ROWS, SHORT_SIDE, TILE_HEIGHT, TILE_WIDTH
from models.networks.lite import MEAN, STD
from vqmon.core.scores import Calibration
from vqmon.core.types import View
from vqmon.scoring.manifests.frame_scorer import (
    Golden,
    GoldenInput,
    InputSpec,
    Licence,
    OutputSpec,
    ScorerSpec,
    golden_frames,
    save_frame_spec,
)

OPSET = 20
WIDTH, HEIGHT = COLUMNS * TILE_WIDTH, ROWS * TILE_HEIGHT
LARGEST_BATCH = 64
BUCKETS = (1, 2, 4, 8, 16, 32)
VIEW = View(kind="tiles", width=WIDTH, height=HEIGHT, short_side=SHORT_SIDE, columns=COLUMNS, rows=ROWS)
GOLDEN = GoldenInput(kind="pattern", seed=2021, frames=3)
# Convolution kernels differ between processors in the last bits; a wrong picture or file is off by far more.
GOLDEN_TOLERANCE = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a manifest says that the graph cannot; calibration points are (native, 0..100)."""

    description: str
    native_range: tuple[float, float]
    calibration: Calibration
    licence: Licence
    provenance: dict[str, str]


def read_facts(file: Path) -> Facts:
    """The facts of a network as written by hand in `NAME.facts.toml`."""
    table = tomllib.loads(file.read_text())
    low, high = table["native_range"]
    points = tuple((float(native), float(score)) for native, score in table["calibration"]["points"])
    return Facts(
        description=table["description"],
        native_range=(low, high),
        calibration=Calibration(version=table["calibration"]["version"], points=points),
        # No value means that nobody has said.
        licence=Licence(commercial=table["licence"].pop("commercial", None), **table["licence"]),
        provenance=table["provenance"],
    )


def write_pair(network: nn.Module, name: str, *, version: int, facts: Facts, folder: Path) -> Path:
    """Write `name@version.onnx` and its manifest `name@version.json`; returns the path of the former."""
    target = folder / f"{name}@{version}.onnx"
    write_onnx(network, target)
    save_frame_spec(spec_of(target, name=name, version=version, facts=facts), target.with_suffix(".json"))
    return target


def spec_of(target: Path, *, name: str, version: int, facts: Facts) -> ScorerSpec:
    """The manifest of an exported file, with what it says to the golden pictures."""
    content = target.read_bytes()
    said = run_onnx(target, golden_frames(VIEW, seed=GOLDEN.seed, frames=GOLDEN.frames))
    pixels = InputSpec(name="pixels", view=VIEW, colour="rgb", layout="NCHW", dtype="float32", mean=MEAN, std=STD)
    return ScorerSpec(
        name=name,
        version=version,
        description=facts.description,
        input=pixels,
        output=OutputSpec(name="score", head="scalar"),
        native_range=facts.native_range,
        higher_is_better=True,
        calibration=facts.calibration,
        pooling="mean",
        batch_buckets=BUCKETS,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        licence=facts.licence,
        provenance=facts.provenance,
        golden=Golden(input=GOLDEN, output=tuple(round(float(one), 6) for one in said), tolerance=GOLDEN_TOLERANCE),
    )


def write_onnx(network: nn.Module, target: Path) -> None:
    """Export at a dynamic batch of 1..64; the example batch is 2, because a size of 1 would be taken as fixed."""
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    network.eval()
    example = torch.randn(2, 3, HEIGHT, WIDTH)
    program = torch.onnx.export(
        network, (example,), dynamo=True, opset_version=OPSET, dynamic_shapes=({0: batch},),
        input_names=["pixels"], output_names=["score"], external_data=False, verbose=False,
    )  # fmt: skip
    assert program is not None
    program.save(str(target), external_data=False)
    drop_notes(target)


def drop_notes(target: Path) -> None:
    """Remove what the exporter notes about source lines: it holds paths of the machine that exported."""
    model = onnx.load(str(target))
    for node in [*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info]:
        node.ClearField("metadata_props")
        node.doc_string = ""
    model.graph.doc_string = model.doc_string = ""
    model.ClearField("metadata_props")
    model.graph.ClearField("metadata_props")
    onnx.checker.check_model(model)
    onnx.save(model, str(target))


def normalise(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pictures (batch, 288, 512, 3) uint8 as the graph's input (batch, 3, 288, 512)."""
    scaled = (pixels.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def run_onnx(file: Path, pixels: NDArray[np.uint8], *, threads: int = 2) -> NDArray[np.float32]:
    """Scores (batch,) of pictures (batch, 288, 512, 3) by ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    answer: NDArray[np.float32] = session.run(["score"], {"pixels": normalise(pixels)})[0]
    return answer
