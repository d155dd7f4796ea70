"""Outcomes for tests: a rendition's segments one after the other, with chosen scores and signals."""

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from vqmon.core.scores import pool, summarize
from vqmon.core.types import (
    SIGNALS,
    MediaFacts,
    Provenance,
    QualityEvent,
    Rendition,
    Score,
    ScorerIdentity,
    Segment,
    SegmentFailure,
    event_id,
    failure_of,
)
from vqmon.errors import SegmentError

START = datetime(2026, 11, 20, 20, 0, tzinfo=UTC)

NEWS = Rendition(
    stream_id="news-1", name="1080p", width=1920, height=1080, bitrate_kbps=5000.0, codecs="avc1.640028",
    labels={"team": "sr"},
)  # fmt: skip

PICTURES = tuple(random.Random(seed).randbytes(576).hex() for seed in range(8))
"""Fingerprints of pictures that differ."""

PROVENANCE = Provenance(
    scorers=(
        ScorerIdentity(
            scorer="lite@1",
            sha256="0123456789abcdef" * 4,
            preprocessing="stretch 512x288",
            calibration_version=1,
            device="cpu",
            licence="Apache-2.0",
        ),
    ),
    sampling="exact",
    versions={"vqmon": "0.1.0", "av": "18.1.0", "libavcodec": "62.11.100", "onnxruntime": "1.23.2"},
)


def segment(number: int, *, seconds: float = 4.0, rendition: Rendition = NEWS, at: float | None = None) -> Segment:
    """The segment with this number; `at` seconds after START, by default where the ones before it end."""
    return Segment(
        rendition=rendition,
        sequence=number,
        url=f"https://cdn.example.org/{rendition.key}/{number:08}.ts",
        starts_at=START + timedelta(seconds=number * seconds if at is None else at),
        duration_seconds=seconds,
    )


def scored(
    number: int,
    value: float = 70.0,
    *,
    seconds: float = 4.0,
    at: float | None = None,
    rendition: Rendition = NEWS,
    scorer: str = "lite@1",
    frames: Sequence[float] | None = None,
    signals: Mapping[str, Sequence[float]] | None = None,
    times: Sequence[float] | None = None,
    edges: tuple[str, str] | None = None,
) -> QualityEvent:
    """A segment that was scored; one picture per second unless `times` says otherwise."""
    it = segment(number, seconds=seconds, rendition=rendition, at=at)
    times = tuple(times or (float(k) for k in range(max(1, int(seconds + 1e-6)))))
    frames = tuple(frames or [value] * len(times))
    given = {name: (0.0,) * len(times) for name in SIGNALS} | dict(signals or {})
    return QualityEvent(
        id=event_id(it, (scorer,)),
        segment=it,
        observed_at=it.ends_at + timedelta(seconds=1),
        scores=(
            Score(
                scorer=scorer,
                value=value,
                native_value=value / 20,
                p5=pool("p5", frames),
                min=min(frames),
                pooling="mean",
                frame_values=frames,
            ),
        ),
        signals={name: summarize(values) for name, values in given.items()},
        times_seconds=times,
        edges=edges or (PICTURES[number % 4], PICTURES[4 + number % 4]),
        media=MediaFacts(
            container="mpegts",
            codec="h264",
            width=1920,
            height=1080,
            fps=25.0,
            duration_seconds=seconds,
            frame_count=int(seconds * 25),
            pixel_format="yuv420p",
            colour="bt709/limited",
            transfer="bt709",
        ),
        provenance=PROVENANCE,
    )


def failed(
    number: int,
    reason: str = "not_found",
    *,
    seconds: float = 4.0,
    at: float | None = None,
    rendition: Rendition = NEWS,
) -> SegmentFailure:
    """A segment that could not be observed."""
    it = segment(number, seconds=seconds, rendition=rendition, at=at)
    return failure_of(it, SegmentError(reason), observed_at=it.ends_at + timedelta(seconds=1))
