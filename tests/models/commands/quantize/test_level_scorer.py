"""The gate of Q-Align's 8-bit form: it is held to the weights in float32 on an owner's pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from models import __main__ as command  # noqa: E402
from models.commands import owl as owl_command  # noqa: E402
from models.commands.quantize import level_scorer  # noqa: E402
from models.verify.owl import verify_level_scorer  # noqa: E402
from tests.models.commands.quantize.test_command import write_pictures  # noqa: E402
from tests.models.owl_weights import CONFIG, random_weights  # noqa: E402
from vqmon.scoring.manifests.level_scorer import load_level_spec  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with weights of a small mPLUG-Owl2, and 14 pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(owl_command, "OwlConfig", lambda: CONFIG)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    torch.save(random_weights(), "owl.pt")
    write_pictures(tmp_path / "photos", 14)
    return tmp_path


def quantize(name: str, *more: str) -> None:
    command.main(["quantize", name, "--weights", "owl.pt", "--clips", "photos", "--threads", "1", *more])


def test_a_form_that_follows_is_written_with_what_it_was_held_to(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every task that takes one picture is judged, and the first against human scores; the card says how far."""
    rows = "\n".join(f"photos/{number:02}.png,{number % 4}" for number in range(14))
    Path("scores.csv").write_text(f"path,score\n{rows}\n")
    quantize("q_align", "--max-loss", "0.5", "--data", "scores.csv")
    report = capsys.readouterr().out
    values = {line.split(":")[0]: float(line.split("float32 ")[1].split(",")[0]) for line in report.splitlines()[1:4]}
    assert set(values) == {"quality", "aesthetics", "video"}
    manifest = here / "bundles" / "q-align-int8@1.json"
    spec = load_level_spec(manifest)
    assert spec.provenance["SRCC with float32"].endswith("of 14 pictures")
    assert "lost, 0.5 allowed: passed" in report
    assert spec.provenance["human scores"].startswith("quality, scores.csv (14 files): SRCC with human scores")
    assert all(f"{name} {value:.4f}" in spec.provenance["SRCC with float32"] for name, value in values.items())
    assert any("golden answers" in line for line in verify_level_scorer(manifest))
    assert not list((here / "bundles").glob(".*"))


def test_a_form_that_does_not_follow_is_refused_and_leaves_the_earlier_one(here: Path) -> None:
    """In one line: which task, how far, and what to do."""
    quantize("q_align", "--max-loss", "0.5")
    before = {path.name: path.read_bytes() for path in (here / "bundles").iterdir()}
    with pytest.raises(
        SystemExit, match=r"8 bits cost too much: SRCC 0\.\d{4} with float32 for \w+, 1 is asked for; .*int8-weights"
    ):
        quantize("q_align", "--max-loss", "0")
    assert {path.name: path.read_bytes() for path in (here / "bundles").iterdir()} == before


def test_a_form_that_answers_one_question_alike_for_all_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever task it is: constant scores follow nothing."""
    scores = level_scorer._scores

    def constant_aesthetics(*args: Any, **options: Any) -> Mapping[str, NDArray[np.float64]]:
        found = scores(*args, **options)
        return {**found, "aesthetics": np.zeros_like(found["aesthetics"])}

    monkeypatch.setattr(level_scorer, "_scores", constant_aesthetics)
    with pytest.raises(SystemExit, match="8 bits cost too much: SRCC nan with float32 for aesthetics"):
        quantize("q_align", "--max-loss", "0.9")
    assert not list((here / "bundles").glob("*"))


def test_too_few_pictures_and_missing_weights_are_named(here: Path) -> None:
    """Before anything is written."""
    for picture in sorted((here / "photos").iterdir())[5:]:
        picture.unlink()
    with pytest.raises(SystemExit, match="5 files are too few: 12 are needed"):
        quantize("deqa_score")
    with pytest.raises(SystemExit, match="name the weights: --weights FILE"):
        command.main(["quantize", "q_align", "--clips", "photos"])
    with pytest.raises(SystemExit, match="--allow-noncommercial"):
        quantize("q_instruct")
    assert not list((here / "bundles").glob("*"))
