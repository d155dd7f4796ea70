"""The scoring cascade: the first tier, shadows, promotion to heavy scorers, and their budget."""

import asyncio
import contextlib
from dataclasses import dataclass, field, replace

import pytest

from pipelines.observe.observer import Observer
from pipelines.observe.scoring_tiers import (
    AdditionalFrames,
    DeviceTimeReservations,
    HeavyTier,
    RecentScores,
    ScoringCascade,
)
from tests import factories
from vqmon.core.cascade import MEDIAN_WINDOW_SEGMENTS, PromotionPolicy
from vqmon.core.types import DecodedSegment, Promotion, QualityEvent, Score, SegmentFailure, View, event_id
from vqmon.errors import DecodeError, ScoreError
from vqmon.testing import STREAM_STARTS_AT, GreyLevelDecoder, GreyLevelScorer, MemoryFetcher, make_segment

LARGE = View(kind="stretch", width=16, height=8)
BROKEN = GreyLevelScorer("broken", value_of=lambda _: 0)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class CascadeRig:
    """An observer of made-up segments with one heavy scorer; records what is decoded and counted."""

    policy: PromotionPolicy
    seconds_per_hour: float = 3600.0
    cost_seconds: float = 1.0
    heavy_error: ScoreError | None = None
    shadows: tuple[GreyLevelScorer, ...] = ()
    clock: Clock = field(default_factory=Clock)
    decoded_views: list[tuple[View, ...]] = field(default_factory=list)
    counted: list[tuple[str, str]] = field(default_factory=list)
    media: MemoryFetcher = field(default_factory=MemoryFetcher)
    decode_fails_at: int = 1_000_000
    # view -> the reason for which a decode with it fails
    decode_errors: dict[View, str] = field(default_factory=dict)
    # the first scorer of the first tier always fails
    broken_first: bool = False
    failed: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.budget = DeviceTimeReservations(self.seconds_per_hour, clock=self.clock)
        self.tier = HeavyTier(
            [HeavyScorer(name="heavy", asks=LARGE, rig=self)],
            policy=self.policy,
            budget=self.budget,
            count=lambda name, reason: self.counted.append((name.rpartition(".")[2], reason)),
        )
        self.observer = Observer(
            fetch=self.media.fetch,
            cascade=ScoringCascade(
                decode=self.decode,
                scorers=(*([BROKEN] if self.broken_first else []), GreyLevelScorer("cheap")),
                shadows=self.shadows,
                heavy=self.tier,
                count_failure=lambda scorer, reason: self.failed.append((scorer, reason)),
            ),
            sampling="exact",
            versions={},
            now=lambda: STREAM_STARTS_AT,
        )

    async def decode(self, media: bytes, views: tuple[View, ...]) -> DecodedSegment:
        self.decoded_views.append(views)
        if len(self.decoded_views) > self.decode_fails_at:
            raise DecodeError("crashed")
        for reason in (self.decode_errors[view] for view in views if view in self.decode_errors):
            raise DecodeError(reason)
        return await GreyLevelDecoder().decode(media, views)

    async def observe(self, number: int, level: int) -> QualityEvent:
        self.media.content[number] = bytes([level])
        outcome = (await self.observer.observe(make_segment(number))).outcome
        assert isinstance(outcome, QualityEvent)
        return outcome


@dataclass(slots=True)
class HeavyScorer(GreyLevelScorer):
    """Spends device-seconds of the budget, or fails."""

    rig: CascadeRig | None = None

    async def score(self, decoded: DecodedSegment) -> Score:
        assert self.rig is not None
        if self.rig.heavy_error:
            raise self.rig.heavy_error
        self.rig.budget.spend(self.rig.cost_seconds)
        await asyncio.sleep(0)
        return replace(await GreyLevelScorer(self.name, self.asks, lambda level: level / 5).score(decoded))


async def test_a_sampled_segment_is_decoded_once_for_both_tiers() -> None:
    """The views of both are in one decode; the event has the reason, both scores and their disagreement."""
    rig = CascadeRig(PromotionPolicy(share=1))
    event = await rig.observe(1, 200)
    assert [score.scorer for score in event.scores] == ["cheap@1", "heavy@1"]
    assert len(rig.decoded_views) == 1
    assert set(rig.decoded_views[0]) == {GreyLevelScorer().asks, LARGE}
    assert event.promotion == Promotion(reasons=("sample",))
    assert event.disagreement == pytest.approx(200 / 2.55 - 200 / 5, abs=1e-3)
    assert [identity.scorer for identity in event.provenance.scorers] == ["cheap@1", "heavy@1"]
    assert rig.counted == [("promoted", "sample")]


async def test_the_event_id_does_not_depend_on_promotion() -> None:
    """An event has the same id whether or not the heavy scorer scored the segment."""
    ids = {(await CascadeRig(PromotionPolicy(share=share)).observe(1, 200)).id for share in (0, 1)}
    assert ids == {event_id(make_segment(1), ("cheap@1", "heavy@1"))}


async def test_a_segment_without_a_reason_is_not_promoted() -> None:
    """The heavy views are not decoded, and the event says that there was no reason."""
    rig = CascadeRig(PromotionPolicy(share=0))
    event = await rig.observe(1, 200)
    assert ([score.scorer for score in event.scores], event.promotion) == (["cheap@1"], Promotion())
    assert rig.decoded_views == [(GreyLevelScorer().asks,)]
    assert event.disagreement is None


async def test_a_drop_of_the_score_promotes_the_segment_with_a_second_decode() -> None:
    """The second decode has the heavy scorer's view only."""
    rig = CascadeRig(PromotionPolicy(share=0, drop=15))
    events = [await rig.observe(number, 200) for number in range(6)]
    assert all(event.promotion == Promotion() for event in events)
    fallen = await rig.observe(6, 120)
    assert fallen.promotion == Promotion(reasons=("drop",))
    assert [score.scorer for score in fallen.scores] == ["cheap@1", "heavy@1"]
    assert rig.decoded_views[-2:] == [(GreyLevelScorer().asks,), (LARGE,)]


async def test_a_late_segment_is_compared_with_those_that_start_before_it() -> None:
    """The order of the media timeline counts, not the order of arrival."""
    rig = CascadeRig(PromotionPolicy(share=0, drop=15))
    for number in range(10, 20):
        await rig.observe(number, 200)
    assert (await rig.observe(5, 100)).promotion == Promotion()
    assert (await rig.observe(20, 100)).promotion == Promotion(reasons=("drop",))


async def test_there_is_no_second_decode_when_both_tiers_take_the_same_view() -> None:
    """The pictures of the first decode are used."""
    rig = CascadeRig(PromotionPolicy(share=0, below=90))
    rig.tier.scorers = (HeavyScorer(name="heavy", rig=rig),)
    event = await rig.observe(1, 200)
    assert event.promotion == Promotion(reasons=("low",))
    assert len(rig.decoded_views) == 1


@pytest.mark.parametrize(
    ("error", "left_out"), [(ScoreError("timeout"), "timeout"), (ScoreError("scorer_failed", "x"), "failed")]
)
async def test_a_heavy_scorer_that_fails_is_left_out(error: ScoreError, left_out: str) -> None:
    """The first tier's score is published, and the event says why the heavy one is missing."""
    rig = CascadeRig(PromotionPolicy(share=1), heavy_error=error)
    event = await rig.observe(1, 200)
    assert [score.scorer for score in event.scores] == ["cheap@1"]
    assert event.promotion == Promotion(reasons=("sample",), left_out=left_out)
    assert [identity.scorer for identity in event.provenance.scorers] == ["cheap@1"]
    assert rig.counted == [("left_out", left_out)]
    assert [(failure.scorer, failure.tier, failure.reason) for failure in event.scorer_failures] == [
        ("heavy@1", "heavy", error.reason)
    ]
    assert rig.failed == [("heavy@1", error.reason)]


async def test_a_heavy_scorer_that_fails_leaves_the_other_heavy_scores_as_they_are() -> None:
    """The segment counts as promoted."""
    rig = CascadeRig(PromotionPolicy(share=1), heavy_error=ScoreError("out_of_memory"))
    rig.tier.scorers = (*rig.tier.scorers, GreyLevelScorer("other", LARGE))
    event = await rig.observe(1, 200)
    assert [score.scorer for score in event.scores] == ["cheap@1", "other@1"]
    assert event.promotion == Promotion(reasons=("sample",))
    assert [(failure.scorer, failure.reason) for failure in event.scorer_failures] == [("heavy@1", "out_of_memory")]
    assert rig.counted == [("promoted", "sample")]


async def test_a_first_scorer_that_fails_leaves_the_promotion_by_its_score_undecided() -> None:
    """The score of another scorer does not stand for it; a segment that is promoted by a sample is scored."""
    rig = CascadeRig(PromotionPolicy(share=0, below=100, drop=1), broken_first=True)
    event = await rig.observe(1, 200)
    assert ([score.scorer for score in event.scores], event.main_score) == (["cheap@1"], None)
    assert event.promotion == Promotion(undecided_without="broken@1")
    assert [(failure.scorer, failure.tier) for failure in event.scorer_failures] == [("broken@1", "main")]
    sampled = await CascadeRig(PromotionPolicy(share=1), broken_first=True).observe(1, 200)
    assert [score.scorer for score in sampled.scores] == ["cheap@1", "heavy@1"]
    assert sampled.promotion == Promotion(reasons=("sample",))


async def test_views_that_are_too_much_cost_only_the_scorers_that_take_them() -> None:
    """Also within the first tier: the segment is decoded again with the views of the first scorer."""
    rig = CascadeRig(PromotionPolicy(share=0), decode_errors={LARGE: "too_long"})
    clips, same = GreyLevelScorer("clips", LARGE), GreyLevelScorer("same")
    cascade = replace(rig.observer.cascade, scorers=(GreyLevelScorer("cheap"), clips, same))
    rig.observer = replace(rig.observer, cascade=cascade)
    event = await rig.observe(1, 200)
    assert [score.scorer for score in event.scores] == ["cheap@1", "same@1"]
    assert [(failure.scorer, failure.reason) for failure in event.scorer_failures] == [("clips@1", "too_long")]
    assert rig.decoded_views[1:] == [(GreyLevelScorer().asks,)]


async def test_an_unexpected_error_of_a_scorer_is_its_own_failure(caplog: pytest.LogCaptureFixture) -> None:
    """The reason is `internal`, the log has the trace, and the other scores are published."""

    def divide(level: float) -> float:
        return level / 0

    rig = CascadeRig(PromotionPolicy(share=0), shadows=(GreyLevelScorer("odd", value_of=divide),))
    event = await rig.observe(1, 200)
    assert [score.scorer for score in event.scores] == ["cheap@1"]
    assert [(failure.scorer, failure.reason) for failure in event.scorer_failures] == [("odd@1", "internal")]
    assert "ZeroDivisionError" in caplog.text


async def test_a_second_decode_that_fails_leaves_the_heavy_scorer_out() -> None:
    """The first tier's score is published."""
    rig = CascadeRig(PromotionPolicy(share=0, below=90), decode_fails_at=1)
    assert (await rig.observe(1, 200)).promotion == Promotion(reasons=("low",), left_out="failed")


@pytest.mark.parametrize(
    ("reason", "left_out"), [("timeout", "timeout"), ("too_long", "failed"), ("crashed", "failed")]
)
async def test_optional_views_that_cannot_be_decoded_leave_the_heavy_scorer_and_shadows_out(
    reason: str, left_out: str
) -> None:
    """A decode that is too slow, too large or crashes is repeated with the first tier's views only."""
    rig = CascadeRig(
        PromotionPolicy(share=1), shadows=(GreyLevelScorer("trial", LARGE),), decode_errors={LARGE: reason}
    )
    event = await rig.observe(1, 200)
    assert [score.scorer for score in event.scores] == ["cheap@1"]
    assert event.shadow_scores == ()
    assert event.promotion == Promotion(reasons=("sample",), left_out=left_out)
    assert rig.decoded_views[1:] == [(GreyLevelScorer().asks,)]


async def test_a_decode_that_would_fail_again_is_not_repeated() -> None:
    """For damaged media, and when there are no optional views to leave out."""
    for rig in (
        CascadeRig(PromotionPolicy(share=1), decode_errors={LARGE: "corrupt"}),
        CascadeRig(PromotionPolicy(share=0), decode_errors={GreyLevelScorer().asks: "timeout"}),
    ):
        with pytest.raises(AssertionError):
            await rig.observe(1, 200)
        assert len(rig.decoded_views) == 1


async def test_heavy_runs_stay_within_the_budget_of_every_hour() -> None:
    """When every segment is promoted, no hour exceeds the budget, and over hours nearly all of it is spent."""
    rig = CascadeRig(PromotionPolicy(share=1), seconds_per_hour=360.0, cost_seconds=7.0)
    spent: list[tuple[float, float]] = []
    left_out = 0
    for number in range(1800):
        rig.clock.now = 6.0 * number
        event = await rig.observe(number, 200)
        assert event.promotion is not None
        if event.promotion.left_out:
            assert event.promotion.left_out == "budget"
            assert set(rig.decoded_views[-1]) == {GreyLevelScorer().asks}
            left_out += 1
        else:
            spent.append((rig.clock.now, 7.0))
    for begin in range(0, 7200, 60):
        assert sum(cost for at, cost in spent if begin <= at < begin + 3600) <= 360
    # after the first burst: as much as flows in
    assert sum(cost for _, cost in spent) == pytest.approx(60 + 3 * 300, abs=14)
    assert left_out == 1800 - len(spent)
    assert rig.counted.count(("left_out", "budget")) == left_out


async def test_concurrent_segments_do_not_overdraw_the_budget() -> None:
    """Segments in flight hold reservations; until the cost of one is known, one is admitted at a time."""
    rig = CascadeRig(PromotionPolicy(share=1), seconds_per_hour=360.0, cost_seconds=20.0)
    first = await asyncio.gather(*(rig.observe(number, 200) for number in range(8)))
    assert sum(not event.promotion.left_out for event in first if event.promotion) == 1
    second = await asyncio.gather(*(rig.observe(number, 200) for number in range(8, 16)))
    # 60 at the start, 20 spent, 20 each
    assert sum(not event.promotion.left_out for event in second if event.promotion) == 2
    assert rig.budget.remaining_seconds == pytest.approx(0)


async def test_a_segment_that_costs_more_than_a_full_budget_is_admitted_when_it_is_full() -> None:
    """The deficit is refilled before the next one, so the budget holds over hours."""
    rig = CascadeRig(PromotionPolicy(share=1), seconds_per_hour=60.0, cost_seconds=25.0)
    done = 0
    for number in range(1200):
        rig.clock.now = 30.0 * number
        event = await rig.observe(number, 200)
        done += event.promotion == Promotion(reasons=("sample",))
    # ten hours of 50 seconds that flow in, and 10 at the start
    assert done * 25.0 == pytest.approx(510, abs=26)


async def test_shadow_scores_are_separate_and_do_not_change_the_event_id() -> None:
    """A shadow that fails has no score and is named."""
    shadows = (GreyLevelScorer("new"), GreyLevelScorer("broken", value_of=lambda _: 0))
    event = await CascadeRig(PromotionPolicy(share=0), shadows=shadows).observe(1, 200)
    plain = await CascadeRig(PromotionPolicy(share=0)).observe(1, 200)
    assert [score.scorer for score in event.scores] == ["cheap@1"]
    assert [score.scorer for score in event.shadow_scores] == ["new@1"]
    assert [identity.scorer for identity in event.provenance.scorers] == ["cheap@1", "new@1"]
    assert (event.id, event.disagreement) == (plain.id, None)
    assert [(failure.scorer, failure.tier) for failure in event.scorer_failures] == [("broken@1", "shadow")]


async def test_a_heavy_scorer_that_needs_a_prompt_does_not_promote_segments_without_one() -> None:
    """With a prompt, the segment is promoted."""
    rig = CascadeRig(PromotionPolicy(share=1, below=90))
    rig.tier.scorers = (replace(rig.tier.scorers[0], needs_prompt=True),)
    event = await rig.observe(1, 128)
    assert (event.promotion, [score.scorer for score in event.scores]) == (Promotion(), ["cheap@1"])
    assert len(rig.decoded_views) == 1
    outcome = (await rig.observer.observe(replace(make_segment(1), prompt="A fox"))).outcome
    assert isinstance(outcome, QualityEvent)
    assert [score.scorer for score in outcome.scores] == ["cheap@1", "heavy@1"]
    assert outcome.promotion == Promotion(reasons=("sample", "low"))


async def test_a_segment_is_unscored_when_no_scorer_has_scored_it() -> None:
    """A heavy score alone makes an event; that of a shadow, which is on trial, makes none."""
    rig = CascadeRig(PromotionPolicy(share=1), shadows=(GreyLevelScorer("trial", value_of=lambda _: 1),))
    rig.media.content[1] = b"\x00"
    rig.heavy_error = ScoreError("timeout")
    outcome = (await rig.observer.observe(make_segment(1))).outcome
    assert isinstance(outcome, SegmentFailure)
    assert outcome.reason == "scorer_failed"
    assert outcome.detail.startswith("cheap@1: scorer_failed: level 0; heavy@1: timeout: ")
    rig.tier.scorers = (GreyLevelScorer("heavy", LARGE, value_of=lambda _: 1),)
    event = await rig.observe(1, 0)
    assert ([score.scorer for score in event.scores], event.main_score) == (["heavy@1"], None)


def score_of(value: float, scorer: str = "cheap@1") -> Score:
    return factories.score(value=value, scorer=scorer)


def test_recent_scores_are_those_of_the_same_rendition_and_scorer() -> None:
    """Another scorer or rendition has scores of its own, and a segment does not count for itself."""
    recent = RecentScores()
    assert recent.record(make_segment(1), score_of(80)) == []
    assert recent.record(make_segment(2), score_of(70)) == [80]
    assert recent.record(make_segment(3), score_of(60, "other@1")) == []
    assert recent.record(make_segment(3, rendition="360p"), score_of(60)) == []
    assert recent.record(make_segment(3), score_of(60)) == [80, 70]


def test_recent_scores_are_limited_to_the_window_of_the_median() -> None:
    """The oldest one is dropped."""
    recent = RecentScores()
    for number in range(MEDIAN_WINDOW_SEGMENTS + 5):
        earlier = recent.record(make_segment(number), score_of(number))
    assert earlier == [float(number) for number in range(4, MEDIAN_WINDOW_SEGMENTS + 4)]


def test_a_reservation_ends_with_its_context() -> None:
    """Also when scoring raises; the segment then counts as finished."""
    clock = Clock()
    reservations = DeviceTimeReservations(360.0, clock=clock)
    with contextlib.suppress(ScoreError), reservations.reserve() as is_reserved:
        assert is_reserved
        with reservations.reserve() as is_second_reserved:
            assert not is_second_reserved
        reservations.spend(10.0)
        raise ScoreError("timeout")
    assert reservations.remaining_seconds == pytest.approx(50.0)
    with reservations.reserve() as first, reservations.reserve() as second:
        assert (first, second) == (True, True)
    clock.now = 3600.0
    assert reservations.remaining_seconds == pytest.approx(60.0)


@dataclass(slots=True)
class UnevenScorer(GreyLevelScorer):
    """Its frames differ by the fourth part of their level; adds frames, whose scores are halved."""

    error: ScoreError | None = None

    async def score(self, decoded: DecodedSegment) -> Score:
        score = await GreyLevelScorer.score(self, decoded)
        values = tuple(value * (1 + 0.25 * (number % 2)) for number, value in enumerate(score.frame_values))
        return replace(score, frame_values=values)

    async def add_frames(self, score: Score, decoded: DecodedSegment, *, weight: float) -> Score:
        if self.error is not None:
            raise self.error
        return replace(score, value=score.value * (1 - weight / 2), additional_frames=len(decoded.times_seconds))


@pytest.mark.parametrize(
    ("level", "fault", "added"),
    [(200, None, 12), (4, None, 0), (200, DecodeError("timeout"), 0), (200, ScoreError("scorer_failed"), 0)],
)
async def test_more_frames_are_scored_where_the_sampled_ones_disagree(
    level: int, fault: DecodeError | ScoreError | None, added: int
) -> None:
    """Where the frames agree, none are added; where none can be had, the score is that of the sampled ones."""
    uneven = UnevenScorer("uneven", error=fault if isinstance(fault, ScoreError) else None)
    asked: list[tuple[View, ...]] = []

    async def decode_more(media: bytes, views: tuple[View, ...]) -> DecodedSegment:
        asked.append(views)
        if isinstance(fault, DecodeError):
            raise fault
        return await GreyLevelDecoder(frames=12).decode(media, views)

    cascade = ScoringCascade(
        decode=GreyLevelDecoder().decode,
        scorers=(uneven, GreyLevelScorer("even", asks=LARGE)),
        additional_frames=AdditionalFrames(decode=decode_more, limit_points=1.0),
    )
    scored = await cascade.score(make_segment(1), bytes([level]))
    assert [score.additional_frames for score in scored.scores] == [added, 0]
    assert scored.scores[0].value == pytest.approx(level / 2.55 / (2 if added else 1), abs=1e-3)
    assert len(scored.scores[0].frame_values) == len(scored.decoded.times_seconds) == 4
    assert asked == ([uneven.views] if level == 200 else [])


def test_the_weight_of_additional_frames_has_no_step() -> None:
    """It begins at 0, so that nothing jumps where one version of a segment is just above the limit, one just below."""
    frames = AdditionalFrames(decode=GreyLevelDecoder().decode, limit_points=2.0)
    scores = [factories.score(frame_values=(50.0, 50.0 + spread)) for spread in (0.0, 3.9, 4.1, 5.0, 5.9, 6.1, 50.0)]
    weights = [frames.weight_in(score) for score in scores]
    assert weights == pytest.approx([0, 0, 0.05, 0.5, 0.95, 1, 1])
