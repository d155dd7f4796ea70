"""One series: the gates of an alert, its contents, and how it resolves."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests import factories
from tests.core.alerts.regression.faulty_streams import DROP, TOP, falling, judged, noise, series
from tests.factories import START
from vqmon.core.types import Alert, Outcome


def test_a_drop_opens_says_all_and_closes() -> None:
    """When, by how much, with an interval, what moved with it, and the labels; once, and over once."""
    outcomes = series(falling(400, 200, 250, 6, seed=2))
    outcomes = [
        replace(
            outcome, signals={"blockiness": replace(outcome.signals["blockiness"], mean=0.4 if 200 <= n < 250 else 0.1)}
        )
        for n, outcome in enumerate(outcomes)
    ]
    opened, resolved = judged(DROP, outcomes)
    assert (opened.state, resolved.state, opened.id) == ("open", "resolved", resolved.id)
    assert (opened.series, opened.labels, opened.cause) == ("news-1/1080p/lite", {"team": "sr"}, "")
    assert START + timedelta(seconds=796) <= opened.began_at <= START + timedelta(seconds=804)
    assert START + timedelta(seconds=808) <= opened.opened_at <= START + timedelta(seconds=832)
    assert START + timedelta(seconds=1000) <= resolved.resolved_at <= START + timedelta(seconds=1060)
    change = opened.change
    assert change is not None
    assert change.at == opened.began_at
    assert change.low <= -6 <= change.high < 0
    assert change.before == pytest.approx(70, abs=0.5)
    (moved,) = opened.moved
    # A value from before the change may be among those since.
    assert (moved.name, moved.before, moved.after) == ("blockiness", pytest.approx(0.1), pytest.approx(0.37, abs=0.06))
    assert opened.summary.startswith(f"lite@1 down {change.before - change.after:.1f} points since 20:13:")
    assert f"; blockiness 0.10 -> {moved.after:.2f}; sees 2.5 points in " in opened.summary
    assert resolved.summary.startswith(opened.summary)
    assert opened.evidence.event_id == outcomes[int((opened.opened_at - START).total_seconds() / 4) - 1].id


def test_other_scorers_that_moved_are_named() -> None:
    """Their values stand beside the signals."""
    values = falling(300, 200, 300, 6)
    outcomes = series(values)
    other = [replace(outcome.scores[0], scorer="liqe@1", value=outcome.scores[0].value - 20) for outcome in outcomes]
    both = [replace(outcome, scores=(*outcome.scores, score)) for outcome, score in zip(outcomes, other, strict=True)]
    (opened,) = judged(DROP, both)
    assert [scorer.name for scorer in opened.moved] == ["liqe@1"]
    assert "liqe@1 50." in opened.summary


def test_a_small_drop_is_no_alert_and_becomes_the_usual() -> None:
    """The effect gate: two points are certain, but not worth a word; a later large drop is measured from there."""
    values = falling(2500, 300, 2500, 1.5)
    assert not judged(DROP, series(values))
    values[2400:] -= 6
    (opened,) = judged(DROP, series(values))
    assert opened.change is not None
    assert opened.change.before == pytest.approx(68.5, abs=0.6)
    assert judged(DROP + "delta_min = 1\n", series(falling(900, 600, 900, 1.5)))


def test_few_viewers_are_no_alert_yet() -> None:
    """The impact gate: affected minutes, weighted by a label."""
    gate = DROP + 'min_impact_minutes = 100\nweight_label = "viewers"\n'
    values = falling(1000, 800, 1000, 6)

    def watched(viewers: str) -> list[Alert]:
        rendition = replace(TOP, labels={"viewers": viewers})
        return judged(gate, series(values, rendition=rendition))

    many, few = watched("1000"), watched("20")
    assert (many[0].opened_at - START).total_seconds() <= 3232
    # 100 minutes / 20 viewers = 75 segments
    assert (few[0].opened_at - START).total_seconds() == pytest.approx(3200 + 300, abs=12)
    assert not watched("1")
    assert not watched("none")


def test_a_page_is_a_ticket_while_the_usual_is_young() -> None:
    """A rule that pages does so once its usual rests on a thousand segments."""
    young = judged(DROP, series(falling(400, 200, 400, 6)))
    old = judged(DROP, series(falling(1500, 1400, 1500, 6)))
    assert [alert.severity for alert in (*young, *old)] == ["ticket", "page"]


def test_a_low_level_that_lasts_is_the_new_usual() -> None:
    """After `settle_seconds` it closes, and a drop from the new level is found."""
    values = falling(900, 200, 900, 6)
    values[800:] -= 8
    alerts = judged(DROP + "settle_seconds = 900\n", series(values))
    assert [alert.state for alert in alerts] == ["open", "resolved", "open"]
    assert "the new usual" in alerts[1].summary
    assert len(judged(DROP + "settle_seconds = 0\n", series(values))) == 1


def test_holes_do_not_make_a_drop() -> None:
    """After ten minutes without any segment what had gathered is forgotten."""
    values = 70 + noise(3, 500)
    outcomes: list[Outcome] = [
        factories.failure(sequence=n) if n % 7 == 3 else factories.event(sequence=n, score=float(v))
        for n, v in enumerate(values)
    ]
    assert not judged(DROP, outcomes)
    early, late = series(falling(205, 203, 205, 5)), series([65.0] * 2, first=400)
    assert not judged(DROP, [*early, *late])
    assert judged(DROP, [*early, *series([65.0] * 3, first=205)])
