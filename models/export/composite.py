"""From a sheet of graphs to the manifest with which the daemon serves them as one scorer."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from models import MODELS_FOLDER
from models.data.fragments import Grid
from models.export.assembly.assembly import GOLDEN_PROMPT, Given, Source, Text
from models.export.assembly.writer import GOLDEN_ROWS, GOLDEN_SEED, SLACK
from models.export.pair import VIEW as TILES
from models.networks.owl.q_align import PAD_RGB
from models.verify.assembly import LEAST, read_sources
from models.weights import WeightsError
from vqmon.core.scores import Calibration
from vqmon.core.types import ClipSampling, View
from vqmon.scoring.manifests.composite_scorer import (
    CompositeGolden,
    CompositeSpec,
    SourceSpec,
    StepSpec,
    save_composite_spec,
)
from vqmon.scoring.manifests.frame_scorer import GoldenInput, InputSpec, Licence

_FACTS = MODELS_FOLDER / "rich.facts.toml"
_STEPS = TypeAdapter(tuple[StepSpec, ...])
_LICENCE = TypeAdapter(Licence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What the last part's answer means: its range, and points (native, 0..100)."""

    native_range: tuple[float, float]
    calibration: Calibration


def scale_of(name: str, file: Path | None = None) -> Scale:
    """The scale of an owner's file, else that written by hand in `rich.facts.toml`.

    Raises WeightsError where the file says none, for features, and where nobody has said.
    """
    if file is not None:
        return read_scale(file)
    table = tomllib.loads(_FACTS.read_text())[name].get("scale")
    if table is None:
        raise WeightsError(
            f"{name} has no scale of its own: fit its answers to scores, and say it by --scale FILE.toml"
        )
    return _scale(table)


def read_scale(file: Path) -> Scale:
    """native_range = [low, high] and points = [[native, 0..100], ...] of a TOML file; raises WeightsError."""
    remedy = "it holds native_range = [low, high] and points = [[native, 0..100], ...], all rising, and nothing else"
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        scale = _scale(table)
    except OSError as error:
        raise WeightsError(f"--scale {file}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"--scale {file}: {error!r}; {remedy}") from error
    (low, high), points = scale.native_range, scale.calibration.points
    is_rising = low < high and points[0][1] < points[-1][1] and np.isfinite([low, high, *np.ravel(points)]).all()
    if table.keys() != {"native_range", "points"} or not is_rising:
        raise WeightsError(f"--scale {file}: {remedy}")
    return scale


def _scale(table: Mapping[str, Any]) -> Scale:
    low, high = (float(end) for end in table["native_range"])
    points = tuple((float(native), float(score)) for native, score in table["points"])
    return Scale(native_range=(low, high), calibration=Calibration(version=1, points=points))


def view_of(source: Source) -> View:
    """The view that the decoder makes for a source."""
    clip = ClipSampling(frames=source.pictures, stride=source.stride) if source.order == "NCTHW" else None
    side, pieces = source.side, Grid().pieces
    match source.made:
        case "stretch":
            return View(kind="stretch", width=side, height=side, clip=clip)
        case "centre":
            return View(kind="centre", width=side, height=side, short_side=side, clip=clip)
        case "fragments":
            return View(kind="fragments", width=side, height=side, columns=pieces, rows=pieces, clip=clip)
        case "windows":
            return View(kind="windows", width=side, height=side, windows=source.pictures)
        case "halves":
            return View(kind="halves", width=side, height=side, pad_rgb=PAD_RGB)
        case "tiles":
            return TILES


def is_served(sheet: Path, name: str) -> bool:
    """Whether the daemon can serve it as it is: it has a scale, and is given nothing of another scorer's."""
    has_scale = "scale" in tomllib.loads(_FACTS.read_text())[name]
    sources = read_sources(json.loads(sheet.read_text()), sheet.parent)
    return has_scale and not any(isinstance(each, Given) for each in sources)


def write_composite(sheet: Path, scale: Scale) -> Path:
    """Write `name@version.json` beside a sheet.

    Raises WeightsError when something is wanted that no decoder gives: another scorer's features.
    """
    table = json.loads(sheet.read_text())
    sources, texts = [], []
    for source in read_sources(table, sheet.parent):
        if isinstance(source, Text):
            texts.append(source.spec)
            continue
        if isinstance(source, Given):
            raise WeightsError(
                f"{table['name']} takes {source.name} of another scorer's graph: name that scorer's sheet by "
                "--part q_align_hidden=FILE.parts.json"
            )
        sources.append(_source(source, view_of(source)))
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
            tolerance=SLACK[table["form"]] * max(golden["largest"], LEAST),
            prompt=GOLDEN_PROMPT if texts else "",
        ),
        texts=tuple(texts),
    )
    target = sheet.with_name(f"{spec.id}.json")
    save_composite_spec(spec, target)
    return target


def _source(source: Source, view: View) -> SourceSpec:
    pixels = InputSpec(
        name=source.name, view=view, colour="rgb", layout="NCHW", dtype="uint8", mean=(0, 0, 0), std=(1, 1, 1)
    )
    return SourceSpec(name=source.name, input=pixels, order=source.order, pictures=source.pictures)
