"""Which segments are looked at twice, and what that may cost."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqmon.core.cascade import (
    DeviceTimeBudget,
    PromotionPolicy,
    reasons_before_decoding,
    reasons_from_score,
    score_disagreement,
)
from vqmon.core.types import Score
from vqmon.testing import make_segment


def test_the_sample_has_its_share_and_is_the_same_again() -> None:
    """A twentieth of the segments, whoever asks and in whatever order."""
    segments = [make_segment(number, stream=f"s{number % 7}") for number in range(4000)]
    policy = PromotionPolicy(share=0.05)
    chosen = [segment.key for segment in segments if reasons_before_decoding(segment, policy)]
    # four standard deviations of a binomial
    assert 145 <= len(chosen) <= 255
    assert chosen == [segment.key for segment in segments if reasons_before_decoding(segment, policy) == ("sample",)]
    assert not any(reasons_before_decoding(segment, PromotionPolicy(share=0)) for segment in segments)
    assert all(reasons_before_decoding(segment, PromotionPolicy(share=1)) for segment in segments)
    more = {segment.key for segment in segments if reasons_before_decoding(segment, PromotionPolicy(share=0.1))}
    assert set(chosen) < more


def test_chosen_labels_are_always_looked_at() -> None:
    """Of the segment, or of its rendition; the segment's goes first."""
    policy = PromotionPolicy(share=0, labels=(("arm", "sr-v2"), ("tier", "gold")))
    plain = make_segment(1)
    assert reasons_before_decoding(plain, policy) == ()
    assert reasons_before_decoding(replace(plain, labels={"arm": "sr-v2"}), policy) == ("label",)
    assert reasons_before_decoding(replace(plain, labels={"arm": "sr-v1"}), policy) == ()
    rendition = replace(plain.rendition, labels={"tier": "gold", "arm": "sr-v2"})
    assert reasons_before_decoding(replace(plain, rendition=rendition), policy) == ("label",)
    assert reasons_before_decoding(replace(plain, rendition=rendition, labels={"tier": "x", "arm": "y"}), policy) == ()


@pytest.mark.parametrize(
    ("value", "before", "reasons"),
    [
        (50, [80.0] * 5, ("drop",)),
        (65, [80.0] * 5, ()),
        (64.9, [80.0] * 5, ("drop",)),
        (50, [80.0] * 4, ()),
        (29, [], ("low",)),
        (10, [20.0, 80, 80, 80, 100], ("low", "drop")),
    ],
)
def test_suspicion(value: float, before: list[float], reasons: tuple[str, ...]) -> None:
    """Under the limit, or far under the median of enough segments before."""
    assert reasons_from_score(value, before, PromotionPolicy(below=30, drop=15)) == reasons
    assert reasons_from_score(value, before, PromotionPolicy()) == ()


@given(
    steps=st.lists(st.tuples(st.floats(0, 400), st.floats(0, 30)), min_size=1, max_size=200),
    per_hour=st.floats(10, 600),
)
def test_no_hour_costs_more_than_it_may(steps: list[tuple[float, float]], per_hour: float) -> None:
    """Whatever is asked when: what is spent within any hour is at most the allowance, when costs are known before."""
    now, allowance = 0.0, DeviceTimeBudget.full(per_hour, 0.0)
    spent: list[tuple[float, float]] = []
    for wait, cost in steps:
        now += wait
        allowance = allowance.refilled_at(now)
        if allowance.remaining_seconds >= cost:
            allowance = allowance.after_spending(cost)
            spent.append((now, cost))
    for begin, _ in spent:
        assert sum(cost for at, cost in spent if begin <= at < begin + 3600) <= per_hour * (1 + 1e-9)


def test_an_allowance_fills_up_again() -> None:
    """A debt is paid first; it never holds more than a sixth of an hour's."""
    allowance = DeviceTimeBudget.full(360, 0.0)
    assert allowance.remaining_seconds == 60
    assert allowance.after_spending(100).refilled_at(1200).remaining_seconds == pytest.approx(60)
    assert allowance.after_spending(100).refilled_at(600).remaining_seconds == pytest.approx(10)
    assert allowance.refilled_at(1e9).remaining_seconds == 60


def verdict(scorer: str, value: float) -> Score:
    return Score(
        scorer=scorer, value=value, native_value=value, p5=value, min=value, pooling="mean", frame_values=(value,)
    )


def test_disagreement() -> None:
    """The largest difference of two verdicts on quality; one alone disagrees with nobody."""
    scores = [verdict("lite@1", 70), verdict("q-align-fp16.quality@1", 55.5), verdict("q-align-fp16.aesthetics@1", 5)]
    assert score_disagreement(scores) == 14.5
    assert score_disagreement(scores[:1]) is None
    assert score_disagreement([scores[0], scores[2]]) is None
    assert score_disagreement([]) is None
