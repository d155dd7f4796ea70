"""The report of an experiment as one HTML file."""

import re
from base64 import b64encode
from dataclasses import replace

import numpy as np
import pytest

from tests.web import experiment_results, seed
from vqmon.core.scores import pack_heat_map
from vqmon.core.types import QualityEvent
from vqmon.web.pages.report import pair_frames, render_report
from vqmon.web.pages.scores import ScoredFile


@pytest.fixture(scope="module")
def report() -> str:
    comparison = experiment_results.comparison(seed.fleet(streams=8, segments=12))
    return render_report(comparison, title="vqmon", now=seed.NOW)


def test_a_report_loads_nothing(report: str) -> None:
    """It can be opened offline and in ten years: the style sheet is part of it, and there is no script."""
    assert not re.search(r"<(script|img|link|iframe)\b|\b(src|href)=\"(?!#)", report)
    assert ".card" in report


def test_a_report_has_every_arm_with_its_verdict(report: str) -> None:
    for sentence in ("sr-v2 is better than sr-v1: +1.94 points", "sr-v2-fast and sr-v1 cannot be told apart yet"):
        assert sentence in report


def test_a_report_names_the_interval_that_decided(report: str) -> None:
    assert "any-time, 95.0%, used for the verdict" in report
    assert "p, any-time" in report


def test_a_report_has_the_settings_and_the_time_of_writing(report: str) -> None:
    assert "Non-inferiority margin" in report
    assert "Written 20 Nov 2026, 14:30:00 UTC." in report


def test_few_pairs_are_listed_once() -> None:
    """Of three pairs, two are the worst and one is the best; a single pair is the worst."""
    comparison = experiment_results.comparison(seed.fleet(streams=8, segments=12))
    first = comparison.answers[0]
    for count, expected in ((3, ["worst", "worst", "best"]), (1, ["worst"])):
        chosen = first.pairs_with_role("worst")[:count]
        pairs = [replace(pair, role="worst") for pair in chosen]
        pairs += [replace(pair, role="best") for pair in reversed(chosen)]
        few = replace(comparison, answers=(replace(first, pairs=tuple(pairs)),))
        text = render_report(few, title="vqmon", now=seed.NOW)
        assert re.findall(r'<span class="sub">(worst|best)</span>', text) == expected


def test_the_worst_moments_are_shown_with_their_heat_maps() -> None:
    """Both sides at the worst frame of the side that scores less, each with where it loses."""
    seeded = seed.fleet(streams=8, segments=12)
    comparison = experiment_results.comparison(seeded)
    pair = comparison.answers[0].pairs_with_role("worst")[0]
    events = {outcome.id: outcome for outcome in seeded.outcomes}
    losses = np.zeros((9, 16), np.float32)
    losses[:3, :5] = 0.9
    sides = []
    for event_id in pair.id.split(":"):
        event = events[event_id]
        assert isinstance(event, QualityEvent)
        heat_map = pack_heat_map("detail", [losses] * len(event.times_seconds))
        assert heat_map
        thumbnails = [(time, b"jpeg of %.1f" % time) for time in event.times_seconds]
        sides.append(ScoredFile(outcome=replace(event, heat_maps=(heat_map,)), thumbnails=thumbnails))
    both = pair_frames(*sides)
    assert both
    text = render_report(comparison, title="vqmon", now=seed.NOW, frames={pair.id: both})
    worse = min((side.outcome for side in sides), key=lambda event: event.scores[0].value)
    lowest = worse.times_seconds[int(np.argmin(worse.scores[0].frame_values))]
    assert text.count(b64encode(b"jpeg of %.1f" % lowest).decode()) == 2
    assert text.count('class="heat m0"') == 2
    # the losses in numbers say whose they are
    for name in (comparison.answers[0].control, comparison.answers[0].arm):
        assert f'<th scope="row">{name}</th><th scope="row" class="nowrap">' in text
    assert "top left" in text
    assert pair_frames(sides[0], replace(sides[1], thumbnails=())) is None


def test_sides_that_are_sampled_at_other_moments_are_shown_at_the_same() -> None:
    """Here the better side has key pictures only."""
    pair = [outcome for outcome in seed.fleet(streams=1, segments=1).outcomes if isinstance(outcome, QualityEvent)][:2]
    worse = replace(pair[0], scores=(replace(pair[0].scores[0], value=10.0),))
    better = replace(pair[1], times_seconds=(0.0, worse.times_seconds[2]), heat_maps=(), signals={})
    sides = [
        ScoredFile(outcome=event, thumbnails=[(time, b"jpeg") for time in event.times_seconds])
        for event in (better, worse)
    ]
    both = pair_frames(*sides)
    assert both
    assert [frame.time_seconds for frame in both] == [worse.times_seconds[2]] * 2
