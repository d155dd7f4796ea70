"""Measures Q-Align on this machine's CPU: milliseconds beside torch eager, sizes, and what rounding does to scores.

python -m bench.scoring.owl [--depth 2] [--size full|tiny]

Weights are random: times, sizes and the arithmetic are real, differences of scores only tell how much rounding moves
this network when nothing is trained to bear it. The vision side has its full size; of the language tower `--depth`
layers are measured at full width, and the time of all 32 is told by arithmetic.
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
from models.export.owl import Recipe, write_scorer  # noqa: E402
from models.export.owl_recipes import q_align_recipe  # noqa: E402
from models.export.pair import read_facts  # noqa: E402
from models.networks.owl.language import LanguageConfig  # noqa: E402
from models.networks.owl.owl import OwlConfig, tiny  # noqa: E402
from models.verify import owl_runner  # noqa: E402
from vqmon.scoring.manifests.frame_scorer import golden_frames  # noqa: E402

PUBLISHED_DEPTH = 32
PICTURES = 4
THREADS = 2


def median_ms(run: Callable[[], object], rounds: int = 5) -> float:
    """Median milliseconds of some runs after a warm-up."""
    run()
    took = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        took.append((time.perf_counter() - start) * 1000)
    return float(np.median(took))


def print_row(name: str, encoder: float, language: float, *, depth: int, more: str = "") -> None:
    """One form's times: the encoder, the language layers measured, and a whole picture by arithmetic."""
    whole = encoder + language / depth * PUBLISHED_DEPTH
    print(
        f"{name:14} encoder {encoder:8.1f} ms   {depth} layers {language:8.1f} ms   "
        f"picture, {PUBLISHED_DEPTH} layers, {whole / 1000:6.2f} s   {more}"
    )


def torch_rows(recipe: Recipe, weights: Mapping[str, Tensor]) -> np.ndarray:
    """Time torch eager in float32; gives the logits of the pictures, which are the truth below."""
    setting = Setting(config=recipe.config, device=torch.device("cpu"), dtype=torch.float32, batches=(1,), seconds=1.0)
    encoder, scorer = build(setting, recipe, weights)
    planes = torch.from_numpy(pictures().transpose(0, 3, 1, 2).copy())
    question = torch.zeros(1, dtype=torch.int64)
    features = torch.cat([encoder(one[None]) for one in planes])
    print_row(
        "torch fp32",
        median_ms(lambda: encoder(planes[:1])),
        median_ms(lambda: scorer(features[:1][None], question)),
        depth=recipe.config.language.depth,
    )
    return torch.cat([scorer(one[None, None], question) for one in features]).numpy()


def pictures() -> np.ndarray:
    """(PICTURES, 448, 448, 3)."""
    from models.export.owl import VIEW

    return golden_frames(VIEW, seed=5, frames=PICTURES)


def ort_row(recipe: Recipe, weights: Mapping[str, Tensor], *, form: str, folder: Path, truth: np.ndarray) -> None:
    """Write one form, time it, and set its scores against torch."""
    manifest = write_scorer(recipe, weights, form=form, folder=folder, one_file_bytes=graphs.ONE_FILE_BYTES)
    runner = owl_runner.Runner(manifest, threads=THREADS)
    spec, task = runner.spec, runner.spec.task("quality")
    features = runner.encode(pictures())
    logits = np.concatenate([runner.answer([one[None]], task)[0] for one in features])
    scores = [owl_runner.expectations(each, spec) for each in (logits, truth)]
    one = pictures()[:1]
    sizes = f"{spec.encoder.size_bytes / 2**20:.0f} + {spec.language.size_bytes / 2**20:.0f} MiB"
    print_row(
        f"ORT {form}",
        median_ms(lambda: runner.encode(one)),
        median_ms(lambda: runner.answer([features[:1]], task)),
        depth=recipe.config.language.depth,
        more=f"{sizes}   score off by {np.abs(scores[0] - scores[1]).max():.4f} of 1..5 at most",
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
    config = tiny() if options.size == "tiny" else OwlConfig(language=LanguageConfig(depth=options.depth))
    recipe = q_align_recipe(read_facts(ROOT / "models" / "q_align.facts.toml"), config=config)
    recipe = replace(recipe, name="bench")
    weights = RandomWeights(config)
    print(f"{THREADS} threads, one picture at a time, {config.language.depth} language layers, random weights")
    with torch.no_grad(), tempfile.TemporaryDirectory() as place:
        truth = torch_rows(recipe, weights)
        for form in options.forms.split(","):
            ort_row(recipe, weights, form=form, folder=Path(place), truth=truth)


if __name__ == "__main__":
    main()
