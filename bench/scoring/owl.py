"""Measures Q-Align on this machine's CPU: milliseconds beside torch eager, sizes, and the effect of rounding on scores.

python -m bench.scoring.owl [--depth 2] [--size full|tiny]

Weights are random: times, sizes and arithmetic are real; score differences only show how much rounding changes a
network that was not trained for it. The vision side has its full size; of the language tower `--depth` layers are
measured at full width, and the time of all 32 is extrapolated.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.scoring.gpu_owl import RandomWeights, Setting, build  # noqa: E402
from models.export import graphs  # noqa: E402
from models.export.owl import LevelScorerRecipe, write_level_scorer  # noqa: E402
from models.export.owl_recipes import q_align_recipe  # noqa: E402
from models.export.pair import read_manifest_facts  # noqa: E402
from models.networks.owl.language import LanguageConfig  # noqa: E402
from models.networks.owl.owl import OwlConfig, tiny_config  # noqa: E402
from models.verify import owl_runner  # noqa: E402
from vqmon.scoring.manifests.frame_scorer import golden_frames  # noqa: E402

PUBLISHED_DEPTH = 32
PICTURES = 4
THREADS = 2


def median_ms(run: Callable[[], object], rounds: int = 5) -> float:
    """Median milliseconds of a run, after a warm-up."""
    run()
    milliseconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        milliseconds.append((time.perf_counter() - start) * 1000)
    return float(np.median(milliseconds))


def print_row(name: str, encoder: float, language: float, *, depth: int, note: str = "") -> None:
    """Print a row: the encoder, the measured language layers, and a whole picture by extrapolation."""
    all_layers = encoder + language / depth * PUBLISHED_DEPTH
    print(
        f"{name:14} encoder {encoder:8.1f} ms   {depth} layers {language:8.1f} ms   "
        f"picture, {PUBLISHED_DEPTH} layers, {all_layers / 1000:6.2f} s   {note}"
    )


def torch_rows(recipe: LevelScorerRecipe, weights: Mapping[str, Tensor]) -> np.ndarray:
    """Time torch eager in float32; returns its logits of the pictures, the reference for the other rows."""
    setting = Setting(config=recipe.config, device=torch.device("cpu"), dtype=torch.float32, batches=(1,), seconds=1.0)
    encoder, scorer = build(setting, recipe, weights)
    planes = torch.from_numpy(pictures().transpose(0, 3, 1, 2).copy())
    question = torch.zeros(1, dtype=torch.int64)
    features = torch.cat([encoder(picture[None]) for picture in planes])
    print_row(
        "torch fp32",
        median_ms(lambda: encoder(planes[:1])),
        median_ms(lambda: scorer(features[:1][None], question)),
        depth=recipe.config.language.depth,
    )
    return torch.cat([scorer(picture[None, None], question) for picture in features]).numpy()


def pictures() -> np.ndarray:
    """(PICTURES, 448, 448, 3)."""
    from models.export.owl import PICTURE_VIEW

    return golden_frames(PICTURE_VIEW, seed=5, frames=PICTURES)


def ort_row(
    recipe: LevelScorerRecipe, weights: Mapping[str, Tensor], *, precision: str, folder: Path, reference: np.ndarray
) -> None:
    """Write one precision, time it, and compare its scores with torch."""
    manifest = write_level_scorer(
        recipe, weights, precision=precision, folder=folder, max_embedded_bytes=graphs.MAX_EMBEDDED_BYTES
    )
    runner = owl_runner.LevelScorerRunner(manifest, threads=THREADS)
    spec, task = runner.spec, runner.spec.task("quality")
    features = runner.encode(pictures())
    logits = np.concatenate([runner.run_task([picture[None]], task)[0] for picture in features])
    scores = [owl_runner.expected_levels(each, spec) for each in (logits, reference)]
    picture = pictures()[:1]
    sizes = f"{spec.encoder.size_bytes / 2**20:.0f} + {spec.language.size_bytes / 2**20:.0f} MiB"
    print_row(
        f"ORT {precision}",
        median_ms(lambda: runner.encode(picture)),
        median_ms(lambda: runner.run_task([features[:1]], task)),
        depth=recipe.config.language.depth,
        note=f"{sizes}   score off by {np.abs(scores[0] - scores[1]).max():.4f} of 1..5 at most",
    )
    for file in folder.iterdir():
        file.unlink()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--forms", default="fp32,int8,int8-weights,int4")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    config = tiny_config() if options.size == "tiny" else OwlConfig(language=LanguageConfig(depth=options.depth))
    recipe = q_align_recipe(read_manifest_facts(ROOT / "models" / "q_align.facts.toml"), config=config)
    recipe = replace(recipe, name="bench")
    weights = RandomWeights(config)
    print(f"{THREADS} threads, one picture at a time, {config.language.depth} language layers, random weights")
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        reference = torch_rows(recipe, weights)
        for precision in options.forms.split(","):
            ort_row(recipe, weights, precision=precision, folder=Path(folder), reference=reference)


if __name__ == "__main__":
    main()
