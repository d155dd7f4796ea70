"""`python -m models export|verify|card` for scorers made of mPLUG-Owl2: q_align and compare2score."""

import argparse
import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import torch
from PIL import Image
from torch import Tensor

from models import MODELS_FOLDER
from models.export import graphs
from models.export.owl import FORMS, Recipe, write_scorer
from models.export.owl_recipes import compare2score_recipe, q_align_recipe
from models.export.owl_streaming import IGNORED, OPTIONAL, needed_shapes
from models.export.pair import Facts, read_facts
from models.networks.owl import q_align
from models.networks.owl.compare2score import choose_anchors
from models.networks.owl.owl import OwlConfig
from models.verify import owl
from models.weights import Found, Hub, HuggingFace, WeightsError, check_licence, check_names, load
from vqmon.scoring.manifests.level_scorer import GraphSpec, load_level_spec

NAMES = ("q_align", "compare2score")
_PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}


def add_arguments(part: argparse.ArgumentParser) -> None:
    """What these scorers need to be told beside what all do."""
    group = part.add_argument_group(
        "q_align, compare2score", "weights: a file, a folder of shards, or owner/name@commit"
    )
    group.add_argument("--dtype", choices=tuple(FORMS), default="fp16")
    group.add_argument("--sha256", action="append", default=[], help="what files may hash to; may be given many times")
    group.add_argument("--cache", type=Path, default=Path("weights"), help="where fetched weights are kept")
    group.add_argument("--allow-noncommercial", action="store_true", help="your use is not commercial")
    group.add_argument("--anchors", type=Path, help="a folder of the anchors, worst first by name")
    group.add_argument("--published-anchors", action="store_true", help="they are the published five, in their order")
    group.add_argument("--scored", type=Path, help="choose anchors from your own: CSV with file, score, variance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What is not said on the command line."""

    config: OwlConfig
    hub: Hub
    one_file_bytes: int = graphs.ONE_FILE_BYTES


def usual_place(options: argparse.Namespace) -> Place:
    """The published sizes, and the usual hub."""
    return Place(config=OwlConfig(), hub=HuggingFace(options.cache))


def export(options: argparse.Namespace, place: Place) -> Path:
    """Write a scorer's graphs and manifest; returns the manifest's path. Raises WeightsError."""
    found, recipe = _prepare(options, place)
    options.built.mkdir(parents=True, exist_ok=True)
    return write_scorer(
        recipe,
        found.checkpoint,
        form=options.dtype,
        folder=options.built,
        one_file_bytes=place.one_file_bytes,
    )


def verify(options: argparse.Namespace, place: Place) -> list[str]:
    """Check a written scorer, against torch when weights are given; raises VerifyError."""
    if options.weights is None:
        return owl.verify(manifest_of(options))
    found, recipe = _prepare(options, place)
    return owl.verify(manifest_of(options), weights=found.checkpoint, recipe=recipe)


def card(options: argparse.Namespace) -> str:
    """A Markdown table of what the manifest says."""
    spec = load_level_spec(manifest_of(options))
    rows = {
        "scorer": spec.id,
        **{name: _file(graph) for name, graph in (("encoder", spec.encoder), ("language", spec.language))},
        "view": f"{spec.input.view.kind} {spec.input.view.width} x {spec.input.view.height}",
        "tasks": ", ".join(f"{task.name} ({task.least_frames}..{task.most_frames} frames)" for task in spec.tasks),
        "levels": ", ".join(f"{level.word} = {level.value:g}" for level in spec.levels),
        "native range": f"{spec.native_range[0]:g} .. {spec.native_range[1]:g}",
        "commercial use": {True: "allowed", False: "forbidden", None: "nobody has said"}[spec.licence.commercial],
        "licence": f"{spec.licence.name}: {spec.licence.note}",
        **spec.provenance,
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def manifest_of(options: argparse.Namespace) -> Path:
    """Where the manifest of these options lies."""
    folder: Path = options.built
    return folder / f"{options.name.replace('_', '-')}-{options.dtype}@{options.version}.json"


def _file(graph: GraphSpec) -> str:
    return f"{graph.file}, {graph.size_bytes / 2**20:.1f} MiB, sha256 `{graph.sha256}`"


def _prepare(options: argparse.Namespace, place: Place) -> tuple[Found, Recipe]:
    facts = read_facts(MODELS_FOLDER / f"{options.name}.facts.toml")
    check_licence(options.name, facts.licence, allow_noncommercial=options.allow_noncommercial)
    if options.weights is None:
        raise WeightsError("name the weights: --weights FILE, FOLDER or owner/name@commit")
    found = load(str(options.weights), hub=place.hub, sha256=options.sha256)
    needed = needed_shapes(place.config)
    check_names(found.checkpoint.shapes, needed, optional=OPTIONAL, ignored=IGNORED)
    return found, _recipe(options, place, found=found, facts=_with_origin(facts, found))


def _recipe(options: argparse.Namespace, place: Place, *, found: Found, facts: Facts) -> Recipe:
    if options.name == "q_align":
        return q_align_recipe(facts, config=place.config, version=options.version)
    anchors = read_anchors(options.anchors, options.scored)
    return compare2score_recipe(
        facts,
        anchors,
        found.checkpoint,
        config=place.config,
        published=options.published_anchors,
        version=options.version,
    )


def _with_origin(facts: Facts, found: Found) -> Facts:
    hashes = {f"sha256 of {name}": digest for name, digest in found.hashes.items()}
    made = {"made by": f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}"}
    return replace(facts, provenance={**facts.provenance, "weights": found.reference, **hashes, **made})


def read_anchors(folder: Path | None, scored: Path | None) -> list[Tensor]:
    """Anchors (3, 448, 448) uint8, worst first: all pictures of a folder, or five chosen from scored ones."""
    if folder is not None:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _PICTURES)
    elif scored is not None:
        with scored.open(newline="") as file:
            rows = list(csv.DictReader(file))
        values = [np.array([float(row[name]) for row in rows]) for name in ("score", "variance")]
        files = [scored.parent / rows[at]["file"] for at in choose_anchors(values[0], values[1])]
    else:
        raise WeightsError("name the anchors: --anchors FOLDER, or --scored CSV to choose them from your own pictures")
    if len(files) < 2:
        raise WeightsError(f"{folder or scored}: needs two anchors or more, found {len(files)}")
    return [torch.from_numpy(q_align.to_square(Image.open(path)).copy()).permute(2, 0, 1) for path in files]


@contextmanager
def plain_refusals() -> Iterator[None]:
    """What is wrong with weights is said in one line."""
    try:
        yield
    except WeightsError as error:
        raise SystemExit(f"error: {error}") from error
