"""Regression rules on stored scores: which rules, series and times are measured, and refusals."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from pipelines.commands import tune as tune_module
from pipelines.commands.replay import HistoryFilter
from pipelines.commands.tune import TunedRule, tune
from tests import factories
from tests.factories import RENDITION, START
from vqmon.core.types import Outcome
from vqmon.errors import SettingsError
from vqmon.settings.load import Settings
from vqmon.transport.history.history import open_history

DROP = '[rules.drop]\nkind = "regression"\nseverity = "ticket"\nscorer = "lite"\n'
PAIR = '[rules.pair]\nkind = "regression"\nseverity = "ticket"\nscorer = "lite"\nagainst = "ladder"\n'
LOW = (
    '[rules.low]\nkind = "floor"\nseverity = "page"\nscorer = "lite"\nbelow = 40\nrecover_above = 45\nfor_seconds = 8\n'
)
COUNT = 300
LOWER = replace(RENDITION, name="720p", bitrate_kbps=2500.0)


def stored_scores(
    path: Path, *, count: int = COUNT, streams: Iterable[str] = ("news-1",), failed: Iterable[int] = ()
) -> Path:
    """A history of two renditions per stream; their scores vary around 75 and 65."""
    random, failed = Random(1), set(failed)
    outcomes: list[Outcome] = []
    for stream in streams:
        for sequence in range(count):
            for rendition, level in ((RENDITION, 75.0), (LOWER, 65.0)):
                if sequence in failed:
                    outcomes.append(factories.failure(sequence=sequence, stream=stream, rendition=rendition))
                else:
                    score = level + random.gauss(0, 1)
                    outcomes.append(factories.event(sequence=sequence, score=score, stream=stream, rendition=rendition))
    with open_history(path, "write") as history:
        history.publish(outcomes)
    return path


def proposals(place: Path, rules: str, *, rule: str = "", span: HistoryFilter | None = None) -> list[TunedRule]:
    file = place.with_suffix(".toml")
    file.write_text(rules)
    settings = Settings(alerts={"rules": file})  # type: ignore[arg-type]
    return list(
        tune(settings, place, rule=rule, false_alarms_per_day=5.0, drop_points=2.5, span=span or HistoryFilter())
    )


def test_every_regression_rule_has_a_proposal(tmp_path: Path) -> None:
    """Other kinds of rules have none; each series is named with its basis."""
    drop, pair = proposals(stored_scores(tmp_path / "h.db"), DROP + PAIR + LOW)
    assert [drop.rule.name, pair.rule.name] == ["drop", "pair"]
    assert {one.name.partition(" ")[0] for one in drop.report.series} == {
        "news-1/1080p/lite",
        "news-1/720p/lite",
    }
    assert {one.name.partition(" ")[0] for one in pair.report.series} == {
        "news-1/1080p/lite~ladder",
        "news-1/720p/lite~ladder",
    }
    assert sorted(round(one.level) for one in drop.report.series) == [65, 75]


def test_what_is_asked_for_replaces_the_settings_of_the_rule(tmp_path: Path) -> None:
    """The drops are five in points; 25 points are one MOS."""
    (tuned,) = proposals(stored_scores(tmp_path / "h.db"), DROP)
    report = tuned.report
    assert (report.parameters.false_alarm_days, report.parameters.delta_min) == (0.2, 2.5)
    assert report.stream_days == pytest.approx(2 * COUNT * 4 / 86_400)
    assert [drop.drop_points for drop in report.drops] == [2.5, 5.0, 7.5, 12.5, 25.0]
    assert {one.count for one in report.series} == {COUNT}


def test_one_rule_can_be_named(tmp_path: Path) -> None:
    (tuned,) = proposals(stored_scores(tmp_path / "h.db"), DROP + PAIR, rule="pair")
    assert tuned.rule.name == "pair"


@pytest.mark.parametrize(
    ("rules", "rule", "message"),
    [
        (DROP, "other", "no regression rule 'other' in the rules file"),
        (DROP + LOW, "low", "no regression rule 'low' in the rules file"),
        (LOW, "", "no regression rule to tune"),
    ],
)
def test_a_rule_that_is_no_regression_cannot_be_tuned(rules: str, rule: str, message: str, tmp_path: Path) -> None:
    """Which is known before the history is opened."""
    with pytest.raises(SettingsError, match=message):
        proposals(tmp_path / "missing.db", rules, rule=rule)


def test_too_few_segments_are_refused(tmp_path: Path) -> None:
    """239 of them; for a named rule the message says how many are missing of what."""
    place = stored_scores(tmp_path / "h.db", count=239)
    with pytest.raises(SettingsError, match="rule 'drop': no series has 240 scored segments"):
        proposals(place, DROP, rule="drop")
    with pytest.raises(SettingsError, match="too little is stored"):
        proposals(place, DROP + PAIR)


def test_failures_give_no_value(tmp_path: Path) -> None:
    """A series with 240 scores among 241 segments is long enough."""
    (tuned,) = proposals(stored_scores(tmp_path / "h.db", count=241, failed=[100]), DROP)
    assert {one.count for one in tuned.report.series} == {240}
    with pytest.raises(SettingsError):
        proposals(stored_scores(tmp_path / "other.db", count=241, failed=[100, 200]), DROP)


def test_stream_and_time_select_what_is_used(tmp_path: Path) -> None:
    """By the start of the segments."""
    place = stored_scores(tmp_path / "h.db", streams=["news-1", "news-2"])
    (both,) = proposals(place, DROP)
    (one,) = proposals(place, DROP, span=HistoryFilter(stream_id="news-2"))
    (early,) = proposals(place, DROP, span=HistoryFilter(until=START + timedelta(seconds=250 * 4)))
    assert (len(both.report.series), len(one.report.series)) == (4, 2)
    assert all(one.name.startswith("news-2/") for one in one.report.series)
    assert {one.count for one in early.report.series} == {250}
    with pytest.raises(SettingsError, match="too little"):
        proposals(place, DROP, span=HistoryFilter(stream_id="other"))


def test_series_beyond_the_limit_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that came first are used in full."""
    monkeypatch.setattr(tune_module, "_MAX_SERIES", 1)
    (tuned,) = proposals(stored_scores(tmp_path / "h.db"), DROP)
    assert [(one.name.partition(" ")[0], one.count) for one in tuned.report.series] == [("news-1/1080p/lite", COUNT)]


def test_a_rule_without_enough_values_is_passed_over(tmp_path: Path) -> None:
    """The others still have their proposals."""
    rules = DROP + PAIR.replace("pair", "owl").replace('"lite"', '"owl"')
    assert [tuned.rule.name for tuned in proposals(stored_scores(tmp_path / "h.db"), rules)] == ["drop"]
