"""The command line: `python -m models data|order|train|refit|export|verify|card NAME ...`, or `vqmon models ...`."""

import argparse
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from models import MODELS_FOLDER
from models.commands import brisque, feature_scorers, lite2, owl, reference_measures, trained
from models.commands import train as train_command
from models.commands.quantize import command as quantize
from models.data import photos, sr_benchmark
from models.data.csv_scores import DataError
from models.export.pair import read_manifest_facts, write_pair
from models.networks.lite import Lite, LiteConfig
from models.train.builtin.refit_head import HeadRefitConfig, refit_head
from models.train.checkpoint import read_table, read_training_state
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
from models.verify.pair import VerifyError, verify_pair
from models.weights import WeightsError
from vqmon.errors import VqmonError

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
    network.load_state_dict(read_table(weights)["weights"])
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
        trainer.restore(read_training_state(last))
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Exporter:
    """How bundles of some names are exported, verified and described."""

    names: tuple[str, ...]
    export: Callable[[argparse.Namespace], Path]
    verify: Callable[[argparse.Namespace], list[str]]
    card: Callable[[argparse.Namespace], str]
    # whether they are packaged with the daemon
    is_builtin: bool = False


def _export_lite(options: argparse.Namespace) -> Path:
    network = load_lite(options.name, options.weights)
    facts = read_manifest_facts(MODELS_FOLDER / f"{options.name}.facts.toml")
    return write_pair(network, options.name, version=options.version, facts=facts, folder=options.built)


def _verify_lite(options: argparse.Namespace) -> list[str]:
    network = load_lite(options.name, options.weights) if options.weights else None
    return verify_pair(options.built / f"{options.name}@{options.version}.onnx", network=network)


def _lite_card(options: argparse.Namespace) -> str:
    return format_model_card(options.built / f"{options.name}@{options.version}.json")


def _export_owl(options: argparse.Namespace) -> Path:
    return owl.export(options, owl.default_environment(options))


def _verify_owl(options: argparse.Namespace) -> list[str]:
    return owl.verify(options, owl.default_environment(options))


_EXPORTERS = (
    _Exporter(names=("lite",), export=_export_lite, verify=_verify_lite, card=_lite_card, is_builtin=True),
    _Exporter(names=lite2.NAMES, export=lite2.export, verify=lite2.verify, card=lite2.card, is_builtin=True),
    _Exporter(names=brisque.NAMES, export=brisque.export, verify=brisque.verify, card=brisque.card, is_builtin=True),
    _Exporter(names=trained.NAMES, export=trained.export, verify=trained.verify, card=trained.card),
    _Exporter(names=owl.NAMES, export=_export_owl, verify=_verify_owl, card=owl.card),
    _Exporter(
        names=feature_scorers.NAMES,
        export=feature_scorers.export,
        verify=feature_scorers.verify,
        card=feature_scorers.card,
    ),
    _Exporter(
        names=reference_measures.NAMES,
        export=reference_measures.export,
        verify=reference_measures.verify,
        card=reference_measures.card,
    ),
)
_EXPORTER_BY_NAME = {name: exporter for exporter in _EXPORTERS for name in exporter.names}


def run_export(options: argparse.Namespace) -> None:
    """Export a scorer and print the path of its manifest or sheet."""
    print(_EXPORTER_BY_NAME[options.name].export(options))


def run_verify(options: argparse.Namespace) -> None:
    """Verify an exported scorer and print a line per check."""
    print("\n".join(_EXPORTER_BY_NAME[options.name].verify(options)))


def run_card(options: argparse.Namespace) -> None:
    """Print the facts of an exported scorer as a Markdown table."""
    print(_EXPORTER_BY_NAME[options.name].card(options))


def run_quantize(options: argparse.Namespace) -> None:
    """Make the 8-bit form of an exported scorer."""
    quantize.run(options)


_AddArguments = Callable[[argparse.ArgumentParser], None]


def _add_card_arguments(command: argparse.ArgumentParser) -> None:
    """The options that name the exported form whose facts are printed."""
    owl.add_precision(command)
    trained.add_arguments(command)


_EXPORT_ARGUMENTS: Sequence[_AddArguments] = (
    owl.add_arguments, feature_scorers.add_arguments, reference_measures.add_arguments, trained.add_arguments,
)  # fmt: skip

_SHARED_OPTIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "--folder": {"type": Path, "default": Path("training"), "help": "folder of photos, ladders and checkpoints"},
        "--biq2021": {"type": Path, "help": "a copy of the BIQ2021 database"},
        "--clips": {
            "type": Path,
            "help": "folder of clips to degrade",
        },
        "--weights": {
            "type": Path,
            "help": "best.pt of a training run; published weights: file, folder or owner/name@commit",
        },
        "--built": {
            "type": Path,
            "help": "folder of bundles; default: models/built for lite, lite2, brisque; else bundles",
        },
        "--version": {"type": int, "default": 1, "help": "version of the exported scorer"},
        "--events": {"type": Path, "help": "the output of `vqmon score --json` for the benchmark's clips"},
        "--threads": {"type": int, "default": 2, "help": "CPU threads"},
        "--fresh": {"action": "store_true", "help": "start anew although last.pt exists"},
    }
)
"""Options of several commands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    """One sub-command: what it does, the names that it accepts and its options."""

    run: Callable[[argparse.Namespace], None]
    summary: str
    names: Sequence[str] = tuple(_EXPORTER_BY_NAME)
    # those of `_SHARED_OPTIONS` that it reads, without their hyphens
    options: str
    add_arguments: Sequence[_AddArguments] = ()


_COMMANDS = (
    _Command(
        run=run_data,
        summary="make training photos and ladders; make-sr: make the super-resolution benchmark",
        names=("lite", *lite2.NAMES, _MAKE_SR),
        options="folder biq2021 clips threads",
        add_arguments=(lite2.add_arguments,),
    ),
    _Command(
        run=run_order,
        summary="make-sr: how often scorers order two clips of the benchmark as their labels do",
        names=(_MAKE_SR,),
        options="folder events",
    ),
    _Command(
        run=run_train,
        summary="train a scorer, or resume its training",
        names=("lite", *lite2.NAMES, *brisque.NAMES, *train_command.NAMES),
        options="folder biq2021 weights built version threads fresh",
        add_arguments=(train_command.add_arguments,),
    ),
    _Command(
        run=run_refit,
        summary="refit the linear head on whole pictures, in closed form",
        names=("lite",),
        options="folder weights threads",
    ),
    _Command(
        run=run_export,
        summary="write the graphs of a scorer and its manifest",
        options="weights built version",
        add_arguments=_EXPORT_ARGUMENTS,
    ),
    _Command(
        run=run_verify,
        summary="verify an exported scorer; against torch too when --weights is given",
        options="weights built version",
        add_arguments=_EXPORT_ARGUMENTS,
    ),
    _Command(
        run=run_quantize,
        summary="make the 8-bit form of a scorer and hold it to float32 on your own pictures, and to human scores",
        names=quantize.NAMES,
        options="weights built version threads",
        add_arguments=(quantize.add_arguments,),
    ),
    _Command(
        run=run_card,
        summary="print the facts of an exported scorer as a table",
        options="weights built version",
        add_arguments=(_add_card_arguments,),
    ),
)


def build_parser(program: str = "models") -> argparse.ArgumentParser:
    """The parser of the whole command line; `program` is what its usage calls the command."""
    root = argparse.ArgumentParser(
        prog=program, description="Train, export and verify the networks behind the scorers."
    )
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    for each in _COMMANDS:
        command = commands.add_parser(
            each.run.__name__.removeprefix("run_"),
            help=each.summary,
            description=f"{each.summary[0].upper()}{each.summary[1:]}.",
        )
        command.set_defaults(run=each.run)
        command.add_argument("name", choices=each.names, metavar="NAME", help=", ".join(each.names))
        for name in each.options.split():
            command.add_argument(f"--{name}", **_SHARED_OPTIONS[f"--{name}"])
        for add in each.add_arguments:
            add(command)
    return root


def main(arguments: Sequence[str] | None = None, *, program: str = "models") -> None:
    """Run one command line."""
    options = build_parser(program).parse_args(arguments)
    if getattr(options, "built", "") is None:
        exporter, shipped = _EXPORTER_BY_NAME.get(options.name), MODELS_FOLDER / "built"
        is_shipped = exporter is not None and exporter.is_builtin and shipped.is_dir()
        options.built = shipped if is_shipped else Path("bundles")
    try:
        options.run(options)
    except (DataError, WeightsError, VerifyError, VqmonError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
