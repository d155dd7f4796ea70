"""In-memory stand-ins for the edges: segments, decoded pictures, scorers and lanes without media or models."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from vqmon.core.types import (
    SIGNALS,
    Decoded,
    MediaFacts,
    Rendition,
    Score,
    ScorerIdentity,
    Segment,
    SegmentFailure,
    View,
)
from vqmon.errors import DecodeError, FetchError, ScoreError

MORNING = datetime(2026, 11, 20, 8, 0, 0, tzinfo=UTC)
"""When made-up streams begin."""

SMALL = View(kind="stretch", width=8, height=4)


def make_segment(sequence: int = 0, *, stream: str = "news", rendition: str = "720p", seconds: float = 4.0) -> Segment:
    """One segment of a made-up stream; segments of rising sequence follow each other without a gap."""
    return Segment(
        rendition=Rendition(stream_id=stream, name=rendition, width=1280, height=720, bitrate_kbps=3000.0),
        sequence=sequence,
        url=f"https://media.example/{stream}/{rendition}/{sequence}.ts",
        starts_at=MORNING + timedelta(seconds=sequence * seconds),
        duration_seconds=seconds,
    )


def make_decoded(
    *, frames: int = 4, level: int = 128, views: Sequence[View] = (SMALL,), signals: Mapping[str, float] | None = None
) -> Decoded:
    """What a made-up segment looks like: flat pictures of one grey level, all signals 0 but those given."""
    given = dict.fromkeys(SIGNALS, 0.0) | dict(signals or {})
    return Decoded(
        times_seconds=tuple(float(second) for second in range(frames)),
        views={view: np.full((frames, view.height, view.width, 3), level, np.uint8) for view in views},
        signals={name: (value,) * frames for name, value in given.items()},
        thumbnails=tuple(b"\xff\xd8%d" % number for number in range(frames)),
        edges=(f"{level:02x}" * 576, f"{level:02x}" * 576),
        media=MediaFacts(
            container="mpegts",
            codec="h264",
            width=1280,
            height=720,
            fps=25.0,
            duration_seconds=float(frames),
            frame_count=frames * 25,
            pixel_format="yuv420p",
            colour="bt709/limited",
            transfer="bt709",
        ),
    )


@dataclass(slots=True)
class MemoryMedia:
    """Bytes by segment sequence; what is not there is `not_found`. Stands in for Fetcher.fetch."""

    content: dict[int, bytes] = field(default_factory=dict)

    async def fetch(self, segment: Segment) -> bytes:
        """Give the bytes, or raise FetchError."""
        if segment.sequence not in self.content:
            raise FetchError("not_found", f"no segment {segment.sequence}")
        return self.content[segment.sequence]


@dataclass(slots=True)
class LevelDecoder:
    """Reads a grey level out of the first byte; b"" does not decode. Stands in for DecoderPool.decode."""

    frames: int = 4

    async def decode(self, media: bytes, views: tuple[View, ...]) -> Decoded:
        """Give flat pictures, or raise DecodeError."""
        if not media:
            raise DecodeError("empty")
        return make_decoded(frames=self.frames, level=media[0], views=views)


@dataclass(slots=True)
class LevelScorer:
    """Scores a picture by its mean grey level, 0..255 -> 0..100; level 0 fails. Stands in for FrameScorer."""

    name: str = "level"
    asks: View = SMALL
    value_of: Callable[[float], float] = lambda level: level / 2.55

    @property
    def id(self) -> str:
        return f"{self.name}@1"

    @property
    def views(self) -> tuple[View, ...]:
        return (self.asks,)

    @property
    def identity(self) -> ScorerIdentity:
        return ScorerIdentity(
            scorer=self.id,
            sha256="0" * 64,
            preprocessing="none",
            calibration_version=1,
            device="cpu",
            licence="CC0-1.0",
        )

    async def score(self, decoded: Decoded) -> Score:
        """Give the verdict, or raise ScoreError."""
        values = tuple(round(self.value_of(float(v)), 4) for v in decoded.views[self.asks].mean(axis=(1, 2, 3)))
        if not any(values):
            raise ScoreError("scorer_failed", "level 0")
        mean = sum(values) / len(values)
        low = min(values)
        return Score(
            scorer=self.id, value=mean, native_value=mean, p5=low, min=low, pooling="mean", frame_values=values
        )


@dataclass(slots=True)
class ListedLane:
    """A lane of given items."""

    name: str
    items: Sequence[Segment | SegmentFailure]

    async def __aiter__(self) -> AsyncIterator[Segment | SegmentFailure]:
        for item in self.items:
            yield item
