"""A look at a segment that costs nothing: the verdict follows from the segment alone."""

import asyncio
from hashlib import sha256
from random import Random

from pipelines.observe.observer import Observation
from vqmon.core.types import (
    MediaFacts,
    Outcome,
    Provenance,
    QualityEvent,
    Score,
    ScorerIdentity,
    Segment,
    SignalSummary,
    event_id,
    failure_of,
)
from vqmon.errors import FetchError

SCORER = "lite@1"
EDGE = "00" * 576
MEDIA = MediaFacts(
    container="mp4",
    codec="h264",
    width=640,
    height=360,
    fps=25.0,
    duration_seconds=4.0,
    frame_count=100,
    pixel_format="yuv420p",
    colour="bt709/limited",
    transfer="bt709",
)
PROVENANCE = Provenance(
    scorers=(
        ScorerIdentity(
            scorer=SCORER, sha256="0" * 64, preprocessing="none", calibration_version=1, device="cpu", licence="none"
        ),
    ),
    sampling="exact",
    versions={"vqmon": "0"},
)


def look_of(segment: Segment) -> Outcome:
    """Good pictures, with bad stretches of a dozen segments here and there; what `gone` names is not found."""
    if "gone" in segment.url:
        return failure_of(segment, FetchError("not_found"), observed_at=segment.ends_at)
    value = 20.0 if segment.sequence % 40 >= 28 else 70.0 + _dither(segment)
    return QualityEvent(
        id=event_id(segment, (SCORER,)),
        segment=segment,
        observed_at=segment.ends_at,
        scores=(
            Score(
                scorer=SCORER,
                value=value,
                native_value=value,
                p5=value,
                min=value,
                pooling="mean",
                frame_values=(value,) * 4,
            ),
        ),
        signals={"black": SignalSummary(mean=0.0, max=0.0, frame_values=(0.0,) * 4)},
        times_seconds=(0.0, 1.0, 2.0, 3.0),
        edges=(EDGE, EDGE),
        media=MEDIA,
        provenance=PROVENANCE,
    )


async def look_at_once(segment: Segment) -> Observation:
    """The verdict, now."""
    return Observation(outcome=look_of(segment))


class SlowLook:
    """The verdict after a while that differs from segment to segment, so that results come out of order."""

    def __init__(self, *, most_seconds: float, seed: int) -> None:
        self._most_seconds = most_seconds
        self._random = Random(seed)

    async def __call__(self, segment: Segment) -> Observation:
        await asyncio.sleep(self._random.random() * self._most_seconds)
        return Observation(outcome=look_of(segment))


def _dither(segment: Segment) -> float:
    return sha256(segment.key.encode()).digest()[0] / 64
