"""`python -m models train|export|verify|card brisque`: BRISQUE with a regression that is trained here."""

import argparse
import tomllib
from pathlib import Path

import torch
from tqdm import tqdm  # type: ignore[import-untyped]

from models import MODELS_FOLDER
from models.data.csv_scores import DataError
from models.data.teachers.ladders import read_scene
from models.export.pair import PairForm, read_manifest_facts, write_pair
from models.networks.measures.brisque import VIEW, Brisque
from models.train.builtin.brisque import (
    BrisqueTrainingConfig,
    fit_brisque,
    held_out_correlations,
    rung_statistics,
)
from models.train.checkpoint import read_table
from models.verify.model_card import format_model_card
from models.verify.pair import verify_pair

NAMES = ("brisque",)
_FORM = PairForm(view=VIEW, mean=(0, 0, 0), std=(1, 1, 1), golden_tolerance=0.2)


def read_recipe(file: Path) -> BrisqueTrainingConfig:
    """Read `brisque.toml`."""
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    return BrisqueTrainingConfig(**{**table, "tiles": tuple(table["tiles"])})


def train(options: argparse.Namespace) -> None:
    """Fit the regression to the pristine ladders of a folder and write `brisque.pt`. Raises DataError."""
    torch.set_num_threads(options.threads)
    config = read_recipe(MODELS_FOLDER / "brisque.toml")
    files = sorted(options.folder.glob("pristine-*.npz"))
    if not files:
        raise DataError(
            f"{options.folder}: no ladders; make them first: python -m models data lite2 --folder {options.folder}"
        )
    scenes = (read_scene(file) for file in tqdm(files, unit="scene", desc="features"))
    rungs = rung_statistics(Brisque().eval(), scenes, config)
    found = held_out_correlations(rungs, config)
    print(
        f"{found.rungs} rungs of {found.pictures} pictures, each held out: SRCC {found.spearman:.3f}, "
        f"PLCC {found.pearson:.3f}, SRCC within a scene {found.within_scenes:.3f} on average"
    )
    network = fit_brisque(rungs.features, rungs.labels, config)
    torch.save({"weights": network.state_dict()}, options.folder / "brisque.pt")


def export(options: argparse.Namespace) -> Path:
    """Write the graph and the manifest of a checkpoint; returns the path of the graph. Raises DataError."""
    options.built.mkdir(parents=True, exist_ok=True)
    facts = read_manifest_facts(MODELS_FOLDER / "brisque.facts.toml")
    return write_pair(
        _load(options), "brisque", version=options.version, facts=facts, folder=options.built, form=_FORM
    )  # fmt: skip


def verify(options: argparse.Namespace) -> list[str]:
    """Verify an exported scorer, against torch too when the checkpoint is given. Raises VerifyError or DataError."""
    network = None if options.weights is None else _load(options)
    return verify_pair(options.built / f"brisque@{options.version}.onnx", network=network)


def card(options: argparse.Namespace) -> str:
    """A Markdown table of the manifest's facts."""
    return format_model_card(options.built / f"brisque@{options.version}.json")


def _load(options: argparse.Namespace) -> Brisque:
    if options.weights is None:
        raise DataError("name the checkpoint: --weights brisque.pt, which `python -m models train brisque` writes")
    weights = read_table(options.weights)["weights"]
    network = Brisque(centre_count=len(weights["centres"]))
    network.load_state_dict(weights)
    return network.eval()
