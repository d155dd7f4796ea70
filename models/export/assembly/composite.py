"""Writes the daemon's manifest of a composite scorer from the sheet of its graphs."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from models import MODELS_FOLDER
from models.export.assembly.assembly import GOLDEN_PROMPT, FeatureInput, PixelInput, TextInput
from models.export.assembly.writer import (
    GOLDEN_ROWS,
    GOLDEN_SEED,
    MIN_LARGEST_VALUE,
    RELATIVE_TOLERANCE,
    read_sheet_inputs,
)
from models.export.pair import TILES_VIEW
from models.networks.owl.q_align import PAD_RGB
from models.weights import WeightsError
from vqmon.core.calibration import Calibration
from vqmon.core.types import ClipSampling, View
from vqmon.scoring.manifests.composite_scorer import (
    CompositeGolden,
    CompositeSpec,
    SourceSpec,
    StepSpec,
    save_composite_spec,
)
from vqmon.scoring.manifests.frame_scorer import GoldenInput, InputSpec, Licence

# columns and rows of fragments in FAST-VQA
_FRAGMENTS_PER_SIDE = 7
_SCORER_FACTS = MODELS_FOLDER / "rich.facts.toml"
_STEPS = TypeAdapter(tuple[StepSpec, ...])
_LICENCE = TypeAdapter(Licence)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreScale:
    """The native range of the last part's output, and its calibration (native, 0..100)."""

    native_range: tuple[float, float]
    calibration: Calibration


def find_scale(name: str, file: Path | None = None) -> ScoreScale:
    """The scale of a file when one is given, else that of the scorer in `rich.facts.toml`.

    Raises WeightsError when neither states one, as for features.
    """
    if file is not None:
        return read_scale_file(file)
    table = tomllib.loads(_SCORER_FACTS.read_text())[name].get("scale")
    if table is None:
        raise WeightsError(f"{name} has no scale: fit its output to scores, and give the scale by --scale FILE.toml")
    return _parse_scale(table)


def read_scale_file(file: Path) -> ScoreScale:
    """Read native_range = [low, high] and points = [[native, 0..100], ...] of a TOML file; raises WeightsError."""
    remedy = "write native_range = [low, high] and points = [[native, 0..100], ...], all rising, and nothing else"
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        scale = _parse_scale(table)
    except OSError as error:
        raise WeightsError(f"--scale {file}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"--scale {file}: {error!r}; {remedy}") from error
    (low, high), points = scale.native_range, scale.calibration.points
    is_rising = low < high and points[0][1] < points[-1][1] and np.isfinite([low, high, *np.ravel(points)]).all()
    if table.keys() != {"native_range", "points"} or not is_rising:
        raise WeightsError(f"--scale {file}: {remedy}")
    return scale


def _parse_scale(table: Mapping[str, Any]) -> ScoreScale:
    low, high = (float(bound) for bound in table["native_range"])
    points = tuple((float(native), float(score)) for native, score in table["points"])
    return ScoreScale(native_range=(low, high), calibration=Calibration(version=1, points=points))


def view_of_input(pixels: PixelInput) -> View:
    """The decoder's view for an input."""
    clip = ClipSampling(frames=pixels.frames, stride=pixels.stride) if pixels.frames > 1 else None
    side = pixels.side
    match pixels.transform:
        case "stretch":
            return View(kind="stretch", width=side, height=side, clip=clip)
        case "centre":
            return View(kind="centre", width=side, height=side, short_side=side, clip=clip)
        case "fragments":
            return View(
                kind="fragments",
                width=side,
                height=side,
                columns=_FRAGMENTS_PER_SIDE,
                rows=_FRAGMENTS_PER_SIDE,
                clip=clip,
            )
        case "windows":
            return View(kind="windows", width=side, height=side, windows=pixels.pictures)
        case "grid":
            return View(
                kind="grid",
                width=side,
                height=side,
                short_side=pixels.short_side,
                columns=pixels.columns,
                rows=pixels.pictures // pixels.columns,
            )
        case "halves":
            return View(kind="halves", width=side, height=side, pad_rgb=PAD_RGB)
        case "tiles":
            return TILES_VIEW


def is_servable(sheet: Path, name: str) -> bool:
    """Whether the daemon can serve the scorer without a scale file: it has a scale, and takes no other scorer's
    features."""
    has_scale = "scale" in tomllib.loads(_SCORER_FACTS.read_text())[name]
    inputs = read_sheet_inputs(json.loads(sheet.read_text()), sheet.parent)
    return has_scale and not any(isinstance(each, FeatureInput) for each in inputs)


def write_composite_manifest(sheet: Path, scale: ScoreScale) -> Path:
    """Write `name@version.json` beside a sheet; returns its path.

    Raises WeightsError when the scorer takes features of another scorer's graph.
    """
    table = json.loads(sheet.read_text())
    sources, texts = [], []
    for each in read_sheet_inputs(table, sheet.parent):
        if isinstance(each, TextInput):
            texts.append(each.spec)
            continue
        if isinstance(each, FeatureInput):
            raise WeightsError(
                f"{table['name']} takes {each.name} of another scorer's graph: name that scorer's sheet by "
                "--part q_align_hidden=FILE.parts.json"
            )
        sources.append(_source_spec(each, view_of_input(each)))
    steps = _STEPS.validate_python(table["steps"])
    golden = table["golden"][steps[-1].name]
    spec = CompositeSpec(
        kind="composite",
        name=table["name"],
        version=table["version"],
        description=table["description"],
        sources=tuple(sources),
        steps=steps,
        native_range=scale.native_range,
        higher_is_better=True,
        calibration=scale.calibration,
        pooling="mean",
        licence=_LICENCE.validate_python(table["licence"]),
        provenance=table["provenance"],
        golden=CompositeGolden(
            input=GoldenInput(kind="pattern", seed=GOLDEN_SEED, frames=GOLDEN_ROWS),
            output=tuple(golden["values"]),
            tolerance=RELATIVE_TOLERANCE[table["form"]] * max(golden["largest"], MIN_LARGEST_VALUE),
            prompt=GOLDEN_PROMPT if texts else "",
        ),
        texts=tuple(texts),
    )
    target = sheet.with_name(f"{spec.id}.json")
    save_composite_spec(spec, target)
    return target


def _source_spec(source: PixelInput, view: View) -> SourceSpec:
    pixels = InputSpec(
        name=source.name, view=view, colour="rgb", layout="NCHW", dtype="uint8", mean=(0, 0, 0), std=(1, 1, 1)
    )
    return SourceSpec(name=source.name, input=pixels, order=source.order, pictures=source.pictures)
