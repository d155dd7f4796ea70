"""`python -m models export|verify|card trained` for what `train` left: graphs, a sheet, and the daemon's manifest."""

import argparse
import re
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models import MODELS_FOLDER
from models.commands import feature_scorers
from models.data.csv_scores import DataError
from models.export import composite
from models.export.assembly.assembly import Assembly, Part, Source, run_torch
from models.export.assembly.writer import GOLDEN_ROWS, GOLDEN_SEED, SheetFacts, golden_of, write_parts, write_sheet
from models.export.composite import Scale
from models.train.checkpoint import Trained, read_trained
from models.train.features.extract import FRAGMENT_FEATURES, Frozen, Look, Parts, digest_of, network_of
from models.train.features.extractors import FragmentNet
from models.train.learners import LEARNERS
from models.verify import assembly as parts_verify
from vqmon.core.scores import Calibration
from vqmon.scoring.manifests.frame_scorer import Licence

NAMES = ("trained",)
FORM = "fp32"
MOST_POINTS, ROWS_PER_POINT = 8, 20
LEAST_SPREAD = 1e-4
"""Of predictions 0..1: below it there is nothing to tell apart."""
LEAST_SLOPE = 1e-6
"""What rounding leaves of none."""
_FACTS = MODELS_FOLDER / "lite.facts.toml"


class FragmentScore(nn.Module):
    """Features of fragments -> quality: the end of a `FragmentNet`, so that its features may be shared."""

    def __init__(self, network: FragmentNet) -> None:
        super().__init__()
        self.last = network.last

    def forward(self, features: Tensor) -> Tensor:
        return torch.sigmoid(self.last(features)).squeeze(1)


def add_arguments(part: argparse.ArgumentParser) -> None:
    """What these need to be told beside what all do."""
    group = part.add_argument_group("trained")
    group.add_argument("--name", dest="scorer", help="how the scorer will be called; else as what was trained")


def export(options: argparse.Namespace) -> Path:
    """Write graphs, sheet and manifest of a checkpoint; returns the manifest's path. Raises DataError."""
    if options.weights is None:
        raise DataError("name the checkpoint: --weights best.pt, which `python -m models train` left in its folder")
    trained = read_trained(options.weights)
    assembly = assembly_of(trained, name_of(options), version=options.version)
    scale = fit_scale(trained.predicted.numpy(), trained.wanted.numpy())
    sheet = sheet_of(options)
    options.built.mkdir(parents=True, exist_ok=True)
    values = run_torch(assembly, assembly.golden(GOLDEN_ROWS, seed=GOLDEN_SEED))
    steps = write_parts(assembly, values, form=FORM, folder=options.built)
    golden = {part.name: golden_of(values[part.name]) for part in assembly.parts}
    write_sheet(sheet, facts_of(trained), form=FORM, sources=assembly.sources, steps=steps, golden=golden)
    return composite.write_composite(sheet, scale)


def verify(options: argparse.Namespace) -> list[str]:
    """Check what was written, against torch when the checkpoint is given; raises VerifyError, or DataError."""
    sheet, assembly = sheet_of(options), None
    if not sheet.is_file():
        raise DataError(f"{sheet}: no such sheet; export the scorer first, or name its folder: --built FOLDER")
    if options.weights is not None:
        assembly = assembly_of(read_trained(options.weights), name_of(options), version=options.version)
    return parts_verify.verify(sheet, assembly=assembly)


def card(options: argparse.Namespace) -> str:
    """A Markdown table of what the sheet says."""
    return feature_scorers.card_of(sheet_of(options))


def name_of(options: argparse.Namespace) -> str:
    """`--name`, or what the checkpoint's kind is called. Raises DataError when that cannot be a scorer's name."""
    if options.scorer is None and options.weights is None:
        raise DataError("name the scorer: --name NAME, as it was exported")
    name = options.scorer or read_trained(options.weights).learner.replace("_", "-")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise DataError(f"--name {name}: is no name for a scorer; one is like my-scorer")
    return str(name)


def sheet_of(options: argparse.Namespace) -> Path:
    """Where the sheet of these options lies."""
    folder: Path = options.built
    return folder / f"{name_of(options)}@{options.version}.parts.json"


def assembly_of(trained: Trained, name: str, *, version: int) -> Assembly:
    """A graph per frozen network, called after its weights so that scorers share it, and one that was trained."""
    looks, through, last = _served(trained)
    sources: dict[str, Source] = {look.source.name: look.source for look in looks}
    parts, takes = [], []
    for look in looks:
        network = network_of(look, through)
        assert network is not None
        parts.append(Part(name=f"{look.name}-{digest_of(network)[:8]}", network=network, takes=(look.source.name,)))
        takes.append(parts[-1].name)
    parts.append(Part(name=f"{name}-score", network=last, takes=tuple(takes)))
    return Assembly(name=name, version=version, sources=tuple(sources.values()), parts=tuple(parts))


def _served(trained: Trained) -> tuple[tuple[Look, ...], Parts, nn.Module]:
    """What is looked at, through which networks, and what judges."""
    if isinstance(trained.network, FragmentNet):
        own = Frozen(network=trained.network, origin="its own")
        return (FRAGMENT_FEATURES,), {"fragments": own}, FragmentScore(trained.network)
    return tuple(LEARNERS[trained.learner].looks(trained.shape)), trained.parts, trained.network


def facts_of(trained: Trained) -> SheetFacts:
    """What the sheet says that graphs cannot."""
    terms = [f"Whoever made the scores says what may be done with it: {trained.licence}."]
    if "lite" in trained.parts:
        terms.append(f"It looks through lite's trunk: {tomllib.loads(_FACTS.read_text())['licence']['note']}")
    return SheetFacts(
        description=f"{trained.learner}, trained by its owner on {trained.facts['rows']} rows with scores",
        licence=Licence(name=trained.licence, commercial=None, note=" ".join(terms)),
        provenance={
            **{f"trained on {key}" if key == "scores" else key: value for key, value in trained.facts.items()},
            **{f"looks through {name}": part.origin for name, part in trained.parts.items()},
            "made by": f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}",
        },
    )


def fit_scale(predicted: NDArray[np.float32], wanted: NDArray[np.float32]) -> Scale:
    """Native 0..1 to 0..100 by a few rising points: means of equal shares of the rows, neighbours that fall joined, and
    straight on at both ends until the end of either scale.

    Raises DataError when predictions do not rise with people's scores.
    """
    native, score = predicted.astype(np.float64), 100 * wanted.astype(np.float64)
    if np.ptp(native) < LEAST_SPREAD:
        raise DataError(f"the {len(native)} rows kept apart are all given {native.mean():.4f}: nothing to calibrate")
    slope = float(np.polyfit(native, score, 1)[0])
    if slope <= LEAST_SLOPE:
        raise DataError(
            f"of the {len(native)} rows kept apart those with better scores are not predicted better: nothing to "
            "calibrate; train longer, or on more rows"
        )
    points: list[tuple[float, float, int]] = []
    for rows in np.array_split(np.argsort(native, kind="stable"), _bins(len(native))):
        points.append((float(native[rows].mean()), float(score[rows].mean()), len(rows)))
        while len(points) > 1 and points[-1][1] <= points[-2][1]:
            points[-2:] = [_joined(points[-2], points[-1])]
    (low, least, _), (high, most, _) = points[0], points[-1]
    first, last = _slope(points[:2], slope), _slope(points[-2:], slope)
    below, above = min(low, least / first), min(1 - high, (100 - most) / last)
    ends = [(low - below, least - first * below), *((x, y) for x, y, _ in points), (high + above, most + last * above)]
    rounded = {round(x, 6): round(y, 2) for x, y in ends}
    return Scale(native_range=(0.0, 1.0), calibration=Calibration(version=1, points=tuple(sorted(rounded.items()))))


def _slope(ends: list[tuple[float, float, int]], whole: float) -> float:
    """Between two neighbours; where there is one point alone, that of the whole."""
    run = ends[-1][0] - ends[0][0]
    return (ends[-1][1] - ends[0][1]) / run if run > 0 else whole


def _bins(rows: int) -> int:
    return min(MOST_POINTS, max(2, rows // ROWS_PER_POINT))


def _joined(one: tuple[float, float, int], other: tuple[float, float, int]) -> tuple[float, float, int]:
    rows = one[2] + other[2]
    return (one[0] * one[2] + other[0] * other[2]) / rows, (one[1] * one[2] + other[1] * other[2]) / rows, rows
