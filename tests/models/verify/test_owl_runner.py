"""The runner of exported level scorers."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")


from models.verify.owl_runner import LevelScorerRunner, expected_levels  # noqa: E402
from vqmon.scoring.manifests.frame_scorer import golden_frames  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def test_features_are_shared_by_tasks(level_scorers: Path) -> None:
    """Pictures are encoded once; tasks then answer from the same features, each with an expected level."""
    runner = LevelScorerRunner(level_scorers / "q-align-fp32@1.json")
    features = runner.encode(golden_frames(runner.spec.input.view, seed=1, frames=2))
    for task in ("quality", "aesthetics", "video"):
        logits = runner.run_task([features[:1], features[1:]], runner.spec.task(task))
        assert logits.shape == (2, 1, 5)
        assert ((expected_levels(logits, runner.spec) >= 1) & (expected_levels(logits, runner.spec) <= 5)).all()
