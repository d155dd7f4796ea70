"""`python -m models train NAME --csv SCORES`: trains a scorer on human scores, as configured in `models/NAME.toml`."""

import argparse
import tomllib
from collections.abc import Mapping, Sequence
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
from models.checkpoints.published_files import PUBLISHED_FILES
from models.commands import trained
from models.data.csv_scores import DataError, ScoredRow, normalise_scores, read_frames, read_scored_rows
from models.data.teachers.distil import TaughtScores, ask_teacher
from models.export.owl_streaming import load_owl
from models.networks.owl.owl import Owl, OwlConfig
from models.networks.owl.q_align import pad_to_square
from models.train.checkpoint import checkpoint_facts, read_frozen_networks, read_training_state
from models.train.features.extract import extract_features
from models.train.levels import ComparisonTask, LevelTask, LevelTrainingConfig, freeze_and_add_lora
from models.train.loop import Trainer, ValidationResult, train
from models.train.scores import LossWeights, ScoreTask, ScoreTrainingConfig, predict
from models.train.trainable import TRAINABLE_SCORERS, ScorerNetworkConfig
from models.weights import HuggingFace

LEVEL_SCORERS = ("q_align", "compare2score")
NAMES = (*TRAINABLE_SCORERS, *LEVEL_SCORERS)
_FRAGMENTS = "fragments"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of trainable scorers."""
    group = command.add_argument_group(", ".join(NAMES))
    group.add_argument("--csv", type=Path, help="path,score[,group,spread,prompt]; paths are relative to the file")
    group.add_argument("--test", type=Path, help="another CSV, on which the trained scorer is only measured")
    group.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="overrides a value of the TOML")
    group.add_argument(
        "--part",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="weights of a frozen network: lite (default: those of lite@1), fragments",
    )
    group.add_argument("--cache", type=Path, help="folder of cached features; default: cache in --folder")
    group.add_argument("--teacher", help="a scorer, or its manifest, that scores --clips; the result becomes a bundle")
    group.add_argument("--clips", type=Path, help="folder of the clips that the teacher scores")
    group.add_argument(
        "--name", dest="scorer",
        help="name of the scorer: the result becomes a bundle; fragments that lean_sr_vqa needs are trained first",
    )  # fmt: skip
    group.add_argument("--licence", help="licence of the scores, and so of the trained scorer; stated in its manifest")


def run(options: argparse.Namespace) -> None:
    """Train, or resume; with test rows also print SRCC and PLCC on them. Raises DataError."""
    if (options.csv is None) == (options.teacher is None):
        raise DataError(
            "name the scores: --csv FILE with the columns path and score, or --teacher SCORER --clips FOLDER"
        )
    torch.set_num_threads(options.threads)
    table = read_training_config(MODELS_FOLDER / f"{options.name}.toml", options.set)
    if options.name in LEVEL_SCORERS:
        if options.teacher is not None:
            raise DataError(f"{options.name} is a teacher, not a pupil; train one of {', '.join(TRAINABLE_SCORERS)}")
        _train_level_scorer(options, table)
    else:
        _train_scorer(options, table)


def _ask_teacher(options: argparse.Namespace) -> TaughtScores | None:
    """The teacher's scores of the clips, which become those of `--csv`; None without a teacher. Raises DataError."""
    if options.teacher is None:
        return None
    if options.clips is None or not options.clips.is_dir():
        raise DataError("name the folder of clips or pictures that the teacher scores: --clips FOLDER")
    taught = ask_teacher(options.teacher, options.clips, folder=options.folder)
    own_licence = f"{options.licence}; " if options.licence else ""
    options.csv, options.licence = taught.csv, f"{own_licence}that of its teacher: {taught.licence}"
    return taught


def read_training_config(file: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A TOML file with `key=value` overrides, e.g. `network.guidance="none"`. Raises DataError."""
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    for override in overrides:
        key, _, value = override.partition("=")
        section = table
        *parents, name = key.strip().split(".")
        for parent in parents:
            section = section.get(parent, {})
        if name not in section:
            raise DataError(f"--set {override}: {file.name} has no {key}")
        try:
            section[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError as error:
            raise DataError(f"--set {override}: {error}; text needs quotes") from error
    return table


def parse_score_config(table: dict[str, Any]) -> tuple[ScoreTrainingConfig, ScorerNetworkConfig]:
    """Training and network configuration of a parsed TOML."""
    training = {key: value for key, value in table.items() if key not in ("losses", "network")}
    network = ScorerNetworkConfig(**table["network"])
    return ScoreTrainingConfig(**training, losses=LossWeights(**table["losses"])), network


def _train_scorer(options: argparse.Namespace, table: dict[str, Any]) -> Path:
    """The checkpoint; with a teacher or a name also a bundle."""
    config, network_config = parse_score_config(table)
    frozen_networks = read_frozen_networks(_parse_named_files(options.part))
    taught = _ask_teacher(options)
    scorer, rows = TRAINABLE_SCORERS[options.name], read_scored_rows(options.csv)
    features = scorer.features(network_config)
    is_missing = _FRAGMENTS in {spec.frozen_network for spec in features} - frozen_networks.keys()
    if options.scorer is not None and is_missing:
        frozen_networks = read_frozen_networks(
            {**_parse_named_files(options.part), _FRAGMENTS: _train_fragments(options)}
        )

    def extract(scored_rows: Sequence[ScoredRow]) -> tuple[list[NDArray[Any]], NDArray[np.int64]]:
        return extract_features(
            features,
            scored_rows,
            frozen_networks=frozen_networks,
            cache_folder=options.cache or options.folder / "cache",
        )

    torch.manual_seed(config.seed)
    network = scorer.build_network(network_config)
    inputs, row_numbers = extract(rows)
    groups = [rows[number].group for number in row_numbers]
    task = ScoreTask(network, config, inputs=inputs, scores=normalise_scores(rows)[row_numbers], groups=groups)
    facts = checkpoint_facts(
        options.name, network_config, frozen_networks=frozen_networks, csv=options.csv, rows=len(rows),
        licence=options.licence, teacher=taught.teacher if taught else "",
        score_range=taught.score_range if taught else (0.0, 100.0),
    )  # fmt: skip
    best = _train_and_save(Trainer(task, config), options, facts=facts)
    if options.test is not None:
        test_rows = read_scored_rows(options.test)
        network.load_state_dict(torch.load(best, weights_only=True)["weights"])
        target = np.array([row.score for row in test_rows], np.float32)
        print(_format_test_result(network, *extract(test_rows), target))
    if taught is not None or options.scorer is not None:
        options.weights = best
        print(trained.export(options))
        print(trained.card(options))
    return best


def _train_fragments(options: argparse.Namespace) -> Path:
    """The checkpoint of a scorer of fragments, trained on the same scores in a folder of its own."""
    changes = {
        "name": _FRAGMENTS, "folder": options.folder / _FRAGMENTS, "cache": options.cache or options.folder / "cache",
        "scorer": None, "teacher": None, "test": None,
    }  # fmt: skip
    table = read_training_config(MODELS_FOLDER / f"{_FRAGMENTS}.toml", options.set)
    return _train_scorer(argparse.Namespace(**{**vars(options), **changes}), table)


def _format_test_result(
    network: nn.Module, inputs: Sequence[NDArray[Any]], row_numbers: NDArray[np.int64], target: NDArray[np.float32]
) -> str:
    """One line with SRCC and PLCC on the test rows; a clip's score is the mean over its frames."""
    frame_scores = predict(network, inputs, np.arange(len(row_numbers))).numpy()
    row_scores = np.bincount(row_numbers, weights=frame_scores) / np.bincount(row_numbers)
    result = ValidationResult(predicted=torch.from_numpy(row_scores), target=torch.from_numpy(target))
    return f"test: SRCC {result.srcc:.4f}, PLCC {result.plcc:.4f}, {len(target)} rows"


def _parse_named_files(options: Sequence[str]) -> dict[str, Path]:
    """NAME -> FILE of the values of `--part`. Raises DataError."""
    files = {}
    for option in options:
        name, equals, file = option.partition("=")
        if not equals:
            raise DataError(f"--part {option}: write NAME=FILE")
        files[name] = Path(file)
    return files


def _train_level_scorer(options: argparse.Namespace, table: dict[str, Any]) -> None:
    config, rows = LevelTrainingConfig(**table), read_scored_rows(options.csv)
    if options.weights is None:
        raise DataError("name the weights to start from: --weights FILE, FOLDER or owner/name@commit")
    loaded = load_owl(
        str(options.weights), OwlConfig(), HuggingFace(Path("weights")), published=PUBLISHED_FILES[options.name]
    )
    network = Owl(OwlConfig())
    network.load_state_dict({name: loaded.checkpoint[name] for name in loaded.checkpoint}, strict=False)
    network = freeze_and_add_lora(network, config)
    pictures = np.stack([pad_to_square(Image.fromarray(read_frames(row.path, count=1)[0])) for row in rows])
    scores, groups = normalise_scores(rows), [row.group for row in rows]
    if options.name == "q_align":
        task: LevelTask | ComparisonTask = LevelTask(network, config, pictures=pictures, scores=scores, groups=groups)
    else:
        spreads = np.array([row.spread for row in rows], np.float32) / np.ptp([row.score for row in rows])
        task = ComparisonTask(
            network, config, pictures=pictures, scores=scores, spreads=spreads.astype(np.float32), groups=groups
        )
    _train_and_save(Trainer(task, config), options)


def _train_and_save(
    trainer: Trainer, options: argparse.Namespace, *, facts: Mapping[str, Any] = MappingProxyType({})
) -> Path:
    last = options.folder / "last.pt"
    if last.exists() and not options.fresh:
        trainer.restore(read_training_state(last))
    best = train(trainer, options.folder, report=tqdm.write, facts=facts)
    print(best)
    return best
