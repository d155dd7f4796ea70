"""Outcomes, alerts and pictures as a daemon would have written them; the same every time."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from io import BytesIO

import numpy as np
from PIL import Image

from tests import factories
from vqmon.core.scores import pack_heat_map
from vqmon.core.types import Alert, HeatMap, Outcome, QualityEvent, Rendition, Segment, SegmentFailure, Severity
from vqmon.errors import Stage
from vqmon.scoring.scorers.registry import builtin_folder


def newest_of(name: str) -> str:
    """The id of the newest built-in scorer of a name."""
    return max(path.stem for path in builtin_folder().glob(f"{name}@*.json"))


NOW = datetime(2026, 11, 20, 14, 30, 0, tzinfo=UTC)
SCORER = newest_of("lite")
SEGMENT_SECONDS = 4.0


@cache
def picture(number: int, *, softness: int = 1) -> bytes:
    """A small landscape that moves with `number`; higher softness looks worse."""
    y, x = np.mgrid[0:234, 0:416].astype(np.float64)
    hill = 150 + 30 * np.sin((x + 9 * number) / 47) + 14 * np.sin((x + 9 * number) / 17)
    sky = np.stack([110 + y / 3, 160 + y / 4, 215 - y / 8], axis=-1)
    land = np.stack([60 + 30 * np.sin(x / 9 + y / 5), 105 + 25 * np.sin(x / 7 - y / 6), 60 + 0 * x], axis=-1)
    pixels = np.where((y > hill)[..., None], land, sky)
    sun = (x - 300 + 4 * number) ** 2 + (y - 60) ** 2 < 26**2
    pixels[sun] = (250, 225, 150)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if softness > 1:
        image = image.resize((416 // softness, 234 // softness)).resize((416, 234), Image.Resampling.NEAREST)
    out = BytesIO()
    image.save(out, "JPEG", quality=80 if softness == 1 else 30)
    return out.getvalue()


def rendition(stream_id: str, name: str) -> Rendition:
    """A rendition whose bitrate follows from its height."""
    made = factories.rendition(stream=stream_id, name=name, codecs="avc1")
    return replace(made, bitrate_kbps=(made.height or 720) * 4.6)


def segment(stream_id: str, name: str, number: int, *, end: datetime = NOW) -> Segment:
    """The `number`th segment before `end`; 0 is the newest."""
    sequence = 10_000 - number
    return factories.segment(
        sequence=sequence,
        rendition=rendition(stream_id, name),
        url=f"https://origin.example/{stream_id}/{name}/{sequence}.m4s?token=secret",
        starts_at=end - timedelta(seconds=SEGMENT_SECONDS * (number + 1)),
    )


def quality_event(segment: Segment, value: float, *, signals: dict[str, float] | None = None) -> QualityEvent:
    """A score of about `value` over four frames; a low one comes with blur."""
    frames = tuple(round(min(100.0, max(0.0, value + offset)), 2) for offset in (0.0, 1.3, -1.9, 0.6))
    maxima = {"noise": 0.04, "blur": max(0.02, (70 - value) / 100), **(signals or {})}
    score = factories.score(
        scorer=SCORER,
        value=round(sum(frames) / 4, 2),
        native_value=round(value / 100, 4),
        frame_values=frames,
        p5=min(frames),
    )
    return factories.event(
        segment=segment,
        score=[score],
        signals={name: _frame_values(min(1.0, max(0.0, maximum))) for name, maximum in maxima.items()},
        edges=("00" * 576, "00" * 576),
        media=replace(
            factories.MEDIA,
            container="mp4",
            width=segment.rendition.width or 1280,
            height=segment.rendition.height or 720,
        ),
        observed_after_seconds=1.4,
        provenance=PROVENANCE,
    )


PROVENANCE = replace(
    factories.provenance(scorer=SCORER, sha256="5f" * 32),
    versions={"av": "18.1.0", "libavcodec": "62.28.102", "onnxruntime": "1.27.0"},
)


def _frame_values(maximum: float) -> tuple[float, ...]:
    return tuple(round(maximum * factor, 4) for factor in (0.9, 1.0, 0.96, 0.93))


def half_lost(measure: str, *, frames: int, lost: Sequence[int]) -> HeatMap:
    """A heat map that loses 0.7 in the left half of the frames at the indices `lost`."""
    losses = np.zeros((9, 16), np.float32)
    losses[:, :8] = 0.7
    heat_map = pack_heat_map(measure, [losses if index in lost else None for index in range(frames)])
    assert heat_map is not None
    return heat_map


def segment_failure(segment: Segment, reason: str = "not_found") -> SegmentFailure:
    """A segment without a score."""
    stage: Stage = {"not_found": "fetch", "timeout": "fetch", "corrupt": "decode", "encrypted": "source"}[reason]
    detail = "HTTP 404 from origin.example" if reason == "not_found" else "the detail"
    return replace(
        factories.failure(segment=segment, reason=reason, observed_after_seconds=2), stage=stage, detail=detail
    )


def alert(
    trigger: QualityEvent, *, rule: str, severity: Severity, began_at: datetime, resolved_at: datetime | None
) -> Alert:
    """A floor alert on the scorer."""
    return factories.alert(event=trigger, rule=rule, severity=severity, began_at=began_at, resolved_at=resolved_at)


@dataclass(kw_only=True)
class Seeded:
    """What a history is filled with."""

    outcomes: list[Outcome] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    thumbnails: dict[str, Sequence[tuple[float, bytes]]] = field(default_factory=dict)


CURVES = ("good", "dip", "failing", "losing", "stale", "good", "wavering", "good")


def fleet(*, streams: int, names: Sequence[str] = ("1080p", "480p"), segments: int = 90) -> Seeded:
    """Streams of every kind, all of them ending now but for the stale ones."""
    seeded = Seeded()
    for number in range(streams):
        stream_id = NAMES[number] if number < len(NAMES) else f"channel-{number:03d}"
        for place, name in enumerate(names):
            kind = CURVES[number % len(CURVES)] if place == 0 or number % 3 == 0 else "good"
            _fill(seeded, stream_id, name, kind, segments=segments, seed=100 * number + place)
    seeded.outcomes.sort(key=lambda outcome: (outcome.observed_at, outcome.segment.rendition.key))
    return seeded


NAMES = (
    "news/hd",
    "sports one",
    "cinema-4k",
    "kids",
    "Übertragung/Süd",
    "weather",
    "music & talk",
    "archive <b>bold</b>",
)


def _fill(seeded: Seeded, stream_id: str, name: str, kind: str, *, segments: int, seed: int) -> None:
    chance = random.Random(seed)
    end = NOW - timedelta(minutes=9) if kind == "stale" else NOW
    level = 82 - 14 * (name != "1080p") + chance.uniform(-6, 4)
    trigger: QualityEvent | None = None
    for number in reversed(range(segments)):
        place = segment(stream_id, name, number, end=end)
        value = level + 2.5 * math.sin(number / 9) + chance.gauss(0, 1.4) - _drop(kind, number / segments)
        is_lost = kind == "losing" and (number < 2 or 20 < number < 24 or chance.random() < 0.05)
        event = (
            segment_failure(place) if is_lost else quality_event(place, value, signals=_signals(kind, value, chance))
        )
        seeded.outcomes.append(event)
        if isinstance(event, QualityEvent):
            soft = 1 if value > 60 else 4 if value > 35 else 9
            if seed < 1000 and (number < 8 or trigger is None):
                seeded.thumbnails[event.id] = [
                    (float(frame_number), picture((number * 4 + frame_number) % 32, softness=soft))
                    for frame_number in range(4)
                ]
            if trigger is None and value < 40:
                trigger = event
    if trigger is not None:
        resolved_at = NOW - timedelta(seconds=0.25 * segments * SEGMENT_SECONDS) if kind == "dip" else None
        severity: Severity = "page" if kind == "failing" else "ticket"
        began_at = trigger.segment.starts_at - timedelta(seconds=2 * SEGMENT_SECONDS)
        seeded.alerts.append(
            alert(trigger, rule="score-floor", severity=severity, began_at=began_at, resolved_at=resolved_at)
        )


def _drop(kind: str, age: float) -> float:
    """How much worse it is at an age of 0 (now) to 1 (the oldest)."""
    if kind == "dip":
        return 48 if 0.3 < age < 0.5 else 0
    if kind == "failing":
        return 64 if age < 0.22 else 0
    return 36 if kind == "wavering" and age < 0.1 else 0


def _signals(kind: str, value: float, chance: random.Random) -> dict[str, float]:
    if value > 55:
        return {"banding": 0.06 + 0.03 * chance.random()}
    return {"blockiness": 0.55 + 0.2 * chance.random(), "banding": 0.2, "over_sharpness": 0.1 * chance.random()}


def next_event(stream_id: str, name: str, value: float, *, after: int = 1) -> QualityEvent:
    """One more verdict, `after` segments after the newest."""
    return quality_event(segment(stream_id, name, -after), value)
