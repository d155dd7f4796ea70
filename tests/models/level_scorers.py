"""Small level scorers, checkpoints of their random weights, and the command that exports them, for tests."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from models import MODELS_FOLDER
from models import __main__ as command
from models.commands import owl
from models.export.owl_recipes import q_align_recipe
from models.export.pair import read_manifest_facts
from models.networks.owl.abstractor import AbstractorConfig
from models.networks.owl.language import LanguageConfig
from models.networks.owl.owl import OwlConfig
from models.networks.owl.vision import VisionConfig
from tests.models.test_weights import Shelf

CONFIG = OwlConfig(
    vision=VisionConfig(width=32, inner_width=64, depth=1, heads=2),
    abstractor=AbstractorConfig(width=32, inner_width=48, depth=1, heads=2, vision_width=32),
    language=LanguageConfig(width=64, inner_width=96, depth=2, heads=2, vocabulary=32000),
)
FACTS = read_manifest_facts(MODELS_FOLDER / "q_align.facts.toml")
RECIPE = q_align_recipe(FACTS, config=CONFIG)
ENVIRONMENT = owl.ExportEnvironment(config=CONFIG, hub=Shelf(Path()), max_embedded_bytes=2**17)


def parse_options(weights: Path, built: Path, *arguments: str) -> argparse.Namespace:
    """Options of `python -m models` with these weights and this folder of exported scorers."""
    return command.build_parser().parse_args([*arguments, "--weights", str(weights), "--built", str(built)])


def write_checkpoint(weights: dict[str, Any], folder: Path) -> None:
    """Two shards with their index, and five anchors."""
    names = sorted(weights)
    halves = (names[: len(names) // 2], names[len(names) // 2 :])
    for number, half in enumerate(halves):
        tensors = {name: weights[name].to(torch.bfloat16) for name in half}
        save_file(tensors, folder / f"part{number}.safetensors")
    index = {name: f"part{number}.safetensors" for number, half in enumerate(halves) for name in half}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "anchors").mkdir()
    random = np.random.default_rng(1)
    for number in range(5):
        picture = random.integers(0, 256, (40 + number, 60, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / "anchors" / f"{number}.png")


def export_both(checkpoint: Path, folder: Path) -> None:
    """Q-Align and Compare2Score in float32, their weights in external data files."""
    owl.export(parse_options(checkpoint, folder, "export", "q_align", "--dtype", "fp32"), ENVIRONMENT)
    anchors = ["--anchors", str(checkpoint / "anchors")]
    owl.export(parse_options(checkpoint, folder, "export", "compare2score", "--dtype", "fp32", *anchors), ENVIRONMENT)
