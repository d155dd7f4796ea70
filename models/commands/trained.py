"""`python -m models export|verify|card trained`: serves what `train` made, as graphs, a sheet and a manifest."""

import argparse
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models import MODELS_FOLDER
from models.commands import feature_scorers
from models.data.csv_scores import DataError
from models.export.assembly import composite
from models.export.assembly.assembly import GraphAssembly, GraphPart, PixelInput, run_in_torch
from models.export.assembly.composite import ScoreScale
from models.export.assembly.writer import (
    GOLDEN_ROWS,
    GOLDEN_SEED,
    SheetFacts,
    golden_values,
    write_graphs,
    write_sheet,
)
from models.train.checkpoint import TrainedScorer, read_trained_scorer
from models.train.features.extract import (
    FRAGMENT_FEATURES,
    FeatureSpec,
    FrozenNetwork,
    FrozenNetworks,
    build_feature_network,
    weights_sha256,
)
from models.train.features.extractors import FragmentNetwork
from models.train.trainable import TRAINABLE_SCORERS
from models.verify.assembly import verify_assembly
from vqmon.core.calibration import Calibration
from vqmon.scoring.manifests.frame_scorer import Licence

NAMES = ("trained",)
MAX_CALIBRATION_POINTS = 8
_PRECISION = "fp32"
_ROWS_PER_POINT = 20
_MIN_PREDICTION_RANGE = 1e-4
"""Predictions are 0..1; with a smaller range there is nothing to calibrate."""
_MIN_SLOPE = 1e-6
"""Slopes below this are rounding noise."""
_LITE_FACTS = MODELS_FOLDER / "lite.facts.toml"


class _FragmentScoreHead(nn.Module):
    """The last layer of a `FragmentNetwork`, as a graph of its own, so that the features can be shared."""

    def __init__(self, network: FragmentNetwork) -> None:
        super().__init__()
        self.last = network.last

    def forward(self, features: Tensor) -> Tensor:
        return torch.sigmoid(self.last(features)).squeeze(1)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of trained scorers."""
    group = command.add_argument_group("trained")
    group.add_argument("--name", dest="scorer", help="name of the scorer; default: its kind")


def export(options: argparse.Namespace) -> Path:
    """Write graphs, sheet and manifest of a checkpoint; returns the path of the manifest. Raises DataError."""
    if options.weights is None:
        raise DataError("name the checkpoint: --weights best.pt, which `python -m models train` writes")
    trained = read_trained_scorer(options.weights)
    assembly = build_trained_assembly(trained, _scorer_name(options), version=options.version)
    scale = _within(fit_score_scale(trained.predicted.numpy(), trained.target.numpy()), trained.score_range)
    sheet = _sheet_path(options)
    options.built.mkdir(parents=True, exist_ok=True)
    values = run_in_torch(assembly, assembly.golden(GOLDEN_ROWS, seed=GOLDEN_SEED))
    steps = write_graphs(assembly, values, precision=_PRECISION, folder=options.built)
    golden = {part.name: golden_values(values[part.name]) for part in assembly.parts}
    write_sheet(sheet, _sheet_facts(trained), precision=_PRECISION, inputs=assembly.inputs, steps=steps, golden=golden)
    return composite.write_composite_manifest(sheet, scale)


def verify(options: argparse.Namespace) -> list[str]:
    """Verify an exported scorer, against torch too when the checkpoint is given; raises VerifyError or DataError."""
    sheet, assembly = _sheet_path(options), None
    if not sheet.is_file():
        raise DataError(f"{sheet}: no such sheet; export the scorer first, or name its folder: --built FOLDER")
    if options.weights is not None:
        trained = read_trained_scorer(options.weights)
        assembly = build_trained_assembly(trained, _scorer_name(options), version=options.version)
    return verify_assembly(sheet, assembly=assembly)


def card(options: argparse.Namespace) -> str:
    """A Markdown table of the sheet's facts."""
    return feature_scorers.format_sheet_card(_sheet_path(options))


def _scorer_name(options: argparse.Namespace) -> str:
    """`--name`, or the kind of the checkpoint. Raises DataError when it is not a valid scorer name."""
    if options.scorer is None and options.weights is None:
        raise DataError("name the scorer: --name NAME, as it was exported")
    name = options.scorer or read_trained_scorer(options.weights).kind.replace("_", "-")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise DataError(f"--name {name}: not a valid scorer name; one is like my-scorer")
    return str(name)


def _sheet_path(options: argparse.Namespace) -> Path:
    folder: Path = options.built
    return folder / f"{_scorer_name(options)}@{options.version}.parts.json"


def build_trained_assembly(trained: TrainedScorer, name: str, *, version: int) -> GraphAssembly:
    """One graph per frozen network, named after the hash of its weights so that scorers share it, and the trained
    graph."""
    features, frozen_networks, head = _serving_networks(trained)
    inputs: dict[str, PixelInput] = {spec.input.name: spec.input for spec in features}
    parts = []
    for spec in features:
        network = build_feature_network(spec, frozen_networks)
        assert network is not None
        part_name = f"{spec.name}-{weights_sha256(network)[:8]}"
        parts.append(GraphPart(name=part_name, network=network, takes=(spec.input.name,)))
    parts.append(GraphPart(name=f"{name}-score", network=head, takes=tuple(part.name for part in parts)))
    return GraphAssembly(name=name, version=version, inputs=tuple(inputs.values()), parts=tuple(parts))


def _serving_networks(trained: TrainedScorer) -> tuple[tuple[FeatureSpec, ...], FrozenNetworks, nn.Module]:
    """(the features, the frozen networks that compute them, the network that scores them)."""
    if isinstance(trained.network, FragmentNetwork):
        network = FrozenNetwork(network=trained.network, origin="its own")
        return (FRAGMENT_FEATURES,), {"fragments": network}, _FragmentScoreHead(trained.network)
    features = tuple(TRAINABLE_SCORERS[trained.kind].features(trained.config))
    return features, trained.frozen_networks, trained.network


def _sheet_facts(trained: TrainedScorer) -> SheetFacts:
    terms = [f"Whoever made the scores decides how it may be used: {trained.licence}."]
    if "lite" in trained.frozen_networks:
        terms.append(f"It uses lite's trunk: {tomllib.loads(_LITE_FACTS.read_text())['licence']['note']}")
    return SheetFacts(
        description=f"{trained.kind}, trained by its owner on {trained.facts['rows']} rows with scores",
        licence=Licence(name=trained.licence, commercial=None, note=" ".join(terms)),
        provenance={
            **{f"trained on {key}" if key == "scores" else key: value for key, value in trained.facts.items()},
            **{f"uses {name}": network.origin for name, network in trained.frozen_networks.items()},
            "made by": f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}",
        },
    )


def fit_score_scale(predicted: NDArray[np.float32], target: NDArray[np.float32]) -> ScoreScale:
    """A piecewise linear, rising calibration from native 0..1 to 0..100 of predictions [n] and targets 0..1 [n].

    The points are means of equal shares of the rows, sorted by prediction; neighbours that would fall are merged
    (pooled), and both ends are extended linearly to the end of either scale. Raises DataError when predictions do not
    rise with the targets.
    """
    native, score = predicted.astype(np.float64), 100 * target.astype(np.float64)
    if np.ptp(native) < _MIN_PREDICTION_RANGE:
        raise DataError(f"all {len(native)} validation rows are predicted {native.mean():.4f}: nothing to calibrate")
    slope = float(np.polyfit(native, score, 1)[0])
    if slope <= _MIN_SLOPE:
        raise DataError(
            f"predictions of the {len(native)} validation rows do not rise with their scores: nothing to calibrate; "
            "train longer, or on more rows"
        )
    points: list[tuple[float, float, int]] = []
    for rows in np.array_split(np.argsort(native, kind="stable"), _bin_count(len(native))):
        points.append((float(native[rows].mean()), float(score[rows].mean()), len(rows)))
        while len(points) > 1 and points[-1][1] <= points[-2][1]:
            points[-2:] = [_merge_points(points[-2], points[-1])]
    (low, low_score, _), (high, high_score, _) = points[0], points[-1]
    first_slope, last_slope = _slope(points[:2], slope), _slope(points[-2:], slope)
    below, above = min(low, low_score / first_slope), min(1 - high, (100 - high_score) / last_slope)
    extended = [
        (low - below, low_score - first_slope * below),
        *((x, y) for x, y, _ in points),
        (high + above, high_score + last_slope * above),
    ]
    rounded = {round(x, 6): round(y, 2) for x, y in extended}
    return ScoreScale(
        native_range=(0.0, 1.0), calibration=Calibration(version=1, points=tuple(sorted(rounded.items())))
    )


def _within(scale: ScoreScale, score_range: tuple[float, float]) -> ScoreScale:
    """The scale with 0 and 100 moved to the ends of a range within 0..100."""
    low, high = score_range
    points = ((native, round(low + (high - low) * score / 100, 2)) for native, score in scale.calibration.points)
    return replace(scale, calibration=replace(scale.calibration, points=tuple(points)))


def _slope(ends: list[tuple[float, float, int]], default: float) -> float:
    """The slope between two neighbouring points, or the default where there is only one."""
    run = ends[-1][0] - ends[0][0]
    return (ends[-1][1] - ends[0][1]) / run if run > 0 else default


def _bin_count(rows: int) -> int:
    return min(MAX_CALIBRATION_POINTS, max(2, rows // _ROWS_PER_POINT))


def _merge_points(first: tuple[float, float, int], second: tuple[float, float, int]) -> tuple[float, float, int]:
    """The mean of two points (native, score, rows), weighted by their rows."""
    rows = first[2] + second[2]
    return (
        (first[0] * first[2] + second[0] * second[2]) / rows,
        (first[1] * first[2] + second[1] * second[2]) / rows,
        rows,
    )
