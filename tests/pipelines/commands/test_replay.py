"""replay and tune on a real history: other rules, known incidents, markers, proposals, and what they print."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests import factories
from tests.factories import RENDITION, START
from vqmon.cli.main import main
from vqmon.core.alerts.annotations import DeployMarker
from vqmon.core.alerts.judge import Judge
from vqmon.settings.rules_file import parse_rules
from vqmon.transport.history.history import open_history

MID = replace(RENDITION, name="720p", bitrate_kbps=2500.0)
RULES = """
[rules.drop]
kind = "regression"
scorer = "lite"
block_seconds = 300
false_alarm_days = 1
[rules.pair]
kind = "regression"
scorer = "lite"
against = "ladder"
match = { rendition = "720p" }
block_seconds = 300
false_alarm_days = 1
"""
STRICT = '[rules.floor]\nkind = "floor"\nscorer = "lite"\nbelow = 58\nrecover_above = 60\nfor_seconds = 20\n'
INCIDENTS = """stream,rendition,began,ended
news-1,720p,2026-11-20T20:40:00,2026-11-20T20:46:40
news-1,,2026-11-20T20:20:00,2026-11-20T20:22:00
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two renditions of one stream, 800 segments; the lower one falls by 8 points from segment 600 to 700."""
    path = tmp_path_factory.mktemp("replay") / "history.db"
    chance = np.random.default_rng(1)
    content, own = chance.normal(0, 2, 800), chance.normal(0, 0.5, (2, 800))
    judge = Judge(parse_rules(RULES))
    with open_history(path, "write") as history:
        for first in range(0, 800, 100):
            outcomes = []
            for n in range(first, first + 100):
                outcomes.append(factories.event(sequence=n, score=float(75 + content[n] + own[0, n])))
                low = 8 if 600 <= n < 700 else 0
                outcomes.append(
                    factories.event(sequence=n, score=float(65 + content[n] + own[1, n] - low), rendition=MID)
                )
            alerts = [alert for outcome in outcomes for alert in judge.judge(outcome)]
            history.publish(outcomes, alerts=alerts, states=judge.drain_changes())
    return path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.toml").write_text(RULES)
    (tmp_path / "strict.toml").write_text(STRICT)
    (tmp_path / "incidents.csv").write_text(INCIDENTS)
    (tmp_path / "vqmon.toml").write_text('[alerts]\nrules = "rules.toml"\n')


def vqmon(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_replay_gives_what_live_gave(stored: Path) -> None:
    """The alerts that were stored as they came, and those of the replay, are the same to the last word."""
    with open_history(stored, "read") as history:
        live = {alert.id: alert for alert in history.queries.alerts()}
        judge, replayed = Judge(parse_rules(RULES)), {}
        for outcome in history.documents.outcomes_in_write_order():
            replayed.update({alert.id: alert for alert in judge.judge(outcome)})
        assert replayed == live
        assert judge.states() == history.queries.states()
    assert {alert.rule for alert in live.values()} == {"drop", "pair"}


def test_replay_appraises_old_and_new_rules(stored: Path) -> None:
    """Alerts side by side; per set of rules and rule what was found, how soon, and what was for nothing."""
    result = vqmon("replay", "--history", str(stored), "--rules", "strict.toml", "--incidents", "incidents.csv")
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line.split() for line in result.output.splitlines() if line.strip()}
    assert "2 known incidents" in result.output
    assert "0.07 stream-days" in result.output
    assert rows["old"][1:3] == ["1", "0"]
    assert rows["old"][4:7] == ["1", "of", "2"]
    assert rows["pair"][4:7] == ["1", "of", "2"]
    # muted by the pair: nobody is told of it
    assert rows["drop"][1] == "0"
    assert rows["floor"][1] == rows["new"][1] != "0"
    alone = vqmon("replay", "--history", str(stored))
    assert "0 known incidents" in alone.output
    assert "new" not in alone.output.split("stream-days")[1]


def test_replay_knows_deploys(stored: Path, tmp_path: Path) -> None:
    """A stored marker at the moment of the fall makes it no fall."""
    copy = tmp_path / "copy.db"
    with open_history(stored, "read") as old, open_history(copy, "write") as new:
        new.publish(list(old.documents.outcomes_in_write_order()))
        new.add_marker(DeployMarker(id="m", at=START + timedelta(seconds=2400), name="encoder-7"))
    result = vqmon("replay", "--history", str(copy), "--incidents", "incidents.csv")
    assert result.exit_code == 0, result.output
    assert "0 alerts with the old rules" in result.output


def test_tune_prints_settings_that_can_be_used(stored: Path, tmp_path: Path) -> None:
    """What is printed is a rule table; with it the rules file is read again."""
    result = vqmon("tune", "--history", str(stored), "--rule", "pair", "--false-alarms", "5", "--drop", "2.5")
    assert result.exit_code == 0, result.output
    assert "news-1/720p/lite~ladder (lite@1 against 1080p)" in result.output
    lines = result.output.splitlines()
    start = lines.index("[rules.pair]")
    table = "\n".join(lines[start : start + 3]) + '\nkind = "regression"\nscorer = "lite"\n'
    (rule,) = parse_rules(table)
    assert (rule.condition.false_alarm_days, rule.condition.delta_min) == (0.2, 2.5)
    drops = [line.split() for line in lines if line.split()[:1] in (["0.1"], ["0.2"], ["0.3"], ["0.5"], ["1.0"])]
    assert len(drops) == 5
    assert drops[-1][2] == "100%"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tune", "--rule", "strict"), "no regression rule 'strict'"),
        (("tune", "--since", "2027-01-01"), "too little is stored"),
        (("replay", "--incidents", "strict.toml"), "no incident is in this file; it needs a table [[incidents]]"),
        (("replay", "--incidents", "vqmon.toml"), "no incident is in this file; it needs a table [[incidents]]"),
    ],
)
def test_what_cannot_be_done_is_said(stored: Path, arguments: tuple[str, ...], message: str) -> None:
    """With the remedy, also that a TOML file has no incidents."""
    result = vqmon(*arguments, "--history", str(stored))
    assert message in result.output
