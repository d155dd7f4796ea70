"""`python -m models train NAME --csv SCORES` for scorers that learn from anyone's scores, from `models/NAME.toml`."""

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from tqdm import tqdm  # type: ignore[import-untyped]

from models import MODELS_FOLDER
from models.data.csv_scores import DataError, read_frames, read_rows, unit_scores
from models.export.owl_streaming import IGNORED, OPTIONAL, needed_shapes
from models.networks.owl.owl import Owl, OwlConfig
from models.networks.owl.q_align import to_square
from models.train.checkpoint import kept_facts, read_parts
from models.train.features.extract import seen_by
from models.train.learners import LEARNERS, Shape
from models.train.levels import CompareTask, LevelPlan, LevelTask, prepare
from models.train.loop import Agreement, Trainer, train
from models.train.scores import LossWeights, ScorePlan, ScoreTask, predict
from models.weights import HuggingFace, check_names, load

LEVELS = ("q_align", "compare2score")
NAMES = (*LEARNERS, *LEVELS)


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
        help="weights that are looked through: lite (else those of lite@1), fragments",
    )
    group.add_argument("--cache", type=Path, help="where features are kept, for several trainings; else in --folder")
    group.add_argument("--licence", help="of the scores and hence of what is learned from them; told in the manifest")


def run(options: argparse.Namespace) -> None:
    """Train, or go on; then print SRCC and PLCC on the test rows when there are any."""
    if options.csv is None:
        raise DataError("name the scores: --csv FILE with the columns path and score")
    torch.set_num_threads(options.threads)
    table = read_table(MODELS_FOLDER / f"{options.name}.toml", options.set)
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
    parts = read_parts(named_files(options.part))
    see = partial(seen_by, learner.looks(shape), parts=parts, folder=options.cache or options.folder / "cache")
    torch.manual_seed(plan.seed)
    network = learner.network(shape)
    inputs, row_of = see(rows)
    groups = [rows[at].group for at in row_of]
    task = ScoreTask(network, plan, inputs=inputs, scores=unit_scores(rows)[row_of], groups=groups)
    facts = kept_facts(options.name, shape, parts=parts, csv=options.csv, rows=len(rows), licence=options.licence)
    best = _run(Trainer(task, plan), options, facts=facts)
    if options.test is not None:
        rows = read_rows(options.test)
        network.load_state_dict(torch.load(best, weights_only=True)["weights"])
        print(agreement(network, *see(rows), np.array([row.score for row in rows], np.float32)))


def agreement(
    network: nn.Module, inputs: Sequence[NDArray[Any]], row_of: NDArray[np.int64], wanted: NDArray[np.float32]
) -> str:
    """SRCC and PLCC of a network on rows, as a line; a clip's score is the mean over its frames."""
    frames = predict(network, inputs, np.arange(len(row_of))).numpy()
    means = np.bincount(row_of, weights=frames) / np.bincount(row_of)
    said = Agreement(predicted=torch.from_numpy(means), wanted=torch.from_numpy(wanted))
    return f"test: SRCC {said.srcc:.4f}, PLCC {said.plcc:.4f}, {len(wanted)} rows"


def named_files(given: Sequence[str]) -> dict[str, Path]:
    """NAME -> FILE of `--part NAME=FILE`. Raises DataError."""
    found = {}
    for each in given:
        name, equals, file = each.partition("=")
        if not equals:
            raise DataError(f"--part {each}: write NAME=FILE")
        found[name] = Path(file)
    return found


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


def _run(trainer: Trainer, options: argparse.Namespace, *, facts: Mapping[str, Any] = MappingProxyType({})) -> Path:
    last = options.folder / "last.pt"
    if last.exists() and not options.fresh:
        trainer.restore(torch.load(last, weights_only=True))
    best = train(trainer, options.folder, report=tqdm.write, facts=facts)
    print(best)
    return best
