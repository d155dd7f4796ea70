"""The small decisions behind the pages."""

import doctest
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest

from tests.web import seed
from tests.web.kept import Kept
from vqmon.core.types import Outcome
from vqmon.errors import REASONS
from vqmon.transport.history.history import open_history
from vqmon.web import site, urls
from vqmon.web.charts import series
from vqmon.web.charts.series import chart_caption, downsample_to_worst, group_by_rendition
from vqmon.web.model import explanations, renditions, sparklines
from vqmon.web.model.renditions import rendition_rows, rendition_state
from vqmon.web.model.time_range import parse_time_range
from vqmon.web.urls import quote_stream_id, stream_path, unquote_stream_id

LATE = seed.NOW + timedelta(seconds=2)


@pytest.mark.parametrize("module", [urls, series, sparklines, explanations, renditions, site])
def test_examples(module: ModuleType) -> None:
    """The examples in the docstrings hold."""
    assert doctest.testmod(module).failed == 0


def test_every_reason_has_a_remedy() -> None:
    """No failure leaves a reader without something to do."""
    assert set(explanations.REMEDIES_BY_REASON) == set(REASONS)
    assert all(explanations.REMEDIES_BY_REASON.values())


@pytest.mark.parametrize(
    "stream_id", ["a", "a/b", "..", "a/../b", "a//b", "~x", "ü 1", "a?b#c", "%2F", "x\n", "/", "a\\b"]
)
def test_any_stream_id_survives_an_address(stream_id: str) -> None:
    """What goes into a path comes out of it, and a browser finds no dots to fold."""
    from urllib.parse import unquote

    quoted = quote_stream_id(stream_id)
    assert unquote_stream_id(unquote(quoted)) == stream_id
    assert not {"", ".", ".."} & set(quoted.split("/"))
    assert stream_path(stream_id).isascii()


def test_states(history: Kept) -> None:
    """Silence, an open alert that pages, a missing verdict, a low score: each has its state."""
    rows = rendition_rows(history.store.queries.renditions(), history.store.queries.alerts(open_only=True), now=LATE)
    states = {(row.stream_id, row.rendition): row.state for row in rows}
    assert states["cinema-4k", "1080p"] == "failing"
    assert states["kids", "1080p"] == "unscored"
    assert states["Übertragung/Süd", "1080p"] == "stale"
    assert states["weather", "480p"] == "good"
    it = next(it for it in history.store.queries.renditions() if it.stream_id == "weather")
    ticket = next(it for it in history.seeded.alerts if it.severity == "ticket")
    assert rendition_state(it, [ticket], now=LATE)[0] == "degraded"
    assert rendition_state(it, [], now=LATE + timedelta(seconds=27))[0] == "good"
    assert rendition_state(it, [], now=LATE + timedelta(seconds=31))[0] == "stale"


def test_thinning_keeps_the_worst(tmp_path: Path) -> None:
    """A long range is drawn with fewer points, and no dip and no gap is lost."""
    outcomes: list[Outcome] = [seed.scored(seed.segment("s", "r", 99 - number), 80.0) for number in range(100)]
    outcomes[41] = seed.scored(seed.segment("s", "r", 99 - 41), 5.0)
    outcomes[73] = seed.failed(seed.segment("s", "r", 99 - 73))
    with open_history(tmp_path / "h.db", "write") as store:
        store.publish(outcomes)
        points = store.queries.points("s", begins_at=seed.NOW - timedelta(hours=1), ends_at=seed.NOW, limit=1000)
    kept = downsample_to_worst(points, seed.SCORER, max_points=10)
    assert len(kept) == 10
    assert points[41] in kept
    assert points[73] in kept


def test_a_segment_scored_later_is_one_point(tmp_path: Path) -> None:
    """A failure that a later look made good leaves one point, the score."""
    place = seed.segment("s", "r", 0)
    with open_history(tmp_path / "h.db", "write") as store:
        store.publish([seed.failed(place), seed.scored(place, 70.0)])
        points = store.queries.points("s", begins_at=seed.NOW - timedelta(hours=1), ends_at=seed.NOW, limit=1000)
    assert len(points) == 2
    assert [point.reason for point in group_by_rendition(points, ["r"])["r"]] == [None]


def test_caption_of_nothing() -> None:
    """An empty chart has a sentence too."""
    assert chart_caption({"a": []}, [], seed.SCORER) == "There is no segment in this time. Choose a longer range."


@pytest.mark.parametrize(
    "query", [{}, {"last": "x"}, {"from": "x", "to": "y"}, {"from": "2026-11-21", "to": "2026-11-20"}]
)
def test_a_range_that_makes_no_sense_is_the_recent_one(query: dict[str, str]) -> None:
    """Also when it ends before it begins."""
    found = parse_time_range(query, newest_at=seed.NOW, now=LATE)
    assert (found.preset, found.ends_at) == ("recent", LATE)
