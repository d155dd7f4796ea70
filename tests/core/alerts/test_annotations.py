"""Masks: how much of a stretch they cover; markers: whom they mean."""

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqmon.core.alerts.annotations import DAY_SECONDS, DeployMarker, Mask, deploy_marker_id, masked_seconds

NIGHT = Mask(name="night", daily_from=time(23, 30), daily_until=time(0, 30))
MIDNIGHT = datetime(2026, 11, 21, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("at", "until", "covered"),
    [
        (-3600, 3600, 3600),
        (-1800, -1796, 4),
        (1796, 1804, 4),
        (1800, 1804, 0),
        (-1804, -1800, 0),
        (-3600, DAY_SECONDS + 3600, 7200),
    ],
)  # fmt: skip
def test_a_daily_mask_goes_over_midnight(at: float, until: float, covered: float) -> None:
    """Half an hour to both sides, each day."""
    assert NIGHT.covered_seconds(MIDNIGHT + at, MIDNIGHT + until) == pytest.approx(covered)


@given(st.floats(-2e5, 2e5), st.floats(0, 1e5), st.floats(0, 1e5))
def test_what_two_parts_cover_the_whole_covers(at: float, first: float, second: float) -> None:
    """A stretch may be cut anywhere."""
    start = MIDNIGHT + at
    whole = NIGHT.covered_seconds(start, start + first + second)
    parts = NIGHT.covered_seconds(start, start + first) + NIGHT.covered_seconds(start + first, start + first + second)
    assert whole == pytest.approx(parts, abs=1e-3)


def test_masks_over_each_other_cover_no_more_than_there_is() -> None:
    """And a moment under a mask is under it."""
    twice = (NIGHT, Mask(name="again", daily_from=time(0), daily_until=time(1)))
    assert masked_seconds(twice, MIDNIGHT + 60, MIDNIGHT + 64) == pytest.approx(4)
    assert masked_seconds(twice, MIDNIGHT + 60, MIDNIGHT + 60) > 0
    assert masked_seconds((), MIDNIGHT, MIDNIGHT + 4) == 0


def test_half_a_mask_is_refused() -> None:
    """A mask needs both ends, of one kind, in order, in UTC."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    for wrong in (
        {},
        {"begins_at": moment},
        {"daily_from": time(1)},
        {"begins_at": moment, "ends_at": moment + timedelta(1), "daily_from": time(1), "daily_until": time(2)},
        {"begins_at": moment, "ends_at": moment},
        {"begins_at": moment.replace(tzinfo=None), "ends_at": moment.replace(tzinfo=None) + timedelta(1)},
        {"daily_from": time(1), "daily_until": time(1)},
    ):
        with pytest.raises(ValueError, match=r"mask|UTC|after|differ"):
            Mask(name="wrong", **wrong)


def test_markers_mean_globs_and_are_the_same_when_told_again() -> None:
    """The id comes from what is said."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    marker = DeployMarker(
        id=deploy_marker_id("x", at, stream="news-*"), at=at, name="x", stream="news-*", rendition="1080*"
    )
    assert marker.matches("news-1", "1080p")
    assert not marker.matches("news-1", "720p")
    assert not marker.matches("sports", "1080p")
    assert (
        marker.id
        == deploy_marker_id("x", at.astimezone(), stream="news-*")
        != deploy_marker_id("y", at, stream="news-*")
    )
    with pytest.raises(ValueError, match="UTC"):
        DeployMarker(id="m", at=at.replace(tzinfo=None), name="x")
