"""A labelled week: streams with the noise that real scores have, planted incidents, the shipped rules."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from bench.alerts.ladder_scores import CLIPS, Measured, measure, scores_of
from bench.alerts.series_shapes import DAY, SEGMENT_SECONDS
from vqmon.core.alerts.backtest.incidents import DAY_SECONDS, DetectionReport, Incident, evaluate_alerts
from vqmon.core.alerts.judge import Judge
from vqmon.core.types import (
    Alert,
    MediaFacts,
    Outcome,
    Provenance,
    QualityEvent,
    Rendition,
    Score,
    Segment,
    SegmentFailure,
    failure_from_error,
)
from vqmon.errors import SegmentError
from vqmon.scoring.scorers.registry import builtin_folder, scorer_noise
from vqmon.settings.rules_file import parse_rules

RULES = Path(__file__).parents[2] / "config" / "rules.toml"
START = datetime(2026, 1, 5, tzinfo=UTC)
TOP = Rendition(stream_id="s0", name="1080p", height=1080, bitrate_kbps=5000.0)
MEDIA = MediaFacts(
    container="mpegts", codec="h264", width=1920, height=1080, fps=25.0, duration_seconds=4.0, frame_count=100,
    pixel_format="yuv420p", colour="bt709/limited", transfer="bt709",
)  # fmt: skip
PROVENANCE = Provenance(scorers=(), sampling="exact", versions={})

SCORER = "lite@2"

REAL = Measured(
    between=8.4, within=2.9, within_memory=0.66, tail=0.041, pair_between=2.3, pair_within=1.5, pair_memory=0.19,
    neighbours_between=0.6, neighbours_within=1.2, gain=8.6,
)  # fmt: skip
"""What `ladder` measured of SCORER on eight clips in two parts each, segments of 1 s; see docs/alerts.md."""

SCENE_SEGMENTS = 6.0
"""Mean length of a scene, in segments: 24 s."""

SCENES_SHARE = 0.35
"""One channel's scenes differ less than eight films: this share of the spread between contents is taken."""

THRESHOLD = (
    '[rules.threshold]\nkind = "floor"\nscorer = "lite"\nbelow = {below}\nrecover_above = {above}\nfor_seconds = 20\n'
)


def event_of(number: int, value: float, rendition: Rendition = TOP) -> QualityEvent:
    """A scored segment of this number; without signals and pictures, which regression rules can do without."""
    segment = segment_of(number, rendition)
    value = min(max(value, 0.0), 100.0)
    score = Score(
        scorer=SCORER, value=value, native_value=value, p5=value, min=value, pooling="mean", frame_values=(value,) * 4
    )
    return QualityEvent(
        id=f"{rendition.key}{number}",
        segment=segment,
        observed_at=segment.ends_at,
        scores=(score,),
        signals={},
        times_seconds=(0.0, 1.0, 2.0, 3.0),
        edges=("", ""),
        media=MEDIA,
        provenance=PROVENANCE,
    )


def failure_of_segment(number: int) -> SegmentFailure:
    """A segment that could not be fetched."""
    segment = segment_of(number, TOP)
    return failure_from_error(segment, SegmentError("not_found"), observed_at=segment.ends_at)


def segment_of(number: int, rendition: Rendition) -> Segment:
    return Segment(
        rendition=rendition,
        sequence=number,
        url=f"https://cdn.example.org/{number}.ts",
        starts_at=START + timedelta(seconds=SEGMENT_SECONDS * number),
        duration_seconds=SEGMENT_SECONDS,
    )


def ladder() -> bool:
    """A5: variance of a score over that of a difference, and the noise of real scores."""
    if not CLIPS.is_dir():
        print(f"no clips in {CLIPS}: not measured")
        return True
    scores = scores_of(CLIPS)
    measured = measure(scores)
    count = sum(len(content) for content in scores[22])
    print(f"{SCORER}, {count} segments of {len(scores[22])} contents at CRF {', '.join(map(str, scores))}:")
    for name in Measured.__slots__:
        print(f"  {name:18} {getattr(measured, name):.3f}")
    inside = (measured.within / measured.pair_within) ** 2
    print(f"paired gain {measured.gain:.1f} over all contents, {inside:.1f} within a content; 5 wanted")
    return measured.gain >= 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A fault: which part of the ladder, when (segments), and how many points."""

    where: str
    first: int
    last: int
    points: float


def week(*, streams: int, days: int = 7) -> bool:
    """Alerts, delay and flaps of the shipped rules and of a plain threshold, on planted faults of 3 to 20 points."""
    rules = parse_rules(RULES.read_text(), noise=scorer_noise([SCORER], [builtin_folder()]))
    alerts_by_name: dict[str, list[Alert]] = {}
    incidents: list[Incident] = []
    began, outcomes = time.perf_counter(), 0
    for number in range(streams):
        chance = np.random.default_rng([21, number])
        planted = _planted(chance, days * DAY)
        judges = {"vqmon": Judge(rules)}
        for outcome in _stream(chance, f"s{number}", days * DAY, planted):
            if outcomes == 0 or "threshold" not in judges:
                judges["threshold"] = Judge(parse_rules(THRESHOLD.format(below=55, above=60)))
            outcomes += 1
            for name, judge in judges.items():
                for alert in judge.judge(outcome):
                    key = alert.rule if name == "vqmon" else name
                    alerts_by_name.setdefault(key, []).append(alert)
        incidents += [
            Incident(
                stream=f"s{number}",
                began_at=START + timedelta(seconds=SEGMENT_SECONDS * fault.first),
                ended_at=START + timedelta(seconds=SEGMENT_SECONDS * fault.last),
            )
            for fault in planted
        ]
    stream_days = 2 * streams * days * DAY * SEGMENT_SECONDS / DAY_SECONDS
    each = (time.perf_counter() - began) / outcomes * 1e6
    print(f"{outcomes} outcomes, {each:.0f} us each; {stream_days:g} rendition-days")
    everything = [alert for rule, alerts in alerts_by_name.items() if rule != "threshold" for alert in alerts]
    for name, alerts in {"all shipped rules": everything, **alerts_by_name}.items():
        _print(
            name, evaluate_alerts({alert.id: alert for alert in alerts}.values(), incidents, stream_days=stream_days)
        )
    return True


def _print(name: str, report: DetectionReport) -> None:
    half, most = report.delay_quantile(0.5), report.delay_quantile(0.95)
    delay = f"{half:.0f} s / {most:.0f} s" if half is not None and most is not None else "-"
    print(
        f"{name:20} alerts {report.alert_count:4}  false {report.false_count:4} "
        f"({report.false_per_stream_day:.3f} per stream-day)  "
        f"detected {report.detected_count} of {report.incident_count}  delay {delay}  flapping {report.flapping_count}"
    )


def _planted(chance: np.random.Generator, count: int) -> list[Planted]:
    """Two faults a day, none within three hours of another: half of one rendition, half of the whole ladder."""
    planted = []
    for index in range(DAY, count - DAY // 8, DAY // 2):
        first = index + int(chance.integers(0, DAY // 4))
        length = int(chance.integers(75, 900))
        where = ("720p", "both")[len(planted) % 2]
        points = float((3, 5, 8, 12, 20)[len(planted) // 2 % 5])
        planted.append(Planted(where=where, first=first, last=first + length, points=points))
    return planted


def _stream(chance: np.random.Generator, stream_id: str, count: int, planted: Sequence[Planted]) -> Iterator[Outcome]:
    """Two renditions of one stream, in turn: scenes that both share, noise that each has, and the faults."""
    top = Rendition(stream_id=stream_id, name="1080p", height=1080, bitrate_kbps=5000.0)
    mid = Rendition(stream_id=stream_id, name="720p", height=720, bitrate_kbps=2500.0)
    faults = {"1080p": np.zeros(count), "720p": np.zeros(count)}
    for fault in planted:
        for name in ("720p",) if fault.where == "720p" else ("1080p", "720p"):
            faults[name][fault.first : fault.last] += fault.points
    scene = pair = common = own = 0.0
    # From one second to four.
    phi, pair_phi = REAL.within_memory**SEGMENT_SECONDS, REAL.pair_memory**SEGMENT_SECONDS
    shared_within = max(REAL.within**2 - REAL.pair_within**2 / 2, 0.0) ** 0.5
    for number in range(count):
        if number == 0 or chance.random() < 1 / SCENE_SEGMENTS:
            scene, pair = (
                chance.normal(0, SCENES_SHARE * REAL.between),
                chance.normal(0, SCENES_SHARE * REAL.pair_between),
            )
        common = phi * common + _heavy(chance) * (1 - phi**2) ** 0.5
        own = pair_phi * own + _heavy(chance) * (1 - pair_phi**2) ** 0.5
        base = scene + shared_within * common
        yield event_of(number, 75 + base - faults["1080p"][number], top)
        yield event_of(number, 65 + base + pair + REAL.pair_within * own - faults["720p"][number], mid)


def _heavy(chance: np.random.Generator) -> float:
    """An innovation of variance 1 with tails as heavy as were measured: t with 4 degrees of freedom."""
    return float(chance.standard_t(4)) / 2**0.5
