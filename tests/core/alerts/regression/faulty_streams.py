"""Streams with noise and planted faults, and the rules that are evaluated on them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tests import factories
from tests.factories import RENDITION
from vqmon.core.alerts.judge import Judge
from vqmon.core.types import Alert, Outcome, QualityEvent, Rendition
from vqmon.settings.rules_file import parse_rules

SOURCE = replace(RENDITION, name="source", bitrate_kbps=20_000.0)


TOP = RENDITION


MID = replace(RENDITION, name="720p", bitrate_kbps=2500.0)


LOW = replace(RENDITION, name="360p", bitrate_kbps=800.0)


QUICK = "block_seconds = 120\nfalse_alarm_days = 0.1\n"
"""Alerts after six minutes, where the shipped rules learn for three hours."""


DROP = '[rules.drop]\nkind = "regression"\nseverity = "page"\nscorer = "lite"\n' + QUICK


PAIR = '[rules.pair]\nkind = "regression"\nscorer = "lite"\nagainst = "ladder"\n' + QUICK


CAUSES = f"""
[rules.source]
kind = "regression"
scorer = "lite"
cause = "source"
match = {{ rendition = "source" }}
{QUICK}[rules.encoder]
kind = "regression"
scorer = "lite"
against = "source"
match = {{ rendition = "1080p" }}
{QUICK}[rules.packaging]
kind = "regression"
scorer = "lite"
against = "ladder"
match = {{ rendition = "*0p" }}
{QUICK}among = ["1080p", "720p", "360p"]
"""


Values = Callable[[int], float]


def series(
    values: Sequence[float], *, rendition: Rendition = TOP, first: int = 0, scorer: str = "lite@1", **more: object
) -> list[QualityEvent]:
    """One scored segment per value."""
    return [
        factories.event(sequence=first + n, score=float(v), rendition=rendition, scorer=scorer, **more)
        for n, v in enumerate(values)
    ]


def noise(seed: int, count: int, *, deviation: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, deviation, count)


def judged(rules: str, outcomes: Sequence[Outcome]) -> list[Alert]:
    judge = Judge(parse_rules(rules))
    return [alert for outcome in outcomes for alert in judge.judge(outcome)]


def mixed(*lanes: Sequence[Outcome]) -> list[Outcome]:
    """One of each in turn."""
    return [outcome for row in zip(*lanes, strict=True) for outcome in row]


def falling(count: int, at: int, until: int, drop: float, *, seed: int = 1) -> np.ndarray:
    values = 70 + noise(seed, count)
    values[at:until] -= drop
    return values


def ladder(
    count: int,
    *,
    source: Values = lambda n: 0.0,
    top: Values = lambda n: 0.0,
    mid: Values = lambda n: 0.0,
    seed: int = 5,
) -> list[list[QualityEvent]]:
    """Source, top and middle of one stream: the same content, a little noise of their own, and what is planted."""
    content = noise(seed, count, deviation=4.0)
    lanes = []
    for part, (rendition, level, planted) in enumerate(((SOURCE, 85, source), (TOP, 75, top), (MID, 60, mid))):
        own = noise(seed + 100 + part, count, deviation=0.5)
        lanes.append(
            series([level + content[n] + own[n] + planted(n) for n in range(count)], rendition=rendition)
        )  # fmt: skip
    return lanes


def planted(first: int, last: int, drop: float) -> Values:
    return lambda n: -drop if first <= n < last else 0.0


def woven(lanes: Sequence[Sequence[Outcome]], turns: Sequence[int], *, ahead: int) -> list[Outcome]:
    """The lanes in some order: each in its own order, none more than `ahead` segments before another."""
    positions, out, turn = [0] * len(lanes), [], 0
    while any(position < len(lane) for position, lane in zip(positions, lanes, strict=True)):
        wanted = turns[turn % len(turns)] if turns else 0
        turn += 1
        may = [
            n for n, position in enumerate(positions) if position < len(lanes[n]) and position - min(positions) < ahead
        ]
        chosen = may[wanted % len(may)]
        out.append(lanes[chosen][positions[chosen]])
        positions[chosen] += 1
    return out


FAULTY = ladder(330, top=planted(200, 260, 8), mid=planted(270, 330, 3), source=lambda n: -12 if 150 <= n < 180 else 0)


FAULTY_LANES: list[list[Outcome]] = [
    [
        factories.failure(sequence=n, rendition=outcome.segment.rendition) if (n * 7 + part) % 41 == 0 else outcome
        for n, outcome in enumerate(lane)
    ]
    for part, lane in enumerate(FAULTY)
]


ALL_RULES = CAUSES + DROP + 'match = { rendition = "720p" }\n'


def fleet(streams: int, count: int, fallen: Callable[[int, int], float], *, seed: int = 9) -> list[Outcome]:
    """Streams of two encoders, one segment of each in turn."""
    lanes = []
    for number in range(streams):
        labels = {"encoder": "a" if number % 2 else "b"}
        rendition = Rendition(stream_id=f"s{number}", name="1080p", labels=labels)
        values = 70 + noise(seed + number, count, deviation=2.0)
        lanes.append(series([v + fallen(number, n) for n, v in enumerate(values)], rendition=rendition))
    return mixed(*lanes)


GROUPS = """
[rules.series]
kind = "regression"
severity = "ticket"
scorer = "lite"
hold_seconds = 60
block_seconds = 300
false_alarm_days = 0.1
[rules.encoders]
kind = "group"
severity = "page"
of = "series"
by = ["encoder"]
page_segments = 100
hold_seconds = 30
block_seconds = 300
false_alarm_days = 0.1
[rules.scorer]
kind = "group"
severity = "page"
of = "series"
quantile = 0.8
min_series = 5
page_segments = 100
block_seconds = 300
false_alarm_days = 0.1
"""
