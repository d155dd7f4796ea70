"""What the daemon serves of exported scorers is what the torch side says."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from PIL import Image
from safetensors.torch import save_file

from models import MODELS_FOLDER
from models import __main__ as command
from models.commands import owl
from models.export import graphs
from models.export.owl import write_level_scorer
from models.export.owl_recipes import q_align_recipe
from models.export.pair import read_manifest_facts
from models.networks.owl import compare2score, q_align
from models.verify.owl_runner import LevelScorerRunner
from tests.models.owl_weights import CONFIG, random_weights
from tests.scoring.tiny_onnx import decoded
from vqmon.scoring.manifests.frame_scorer import golden_frames
from vqmon.scoring.manifests.level_scorer import load_level_spec
from vqmon.scoring.runtime.graph import Placement
from vqmon.scoring.scorers.levels import score_against_anchors
from vqmon.scoring.scorers.registry import ScorerOptions, open_pair_scorer, open_scorers

pytestmark = pytest.mark.torch
CPU = ScorerOptions(placement=Placement(device="cpu", threads=1))
FACTS = read_manifest_facts(MODELS_FOLDER / "q_align.facts.toml")
FORMS = ("fp32", "int8")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Q-Align in two forms, one with its weights beside the graphs, and Compare2Score with five anchors."""
    weights_folder, folder = tmp_path_factory.mktemp("weights"), tmp_path_factory.mktemp("built")
    weights: dict[str, Any] = random_weights(CONFIG)
    recipe = q_align_recipe(FACTS, config=CONFIG)
    write_level_scorer(recipe, weights, precision="fp32", folder=folder, max_embedded_bytes=graphs.MAX_EMBEDDED_BYTES)
    write_level_scorer(recipe, weights, precision="int8", folder=folder, max_embedded_bytes=2**17)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, weights_folder / "x.safetensors")
    (weights_folder / "anchors").mkdir()
    drawn = np.random.default_rng(1)
    for at in range(5):
        Image.fromarray(drawn.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(
            weights_folder / "anchors" / f"{at}.png"
        )
    arguments = ["export", "compare2score", "--dtype", "fp32", "--anchors", str(weights_folder / "anchors")]
    options: argparse.Namespace = command.build_parser().parse_args(
        [*arguments, "--weights", str(weights_folder / "x.safetensors"), "--built", str(folder)]
    )
    owl.export(
        options, owl.ExportEnvironment(config=CONFIG, hub=_NoHub(), max_embedded_bytes=graphs.MAX_EMBEDDED_BYTES)
    )
    return folder


class _NoHub:
    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"nothing is fetched here: {name}")


@pytest.mark.parametrize("precision", FORMS)
@pytest.mark.parametrize("task", ["quality", "aesthetics", "video"])
async def test_every_task_is_what_the_torch_side_says(built: Path, precision: str, task: str) -> None:
    """Score on the native scale, probabilities of the levels and doubt, for a segment of three frames."""
    manifest = built / f"q-align-{precision}@1.json"
    runner = LevelScorerRunner(manifest, threads=1)
    frames = golden_frames(runner.spec.input.view, seed=3, frames=3)
    features = runner.encode(frames)
    clips = [features] if task == "video" else [features[at : at + 1] for at in range(3)]
    verdicts = [q_align.score_levels(runner.run_task([clip], runner.spec.task(task))[0, 0]) for clip in clips]
    async with open_scorers([f"q-align-{precision}.{task}"], [built], CPU) as (scorer,):
        score = await scorer.score(decoded(frames, runner.spec.input.view))
    assert score.native_value == pytest.approx(np.mean([each.one_to_five for each in verdicts]), abs=1e-4)
    assert list(score.levels) == list(q_align.LEVELS)
    wanted = np.mean([each.level_probabilities for each in verdicts], axis=0)
    assert list(score.levels.values()) == pytest.approx(wanted, abs=1e-5)
    assert score.entropy == pytest.approx(np.mean([each.entropy for each in verdicts]), abs=1e-5)


async def test_compare2score_places_a_picture_as_the_torch_side_does(built: Path) -> None:
    """Comparisons with five anchors become the same 0..100."""
    runner = LevelScorerRunner(built / "compare2score-fp32@1.json", threads=1)
    frames = golden_frames(runner.spec.input.view, seed=4, frames=2)
    logits = runner.run_task([each[None] for each in runner.encode(frames)], runner.spec.task("anchors"))
    assert runner.spec.comparisons is not None
    anchors = np.array(runner.spec.comparisons.anchor_matrix)
    async with open_scorers(["compare2score-fp32"], [built], CPU) as (scorer,):
        score = await scorer.score(decoded(frames, runner.spec.input.view))
    assert score.frame_values == pytest.approx(
        [
            score_against_anchors(compare2score.preference_probability(each), anchors, link="logistic")
            for each in logits
        ],
        abs=2e-3,
    )


async def test_two_arms_as_the_torch_side_compares_them(built: Path) -> None:
    """P(the second arm's frame is better), both orders."""
    runner = LevelScorerRunner(built / "compare2score-fp32@1.json", threads=1)
    frames = golden_frames(runner.spec.input.view, seed=5, frames=4)
    features, task = runner.encode(frames), runner.spec.task("pair")
    ab = runner.run_task([features[[0, 2]], features[[1, 3]]], task)[:, 0]
    ba = runner.run_task([features[[2, 0]], features[[3, 1]]], task)[:, 0]
    async with open_pair_scorer("compare2score-fp32", [built], CPU) as pair:
        probabilities = await pair.preference_probabilities(frames[:2], frames[2:])
    first, second = compare2score.preference_probability(ab), compare2score.preference_probability(ba)
    assert probabilities == pytest.approx((first + 1 - second) / 2, abs=1e-5)


async def test_the_encoder_of_both_is_one(built: Path) -> None:
    """Q-Align and Compare2Score of the same weights name the same graph, so a picture is encoded once for all."""
    specs = [load_level_spec(built / f"{name}-fp32@1.json") for name in ("q-align", "compare2score")]
    assert specs[0].encoder.sha256 == specs[1].encoder.sha256
    runs: list[float] = []
    view = specs[0].input.view
    frames = golden_frames(view, seed=6, frames=2)
    names = ["q-align-fp32.quality", "q-align-fp32.aesthetics", "compare2score-fp32"]
    async with open_scorers(names, [built], replace(CPU, on_run=runs.append)) as scorers:
        for scorer in scorers:
            await scorer.score(decoded(frames, view))
    assert len(runs) == 2 + 2 + 2 + 2 * 5


def test_weights_that_lie_beside_are_served_too(built: Path) -> None:
    """One of the bundles above has them there."""
    assert load_level_spec(built / "q-align-int8@1.json").language.has_data
