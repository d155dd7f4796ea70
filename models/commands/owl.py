"""`python -m models export|verify|card` for scorers of mPLUG-Owl2: Q-Align, its variants and Compare2Score."""

import argparse
import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import torch
from PIL import Image
from torch import Tensor

from models import MODELS_FOLDER
from models.checkpoints.published_files import PUBLISHED_FILES
from models.export import graphs
from models.export.owl import PRECISIONS, LevelScorerRecipe, write_level_scorer
from models.export.owl_recipes import (
    compare2score_recipe,
    deqa_score_recipe,
    q_align_recipe,
    q_instruct_recipe,
)
from models.export.owl_streaming import load_owl
from models.export.pair import ManifestFacts, read_manifest_facts
from models.networks.owl import q_align
from models.networks.owl.compare2score import choose_anchors
from models.networks.owl.owl import OwlConfig
from models.verify.owl import verify_level_scorer
from models.weights import Hub, HuggingFace, LoadedWeights, WeightsError, check_licence
from vqmon.scoring.manifests.level_scorer import GraphSpec, load_level_spec

RECIPES_WITHOUT_ANCHORS = {
    "q_align": q_align_recipe, "deqa_score": deqa_score_recipe, "q_instruct": q_instruct_recipe,
}  # fmt: skip
NAMES = (*RECIPES_WITHOUT_ANCHORS, "compare2score")
_PICTURE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of level scorers."""
    group = command.add_argument_group(", ".join(NAMES), "weights: a file, a folder of shards, or owner/name@commit")
    add_precision(group)
    add_weights_arguments(group)
    group.add_argument("--anchors", type=Path, help="folder of the anchors, worst first by file name")
    group.add_argument(
        "--published-anchors", action="store_true", help="the anchors are the published five, in their order"
    )
    group.add_argument(
        "--scored", type=Path, help="choose anchors among your own pictures: CSV with file, score, variance"
    )


def add_weights_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options of published weights beside `--weights`."""
    group.add_argument(
        "--sha256", action="append", default=[], help="accepted hash of a weights file; may be given several times"
    )
    group.add_argument("--cache", type=Path, default=Path("weights"), help="folder of downloaded weights")
    group.add_argument("--allow-noncommercial", action="store_true", help="your use is not commercial")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportEnvironment:
    """What the command line does not set: network sizes, model hub, and the largest graph without external data."""

    config: OwlConfig
    hub: Hub
    max_embedded_bytes: int = graphs.MAX_EMBEDDED_BYTES


def add_precision(command: argparse._ActionsContainer) -> None:
    """Add the option that names the precision of the graphs."""
    command.add_argument("--dtype", choices=tuple(PRECISIONS), default="fp16", help="precision of the exported graphs")


def default_environment(options: argparse.Namespace) -> ExportEnvironment:
    """The published sizes and the Hugging Face Hub."""
    return ExportEnvironment(config=OwlConfig(), hub=HuggingFace(options.cache))


def export(options: argparse.Namespace, environment: ExportEnvironment) -> Path:
    """Write a scorer's graphs and manifest; returns the path of the manifest. Raises WeightsError."""
    loaded, recipe = load_recipe(options, environment)
    options.built.mkdir(parents=True, exist_ok=True)
    return write_level_scorer(
        recipe,
        loaded.checkpoint,
        precision=options.dtype,
        folder=options.built,
        max_embedded_bytes=environment.max_embedded_bytes,
    )


def verify(options: argparse.Namespace, environment: ExportEnvironment) -> list[str]:
    """Verify an exported scorer, against torch too when weights are given; raises VerifyError or WeightsError."""
    if options.weights is None:
        return verify_level_scorer(_manifest_path(options))
    loaded, recipe = load_recipe(options, environment)
    return verify_level_scorer(_manifest_path(options), weights=loaded.checkpoint, recipe=recipe)


def card(options: argparse.Namespace) -> str:
    """A Markdown table of the manifest's facts."""
    spec = load_level_spec(_manifest_path(options))
    rows = {
        "scorer": spec.id,
        **{name: _describe_graph(graph) for name, graph in (("encoder", spec.encoder), ("language", spec.language))},
        "view": f"{spec.input.view.kind} {spec.input.view.width} x {spec.input.view.height}",
        "tasks": ", ".join(f"{task.name} ({task.least_frames}..{task.most_frames} frames)" for task in spec.tasks),
        "levels": ", ".join(f"{level.word} = {level.value:g}" for level in spec.levels),
        "native range": f"{spec.native_range[0]:g} .. {spec.native_range[1]:g}",
        "commercial use": {True: "allowed", False: "forbidden", None: "not stated"}[spec.licence.commercial],
        "licence": f"{spec.licence.name}: {spec.licence.note}",
        **spec.provenance,
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _manifest_path(options: argparse.Namespace) -> Path:
    folder: Path = options.built
    return folder / f"{options.name.replace('_', '-')}-{options.dtype}@{options.version}.json"


def _describe_graph(graph: GraphSpec) -> str:
    return f"{graph.file}, {graph.size_bytes / 2**20:.1f} MiB, sha256 `{graph.sha256}`"


def load_recipe(options: argparse.Namespace, environment: ExportEnvironment) -> tuple[LoadedWeights, LevelScorerRecipe]:
    """The weights that the options name, and what is made of them; raises WeightsError."""
    facts = read_manifest_facts(MODELS_FOLDER / f"{options.name}.facts.toml")
    check_licence(options.name, facts.licence, allow_noncommercial=options.allow_noncommercial)
    if options.weights is None:
        published = PUBLISHED_FILES[options.name].describe()
        raise WeightsError(f"name the weights: --weights FILE, FOLDER or owner/name@commit; {published}")
    loaded = load_owl(
        str(options.weights),
        environment.config,
        environment.hub,
        sha256=options.sha256,
        published=PUBLISHED_FILES[options.name],
    )
    return loaded, _build_recipe(options, environment, loaded=loaded, facts=_with_provenance(facts, loaded))


def _build_recipe(
    options: argparse.Namespace, environment: ExportEnvironment, *, loaded: LoadedWeights, facts: ManifestFacts
) -> LevelScorerRecipe:
    if recipe := RECIPES_WITHOUT_ANCHORS.get(options.name):
        return recipe(facts, config=environment.config, version=options.version)
    anchors = read_anchors(options.anchors, options.scored)
    return compare2score_recipe(
        facts,
        anchors,
        loaded.checkpoint,
        config=environment.config,
        published=options.published_anchors,
        version=options.version,
    )


def _with_provenance(facts: ManifestFacts, loaded: LoadedWeights) -> ManifestFacts:
    hashes = {f"sha256 of {name}": digest for name, digest in loaded.hashes.items()}
    versions = {"made by": f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}"}
    return replace(facts, provenance={**facts.provenance, "weights": loaded.reference, **hashes, **versions})


def read_anchors(folder: Path | None, scored: Path | None) -> list[Tensor]:
    """Anchors (3, 448, 448) uint8, worst first: all pictures of a folder, or five chosen among scored pictures.

    Raises WeightsError when neither is given, or for fewer than two anchors.
    """
    if folder is not None:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _PICTURE_SUFFIXES)
    elif scored is not None:
        with scored.open(newline="") as file:
            rows = list(csv.DictReader(file))
        scores, variances = (np.array([float(row[name]) for row in rows]) for name in ("score", "variance"))
        files = [scored.parent / rows[index]["file"] for index in choose_anchors(scores, variances)]
    else:
        raise WeightsError("name the anchors: --anchors FOLDER, or --scored CSV to choose them from your own pictures")
    if len(files) < 2:
        raise WeightsError(f"{folder or scored}: needs two anchors or more, found {len(files)}")
    return [torch.from_numpy(q_align.pad_to_square(Image.open(path)).copy()).permute(2, 0, 1) for path in files]
