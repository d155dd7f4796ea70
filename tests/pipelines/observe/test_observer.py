"""One segment becomes one outcome, whatever happens on the way."""

import asyncio
from dataclasses import replace
from typing import NoReturn

import pytest

from pipelines.observe import observer as observer_module
from pipelines.observe.observer import Observer
from pipelines.observe.playlists.sound import SeparateSound
from pipelines.observe.scoring_tiers import ScoringCascade
from tests import factories
from tests.media.clips import clip, x264
from vqmon.core.types import (
    ClipSampling,
    DecodedSegment,
    Mirror,
    QualityEvent,
    Reference,
    ReferenceComparison,
    ReferencePairing,
    ReferenceScore,
    Score,
    ScorerFailure,
    Segment,
    SegmentFailure,
    View,
    event_id,
    failure_from_error,
)
from vqmon.errors import DecodeError, FetchError, SegmentError
from vqmon.media.decode.pool import DecodeLimits, DecoderPool
from vqmon.testing import STREAM_STARTS_AT, GreyLevelDecoder, GreyLevelScorer, MemoryFetcher, make_segment

STAGES: list[str] = []


def record_stage(stage: str, seconds: float) -> None:
    STAGES.append(stage)


def observer(media: MemoryFetcher, *scorers: GreyLevelScorer) -> Observer:
    STAGES.clear()
    return Observer(
        fetch=media.fetch,
        cascade=ScoringCascade(
            decode=GreyLevelDecoder().decode, scorers=scorers or (GreyLevelScorer(),), record_stage=record_stage
        ),
        sampling="exact",
        versions={"vqmon": "0"},
        now=lambda: STREAM_STARTS_AT,
        record_stage=record_stage,
    )


async def test_a_segment_becomes_an_event_with_scores_signals_and_provenance() -> None:
    """The event also has the sampled times and an id that is reproducible; thumbnails go with it."""
    seen = await observer(MemoryFetcher({3: b"\x80"})).observe(make_segment(3))
    event = seen.outcome

    assert isinstance(event, QualityEvent)
    assert event.id == event_id(make_segment(3), ("level@1",))
    assert event.scores[0].value == pytest.approx(128 / 2.55, abs=1e-3)
    assert event.times_seconds == (0.0, 1.0, 2.0, 3.0)
    assert event.signals["black"].mean == 0
    assert event.provenance.scorers[0].scorer == "level@1"
    assert [time for time, _ in seen.thumbnails] == [0.0, 1.0, 2.0, 3.0]
    assert STAGES == ["fetch", "decode", "score"]


@pytest.mark.parametrize(
    ("content", "stage", "reason"),
    [({}, "fetch", "not_found"), ({3: b""}, "decode", "empty"), ({3: b"\x00"}, "score", "scorer_failed")],
)
async def test_an_error_of_each_stage_becomes_a_failure_with_stage_and_reason(
    content: dict[int, bytes], stage: str, reason: str
) -> None:
    """A SegmentError is an outcome, not a crash."""
    seen = await observer(MemoryFetcher(content)).observe(make_segment(3))

    assert isinstance(seen.outcome, SegmentFailure)
    assert (seen.outcome.stage, seen.outcome.reason) == (stage, reason)
    assert seen.thumbnails == ()


@pytest.mark.parametrize("stage", ["fetch", "decode", "score"])
async def test_an_unexpected_error_is_an_outcome_with_its_trace_in_the_log(
    stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No segment ends the daemon; the outcome names the kind of error, and never its text."""

    class FailingScorer(GreyLevelScorer):
        async def score(self, decoded: DecodedSegment) -> Score:
            raise RecursionError("secret=1")

    async def fail(*arguments: object) -> NoReturn:
        raise RecursionError("secret=1")

    plain = observer(MemoryFetcher({3: b"\x80"}), FailingScorer() if stage == "score" else GreyLevelScorer())
    if stage == "fetch":
        plain = replace(plain, fetch=fail)
    if stage == "decode":
        plain = replace(plain, cascade=replace(plain.cascade, decode=fail))
    outcome = (await plain.observe(make_segment(3))).outcome

    assert isinstance(outcome, SegmentFailure)
    assert (outcome.stage, outcome.reason) == (stage, "internal")
    assert outcome.detail == "RecursionError; the log has its trace"
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.getMessage() == "segment.internal"


@pytest.mark.parametrize("content", [{3: b"\x80"}, {}], ids=["event", "failure"])
async def test_no_outcome_holds_a_secret_of_an_address(content: dict[int, bytes]) -> None:
    """The segment is fetched by its whole address, and published without query and credentials."""
    segment = replace(make_segment(3), url="https://me:secret@media.example/3.ts?token=secret")
    fetched: list[Segment] = []

    async def fetch(wanted: Segment) -> bytes:
        fetched.append(wanted)
        return await MemoryFetcher(content).fetch(wanted)

    outcome = (await replace(observer(MemoryFetcher()), fetch=fetch).observe(segment)).outcome
    passed_on = (await observer(MemoryFetcher()).observe(factories.failure(segment=segment))).outcome
    assert fetched == [segment]
    for shown in (outcome, passed_on):
        assert "secret" not in repr(shown)
        assert shown.segment.key == segment.key


@pytest.mark.parametrize(("crashes", "reason"), [(1, ""), (2, "poison")])
async def test_a_segment_that_broke_a_decoder_is_tried_once_more(crashes: int, reason: str) -> None:
    """Twice is poison, and it is passed; once may have been something else."""
    tries = 0

    async def decode(media: bytes, views: tuple[View, ...]) -> DecodedSegment:
        nonlocal tries
        tries += 1
        if tries <= crashes:
            raise DecodeError("crashed")
        return await GreyLevelDecoder().decode(media, views)

    plain = observer(MemoryFetcher({3: b"\x80"}))
    outcome = (await replace(plain, cascade=replace(plain.cascade, decode=decode)).observe(make_segment(3))).outcome

    assert tries == 2
    if reason:
        assert isinstance(outcome, SegmentFailure)
        assert (outcome.stage, outcome.reason) == ("decode", reason)
    else:
        assert isinstance(outcome, QualityEvent)


async def test_a_reference_that_cannot_be_fetched_is_said_and_loses_no_score() -> None:
    """With its bytes the decoder gets both sides, and the values are in the event."""
    segment = replace(make_segment(3), reference=Reference(url="https://media.example/source.ts"))
    value = ReferenceScore(measure="ssim", value=0.9, frame_values=(0.9,) * 4, unit="", higher_is_better=True)
    pairing = ReferencePairing(offset_seconds=0.0, confidence=1.0, paired_frames=4, canvas="1920x1080")

    async def fetch_both(wanted: Segment) -> bytes:
        return b"\x80"

    async def fetch_segment(wanted: Segment) -> bytes:
        if wanted.url == "https://media.example/source.ts":
            raise FetchError("not_found", "source.ts")
        return b"\x80"

    async def decode_both(media: bytes, views: tuple[View, ...], *, reference: bytes = b"") -> DecodedSegment:
        decoded = await GreyLevelDecoder().decode(media, views)
        comparison = ReferenceComparison(scores=(value,), pairing=pairing)
        return replace(decoded, reference=comparison if reference else None)

    plain = observer(MemoryFetcher())
    cascade = replace(plain.cascade, decode=decode_both, takes_references=True)
    events = []
    for fetch in (fetch_segment, fetch_both):
        seen = await replace(plain, fetch=fetch, cascade=cascade).observe(segment)
        assert isinstance(seen.outcome, QualityEvent)
        events.append(seen.outcome)

    without, with_values = events
    assert without.scores == with_values.scores
    assert (without.references, without.unscored_reference) == ((), "fetch")
    assert without.unscored_reference_detail == "not_found: source.ts"
    assert (with_values.references, with_values.reference_pairing) == ((value,), pairing)
    assert with_values.unscored_reference == ""


async def test_sound_that_cannot_be_had_is_said_and_costs_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether its playlist or its media are away, too slow, or too large, of which as little is fetched as tells it."""
    monkeypatch.setattr(observer_module, "_MAX_SOUND_SECONDS", 0.05)
    without_sound = {"unmeasured_audio": "no_audio"}

    async def decode(media: bytes, views: tuple[View, ...], **others: bytes) -> DecodedSegment:
        decoded = await GreyLevelDecoder().decode(media, views)
        return replace(decoded, **without_sound)

    async def find(segment: Segment) -> SeparateSound:
        if segment.sequence == 1:
            raise SegmentError("playlist", "404")
        name, count = {2: ("away", 1), 3: ("large", 16), 4: ("slow", 2)}[segment.sequence]
        part = replace(segment, url=f"https://media.example/{name}.ts")
        return SeparateSound(parts=(part,) * count, starts_seconds=0.0, ends_seconds=0.0)

    fetched: list[str] = []
    plain = observer(MemoryFetcher({}))

    async def fetch(segment: Segment) -> bytes:
        if segment.url.endswith("away.ts"):
            raise FetchError("not_found", "away.ts")
        if segment.url.endswith("slow.ts"):
            await asyncio.Event().wait()
        fetched.append(segment.url)
        return bytes(40_000_000) if segment.url.endswith("large.ts") else b"\x80"

    seen = replace(plain, fetch=fetch, find_sound=find, cascade=replace(plain.cascade, decode=decode))
    for sequence in (1, 2, 3, 4):
        event = (await seen.observe(make_segment(sequence))).outcome
        assert isinstance(event, QualityEvent)
        assert (bool(event.scores), event.unmeasured_audio) == (True, "unavailable")
    assert fetched.count("https://media.example/large.ts") == 2


async def test_a_reference_that_is_found_is_compared_and_one_that_is_missing_is_said() -> None:
    async def fetch(wanted: Segment) -> bytes:
        return b"\x80"

    async def decode_both(media: bytes, views: tuple[View, ...], *, reference: bytes = b"") -> DecodedSegment:
        decoded = await GreyLevelDecoder().decode(media, views)
        comparison = ReferenceComparison(unscored="misaligned", detail="compared")
        return replace(decoded, reference=comparison if reference else None)

    async def find(segment: Segment) -> Reference | ReferenceComparison | None:
        missing = ReferenceComparison(unscored="missing", detail="not listed")
        return {1: Reference(url="https://media.example/source.ts?token=1"), 2: missing}.get(segment.sequence)

    plain = replace(observer(MemoryFetcher()), fetch=fetch, find_reference=find)
    comparing = replace(plain, cascade=replace(plain.cascade, decode=decode_both, takes_references=True))
    found = []
    for each, sequence in ((comparing, 1), (comparing, 2), (comparing, 3), (plain, 1)):
        event = (await each.observe(make_segment(sequence))).outcome
        assert isinstance(event, QualityEvent)
        assert event.scores
        reference = event.segment.reference
        found.append((reference and reference.url, event.unscored_reference, event.unscored_reference_detail))

    assert found == [
        ("https://media.example/source.ts", "misaligned", "compared"),
        (None, "missing", "not listed"),
        (None, "", ""),
        (None, "", ""),
    ]


async def test_a_failure_of_the_source_passes_through() -> None:
    """A segment that the playlist declares missing is neither fetched nor decoded."""
    gap = failure_from_error(make_segment(3), SegmentError("gap"), observed_at=STREAM_STARTS_AT)

    assert (await observer(MemoryFetcher()).observe(gap)).outcome == gap
    assert STAGES == []


async def test_several_scorers_share_one_decode() -> None:
    """Two scorers give two scores in the order of the settings; one that fails costs the other nothing."""
    good = await observer(MemoryFetcher({3: b"\x80"}), GreyLevelScorer("a"), GreyLevelScorer("b")).observe(
        make_segment(3)
    )
    partly = await observer(
        MemoryFetcher({3: b"\x80"}), GreyLevelScorer("a"), GreyLevelScorer("b", value_of=lambda _: 0)
    ).observe(make_segment(3))
    bad = await observer(MemoryFetcher({3: b"\0"}), GreyLevelScorer("a"), GreyLevelScorer("b")).observe(make_segment(3))

    assert isinstance(good.outcome, QualityEvent)
    assert [score.scorer for score in good.outcome.scores] == ["a@1", "b@1"]
    assert good.outcome.scorer_failures == ()
    assert isinstance(partly.outcome, QualityEvent)
    assert [score.scorer for score in partly.outcome.scores] == ["a@1"]
    assert [identity.scorer for identity in partly.outcome.provenance.scorers] == ["a@1"]
    assert partly.outcome.id == good.outcome.id
    assert partly.outcome.scorer_failures == (
        ScorerFailure(scorer="b@1", tier="first", reason="scorer_failed", detail="level 0"),
    )
    assert isinstance(bad.outcome, SegmentFailure)
    assert bad.outcome.reason == "scorer_failed"
    assert bad.outcome.detail == "a@1: scorer_failed: level 0; b@1: scorer_failed: level 0"


async def test_a_shadow_whose_clips_are_too_large_to_decode_does_not_make_a_segment_unscored() -> None:
    """With the real decoder: the views of a shadow exceed the limit, so the segment is decoded without them."""
    clips = View(kind="stretch", width=64, height=64, clip=ClipSampling(frames=32))
    media = MemoryFetcher({1: clip(*x264(), seconds=3)})
    limits = DecodeLimits(max_view_bytes=2 * clips.row_bytes)
    async with DecoderPool(1, limits=limits) as pool:
        observer = Observer(
            fetch=media.fetch,
            cascade=ScoringCascade(
                decode=lambda content, views: pool.decode(content, views=views),
                scorers=(GreyLevelScorer(),),
                shadows=(GreyLevelScorer("trial", clips),),
            ),
            sampling="exact",
            versions={},
            now=lambda: STREAM_STARTS_AT,
        )
        outcome = (await observer.observe(make_segment(1))).outcome
    assert isinstance(outcome, QualityEvent)
    assert [score.scorer for score in outcome.scores] == ["level@1"]
    assert len(outcome.times_seconds) == 3
    assert outcome.shadow_scores == ()
    (failure,) = outcome.scorer_failures
    assert (failure.scorer, failure.tier, failure.reason) == ("trial@1", "shadow", "too_long")


async def test_a_scorer_that_needs_a_prompt_skips_segments_without_one() -> None:
    """Also as a shadow. When no scorer is left, the segment is unscored and not fetched; the event id does not depend
    on it."""
    asks, plain = GreyLevelScorer("asks", needs_prompt=True), GreyLevelScorer("plain")
    without, given = make_segment(3), replace(make_segment(3), prompt="A fox")
    both = observer(MemoryFetcher({3: b"\x80"}), asks, plain)
    without_prompts = observer(MemoryFetcher({3: b"\x80"}), plain)
    trial = replace(without_prompts, cascade=replace(without_prompts.cascade, shadows=(asks,)))
    for segment, judged, tried in ((without, ["plain@1"], []), (given, ["asks@1", "plain@1"], ["asks@1"])):
        event, other = [(await each.observe(segment)).outcome for each in (both, trial)]
        assert isinstance(event, QualityEvent)
        assert isinstance(other, QualityEvent)
        assert [score.scorer for score in event.scores] == judged
        assert [scorer.scorer for scorer in event.provenance.scorers] == judged
        assert event.id == event_id(segment, ("asks@1", "plain@1"))
        assert [score.scorer for score in other.shadow_scores] == tried
    failure = (await observer(MemoryFetcher(), asks).observe(without)).outcome
    assert isinstance(failure, SegmentFailure)
    assert (failure.stage, failure.reason, STAGES) == ("score", "no_prompt", [])


async def test_the_prompt_of_a_segment_reaches_the_scorer() -> None:
    """It is passed on with the decoded views."""
    heard: list[str] = []

    class Listening(GreyLevelScorer):
        async def score(self, decoded: DecodedSegment) -> Score:
            heard.append(decoded.prompt)
            return await GreyLevelScorer.score(self, decoded)

    for prompt in ("A fox", ""):
        await observer(MemoryFetcher({3: b"\x80"}), Listening()).observe(replace(make_segment(3), prompt=prompt))
    assert heard == ["A fox", ""]


async def test_the_event_says_which_of_several_addresses_served() -> None:
    """The segment's own address failed; its id and key do not change."""
    content = MemoryFetcher({3: b"\x80"})
    item = replace(make_segment(3), mirrors=(Mirror(url="https://backup.example.com/3.ts?token=1"),))

    async def fetch(segment: Segment) -> bytes:
        if "backup" not in segment.url:
            raise FetchError("unreachable", "away")
        return await content.fetch(segment)

    event = (await replace(observer(content), fetch=fetch).observe(item)).outcome
    assert isinstance(event, QualityEvent)
    assert event.served_url == "https://backup.example.com/3.ts"
    assert event.id == event_id(make_segment(3), ("level@1",))
    assert event.segment.key == make_segment(3).key
