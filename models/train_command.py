"""`python -m models train NAME --csv SCORES` for scorers that learn from anyone's scores, from `models/NAME.toml`."""

import argparse
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from tqdm import tqdm  # type: ignore[import-untyped]

from models import losses
from models.feature_cache import FeatureCache
from models.learners import LEARNERS, Frozen, Learner, Shape, mean_look
from models.lite import Lite, LiteConfig
from models.loading import HuggingFace, check_names, load
from models.owl import Owl, OwlConfig
from models.owl_stream import IGNORED, OPTIONAL, needed_shapes
from models.own_features import FragmentNet
from models.q_align import to_square
from models.scored import DataError, Row, read_frames, read_rows, unit_scores
from models.train import Trainer, train
from models.train_levels import CompareTask, LevelPlan, LevelTask, prepare
from models.train_scores import LossWeights, ScorePlan, ScoreTask, predict

HERE = Path(__file__).parent
LEVELS = ("q_align", "compare2score")
NAMES = (*LEARNERS, *LEVELS)
LOOKS_AT_CLIPS = 8
"""Frames of a clip that are looked at; what is seen of them is averaged."""


def add_arguments(part: argparse.ArgumentParser) -> None:
    """What these need to be told."""
    group = part.add_argument_group(", ".join(NAMES))
    group.add_argument("--csv", type=Path, help="path,score[,group,spread,prompt]; paths relative to the file")
    group.add_argument("--test", type=Path, help="another CSV, only measured on, after the training")
    group.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="instead of what the TOML says")
    group.add_argument(
        "--part",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="weights that are looked through: lite, fragments",
    )


def run(options: argparse.Namespace) -> None:
    """Train, or go on; then print SRCC and PLCC on the test rows when there are any."""
    if options.csv is None:
        raise DataError("name the scores: --csv FILE with the columns path and score")
    torch.set_num_threads(options.threads)
    table = read_table(HERE / f"{options.name}.toml", options.set)
    if options.name in LEVELS:
        _train_levels(options, table)
    else:
        _train_scores(options, table)


def read_table(file: Path, changes: Sequence[str] = ()) -> dict[str, Any]:
    """A TOML with `key=value` changes over it, e.g. `network.guidance="none"`. Raises DataError."""
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    for change in changes:
        key, _, value = change.partition("=")
        place = table
        *above, last = key.strip().split(".")
        for name in above:
            place = place.get(name, {})
        if last not in place:
            raise DataError(f"--set {change}: {file.name} has no {key}")
        try:
            place[last] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError as error:
            raise DataError(f"--set {change}: {error}; text needs quotes") from error
    return table


def score_plan(table: dict[str, Any]) -> tuple[ScorePlan, Shape]:
    """The plan and the shape that a table says."""
    rest = {key: value for key, value in table.items() if key not in ("losses", "network")}
    return ScorePlan(**rest, losses=LossWeights(**table["losses"])), Shape(**table["network"])


def _train_scores(options: argparse.Namespace, table: dict[str, Any]) -> None:
    plan, shape = score_plan(table)
    learner, rows = LEARNERS[options.name], read_rows(options.csv)
    frozen, maker = read_parts(options.part)
    see = partial(seen_by, learner, frozen=frozen, folder=options.folder / "cache", maker=maker)
    torch.manual_seed(plan.seed)
    network = learner.network(shape)
    inputs = see(rows)
    groups = [row.group for row in rows]
    task = ScoreTask(network, plan, inputs=inputs, scores=unit_scores(rows), groups=groups)
    best = _run(Trainer(task, plan), options)
    if options.test is not None:
        rows = read_rows(options.test)
        inputs = see(rows)
        network.load_state_dict(torch.load(best, weights_only=True)["weights"], strict=False)
        print(agreement(network, inputs, np.array([row.score for row in rows], np.float32)))


def agreement(network: nn.Module, inputs: Sequence[NDArray[Any]], wanted: NDArray[np.float32]) -> str:
    """SRCC and PLCC of a network on rows, as a line."""
    predicted, target = predict(network, inputs, np.arange(len(wanted))), torch.from_numpy(wanted)
    linear = 1 - 2 * float(losses.plcc(predicted.double(), target.double()))
    return f"test: SRCC {losses.spearman(predicted, target):.4f}, PLCC {linear:.4f}, {len(wanted)} rows"


def seen_by(learner: Learner, rows: Sequence[Row], *, frozen: Frozen, folder: Path, maker: str) -> list[NDArray[Any]]:
    """What a learner sees of all rows, one array per look; each made once per content, and kept in a folder."""
    caches = [FeatureCache(folder, maker=f"{see.__name__} {maker}") for see in learner.looks]
    found: list[list[NDArray[Any]]] = []
    for row in tqdm(rows, unit="file", desc="features"):
        frames = cache(partial(read_frames, row.path, count=LOOKS_AT_CLIPS))
        found.append(
            [
                kept.get(row.path, partial(mean_look, see, frames, frozen))
                for see, kept in zip(learner.looks, caches, strict=True)
            ]
        )
    return [np.stack(column) for column in zip(*found, strict=True)]


def read_parts(given: Sequence[str]) -> tuple[Frozen, str]:
    """Frozen networks from `name=file`, and their hashes as a line. Raises DataError."""
    frozen, said = Frozen(), []
    for each in given:
        name, _, file = each.partition("=")
        if not Path(file).is_file():
            raise DataError(f"--part {each}: no such file; write NAME=FILE")
        weights = torch.load(file, weights_only=True)["weights"]
        said.append(f"{name} {sha256(Path(file).read_bytes()).hexdigest()}")
        if name == "lite":
            with (HERE / "lite.toml").open("rb") as toml:
                lite = Lite(LiteConfig(**tomllib.load(toml)["network"]))
            lite.load_state_dict(weights)
            frozen = replace(frozen, lite=lite.eval())
        elif name == "fragments":
            net = FragmentNet()
            net.load_state_dict(weights)
            frozen = replace(frozen, fragments=net.eval())
        else:
            raise DataError(f"--part {each}: known are lite and fragments")
    return frozen, " ".join(said)


def _train_levels(options: argparse.Namespace, table: dict[str, Any]) -> None:
    plan, rows = LevelPlan(**table), read_rows(options.csv)
    if options.weights is None:
        raise DataError("name the weights to start from: --weights FILE, FOLDER or owner/name@commit")
    found = load(str(options.weights), hub=HuggingFace(Path("weights")), sha256=[])
    check_names(found.checkpoint.shapes, needed_shapes(OwlConfig()), optional=OPTIONAL, ignored=IGNORED)
    network = Owl(OwlConfig())
    network.load_state_dict({name: found.checkpoint[name] for name in found.checkpoint}, strict=False)
    network = prepare(network, plan)
    pictures = np.stack([to_square(Image.fromarray(read_frames(row.path, count=1)[0])) for row in rows])
    scores, groups = unit_scores(rows), [row.group for row in rows]
    if options.name == "q_align":
        task: LevelTask | CompareTask = LevelTask(network, plan, pictures=pictures, scores=scores, groups=groups)
    else:
        spread = np.array([row.spread for row in rows], np.float32) / np.ptp([row.score for row in rows])
        task = CompareTask(
            network, plan, pictures=pictures, scores=scores, spreads=spread.astype(np.float32), groups=groups
        )
    _run(Trainer(task, plan), options)


def _run(trainer: Trainer, options: argparse.Namespace) -> Path:
    last = options.folder / "last.pt"
    if last.exists() and not options.fresh:
        trainer.restore(torch.load(last, weights_only=True))
    best = train(trainer, options.folder, report=tqdm.write)
    print(best)
    return best
