"""The command: `python -m models data|train|refit|export|verify|card NAME ...`."""

import argparse
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from models import MODELS_FOLDER
from models.commands import feature_scorers, owl, trained
from models.commands import train as train_command
from models.data import photos as data
from models.data import sr_benchmark
from models.data.csv_scores import DataError
from models.export.pair import read_facts, write_pair
from models.networks.lite import Lite, LiteConfig
from models.train import lite
from models.train.lite import LadderWeights, LiteTask, Material, PhotoWeights, Plan
from models.train.loop import Trainer, train
from models.train.refit_head import HeadPlan, refit
from models.verify import model_card
from models.verify import pair as verify
from models.weights import WeightsError

MAKE_SR = "make-sr"


def read_plan(name: str) -> tuple[Plan, LiteConfig, HeadPlan]:
    """The plan, the network's shape and the plan of the head's refit in `models/NAME.toml`."""
    with (MODELS_FOLDER / f"{name}.toml").open("rb") as file:
        table: dict[str, Any] = tomllib.load(file)
    network = LiteConfig(**table.pop("network"))
    photos, ladders = PhotoWeights(**table.pop("photos")), LadderWeights(**table.pop("ladders"))
    head = HeadPlan(**table.pop("head"))
    return Plan(**table, photos=photos, ladders=ladders), network, head


def load_material(folder: Path) -> Material:
    """What `data` left in a folder: the training photos, never the test photos, and the ladders."""
    canvases, scores = data.load_photos(folder, "train")
    rungs, ladders = data.load_ladders(folder)
    return Material(canvases=canvases, scores=scores, rungs=rungs, ladders=ladders)


def load_network(name: str, weights: Path) -> Lite:
    """The network of `models/NAME.toml` with the weights that training kept."""
    network = Lite(read_plan(name)[1])
    network.load_state_dict(torch.load(weights, weights_only=True)["weights"])
    return network.eval()


def run_data(options: argparse.Namespace) -> None:
    if options.name == MAKE_SR:
        plan = sr_benchmark.SrPlan()
        for entry in tqdm(sr_benchmark.make(options.folder, plan, clips=options.clips), unit="clip"):
            tqdm.write(f"{entry.path}: {entry.score:.3f}")
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    plan, _, _ = read_plan(options.name)
    with tqdm(total=100, unit="%", desc="photos") as bar:
        for share in data.write_photos(options.biq2021, options.folder):
            bar.update(int(share * 100) - bar.n)
    rungs = lite.all_rungs(options.biq2021, options.clips, plan=plan)
    count = data.write_ladders(options.folder, iter(tqdm(rungs, unit="ladder", desc="ladders")))
    print(f"{count} pictures in ladders")


def run_train(options: argparse.Namespace) -> None:
    if options.name in train_command.NAMES:
        train_command.run(options)
        return
    torch.set_num_threads(options.threads)
    plan, shape, _ = read_plan(options.name)
    torch.manual_seed(plan.seed)
    trainer = Trainer(LiteTask(Lite(shape), plan, material=load_material(options.folder)), plan)
    last = options.folder / "last.pt"
    if last.exists() and not options.fresh:
        trainer.restore(torch.load(last, weights_only=True))
    print(train(trainer, options.folder, report=tqdm.write))


def run_refit(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    plan, _, head = read_plan(options.name)
    network = load_network(options.name, options.weights)
    material = load_material(options.folder)
    print(refit(network, material, head, seed=plan.seed, validation=plan.validation))
    torch.save({"weights": network.state_dict()}, options.folder / "refit.pt")


def run_order(options: argparse.Namespace) -> None:
    print(
        sr_benchmark.table(sr_benchmark.read_set(options.folder / "set.csv"), sr_benchmark.read_events(options.events))
    )


def run_export(options: argparse.Namespace) -> None:
    if options.name in trained.NAMES:
        print(trained.export(options))
        return
    if options.name in owl.NAMES:
        with owl.plain_refusals():
            print(owl.export(options, owl.usual_place(options)))
        return
    if options.name in feature_scorers.NAMES:
        with owl.plain_refusals():
            print(feature_scorers.export(options))
        return
    network = load_network(options.name, options.weights)
    facts = read_facts(MODELS_FOLDER / f"{options.name}.facts.toml")
    print(write_pair(network, options.name, version=options.version, facts=facts, folder=options.built))


def run_verify(options: argparse.Namespace) -> None:
    if options.name in trained.NAMES:
        print("\n".join(trained.verify(options)))
        return
    if options.name in owl.NAMES:
        with owl.plain_refusals():
            print("\n".join(owl.verify(options, owl.usual_place(options))))
        return
    if options.name in feature_scorers.NAMES:
        with owl.plain_refusals():
            print("\n".join(feature_scorers.verify(options)))
        return
    network = load_network(options.name, options.weights) if options.weights else None
    pair = options.built / f"{options.name}@{options.version}.onnx"
    print("\n".join(verify.verify(pair, network=network)))


def run_card(options: argparse.Namespace) -> None:
    if options.name in trained.NAMES:
        print(trained.card(options))
    elif options.name in owl.NAMES:
        print(owl.card(options))
    elif options.name in feature_scorers.NAMES:
        with owl.plain_refusals():
            print(feature_scorers.card(options))
    else:
        print(model_card.table(options.built / f"{options.name}@{options.version}.json"))


def _own_names(run: Callable[[argparse.Namespace], None]) -> tuple[str, ...]:
    own: dict[Callable[[argparse.Namespace], None], tuple[str, ...]] = {
        run_data: ("lite", MAKE_SR), run_order: (MAKE_SR,), run_train: ("lite", *train_command.NAMES),
        run_refit: ("lite",),
    }  # fmt: skip
    return own.get(run, ("lite", *trained.NAMES, *owl.NAMES, *feature_scorers.NAMES))


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="models", description="Train, export and check the networks behind scorers.")
    parts = root.add_subparsers(required=True, metavar="COMMAND")
    for run, about in (
        (run_data, "decode the photos and make the ladders of degradations; make-sr: the super-resolution set"),
        (run_order, "make-sr: how often scorers put two clips of the set in order"),
        (run_train, "train, or go on training"),
        (run_refit, "fit the linear head once more on whole pictures"),
        (run_export, "write NAME@VERSION.onnx and its manifest"),
        (run_verify, "check an exported pair, against torch when --weights is given"),
        (run_card, "print a pair's facts as a table"),
    ):
        part = parts.add_parser(run.__name__.removeprefix("run_"), help=about)
        part.set_defaults(run=run)
        is_owl = run in (run_export, run_verify, run_card)
        part.add_argument("name", choices=_own_names(run))
        part.add_argument("--folder", type=Path, default=Path("training"), help="where photos and checkpoints lie")
        part.add_argument("--biq2021", type=Path, help="a copy of the BIQ2021 database")
        part.add_argument("--clips", type=Path, help="video clips to degrade; those in sources.HELD_OUT are left out")
        part.add_argument("--weights", type=Path, help="best.pt of a training; for q_align and compare2score see below")
        part.add_argument("--built", type=Path, help="where scorers are; lite in models/built, all others in bundles")
        part.add_argument("--version", type=int, default=1)
        part.add_argument("--events", type=Path, help="order: what `vqmon score --json` wrote of the set's clips")
        part.add_argument("--threads", type=int, default=2)
        part.add_argument("--fresh", action="store_true", help="do not go on from last.pt")
        if run is run_train:
            train_command.add_arguments(part)
        if is_owl:
            owl.add_arguments(part)
            feature_scorers.add_arguments(part)
            trained.add_arguments(part)
    return root


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command line."""
    options = parser().parse_args(arguments)
    if options.built is None:
        # What lies in models/built goes into the wheel.
        options.built = MODELS_FOLDER / "built" if options.name == "lite" else Path("bundles")
    try:
        options.run(options)
    except (DataError, WeightsError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
