"""The commands for level scorers: export, verify, card, and the choice of anchors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from models.commands import owl  # noqa: E402
from models.weights import WeightsError  # noqa: E402
from tests.models.level_scorers import ENVIRONMENT, parse_options  # noqa: E402
from vqmon.scoring.manifests.level_scorer import load_level_spec  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


def test_a_written_scorer_passes_every_check(level_checkpoint: Path, level_scorers: Path) -> None:
    """Hashes, graphs, golden answers, 1..12 frames, batches, and torch within 1e-4, through the command."""
    lines = owl.verify(
        parse_options(level_checkpoint, level_scorers, "verify", "q_align", "--dtype", "fp32"), ENVIRONMENT
    )
    assert any("clips of 1..12 against torch, logits" in line for line in lines)
    assert sum("none of NonZero" in line for line in lines) == 2
    spec = load_level_spec(level_scorers / "q-align-fp32@1.json")
    assert spec.encoder.has_data
    assert spec.language.has_data
    assert {"part0.safetensors", "part1.safetensors"} == {
        key.removeprefix("sha256 of ") for key in spec.provenance if key.startswith("sha256 of ")
    }


def test_comparisons_pass_every_check_too(level_checkpoint: Path, level_scorers: Path) -> None:
    """Five anchors and pairs, from one graph; the anchors' own matrix is in the manifest."""
    arguments = ["verify", "compare2score", "--dtype", "fp32", "--anchors", str(level_checkpoint / "anchors")]
    lines = owl.verify(parse_options(level_checkpoint, level_scorers, *arguments), ENVIRONMENT)
    assert any(line.startswith("pair: clips of 2..2 against torch") for line in lines)
    spec = load_level_spec(level_scorers / "compare2score-fp32@1.json")
    assert spec.comparisons is not None
    assert np.array(spec.comparisons.anchor_matrix).shape == (5, 5)
    assert spec.task("anchors").questions == (0, 1, 2, 3, 4)


def test_what_does_not_fit_is_refused_before_anything_is_written(level_weights: dict[str, Any], tmp_path: Path) -> None:
    """A checkpoint with one tensor renamed, and one without anchors to compare with."""
    table = {name: tensor.to(torch.bfloat16) for name, tensor in level_weights.items()}
    table["model.norm.wait"] = table.pop("model.norm.weight")
    save_file(table, tmp_path / "x.safetensors")
    built = tmp_path / "built"
    with pytest.raises(WeightsError, match=r"1 missing: model\.norm\.weight; 1 unknown: model\.norm\.wait"):
        owl.export(parse_options(tmp_path / "x.safetensors", built, "export", "q_align"), ENVIRONMENT)
    save_file({name: tensor.to(torch.bfloat16) for name, tensor in level_weights.items()}, tmp_path / "y.safetensors")
    with pytest.raises(WeightsError, match="name the anchors"):
        owl.export(parse_options(tmp_path / "y.safetensors", built, "export", "compare2score"), ENVIRONMENT)
    assert not built.exists()


def test_a_card_tells_licence_and_origin(level_checkpoint: Path, level_scorers: Path) -> None:
    """Facts from the manifest, as a table."""
    output = owl.card(parse_options(level_checkpoint, level_scorers, "card", "q_align", "--dtype", "fp32"))
    assert "not stated" in output
    assert "excellent = 5" in output
    assert "sha256 of part0.safetensors" in output


def test_anchors_can_be_chosen_from_scored_pictures(level_checkpoint: Path) -> None:
    """A table with file, score and variance names five; they come prepared, worst first."""
    rows = ["file,score,variance", *(f"anchors/{4 - at}.png,{at * 10},{1 + at}" for at in range(5))]
    table = level_checkpoint / "scored.csv"
    table.write_text("\n".join(rows))
    chosen = owl.read_anchors(None, table)
    assert len(chosen) == 5
    assert torch.equal(chosen[0], owl.read_anchors(level_checkpoint / "anchors", None)[4])
