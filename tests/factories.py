"""Builders of renditions, segments, scores, outcomes, alerts and experiment trials; every argument has a default.

Import the module, not its names: `factories.event(score=40.0)` does not collide with a local `event`.
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from vqmon.core.experiments.analysis.analysis import ExperimentAnalysis
from vqmon.core.experiments.definition import Arm, Experiment
from vqmon.core.experiments.human_review import Vote
from vqmon.core.experiments.results import ArmResult, Comparison, HealthCheck
from vqmon.core.scores import ScorerTier, pool, summarize_signal
from vqmon.core.types import (
    SIGNALS,
    Alert,
    AlertEvidence,
    AudioFacts,
    MediaFacts,
    Outcome,
    Provenance,
    QualityEvent,
    Rendition,
    Score,
    ScorerFailure,
    ScorerIdentity,
    Segment,
    SegmentFailure,
    Severity,
    alert_id,
    event_id,
    failure_from_error,
)
from vqmon.errors import SegmentError

START = datetime(2026, 11, 20, 20, 0, tzinfo=UTC)
"""Where segment number 0 starts on the stream's timeline."""

SCORER = "lite@1"
SEGMENT_SECONDS = 4.0
STREAM = "news-1"

FINGERPRINTS = tuple(random.Random(seed).randbytes(576).hex() for seed in range(8))
"""Fingerprints of eight different pictures."""

MEDIA = MediaFacts(
    container="mpegts",
    codec="h264",
    width=1920,
    height=1080,
    fps=25.0,
    duration_seconds=SEGMENT_SECONDS,
    frame_count=100,
    pixel_format="yuv420p",
    colour="bt709/limited",
    transfer="bt709",
)

STILL_MEDIA = replace(MEDIA, container="jpeg", codec="jpeg", fps=0.0, duration_seconds=0.0, frame_count=1)


def audio(**changes: Any) -> AudioFacts:
    """What is measured of ordinary stereo."""
    facts = AudioFacts(
        codec="aac",
        sample_rate_hz=48000,
        channels=2,
        duration_seconds=4.0,
        loudness_lufs=-23.1,
        momentary_max_lufs=-18.0,
        true_peak_dbtp=-1.5,
        silent_share=0.0,
        clipped_share=0.0,
        lost_channels=0,
        is_mono=False,
        phase_correlation=0.5,
        offset_seconds=0.02,
        end_offset_seconds=None,
        gap_seconds=0.0,
    )
    return replace(facts, **changes)


def rendition(
    *,
    stream: str = STREAM,
    name: str = "1080p",
    bitrate_kbps: float | None = 5000.0,
    codecs: str | None = "avc1.640028",
    labels: Mapping[str, str] | None = None,
) -> Rendition:
    """A 16:9 rendition; its height comes from a name like `720p`, else it is 1080."""
    height = int(name[:-1]) if name[:-1].isdecimal() and name.endswith("p") else 1080
    return Rendition(
        stream_id=stream,
        name=name,
        width=height * 16 // 9,
        height=height,
        bitrate_kbps=bitrate_kbps,
        codecs=codecs,
        labels=labels or {},
    )


RENDITION = rendition(labels={"team": "sr"})
"""The rendition of everything that is built without one."""


def segment(
    *,
    sequence: int = 0,
    rendition: Rendition = RENDITION,
    at_seconds: float | None = None,
    starts_at: datetime | None = None,
    duration_seconds: float = SEGMENT_SECONDS,
    url: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> Segment:
    """A segment that starts `at_seconds` after START (default: where the segments before it end) or at `starts_at`."""
    if starts_at is None:
        starts_at = START + timedelta(seconds=sequence * duration_seconds if at_seconds is None else at_seconds)
    return Segment(
        rendition=rendition,
        sequence=sequence,
        url=url or f"https://cdn.example.org/{rendition.key}/{sequence:08}.ts",
        starts_at=starts_at,
        duration_seconds=duration_seconds,
        labels=labels or {},
    )


def score(
    *,
    value: float = 70.0,
    scorer: str = SCORER,
    native_value: float | None = None,
    frame_values: Sequence[float] | None = None,
    p5: float | None = None,
) -> Score:
    """A score; the fifth percentile and the minimum follow from the frame values (default: four times `value`)."""
    frames = tuple(frame_values or [value] * 4)
    return Score(
        scorer=scorer,
        value=value,
        native_value=value / 20 if native_value is None else native_value,
        p5=pool("p5", frames) if p5 is None else p5,
        min=min(frames),
        pooling="mean",
        frame_values=frames,
    )


_build_score = score


def provenance(*, scorer: str = SCORER, sha256: str = "0123456789abcdef" * 4) -> Provenance:
    """One scorer on the CPU, exact sampling."""
    return Provenance(
        scorers=(
            ScorerIdentity(
                scorer=scorer,
                sha256=sha256,
                preprocessing="stretch 512x288",
                calibration_version=1,
                device="cpu",
                licence="Apache-2.0",
            ),
        ),
        sampling="exact",
        versions={"vqmon": "0.1.0", "av": "18.1.0", "libavcodec": "62.11.100", "onnxruntime": "1.23.2"},
    )


PROVENANCE = provenance()


def event(
    *,
    sequence: int = 0,
    score: float | Sequence[Score] = 70.0,
    scorer: str = SCORER,
    stream: str | None = None,
    rendition: Rendition | str = RENDITION,
    segment: Segment | None = None,
    at_seconds: float | None = None,
    duration_seconds: float = SEGMENT_SECONDS,
    frame_values: Sequence[float] | None = None,
    signals: Mapping[str, float | Sequence[float]] | None = None,
    times_seconds: Sequence[float] | None = None,
    edges: tuple[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    observed_after_seconds: float = 1.0,
    media: MediaFacts | None = None,
    provenance: Provenance = PROVENANCE,
) -> QualityEvent:
    """A scored segment, with one frame per second unless `times_seconds` says otherwise.

    `score` is one value of `scorer`, or all scores. Signals are 0 except those given, as one value for every frame or
    as one value per frame. `segment` replaces everything that describes the segment.
    """
    segment = segment or _segment_of(sequence, stream, rendition, at_seconds, duration_seconds, labels)
    times = tuple(times_seconds or (float(k) for k in range(max(1, int(segment.duration_seconds + 1e-6)))))
    values = {name: _per_frame(value, len(times)) for name, value in (signals or {}).items()}
    if isinstance(score, Sequence):
        scores = tuple(score)
    else:
        scores = (_build_score(value=score, scorer=scorer, frame_values=frame_values or [score] * len(times)),)
    absent = summarize_signal((0.0,) * len(times))
    return QualityEvent(
        id=event_id(segment, tuple(each.scorer for each in scores)),
        segment=segment,
        observed_at=segment.ends_at + timedelta(seconds=observed_after_seconds),
        scores=scores,
        signals={
            name: summarize_signal(values[name]) if name in values else absent
            for name in {**dict.fromkeys(SIGNALS), **values}
        },
        times_seconds=times,
        edges=edges or (FINGERPRINTS[segment.sequence % 4], FINGERPRINTS[4 + segment.sequence % 4]),
        media=media
        or replace(
            MEDIA, duration_seconds=segment.duration_seconds, frame_count=int(segment.duration_seconds * MEDIA.fps)
        ),
        provenance=provenance,
    )


def scorer_failure(
    *, scorer: str = "owl@1", tier: ScorerTier = "first", reason: str = "timeout", detail: str = "no score within 30 s"
) -> ScorerFailure:
    """A scorer that gave no score for a segment that others scored."""
    return ScorerFailure(scorer=scorer, tier=tier, reason=reason, detail=detail)


def failure(
    *,
    reason: str = "not_found",
    error: SegmentError | None = None,
    sequence: int = 0,
    stream: str | None = None,
    rendition: Rendition | str = RENDITION,
    segment: Segment | None = None,
    at_seconds: float | None = None,
    duration_seconds: float = SEGMENT_SECONDS,
    labels: Mapping[str, str] | None = None,
    observed_after_seconds: float = 1.0,
) -> SegmentFailure:
    """A segment that could not be observed, for `reason` or because of `error`."""
    segment = segment or _segment_of(sequence, stream, rendition, at_seconds, duration_seconds, labels)
    observed_at = segment.ends_at + timedelta(seconds=observed_after_seconds)
    return failure_from_error(segment, error or SegmentError(reason), observed_at=observed_at)


def alert(
    *,
    event: QualityEvent | None = None,
    rule: str = "low-score",
    severity: Severity = "page",
    threshold: float = 40.0,
    began_at: datetime | None = None,
    opened_at: datetime | None = None,
    resolved_at: datetime | None = None,
) -> Alert:
    """An alert that `event` triggered: its score is below `threshold`; open unless `resolved_at` is given."""
    trigger = event or _build_event(score=23.4, sequence=3)
    rendition, score = trigger.segment.rendition, trigger.scores[0]
    series = f"{rendition.key}/{score.scorer}"
    began_at = began_at or trigger.segment.starts_at
    return Alert(
        id=alert_id(rule, series, began_at),
        rule=rule,
        series=series,
        stream_id=rendition.stream_id,
        rendition=rendition.name,
        severity=severity,
        state="open" if resolved_at is None else "resolved",
        began_at=began_at,
        opened_at=opened_at or trigger.segment.starts_at,
        resolved_at=resolved_at,
        summary=f"{score.scorer} of {rendition.stream_id} {rendition.name} is below {threshold:g}",
        evidence=AlertEvidence(
            event_id=trigger.id,
            reading=f"{score.scorer} {score.value:.1f} below {threshold:g}",
            value=score.value,
            threshold=threshold,
            worst_times_seconds=(2.0, 0.0),
        ),
    )


_build_event, _build_rendition, _build_segment = event, rendition, segment

# ---- trials of experiments

ARMS = (Arm(name="v1", label="v1"), Arm(name="v2", label="v2"))


def experiment(**changes: object) -> Experiment:
    """v1 (control) against v2, distinguished by the label `arm`; paired, clusters are streams."""
    base = Experiment(name="trial", arms=ARMS, control="v1", scorers=("lite",), delta_min=0.5)
    return replace(base, **changes)  # type: ignore[arg-type]


def arm_rendition(*, arm: str = "v1", stream: int | str = 0, **labels: str) -> Rendition:
    """The rendition of an arm; a stream number becomes a name like `film-003`."""
    name = stream if isinstance(stream, str) else f"film-{stream:03}"
    return rendition(stream=name, name=arm, bitrate_kbps=4000.0, codecs=None, labels={"arm": arm, **labels})


def arm_event(
    *,
    arm: str = "v1",
    stream: int | str = 0,
    sequence: int = 0,
    score: float = 70.0,
    second_score: float | None = None,
    at_seconds: float | None = None,
    signals: Mapping[str, float | Sequence[float]] | None = None,
    **labels: str,
) -> QualityEvent:
    """A scored segment of an arm; `second_score` is that of the scorer owl@1, and scores are cut to 0..100."""
    scores = [_build_score(value=float(np.clip(score, 0, 100)))]
    if second_score is not None:
        scores.append(_build_score(value=second_score, scorer="owl@1"))
    return event(
        sequence=sequence,
        score=scores,
        rendition=arm_rendition(arm=arm, stream=stream, **labels),
        at_seconds=at_seconds,
        signals=signals,
    )


def arm_failure(
    *,
    arm: str = "v1",
    stream: int | str = 0,
    sequence: int = 0,
    reason: str = "not_found",
    at_seconds: float | None = None,
    **labels: str,
) -> SegmentFailure:
    """A segment of an arm that could not be observed."""
    rendition = arm_rendition(arm=arm, stream=stream, **labels)
    return failure(sequence=sequence, reason=reason, rendition=rendition, at_seconds=at_seconds)


def paired_events(
    *,
    streams: int = 30,
    segments: int = 12,
    gain: float = 0.0,
    second_gain: float | None = None,
    arms: Sequence[str] = ("v1", "v2"),
    signals: Mapping[str, Mapping[str, float]] | None = None,
    seed: int = 1,
) -> Iterator[QualityEvent]:
    """Every segment of every stream in every arm; each arm is `gain` points above the arm before it.

    Streams differ by tens of points, segments of a stream by a few. A second scorer sees `second_gain`.
    `signals` are those of each arm.
    """
    rng = np.random.default_rng(seed)
    for stream in range(streams):
        stream_score, stream_gain = rng.uniform(30, 80), rng.normal(0, 0.8)
        for sequence in range(segments):
            content = stream_score + rng.normal(0, 4)
            for index, arm in enumerate(arms):
                value = content + index * (gain + stream_gain) + rng.normal(0, 0.7)
                second = None
                if second_gain is not None:
                    second = content + index * (second_gain + stream_gain / 4) + rng.normal(0, 0.7)
                yield arm_event(
                    arm=arm,
                    stream=stream,
                    sequence=sequence,
                    score=value,
                    second_score=second,
                    signals=(signals or {}).get(arm),
                )


def comparison(*, experiment: Experiment, outcomes: Iterable[Outcome], votes: Sequence[Vote] = ()) -> Comparison:
    """What the analysis of an experiment gives for these outcomes, which it gets in the order of their starts."""
    analysis = ExperimentAnalysis(experiment)
    for outcome in sorted(outcomes, key=lambda outcome: outcome.segment.starts_at):
        analysis.add(outcome)
    return analysis.finish(votes=votes, rng=np.random.default_rng(0))


def first_result(comparison: Comparison) -> ArmResult:
    """The result of the first treatment."""
    return comparison.answers[0]


def health_check(comparison: Comparison, name: str) -> HealthCheck:
    """The health check of this name, of the experiment or of its first treatment."""
    return next(check for check in (*comparison.checks, *first_result(comparison).checks) if check.name == name)


def _segment_of(
    sequence: int,
    stream: str | None,
    rendition: Rendition | str,
    at_seconds: float | None,
    duration_seconds: float,
    labels: Mapping[str, str] | None,
) -> Segment:
    if isinstance(rendition, str):
        rendition = _build_rendition(stream=stream or STREAM, name=rendition)
    elif stream is not None:
        rendition = replace(rendition, stream_id=stream)
    return _build_segment(
        sequence=sequence,
        rendition=rendition,
        at_seconds=at_seconds,
        duration_seconds=duration_seconds,
        labels=labels,
    )


def _per_frame(value: float | Sequence[float], frames: int) -> Sequence[float]:
    return value if isinstance(value, Sequence) else [value] * frames
