"""The worked example of CONTRIBUTING.md that needs torch: a scorer."""

import json
from pathlib import Path

import pytest

from tests.media import clips
from tests.test_contributing import COLOUR, EXAMPLES, apply, copy, run

__all__ = ["copy"]

pytestmark = pytest.mark.torch

SETTINGS = """
[scoring]
folders = ["scorers"]
scorers = ["lite", "contrast"]
[fetch]
file_roots = ["."]
"""


def test_a_scorer_scores(copy: Path) -> None:
    """The exported pair passes the check of its hash and reference result, and scores a clip beside lite."""
    for block in EXAMPLES["Add a scorer"]:
        apply(block, copy)
    (copy / "scorers").mkdir()
    (copy / "vqmon.toml").write_text(SETTINGS, encoding="utf-8")
    (copy / "grey.mp4").write_bytes(clips.clip(*clips.x264(), source=COLOUR.format(name="gray"), seconds=1))

    run(copy, "-m", "models.commands.contrast", "scorers")
    scores = json.loads(run(copy, "-m", "vqmon", "score", "--json", "grey.mp4"))["data"]["scores"]

    assert [score["scorer"] for score in scores] == ["lite@2", "contrast@1"]
    assert scores[1]["value"] == pytest.approx(0, abs=0.1)
