"""The command line: `python -m models data|order|train|refit|export|verify|card NAME ...`."""

import argparse
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from models import MODELS_FOLDER
from models.commands import brisque, feature_scorers, lite2, owl, reference_measures, trained
from models.commands import train as train_command
from models.data import photos, sr_benchmark
from models.data.csv_scores import DataError
from models.export.pair import read_manifest_facts, write_pair
from models.networks.lite import Lite, LiteConfig
from models.train.builtin.refit_head import HeadRefitConfig, refit_head
from models.train.lite import (
    LadderLossConfig,
    LiteTask,
    LiteTrainingConfig,
    LiteTrainingSet,
    PhotoLossConfig,
    make_ladders,
)
from models.train.loop import Trainer, train
from models.verify.model_card import format_model_card
from models.verify.pair import verify_pair
from models.weights import WeightsError

_MAKE_SR = "make-sr"


def read_lite_config(name: str) -> tuple[LiteTrainingConfig, LiteConfig, HeadRefitConfig]:
    """Training, network and head refit as configured in `models/NAME.toml`."""
    with (MODELS_FOLDER / f"{name}.toml").open("rb") as file:
        table: dict[str, Any] = tomllib.load(file)
    network = LiteConfig(**table.pop("network"))
    photo_losses = PhotoLossConfig(**table.pop("photos"))
    ladder_losses = LadderLossConfig(**table.pop("ladders"))
    head = HeadRefitConfig(**table.pop("head"))
    return LiteTrainingConfig(**table, photos=photo_losses, ladders=ladder_losses), network, head


def load_training_set(folder: Path) -> LiteTrainingSet:
    """The training photos and the ladders that `data` wrote into a folder; never the test photos."""
    canvases, scores = photos.load_photos(folder, "train")
    rungs, ladders = photos.load_ladders(folder)
    return LiteTrainingSet(canvases=canvases, scores=scores, rungs=rungs, ladders=ladders)


def load_lite(name: str, weights: Path) -> Lite:
    """The network of `models/NAME.toml` with the weights of a checkpoint."""
    network = Lite(read_lite_config(name)[1])
    network.load_state_dict(torch.load(weights, weights_only=True)["weights"])
    return network.eval()


def run_data(options: argparse.Namespace) -> None:
    """Make training photos and ladders, or the super-resolution benchmark."""
    if options.name in lite2.NAMES:
        lite2.make_data(options)
        return
    if options.name == _MAKE_SR:
        benchmark = sr_benchmark.make_benchmark(options.folder, sr_benchmark.BenchmarkConfig(), clips=options.clips)
        for clip in tqdm(benchmark, unit="clip"):
            tqdm.write(f"{clip.path}: {clip.score:.3f}")
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    config, _, _ = read_lite_config(options.name)
    with tqdm(total=100, unit="%", desc="photos") as bar:
        for share in photos.write_photos(options.biq2021, options.folder):
            bar.update(int(share * 100) - bar.n)
    ladders = make_ladders(options.biq2021, options.clips, config=config)
    count = photos.write_ladders(options.folder, iter(tqdm(ladders, unit="ladder", desc="ladders")))
    print(f"{count} pictures in ladders")


def run_train(options: argparse.Namespace) -> None:
    """Train a scorer, or resume from `last.pt`."""
    if options.name in train_command.NAMES:
        train_command.run(options)
        return
    if options.name in lite2.NAMES:
        lite2.train(options)
        return
    if options.name in brisque.NAMES:
        brisque.train(options)
        return
    torch.set_num_threads(options.threads)
    config, network, _ = read_lite_config(options.name)
    torch.manual_seed(config.seed)
    task = LiteTask(Lite(network), config, training_set=load_training_set(options.folder))
    trainer = Trainer(task, config)
    last = options.folder / "last.pt"
    if last.exists() and not options.fresh:
        trainer.restore(torch.load(last, weights_only=True))
    print(train(trainer, options.folder, report=tqdm.write))


def run_refit(options: argparse.Namespace) -> None:
    """Refit the linear head of a trained lite network and write `refit.pt`."""
    torch.set_num_threads(options.threads)
    config, _, head = read_lite_config(options.name)
    network = load_lite(options.name, options.weights)
    training_set = load_training_set(options.folder)
    print(refit_head(network, training_set, head, seed=config.seed, validation=config.validation))
    torch.save({"weights": network.state_dict()}, options.folder / "refit.pt")


def run_order(options: argparse.Namespace) -> None:
    """Print the pairwise accuracy of scorers on the super-resolution benchmark."""
    benchmark = sr_benchmark.read_benchmark(options.folder / "set.csv")
    print(sr_benchmark.format_accuracy_table(benchmark, sr_benchmark.read_scores_by_scorer(options.events)))


def run_export(options: argparse.Namespace) -> None:
    """Export a scorer and print the path of its manifest or sheet."""
    if options.name in lite2.NAMES:
        print(lite2.export(options))
    elif options.name in brisque.NAMES:
        print(brisque.export(options))
    elif options.name in trained.NAMES:
        print(trained.export(options))
    elif options.name in owl.NAMES:
        print(owl.export(options, owl.default_environment(options)))
    elif options.name in feature_scorers.NAMES:
        print(feature_scorers.export(options))
    elif options.name in reference_measures.NAMES:
        print(reference_measures.export(options))
    else:
        network = load_lite(options.name, options.weights)
        facts = read_manifest_facts(MODELS_FOLDER / f"{options.name}.facts.toml")
        print(write_pair(network, options.name, version=options.version, facts=facts, folder=options.built))


def run_verify(options: argparse.Namespace) -> None:
    """Verify an exported scorer and print a line per check."""
    if options.name in lite2.NAMES:
        lines = lite2.verify(options)
    elif options.name in brisque.NAMES:
        lines = brisque.verify(options)
    elif options.name in trained.NAMES:
        lines = trained.verify(options)
    elif options.name in owl.NAMES:
        lines = owl.verify(options, owl.default_environment(options))
    elif options.name in feature_scorers.NAMES:
        lines = feature_scorers.verify(options)
    elif options.name in reference_measures.NAMES:
        lines = reference_measures.verify(options)
    else:
        network = load_lite(options.name, options.weights) if options.weights else None
        lines = verify_pair(options.built / f"{options.name}@{options.version}.onnx", network=network)
    print("\n".join(lines))


def run_card(options: argparse.Namespace) -> None:
    """Print the facts of an exported scorer as a Markdown table."""
    if options.name in lite2.NAMES:
        print(lite2.card(options))
    elif options.name in brisque.NAMES:
        print(brisque.card(options))
    elif options.name in trained.NAMES:
        print(trained.card(options))
    elif options.name in owl.NAMES:
        print(owl.card(options))
    elif options.name in feature_scorers.NAMES:
        print(feature_scorers.card(options))
    elif options.name in reference_measures.NAMES:
        print(reference_measures.card(options))
    else:
        print(format_model_card(options.built / f"{options.name}@{options.version}.json"))


def _command_names(run: Callable[[argparse.Namespace], None]) -> tuple[str, ...]:
    """The names that a sub-command accepts."""
    names: dict[Callable[[argparse.Namespace], None], tuple[str, ...]] = {
        run_data: ("lite", *lite2.NAMES, _MAKE_SR), run_order: (_MAKE_SR,),
        run_train: ("lite", *lite2.NAMES, *brisque.NAMES, *train_command.NAMES),
        run_refit: ("lite",),
    }  # fmt: skip
    exported = (*trained.NAMES, *owl.NAMES, *feature_scorers.NAMES, *reference_measures.NAMES)
    return names.get(run, ("lite", *lite2.NAMES, *brisque.NAMES, *exported))


_EXPORT_ARGUMENTS = (
    owl.add_arguments, feature_scorers.add_arguments, reference_measures.add_arguments, trained.add_arguments,
)  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    root = argparse.ArgumentParser(
        prog="models", description="Train, export and verify the networks behind the scorers."
    )
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    for run, summary in (
        (run_data, "make training photos and ladders; make-sr: make the super-resolution benchmark"),
        (run_order, "make-sr: how often scorers order two clips of the benchmark as their labels do"),
        (run_train, "train a scorer, or resume its training"),
        (run_refit, "refit the linear head on whole pictures, in closed form"),
        (run_export, "write the graphs of a scorer and its manifest"),
        (run_verify, "verify an exported scorer; against torch too when --weights is given"),
        (run_card, "print the facts of an exported scorer as a table"),
    ):
        command = commands.add_parser(run.__name__.removeprefix("run_"), help=summary)
        command.set_defaults(run=run)
        command.add_argument("name", choices=_command_names(run))
        command.add_argument(
            "--folder", type=Path, default=Path("training"), help="folder of photos, ladders and checkpoints"
        )
        command.add_argument("--biq2021", type=Path, help="a copy of the BIQ2021 database")
        command.add_argument("--clips", type=Path, help="folder of the video clips to degrade")
        command.add_argument(
            "--weights",
            type=Path,
            help="best.pt of a training run; published weights: file, folder or owner/name@commit",
        )
        command.add_argument(
            "--built", type=Path, help="folder of bundles; default: models/built for lite, lite2, brisque; else bundles"
        )
        command.add_argument("--version", type=int, default=1, help="version of the exported scorer")
        command.add_argument(
            "--events", type=Path, help="order: the output of `vqmon score --json` for the benchmark's clips"
        )
        command.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
        command.add_argument("--fresh", action="store_true", help="start anew although last.pt exists")
        if run is run_data:
            lite2.add_arguments(command)
        if run is run_train:
            train_command.add_arguments(command)
        if run in (run_export, run_verify, run_card):
            for add in _EXPORT_ARGUMENTS:
                add(command)
    return root


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command line."""
    options = build_parser().parse_args(arguments)
    if options.built is None:
        # models/built is packaged with the daemon.
        options.built = (
            MODELS_FOLDER / "built" if options.name in ("lite", *lite2.NAMES, *brisque.NAMES) else Path("bundles")
        )
    try:
        options.run(options)
    except (DataError, WeightsError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
