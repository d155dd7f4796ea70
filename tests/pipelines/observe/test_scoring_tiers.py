"""Several scorers at one segment: always, on trial, and now and then, within a budget."""

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pipelines.observe.observer import Observer
from pipelines.observe.open_scorers import open_scorer_tiers
from pipelines.observe.scoring_tiers import DeviceTimeReservations, HeavyTier, ScoringCascade
from tests.scoring.tiny_levels import means_of, write_levels
from tests.scoring.tiny_onnx import decoded, pictures
from vqmon.core.cascade import PromotionPolicy
from vqmon.core.types import DecodedSegment, Promotion, QualityEvent, Score, SegmentFailure, View, event_id
from vqmon.errors import DecodeError, ScoreError
from vqmon.settings.sections import ScoringSettings
from vqmon.telemetry.metrics import Meters
from vqmon.testing import MORNING, LevelDecoder, LevelScorer, MemoryMedia, make_segment

LARGE = View(kind="stretch", width=16, height=8)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """An observer of made-up segments with one heavy scorer, and what happened on the way."""

    policy: PromotionPolicy
    per_hour: float = 3600.0
    costs: float = 1.0
    fails: ScoreError | None = None
    shadows: tuple[LevelScorer, ...] = ()
    clock: Clock = field(default_factory=Clock)
    asked: list[tuple[View, ...]] = field(default_factory=list)
    counted: list[tuple[str, str]] = field(default_factory=list)
    media: MemoryMedia = field(default_factory=MemoryMedia)
    decode_fails_at: int = 1_000_000
    # what a decode with this view fails of
    refuses: dict[View, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.budget = DeviceTimeReservations(self.per_hour, clock=self.clock)
        self.tier = HeavyTier(
            [Dear(name="dear", asks=LARGE, bench=self)],
            policy=self.policy,
            budget=self.budget,
            count=lambda name, reason: self.counted.append((name.rpartition(".")[2], reason)),
        )
        self.observer = Observer(
            fetch=self.media.fetch,
            cascade=ScoringCascade(
                decode=self.decode, scorers=(LevelScorer("cheap"),), shadows=self.shadows, heavy=self.tier
            ),
            sampling="exact",
            versions={},
            now=lambda: MORNING,
        )

    async def decode(self, media: bytes, views: tuple[View, ...]) -> DecodedSegment:
        self.asked.append(views)
        if len(self.asked) > self.decode_fails_at:
            raise DecodeError("crashed")
        for reason in (self.refuses[view] for view in views if view in self.refuses):
            raise DecodeError(reason)
        return await LevelDecoder().decode(media, views)

    async def see(self, number: int, level: int) -> QualityEvent:
        self.media.content[number] = bytes([level])
        outcome = (await self.observer.observe(make_segment(number))).outcome
        assert isinstance(outcome, QualityEvent)
        return outcome


@dataclass(slots=True)
class Dear(LevelScorer):
    """Costs device-seconds, or fails."""

    bench: Bench | None = None

    async def score(self, decoded: DecodedSegment) -> Score:
        assert self.bench is not None
        if self.bench.fails:
            raise self.bench.fails
        self.bench.budget.spend(self.bench.costs)
        await asyncio.sleep(0)
        return replace(await LevelScorer(self.name, self.asks, lambda level: level / 5).score(decoded))


async def test_a_sampled_segment_is_decoded_once_for_both() -> None:
    """The heavy scorer's picture is asked for in advance; the event says why it looked and how far they differ."""
    bench = Bench(PromotionPolicy(share=1))
    event = await bench.see(1, 200)
    assert [score.scorer for score in event.scores] == ["cheap@1", "dear@1"]
    assert len(bench.asked) == 1
    assert set(bench.asked[0]) == {LevelScorer().asks, LARGE}
    assert event.promotion == Promotion(reasons=("sample",))
    assert event.disagreement == pytest.approx(200 / 2.55 - 200 / 5, abs=1e-3)
    assert [identity.scorer for identity in event.provenance.scorers] == ["cheap@1", "dear@1"]
    assert bench.counted == [("promoted", "sample")]


async def test_the_id_does_not_depend_on_who_looked() -> None:
    """Promoted or not, an event of these settings has one id."""
    ids = {(await Bench(PromotionPolicy(share=share)).see(1, 200)).id for share in (0, 1)}
    assert ids == {event_id(make_segment(1), ("cheap@1", "dear@1"))}


async def test_without_a_reason_nothing_is_spent() -> None:
    """The event says that there was none."""
    bench = Bench(PromotionPolicy(share=0))
    event = await bench.see(1, 200)
    assert ([score.scorer for score in event.scores], event.promotion) == (["cheap@1"], Promotion())
    assert bench.asked == [(LevelScorer().asks,)]
    assert event.disagreement is None


async def test_a_suspicion_has_the_segment_decoded_once_more() -> None:
    """A drop under the median of the segments before; only the heavy scorer's picture is made, once."""
    bench = Bench(PromotionPolicy(share=0, drop=15))
    events = [await bench.see(number, 200) for number in range(6)]
    assert all(event.promotion == Promotion() for event in events)
    fallen = await bench.see(6, 120)
    assert fallen.promotion == Promotion(reasons=("drop",))
    assert [score.scorer for score in fallen.scores] == ["cheap@1", "dear@1"]
    assert bench.asked[-2:] == [(LevelScorer().asks,), (LARGE,)]


async def test_only_segments_before_count() -> None:
    """A segment that comes late is compared with what was before it on the timeline."""
    bench = Bench(PromotionPolicy(share=0, drop=15))
    for number in range(10, 20):
        await bench.see(number, 200)
    assert (await bench.see(5, 100)).promotion == Promotion()
    assert (await bench.see(20, 100)).promotion == Promotion(reasons=("drop",))


async def test_no_second_decode_when_the_picture_is_there() -> None:
    """A heavy scorer that looks at the cheap one's picture needs no other."""
    bench = Bench(PromotionPolicy(share=0, below=90))
    bench.tier.scorers = (Dear(name="dear", bench=bench),)
    event = await bench.see(1, 200)
    assert event.promotion == Promotion(reasons=("low",))
    assert len(bench.asked) == 1


@pytest.mark.parametrize(
    ("error", "left_out"), [(ScoreError("timeout"), "timeout"), (ScoreError("scorer_failed", "x"), "failed")]
)
async def test_a_heavy_scorer_that_fails_spoils_nothing(error: ScoreError, left_out: str) -> None:
    """The cheap verdict stands and the event says what is missing."""
    bench = Bench(PromotionPolicy(share=1), fails=error)
    event = await bench.see(1, 200)
    assert [score.scorer for score in event.scores] == ["cheap@1"]
    assert event.promotion == Promotion(reasons=("sample",), left_out=left_out)
    assert [identity.scorer for identity in event.provenance.scorers] == ["cheap@1"]
    assert bench.counted == [("left_out", left_out)]


async def test_a_second_decode_that_fails_spoils_nothing() -> None:
    """Nor does the decoder."""
    bench = Bench(PromotionPolicy(share=0, below=90), decode_fails_at=1)
    assert (await bench.see(1, 200)).promotion == Promotion(reasons=("low",), left_out="failed")


@pytest.mark.parametrize(
    ("reason", "left_out"), [("timeout", "timeout"), ("too_long", "failed"), ("crashed", "failed")]
)
async def test_pictures_that_are_too_much_cost_the_heavy_verdict_alone(reason: str, left_out: str) -> None:
    """What a heavy scorer or one on trial asks of the decoder never makes a segment unscored."""
    bench = Bench(PromotionPolicy(share=1), shadows=(LevelScorer("trial", LARGE),), refuses={LARGE: reason})
    event = await bench.see(1, 200)
    assert [score.scorer for score in event.scores] == ["cheap@1"]
    assert event.shadow_scores == ()
    assert event.promotion == Promotion(reasons=("sample",), left_out=left_out)
    assert bench.asked[1:] == [(LevelScorer().asks,)]


async def test_media_that_is_bad_is_not_decoded_twice() -> None:
    """The same pictures or a damaged segment would fail again."""
    for bench in (
        Bench(PromotionPolicy(share=1), refuses={LARGE: "corrupt"}),
        Bench(PromotionPolicy(share=0), refuses={LevelScorer().asks: "timeout"}),
    ):
        with pytest.raises(AssertionError):
            await bench.see(1, 200)
        assert len(bench.asked) == 1


async def test_the_budget_is_kept_over_hours() -> None:
    """Every segment has a reason; what the device is held comes to the allowance and not more, and the rest is said."""
    bench = Bench(PromotionPolicy(share=1), per_hour=360.0, costs=7.0)
    spent: list[tuple[float, float]] = []
    left_out = 0
    for number in range(1800):
        bench.clock.now = 6.0 * number
        event = await bench.see(number, 200)
        assert event.promotion is not None
        if event.promotion.left_out:
            assert event.promotion.left_out == "budget"
            assert set(bench.asked[-1]) == {LevelScorer().asks}
            left_out += 1
        else:
            spent.append((bench.clock.now, 7.0))
    for begin in range(0, 7200, 60):
        assert sum(cost for at, cost in spent if begin <= at < begin + 3600) <= 360
    # after the first burst: as much as flows in
    assert sum(cost for _, cost in spent) == pytest.approx(60 + 3 * 300, abs=14)
    assert left_out == 1800 - len(spent)
    assert bench.counted.count(("left_out", "budget")) == left_out


async def test_many_at_once_do_not_overdraw() -> None:
    """What is under way is reserved; until one is done nobody knows what it takes and they go one by one."""
    bench = Bench(PromotionPolicy(share=1), per_hour=360.0, costs=20.0)
    first = await asyncio.gather(*(bench.see(number, 200) for number in range(8)))
    assert sum(not event.promotion.left_out for event in first if event.promotion) == 1
    second = await asyncio.gather(*(bench.see(number, 200) for number in range(8, 16)))
    # 60 at the start, 20 spent, 20 each
    assert sum(not event.promotion.left_out for event in second if event.promotion) == 2
    assert bench.budget.remaining_seconds == pytest.approx(0)


async def test_one_that_costs_more_than_fits_still_gets_its_turn() -> None:
    """It waits until all is there, and what it takes beyond is paid back: over hours the budget holds."""
    bench = Bench(PromotionPolicy(share=1), per_hour=60.0, costs=25.0)
    done = 0
    for number in range(1200):
        bench.clock.now = 30.0 * number
        event = await bench.see(number, 200)
        done += event.promotion == Promotion(reasons=("sample",))
    # ten hours of 50 seconds that flow in, and 10 at the start
    assert done * 25.0 == pytest.approx(510, abs=26)


async def test_scorers_on_trial_count_for_nothing() -> None:
    """Their verdicts are apart, those that fail are left out, and the id stays."""
    on_trial = (LevelScorer("new"), LevelScorer("broken", value_of=lambda _: 0))
    event = await Bench(PromotionPolicy(share=0), shadows=on_trial).see(1, 200)
    plain = await Bench(PromotionPolicy(share=0)).see(1, 200)
    assert [score.scorer for score in event.scores] == ["cheap@1"]
    assert [score.scorer for score in event.shadow_scores] == ["new@1"]
    assert [identity.scorer for identity in event.provenance.scorers] == ["cheap@1", "new@1"]
    assert (event.id, event.disagreement) == (plain.id, None)


async def test_a_heavy_scorer_that_needs_a_prompt() -> None:
    """Without one there is no reason to look, planned or found, and nothing is spent; with one it looks."""
    bench = Bench(PromotionPolicy(share=1, below=90))
    bench.tier.scorers = (replace(bench.tier.scorers[0], needs_prompt=True),)
    event = await bench.see(1, 128)
    assert (event.promotion, [score.scorer for score in event.scores]) == (Promotion(), ["cheap@1"])
    assert len(bench.asked) == 1
    outcome = (await bench.observer.observe(replace(make_segment(1), prompt="A fox"))).outcome
    assert isinstance(outcome, QualityEvent)
    assert [score.scorer for score in outcome.scores] == ["cheap@1", "dear@1"]
    assert outcome.promotion == Promotion(reasons=("sample", "low"))


async def test_a_cheap_scorer_that_fails_is_a_failure() -> None:
    """As before."""
    bench = Bench(PromotionPolicy(share=1))
    bench.media.content[1] = b"\x00"
    assert isinstance((await bench.observer.observe(make_segment(1))).outcome, SegmentFailure)


async def test_the_settings_open_every_tier(tmp_path: Path) -> None:
    """Real graphs: the heavy tier shares the encoder, its seconds reach the budget."""
    write_levels(tmp_path)
    scoring = ScoringSettings(
        scorers=("tiny-levels",), shadows=("tiny-levels.aesthetics",), heavy=("tiny-levels.video",),
        folders=(tmp_path,), device="cpu", heavy_device="cpu", heavy_labels=("arm=sr-v2",),
    )  # fmt: skip
    pixels = pictures(3)
    async with open_scorer_tiers(scoring, meters=Meters()) as tiers:
        assert tiers.heavy is not None
        scorers = (*tiers.scorers, *tiers.shadows, *tiers.heavy.scorers)
        names = [scorer.id for scorer in scorers]
        assert names == [f"tiny-levels.{task}@1" for task in ("quality", "aesthetics", "video")]
        scores = [await scorer.score(decoded(pixels)) for scorer in scorers]
        labelled = replace(make_segment(1), labels={"arm": "sr-v2"})
        assert "label" in tiers.heavy.planned_reasons(labelled)
    assert all(score.levels for score in scores)
    assert means_of(pixels).shape == (3,)
    async with open_scorer_tiers(
        ScoringSettings(scorers=("tiny-levels",), folders=(tmp_path,)), meters=Meters()
    ) as tiers:
        assert tiers.heavy is None
