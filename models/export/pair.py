"""Exports a network of the lite family as a pair: an ONNX file and its manifest."""

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from models.data.photos import COLUMNS, ROWS, SHORT_SIDE, TILE_HEIGHT, TILE_WIDTH
from models.networks.lite import MEAN, STD
from vqmon.core.calibration import Calibration, IntervalTable, PercentileTable, ScoreNoise
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

_OPSET = 20
WIDTH, HEIGHT = COLUMNS * TILE_WIDTH, ROWS * TILE_HEIGHT
_MAX_BATCH = 64
_SMALLEST_HALVED = 1024
"""Numbers; smaller weights, such as biases, are not worth a node of the graph."""
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32)
TILES_VIEW = View(kind="tiles", width=WIDTH, height=HEIGHT, short_side=SHORT_SIDE, columns=COLUMNS, rows=ROWS)
_GOLDEN_INPUT = GoldenInput(kind="pattern", seed=2021, frames=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairForm:
    """What a network takes and gives: pixels of `view` normalised by mean and std, `outputs` with the score first.

    Convolution kernels differ between processors in the last bits, hence a tolerance of golden scores; a wrong picture
    or file differs by far more. With `stores_half_precision` the file holds large weights as float16, at half the size;
    the runtime turns them into float32 when it loads them, and computes as before.
    """

    view: View
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    outputs: tuple[str, ...] = ("score",)
    golden_tolerance: float = 0.002
    stores_half_precision: bool = False


_LITE_FORM = PairForm(view=TILES_VIEW, mean=MEAN, std=STD)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFacts:
    """What a manifest states that the graph does not; calibration points are (native, 0..100)."""

    description: str
    native_range: tuple[float, float]
    calibration: Calibration
    licence: Licence
    provenance: dict[str, str]
    percentiles: PercentileTable | None = None
    interval: IntervalTable | None = None
    noise: ScoreNoise | None = None


def read_manifest_facts(file: Path) -> ManifestFacts:
    """Read `NAME.facts.toml`."""
    table = tomllib.loads(file.read_text())
    low, high = table["native_range"]
    points = tuple((float(native), float(score)) for native, score in table["calibration"]["points"])
    return ManifestFacts(
        description=table["description"],
        native_range=(low, high),
        calibration=Calibration(version=table["calibration"]["version"], points=points),
        # A missing value means that the licence does not state it.
        licence=Licence(commercial=table["licence"].pop("commercial", None), **table["licence"]),
        provenance=table["provenance"],
    )


def write_pair(
    network: nn.Module, name: str, *, version: int, facts: ManifestFacts, folder: Path, form: PairForm = _LITE_FORM
) -> Path:
    """Write `name@version.onnx` and its manifest `name@version.json`; returns the path of the former."""
    target = folder / f"{name}@{version}.onnx"
    _write_onnx(network, target, form)
    spec = _build_spec(target, name=name, version=version, facts=facts, form=form)
    save_frame_spec(spec, target.with_suffix(".json"))
    return target


def _build_spec(target: Path, *, name: str, version: int, facts: ManifestFacts, form: PairForm) -> ScorerSpec:
    """The manifest of an exported file, with its outputs for the golden pictures."""
    content = target.read_bytes()
    pixels = InputSpec(
        name="pixels", view=form.view, colour="rgb", layout="NCHW", dtype="float32", mean=form.mean, std=form.std
    )
    frames = golden_frames(form.view, seed=_GOLDEN_INPUT.seed, frames=_GOLDEN_INPUT.frames)
    scores = run_onnx(target, frames, mean=form.mean, std=form.std)
    return ScorerSpec(
        name=name,
        version=version,
        description=facts.description,
        input=pixels,
        output=OutputSpec(name=form.outputs[0], head="scalar"),
        native_range=facts.native_range,
        higher_is_better=True,
        calibration=facts.calibration,
        pooling="mean",
        batch_buckets=_BATCH_BUCKETS,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        licence=facts.licence,
        provenance=facts.provenance,
        golden=Golden(
            input=_GOLDEN_INPUT,
            output=tuple(round(float(score), 6) for score in scores),
            tolerance=form.golden_tolerance,
        ),
        percentiles=facts.percentiles,
        interval=facts.interval,
        noise=facts.noise,
    )


def _write_onnx(network: nn.Module, target: Path, form: PairForm) -> None:
    """Export with a dynamic batch axis of 1..64; the example batch is 2, because a size of 1 would become static."""
    batch = torch.export.Dim("batch", min=1, max=_MAX_BATCH)
    network.eval()
    example = torch.randn(2, 3, form.view.height, form.view.width)
    program = torch.onnx.export(
        network, (example,), dynamo=True, opset_version=_OPSET, dynamic_shapes=({0: batch},),
        input_names=["pixels"], output_names=list(form.outputs), external_data=False, verbose=False,
    )  # fmt: skip
    assert program is not None
    program.save(str(target), external_data=False)
    _drop_metadata(target)
    if form.stores_half_precision:
        _store_half_precision(target)


def _store_half_precision(target: Path) -> None:
    """Replace large float32 weights of a graph by float16 ones, which a runtime casts to float32 when it loads them."""
    model = onnx.load(str(target))
    casts = []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < _SMALLEST_HALVED:
            continue
        if np.abs(values).max() > np.finfo(np.float16).max:
            continue
        half = f"{weight.name}_half"
        casts.append(helper.make_node("Cast", [half], [weight.name], to=TensorProto.FLOAT))
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), half))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    onnx.save(model, str(target))


def _drop_metadata(target: Path) -> None:
    """Remove the exporter's metadata about source lines: it holds paths of the exporting machine."""
    model = onnx.load(str(target))
    for node in [*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info]:
        node.ClearField("metadata_props")
        node.doc_string = ""
    model.graph.doc_string = model.doc_string = ""
    model.ClearField("metadata_props")
    model.graph.ClearField("metadata_props")
    onnx.checker.check_model(model)
    onnx.save(model, str(target))


def to_network_input(
    pixels: NDArray[np.uint8], *, mean: Sequence[float] = MEAN, std: Sequence[float] = STD
) -> NDArray[np.float32]:
    """Pictures (batch, height, width, 3) uint8 as the graph's input (batch, 3, height, width) float32."""
    scaled = (pixels.astype(np.float32) / 255 - np.array(mean, np.float32)) / np.array(std, np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def run_onnx(
    file: Path,
    pixels: NDArray[np.uint8],
    *,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
    threads: int = 2,
) -> NDArray[np.float32]:
    """Scores (batch,) of pictures (batch, height, width, 3) by ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    scores: NDArray[np.float32] = session.run(["score"], {"pixels": to_network_input(pixels, mean=mean, std=std)})[0]
    return scores
