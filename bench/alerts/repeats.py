"""Regression against repeats: false alarms, and drops of the whole ladder that are seen; recognition on real clips.

python -m bench.alerts.repeats [--series N] [--days N] [--only SHAPE ...] [--seed N] [--drop POINTS] [--clips FOLDER]

Series of content with scores and hashes of its pictures go through the product's memory of passages and its charts; of
five segments the first is shown to both, as a passage is remembered once a minute. The hashes of a showing differ in
some bits, as those of another encode do. After the first day `days` without a fault, then an hour with `drop` points
less, 5 by default. --clips measures on real files how many bits differ between encodes of the same content, and of
other content.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from bench.alerts.false_alarms import ALLOWED, ALLOWED_FIRST_DAY, is_above, rate_text, simulation_parser
from bench.alerts.series_shapes import DAY, SEGMENT_SECONDS
from bench.alerts.tables import segment_at
from vqmon.core.alerts.conditions.regression import Regression, RegressionState
from vqmon.core.alerts.regression.pairs.picture_hash import MAX_DIFFERENT_BITS, PASSAGE_PICTURES, Passage, passage_of
from vqmon.core.alerts.regression.pairs.repeats import RepeatMemory
from vqmon.core.alerts.regression.series_alert import SeriesValue, follow_series
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.alerts.state import PairSeries, StateStore
from vqmon.media.images.resampling import YuvPlanes
from vqmon.media.images.signals.meter import compute_fingerprint

Chance = np.random.Generator

_STEP = 5
"""Segments between two that are shown to the charts."""
_HOUR = 900 // _STEP
_DAY = DAY // _STEP
_DROP = 5.0
"""Points."""
_SLOW_SHARE = 0.31
"""Of the passages of real clips, those that are recognised when they are cut a second later (--clips)."""
_SEEN_SHARE = 0.8
"""Of the series of loops and schedules, within an hour."""
_CONDITION = Regression(scorer="lite", against="repeats", delta_min=2.6)
"""The shipped rule with the `delta_min` of `lite@2`."""
_RULE = AlertRule(name="again", severity="ticket", condition=_CONDITION, min_open_seconds=120.0)
_SERIES = PairSeries(rendition_key="news-1/1080p", scorer="lite", against="repeats")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What one series shows, every fifth segment: the content, by number, and its score."""

    contents: NDArray[np.int64]
    scores: NDArray[np.float64]


@dataclass(slots=True)
class _Result:
    first_day: int = 0
    later: int = 0
    pairs_per_hour: list[float] = field(default_factory=list)
    # minutes until the alert about the drop, inf when none opened within an hour
    delays: list[float] = field(default_factory=list)


# ---- shapes


def _own(chance: Chance, count: int) -> NDArray[np.float64]:
    """What differs between two showings of the same content: 2 points."""
    return chance.normal(0, 2.0, count)


def _content(chance: Chance, count: int) -> NDArray[np.float64]:
    """The scores of content: programmes 5 points apart, scenes 3."""
    lengths = chance.integers(_HOUR // 2, 3 * _HOUR // 2, size=count // (_HOUR // 2) + 1)
    return 70 + np.repeat(chance.normal(0, 5, len(lengths)), lengths)[:count] + chance.normal(0, 3, count)


def _repeating(chance: Chance, count: int, length: int) -> Shown:
    contents = np.arange(count) % length
    return Shown(contents=contents, scores=_content(chance, length)[contents] + _own(chance, count))


def _with_ads(chance: Chance, shown: Shown, *, spots: int) -> Shown:
    """A break of two minutes about every 15; six spots of 20 s, in turn the first segment of each is shown."""
    contents, scores = shown.contents.copy(), shown.scores.copy()
    levels = chance.normal(58, 4, spots)
    for start in np.cumsum(chance.integers(36, 54, size=len(contents) // 36)):
        end = min(start + 6, len(contents))
        if start < end:
            chosen = chance.choice(spots, end - start, replace=False)
            contents[start:end] = -1 - chosen
            scores[start:end] = levels[chosen] + _own(chance, end - start)
    return Shown(contents=contents, scores=scores)


def _loop(chance: Chance, count: int) -> Shown:
    return _repeating(chance, count, 75)


def _schedule(chance: Chance, count: int) -> Shown:
    return _repeating(chance, count, _DAY)


def _schedule_with_ads(chance: Chance, count: int) -> Shown:
    return _with_ads(chance, _schedule(chance, count), spots=200)


def _new_programmes_with_ads(chance: Chance, count: int) -> Shown:
    new = Shown(contents=np.arange(count), scores=_content(chance, count) + _own(chance, count))
    return _with_ads(chance, new, spots=60)


def _catalogue(chance: Chance, count: int) -> Shown:
    """Twelve titles of 25 to 100 minutes, in any order."""
    lengths = chance.integers(75, 300, size=12)
    starts = np.cumsum([0, *lengths])
    scores = _content(chance, int(starts[-1]))
    order = chance.integers(0, 12, size=count // 75 + 1)
    contents = np.concatenate([np.arange(starts[title], starts[title + 1]) for title in order])[:count]
    return Shown(contents=contents, scores=scores[contents] + _own(chance, count))


def _wrong_matches(chance: Chance, count: int) -> Shown:
    """A schedule; one passage in fifty is taken for another."""
    shown = _schedule(chance, count)
    is_wrong = chance.random(count) < 0.02
    others = chance.integers(0, _DAY, count)
    return replace(shown, contents=np.where(is_wrong, others, shown.contents))


def _cut_elsewhere(chance: Chance, count: int) -> Shown:
    """A schedule whose segments begin a second later each day: only slow passages are recognised."""
    shown = _schedule(chance, count)
    is_slow = chance.random(_DAY) < _SLOW_SHARE
    return replace(shown, contents=np.where(is_slow[shown.contents], shown.contents, _DAY + np.arange(count)))


def _slow_pattern(chance: Chance, count: int) -> Shown:
    """A schedule with a pattern of +-4 points over 31 hours, which is another at each showing."""
    shown = _schedule(chance, count)
    phase = chance.uniform(0, 2 * np.pi)
    return replace(shown, scores=shown.scores + 4.0 * np.sin(2 * np.pi * np.arange(count) / _HOUR / 31.0 + phase))


def _wandering(chance: Chance, count: int) -> Shown:
    """A schedule on a level that wanders: a random walk of 3 points a day."""
    shown = _schedule(chance, count)
    return replace(shown, scores=shown.scores + np.cumsum(chance.normal(0, 3.0 / np.sqrt(_DAY), count)))


def _uneven(chance: Chance, count: int) -> Shown:
    """A schedule with a daily pattern of 3 points that does not repeat, a sampling phase, spikes, and lost segments."""
    shown = _schedule(chance, count)
    hours = np.arange(count) / _HOUR
    moved = 3.0 * np.sin(2 * np.pi * hours / 31.0) + 2.0 * np.sin(2 * np.pi * hours / chance.uniform(0.3, 3))
    spikes = np.where(chance.random(count) < 0.004, -30.0, 0.0)
    lost = np.where(chance.random(count) < 0.02, np.nan, 0.0)
    return replace(shown, scores=shown.scores + moved + spikes + lost)


SHAPES: Mapping[str, tuple[Callable[[Chance, int], Shown], bool]] = {
    "loop of 25 min": (_loop, True),
    "schedule": (_schedule, True),
    "schedule with ads": (_schedule_with_ads, True),
    "catalogue in any order": (_catalogue, True),
    "schedule, 2 % wrong matches": (_wrong_matches, True),
    "schedule, cut elsewhere": (_cut_elsewhere, False),
    "new programmes with ads": (_new_programmes_with_ads, False),
    "schedule, slow pattern": (_slow_pattern, False),
    "schedule, level wanders": (_wandering, False),
    "schedule, uneven": (_uneven, False),
}
"""Name -> shape, and whether the goal for drops counts."""


# ---- the product on them


def simulate(name: str, *, series: int, days: int, seed: int, drop: float) -> _Result:
    """So many series of a shape."""
    shape, _ = SHAPES[name]
    result = _Result()
    for number in range(series):
        chance = np.random.default_rng([seed, number, *name.encode()])
        calm = (1 + days) * _DAY
        shown = shape(chance, calm + _HOUR)
        shown.scores[calm:] -= drop
        passages = _passages(chance, shown.contents)
        opened = _opened(shown, passages, result)
        result.first_day += sum(index < _DAY for index in opened)
        result.later += sum(_DAY <= index < calm for index in opened)
        delays = [(index + 1 - calm) * _STEP * SEGMENT_SECONDS / 60 for index in opened if index >= calm]
        result.delays.append(min(delays, default=np.inf))
    return result


def _passages(chance: Chance, contents: NDArray[np.int64]) -> list[Passage]:
    """Hashes of each showing: random per content, with about six bits of noise."""
    _, index = np.unique(contents, return_inverse=True)
    shape = (len(contents), PASSAGE_PICTURES)
    hashes = chance.integers(0, 2**64, (index.max() + 1, PASSAGE_PICTURES), dtype=np.uint64)
    masks = np.bitwise_and.reduce(chance.integers(0, 2**64, (5, *shape), dtype=np.uint64))
    return [tuple(row) for row in (hashes[index] ^ masks).tolist()]


def _opened(shown: Shown, passages: Sequence[Passage], result: _Result) -> list[int]:
    """Where alerts open."""
    memory, state = RepeatMemory(StateStore()), RegressionState(rule=_RULE.name, series=_SERIES)
    opened, pairs = [], 0
    for index, (score, passage) in enumerate(zip(shown.scores.tolist(), passages, strict=True)):
        if np.isnan(score):
            continue
        segment = segment_at(_STEP * index, {})
        repeat = memory.compare(
            state, _CONDITION, basis="lite@2", passage=passage, score=score, at=segment.starts_at
        )  # fmt: skip
        if repeat is None:
            continue
        pairs += index >= len(passages) - _HOUR - _DAY
        value = SeriesValue(
            value=score - repeat.score, basis="lite@2", scorer="lite@2", segment=segment, impact_minutes=0.07,
            content_seconds=_CONDITION.repeat_seconds,
        )  # fmt: skip
        state, transition = follow_series(_RULE, state, value)
        if transition is not None and transition.kind == "open":
            opened.append(index)
    result.pairs_per_hour.append(pairs / 25)
    return opened


def _print(name: str, result: _Result, days: int) -> list[str]:
    count = len(result.delays)
    seen = float(np.mean(np.isfinite(result.delays)))
    print(
        f"{name:30} {rate_text(result.first_day, count)}  {rate_text(result.later, count * days)} "
        f"{np.mean(result.pairs_per_hour):7.1f}   {seen:5.0%} {np.median(result.delays):6.0f} min",
        flush=True,
    )
    misses = []
    for label, alarms, allowed in (
        ("first day", result.first_day, ALLOWED_FIRST_DAY * count),
        ("later", result.later, ALLOWED * count * days),
    ):
        if is_above(alarms, allowed):
            misses.append(f"{name}, {label}: {alarms} false alarms, {allowed:g} allowed")
    if SHAPES[name][1] and seen < _SEEN_SHARE:
        misses.append(f"{name}: {seen:.0%} of the drops seen within an hour")
    return misses


# ---- recognition of real clips

_COPIES = {"CRF 23": (720, 23), "CRF 38": (720, 38), "480 lines, CRF 30": (480, 30), "240 lines, CRF 34": (240, 34)}
"""Name -> lines and CRF of x264; the others are compared with the first."""
_FPS, _SECONDS = 5, 8
_FIRST, _LAST = 5, 20
"""From the last picture of a segment to the first and the last of the next, in pictures."""


def _clip_passages(path: Path, lines: int, crf: int) -> list[Passage]:
    """The passages of an encode of the first seconds of a clip, one per picture; none when it cannot be read."""
    ffmpeg, width = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"], lines * 16 // 9 // 2 * 2
    encoded = subprocess.run(
        [*ffmpeg, "-t", str(_SECONDS), "-i", str(path), "-an",
         "-vf", f"scale={width}:{lines},fps={_FPS},format=yuv420p", "-c:v", "libx264", "-preset", "ultrafast",
         "-crf", str(crf), "-f", "matroska", "-"],
        capture_output=True, check=False,
    ).stdout  # fmt: skip
    decoded = subprocess.run(
        [*ffmpeg, "-i", "-", "-vf", "extractplanes=y", "-f", "rawvideo", "-"],
        input=encoded, capture_output=True, check=False,
    ).stdout  # fmt: skip
    pictures = np.frombuffer(decoded, np.uint8)[: len(decoded) // (width * lines) * width * lines]
    chroma = np.zeros((lines // 2, width // 2), np.uint8)
    prints = [
        compute_fingerprint(YuvPlanes(y=picture, u=chroma, v=chroma, is_full=False))
        for picture in pictures.reshape(-1, lines, width)
    ]
    return [
        passage_of(prints[n], prints[n + _FIRST], prints[min(n + _LAST, len(prints) - 1)])
        for n in range(len(prints) - _FIRST - 2)
    ]


def _bits(one: Passage, other: Passage) -> int:
    return sum((first ^ second).bit_count() for first, second in zip(one, other, strict=True))


def measure_clips(folder: Path) -> None:
    """Print how many bits differ between encodes of the same content, at other moments, and of other content."""
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix in {".mp4", ".mkv", ".webm", ".m3u8"}]
    clips = [{copy: _clip_passages(path, *how) for copy, how in _COPIES.items()} for path in paths]
    clips = [clip for clip in clips if min(map(len, clip.values())) > _FIRST]
    originals = [clip["CRF 23"] for clip in clips]
    print(
        f"{len(clips)} clips, {sum(map(len, originals))} passages, "
        f"{sum(sum(map(bool, passages)) for passages in originals)} with a hash; "
        f"bits of {64 * PASSAGE_PICTURES} that differ, at most {MAX_DIFFERENT_BITS} match"
    )
    for copy in list(_COPIES)[1:]:
        pairs = [pair for clip in clips for pair in zip(clip["CRF 23"], clip[copy], strict=False) if pair[0]]
        _print_bits(copy, [_bits(*pair) if pair[1] else 192 for pair in pairs])
    for shift in (1, 2, 5, 10):
        pairs = [
            pair for passages in originals for pair in zip(passages, passages[shift:], strict=False) if all(pair)
        ]  # fmt: skip
        _print_bits(f"begun {shift / _FPS:g} s later", [_bits(*pair) for pair in pairs])
    others = [
        _bits(one, other)
        for first, second in combinations(originals, 2)
        for one in first
        for other in second
        if one and other
    ]
    _print_bits("other content", others)


def _print_bits(name: str, bits: Sequence[int]) -> None:
    low, middle, high, most = np.percentile(bits, [0, 50, 95, 100])
    matched = np.mean(np.array(bits) <= MAX_DIFFERENT_BITS)
    print(f"{name:24} {len(bits):7} pairs, {low:3.0f} {middle:3.0f} {high:3.0f} {most:3.0f} bits, {matched:.1%} match")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 when a goal is missed."""
    parser = simulation_parser(__doc__)
    parser.add_argument("--drop", type=float, default=_DROP)
    parser.add_argument("--clips", type=Path)
    chosen = parser.parse_args(arguments)
    if chosen.clips is not None:
        measure_clips(chosen.clips)
        return 0
    names = [name for name in SHAPES if not chosen.only or name in chosen.only]
    if not names:
        parser.error(f"no such shape; known: {', '.join(SHAPES)}")
    print(
        f"{'false alarms per stream-day (95 %)':30} first day            later                pairs/h   "
        f"{chosen.drop:g} points less: seen within an hour"
    )
    misses: list[str] = []
    began = time.perf_counter()
    for name in names:
        result = simulate(name, series=chosen.series, days=chosen.days, seed=chosen.seed, drop=chosen.drop)
        misses += _print(name, result, chosen.days)
    print("\n".join(f"MISSED {miss}" for miss in misses) or "no goal missed", f"({time.perf_counter() - began:.0f} s)")
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
