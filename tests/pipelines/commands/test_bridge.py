"""The bridge between two scorers, fitted to a history that has scores of both."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines.commands.bridge import fit_bridge_from_outcomes
from tests import factories
from vqmon.cli.main import main
from vqmon.core.types import QualityEvent
from vqmon.errors import SettingsError
from vqmon.transport.history.history import open_history


def events(count: int) -> list[QualityEvent]:
    """Events scored by old@1, with shadow scores of new@1 that are 10 plus half of the old ones."""
    values = [20.0 + number % 60 for number in range(count)]
    return [
        replace(
            factories.event(sequence=number, score=value, scorer="old@1"),
            shadow_scores=(factories.score(value=10 + value / 2, scorer="new@1"),),
        )
        for number, value in enumerate(values)
    ]


def test_the_command_fits_a_history_and_writes_json(tmp_path: Path) -> None:
    """A linear relation is found exactly; the printed line names the number of segments and the error."""
    database, file = tmp_path / "vqmon.db", tmp_path / "b.json"
    with open_history(database, mode="write") as history:
        history.publish(events(120))
    arguments = ["scorers", "bridge", "old@1", "new@1", "--history", str(database), "--output", str(file)]
    run = CliRunner().invoke(main, arguments)

    assert run.exit_code == 0, run.output
    assert "linear bridge old@1 -> new@1, fitted to 120 segments" in run.output
    bridge = json.loads(file.read_text())
    assert (bridge["old"], bridge["new"], bridge["count"], bridge["kind"]) == ("old@1", "new@1", 120, "linear")
    assert bridge["error_rms"] < 0.01
    assert bridge["points"] == [[0.0, 10.0], [100.0, 60.0]]
    assert (bridge["seen_from"], bridge["seen_to"]) == (20.0, 79.0)


def test_a_failure_and_a_segment_without_both_scores_are_not_used() -> None:
    """Only segments that both scorers scored are pairs."""
    one_scorer = [factories.event(sequence=number, score=50.0, scorer="old@1") for number in range(200, 260)]
    outcomes = [*events(120), *one_scorer, factories.failure(sequence=300)]

    assert fit_bridge_from_outcomes(outcomes, "old@1", "new@1").count == 120


def test_an_unknown_scorer_is_refused_with_the_scorers_of_the_history() -> None:
    """The message lists the ids that could have been meant; an empty history has none."""
    with pytest.raises(SettingsError, match="scored by newer@1; scorers in it: new@1, old@1"):
        fit_bridge_from_outcomes(events(40), "old@1", "newer@1")
    with pytest.raises(SettingsError, match="scored by old@1; scorers in it: none"):
        fit_bridge_from_outcomes([], "old@1", "new@1")


def test_too_few_segments_are_refused_with_the_setting_that_gets_more() -> None:
    """The remedy is to run the new scorer as a shadow."""
    with pytest.raises(SettingsError, match=r"new@1 in scoring\.shadows"):
        fit_bridge_from_outcomes(events(5), "old@1", "new@1")
