"""The card of the shipped pair."""

import pytest

pytest.importorskip("torch")

from models import MODELS_FOLDER
from models.verify.model_card import format_model_card

pytestmark = pytest.mark.torch


def test_the_card_is_a_table_of_the_manifest() -> None:
    """Two columns in every row: scorer, hash, calibration and licence among them."""
    lines = format_model_card(MODELS_FOLDER / "built" / "lite@1.json").splitlines()
    assert lines[:2] == ["| | |", "|---|---|"]
    assert "| scorer | lite@1 |" in lines
    assert all(line.startswith("| ") and line.endswith(" |") for line in lines[2:])
    rows = {line.split(" | ")[0].removeprefix("| ") for line in lines[2:]}
    assert {"scorer", "file", "view", "native range", "calibration", "licence"} <= rows
