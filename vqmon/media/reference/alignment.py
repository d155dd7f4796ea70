"""Alignment in time: the offset between a segment and its reference, and how sure it is, from luma thumbnails.

Each thumbnail is the active part of a picture (without black borders) as 64 x 36 area means, centred and scaled to unit
length. The distance of two thumbnails is half the squared distance of these vectors, which is 1 - normalised
correlation for pictures with contrast. Every offset of the search range is tried; it pairs each frame of the segment
with the nearest frame of the reference, and its cost is the mean distance of the pairs. The best offset is believed
when the pictures correlate, and when their changes over time correlate too: two talks in one studio look alike.

A poor encode of slow content repeats what it coded before, so that it resembles earlier frames of the reference as much
as its own, or more. Its key frames repeat nothing: among the offsets near the best one, they decide. Where they cannot
tell the offset of the clocks from the best one, the clocks are believed: the pictures at both times differ by less than
1 % of the coding error. Where the changes of a poor encode correlate less, frames all over the segment must
agree on the offset, each by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from vqmon.core.types import ClipSampling

MIN_OFFSET_SECONDS, MAX_OFFSET_SECONDS = -1.0, 4.0
"""Search range of the time in the reference minus the time in the segment."""

THUMBNAIL_HEIGHT, THUMBNAIL_WIDTH = 54, 96
"""Size of the thumbnails that are collected; borders are cut from them."""

ALIGNMENT_CLIP = ClipSampling(frames=6, stride=2)
"""The frames after each sample that are decoded too: samples a second apart cannot tell one frame from the next."""

_ROWS, _COLUMNS = 36, 64
_FLAT_LEVELS = 2.0
# squared length of a normalised thumbnail: 0.5 where the contrast equals _FLAT_LEVELS
_MIN_CONTRAST = 0.5
_MIN_CORRELATION = 0.9
_MIN_CHANGE_CORRELATION = 0.7
# mean square of the changes over time: as a share of the contrast, and in 8-bit levels of a thumbnail. Below either,
# nothing changes that could tell one time from another
_STILL_SHARE = 2e-4
_STILL_LEVELS = 0.8
_MIN_STILL_CORRELATION = 0.98
_MIN_STILL_OVERLAP = 0.75
_MIN_OVERLAP_SECONDS = 0.3
_MIN_PAIRS = 3
# of the frame period of the reference: how far from its own time a partner may be
_PAIRED_SHARE = 0.6
# cost of an offset at which nothing overlaps, in units of the distance
_OVERLAP_COST = 0.003
_EDGE_SHARE = 0.02
# cost over that of the best offset up to which another one may be right: of all frames, and of key frames
_RIVAL_RATIO, _KEY_RATIO = 1.1, 1.01
# up to which an offset that key frames name may be right, of all frames
_POSSIBLE_RATIO = 2.0
# up to which the clocks are believed: by key frames; without any, when a poor encode does not lead farther from them
_CLOCK_RATIO, _KEYLESS_CLOCK_RATIO, _KEYLESS_LAG_SECONDS = 1.005, 1.25, 0.25
# how far before the right offset a poor encode leads
_MAX_LAG_SECONDS = 0.75
# frames around an offset within which each sample finds its own partner
_NEIGHBOUR_FRAMES = 2.5
# of the longer frame period of both sides, up to which two offsets name the same frame
_SAME_SHARE = 0.75
# frames that each find an offset by themselves: how far apart, how many at least, and what share must agree
_ANCHOR_SECONDS = 0.5
_MIN_ANCHORS = 5
_MIN_AGREEMENT = 0.7
_AGREED_CHANGE_CORRELATION = 0.45

_Floats = NDArray[np.float32]
_Offsets = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class BorderShares:
    """The black borders of a picture, each as a share 0..1 of its height or width."""

    top: float = 0.0
    bottom: float = 0.0
    left: float = 0.0
    right: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """An offset (time in the reference minus time in the segment) and its confidence, 0..1."""

    offset_seconds: float
    confidence: float
    is_reliable: bool
    # whether nothing but other offsets that fit as well speaks against it
    is_ambiguous: bool = False


@dataclass(slots=True)
class ThumbnailTrack:
    """The thumbnails of one side in presentation order; times are seconds after the first frame."""

    times_seconds: list[float]
    # (THUMBNAIL_HEIGHT, THUMBNAIL_WIDTH) uint8 each
    thumbnails: list[NDArray[np.uint8]]
    # positions of the frames that are coded without reference to others
    keys: list[int] = field(default_factory=list)
    # between all frames of the side, of which some may be left out; None = there are no others
    period_seconds: float | None = None

    @property
    def period(self) -> float:
        """Seconds from one frame of the side to the next."""
        return _period(np.asarray(self.times_seconds)) if self.period_seconds is None else self.period_seconds

    def normalise(self, area: BorderShares) -> "_Vectors":
        """The pictures as vectors of length 1; those without contrast stay near 0."""
        rows = _area_weights(THUMBNAIL_HEIGHT, _ROWS, area.top, area.bottom)
        columns = _area_weights(THUMBNAIL_WIDTH, _COLUMNS, area.left, area.right)
        pictures = np.stack(self.thumbnails).astype(np.float32)
        cut = (rows @ pictures @ columns.T).reshape(len(pictures), -1)
        cut -= cut.mean(axis=1, keepdims=True)
        lengths = np.sqrt((cut * cut).sum(axis=1, keepdims=True) + _FLAT_LEVELS**2 * cut.shape[1])
        contrast = float(np.median(lengths)) / cut.shape[1] ** 0.5
        return _Vectors(cut / lengths, max(_STILL_SHARE, (_STILL_LEVELS / contrast) ** 2))


@dataclass(frozen=True, slots=True)
class _Vectors:
    """Normalised thumbnails, (frames, pixels), and the mean square of changes below which they are still."""

    pixels: _Floats
    still_energy: float

    def take(self, indices: NDArray[np.int64]) -> "_Vectors":
        """Some of the frames."""
        return _Vectors(self.pixels[indices], self.still_energy)

    @property
    def changes(self) -> _Floats:
        """What differs from the mean picture."""
        result: _Floats = self.pixels - self.pixels.mean(axis=0)
        return result

    @property
    def is_still(self) -> bool:
        """Whether nothing changes."""
        return float((self.changes**2).sum()) / len(self.pixels) < self.still_energy


def find_alignment(
    segment: ThumbnailTrack,
    reference: ThumbnailTrack,
    *,
    areas: tuple[BorderShares, BorderShares],
    near_seconds: float = 0.0,
) -> Alignment:
    """The most likely offset within the search range around `near_seconds`; `areas` are of segment and reference."""
    ours, theirs = segment.normalise(areas[0]), reference.normalise(areas[1])
    times, reference_times = np.asarray(segment.times_seconds), np.asarray(reference.times_seconds)
    if len(times) < _MIN_PAIRS or len(reference_times) < _MIN_PAIRS:
        return Alignment(offset_seconds=0.0, confidence=0.0, is_reliable=False)
    distances = _distances(ours.pixels, theirs.pixels)
    period = reference.period
    offsets = _candidate_offsets(times, reference_times, near_seconds, period=period)
    costs, key_distances = _pair_all(distances, times, reference_times, offsets, segment.keys, period=period)
    if not len(costs) or not np.isfinite(costs.min()):
        return Alignment(offset_seconds=0.0, confidence=0.0, is_reliable=False)
    # while nothing changes, all offsets cost the same but for coding noise
    if ours.is_still and theirs.is_still and bool(np.isfinite(costs[0])):
        offset, is_unique = float(offsets[0]), True
    else:
        offset, is_unique = _choose_offset(offsets, costs, key_distances, period=period, segment_period=_period(times))
    rows, columns = pair_frames(times, reference_times, offset, period=period)
    overlap = float(_overlaps(times, reference_times, np.array([offset]), period=period)[0])
    agreement = _agreement(distances, times, reference_times, offsets, offset)
    found = _judge(
        ours.take(rows),
        theirs.take(columns),
        distances[rows, columns],
        offset=offset,
        overlap=overlap,
        agreement=agreement,
    )
    return replace(found, is_reliable=found.is_reliable and is_unique, is_ambiguous=found.is_reliable and not is_unique)


def _choose_offset(
    offsets: _Offsets, costs: _Offsets, key_distances: _Offsets, *, period: float, segment_period: float
) -> tuple[float, bool]:
    """The offset, and whether no other one is as good; the first of `offsets` is that of the clocks.

    The periods are those of the frames of the reference and of the segment.
    """
    best, same_seconds = float(offsets[int(np.argmin(costs))]), _SAME_SHARE * max(period, segment_period)
    is_near = np.abs(offsets - best) <= _MAX_LAG_SECONDS
    is_unique = bool(is_near[costs <= _RIVAL_RATIO * costs.min()].all())
    # what was coded before leads back, never forward
    is_eligible = is_near & (offsets >= best - 1.5 * period)
    eligible = np.where(is_eligible, _key_costs(np.where(is_eligible, key_distances, np.inf)), np.inf)
    by_keys = int(np.argmin(eligible))
    # at the best offset the key frames may lie before the reference begins, and resemble its first frames somewhat
    is_without_keys = not np.isfinite(eligible[by_keys]) or (
        not np.isfinite(eligible[int(np.argmin(costs))]) and costs[by_keys] > _KEYLESS_CLOCK_RATIO * costs.min()
    )
    if is_without_keys:
        return _choose_without_keys(offsets, costs, best=best, is_unique=is_unique, same_seconds=same_seconds)
    rivals = offsets[eligible <= _KEY_RATIO * eligible.min()]
    # in a still part of the content key frames fit many offsets, and the frames that move tell the right one
    is_possible = costs <= _POSSIBLE_RATIO * costs.min()
    if is_possible[0] and eligible[0] <= _CLOCK_RATIO * eligible.min():
        return float(offsets[0]), is_unique
    chosen = float(offsets[by_keys])
    # among neighbours, key frames and all frames must name the same one
    is_agreed = abs(chosen - best) <= same_seconds and float(np.ptp(rivals)) <= _NEIGHBOUR_FRAMES * period
    if is_agreed or float(np.ptp(rivals)) <= same_seconds:
        # of neighbours the one that all frames name clearly: a few key frames are not that exact, or a frame is missing
        if costs[by_keys] <= (_KEYLESS_CLOCK_RATIO if is_agreed else _POSSIBLE_RATIO) * costs.min():
            return chosen, is_unique
        return best, is_unique and bool(abs(chosen - best) <= _NEIGHBOUR_FRAMES * period)
    # the key frames cannot tell
    if not is_possible[0]:
        return _choose_without_keys(offsets, costs, best=best, is_unique=is_unique, same_seconds=same_seconds)
    return float(offsets[0]), is_unique and bool(offsets[0] in rivals)


def _choose_without_keys(
    offsets: _Offsets, costs: _Offsets, *, best: float, is_unique: bool, same_seconds: float
) -> tuple[float, bool]:
    """As `_choose_offset`, where no key frame has a partner: the clocks, or the best offset when it stands alone."""
    likely = offsets[costs <= _KEYLESS_CLOCK_RATIO * costs.min()]
    if offsets[0] in likely and abs(best - offsets[0]) <= _KEYLESS_LAG_SECONDS:
        return float(offsets[0]), is_unique
    return best, is_unique and float(np.ptp(likely)) <= same_seconds


def _key_costs(distances: _Offsets) -> _Offsets:
    """How far the key frames are from their partners at each offset: 1 where each has the nearest of its partners.

    `distances` are (key frames, offsets), infinite without a partner; where none has one, so is the cost.
    """
    if not len(distances):
        return np.full(distances.shape[1], np.inf)
    has_partner = np.isfinite(distances)
    nearest = distances.min(axis=1, keepdims=True)
    ratios = np.where(has_partner, distances, 0) / np.where(np.isfinite(nearest), nearest, 1).clip(1e-9)
    counts = has_partner.sum(axis=0)
    return np.where(counts > 0, ratios.sum(axis=0) / counts.clip(1), np.inf)


def _agreement(
    distances: _Floats, times: _Offsets, reference_times: _Offsets, offsets: _Offsets, offset: float
) -> float:
    """The share of frames, some half a second apart, whose own nearest frame of the reference lies near the offset."""
    anchors = [0]
    for index, time in enumerate(times):
        if time - times[anchors[-1]] >= _ANCHOR_SECONDS - 1e-6:
            anchors.append(index)
    low, high = float(offsets.min()), float(offsets.max())
    own = []
    for anchor in anchors:
        apart = reference_times - times[anchor]
        within = np.flatnonzero((apart >= low) & (apart <= high))
        if len(within):
            own.append(float(apart[within[int(np.argmin(distances[anchor, within]))]]))
    if len(own) < _MIN_ANCHORS:
        return 0.0
    return float(np.mean([abs(each - offset) <= _MAX_LAG_SECONDS for each in own]))


def match_stills(picture: NDArray[np.uint8], reference: NDArray[np.uint8]) -> Alignment:
    """Whether two luma thumbnails of still pictures show the same scene; the offset is 0."""
    ours, theirs = (ThumbnailTrack([0.0], [each]).normalise(BorderShares()).pixels for each in (picture, reference))
    correlation = float(1 - _distances(ours, theirs)[0, 0])
    has_contrast = min(float((ours**2).sum()), float((theirs**2).sum())) > _MIN_CONTRAST
    return Alignment(
        offset_seconds=0.0,
        confidence=round(max(0.0, correlation), 4),
        is_reliable=has_contrast and correlation >= _MIN_CORRELATION,
    )


def pair_frames(
    times: NDArray[np.float64], reference_times: NDArray[np.float64], offset: float, *, period: float | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the frames that have a partner at this offset, and of their partners: the nearest in time.

    `period` is that of the reference, in seconds, where frames of it are left out.
    """
    period = _period(reference_times) if period is None else period
    nearest, is_paired = _nearest_frames(times, reference_times, np.array([offset]), period=period)
    rows = np.flatnonzero(is_paired[0])
    return rows, nearest[0, rows]


def _nearest_frames(
    times: _Offsets, reference_times: _Offsets, offsets: _Offsets, *, period: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(offsets, frames): the frame of the reference that is nearest in time, and whether it is near enough to pair."""
    wanted = times + offsets[:, None]
    after = np.searchsorted(reference_times, wanted).clip(1, len(reference_times) - 1)
    nearest = after - (wanted - reference_times[after - 1] <= reference_times[after] - wanted)
    return nearest, np.abs(reference_times[nearest] - wanted) <= _PAIRED_SHARE * period + 1e-6


def _overlaps(times: _Offsets, reference_times: _Offsets, offsets: _Offsets, *, period: float) -> _Offsets:
    """(offsets,): the share of frames that lie within the time of the reference."""
    wanted, tolerance = times + offsets[:, None], _PAIRED_SHARE * period + 1e-6
    is_within = (wanted >= reference_times[0] - tolerance) & (wanted <= reference_times[-1] + tolerance)
    return np.asarray(is_within.mean(axis=1))


def _area_weights(size: int, cells: int, before: float, after: float) -> _Floats:
    """(cells, size): how much each of `size` rows adds to each cell; the area's outermost 2 % are left out."""
    margin = _EDGE_SHARE * (1 - before - after)
    edges = np.linspace((before + margin) * size, (1 - after - margin) * size, cells + 1)
    rows = np.arange(size)
    covered = np.minimum(edges[1:, None], rows + 1) - np.maximum(edges[:-1, None], rows)
    covered = covered.clip(0)
    result: _Floats = (covered / covered.sum(axis=1, keepdims=True)).astype(np.float32)
    return result


def _distances(ours: _Floats, theirs: _Floats) -> _Floats:
    lengths, their_lengths = (ours * ours).sum(axis=1), (theirs * theirs).sum(axis=1)
    result: _Floats = (lengths[:, None] + their_lengths[None, :] - 2 * (ours @ theirs.T)).clip(0) / 2
    return result


def _period(times: NDArray[np.float64]) -> float:
    return float(np.median(np.diff(times))) if len(times) > 1 else 0.04


def _candidate_offsets(
    times: NDArray[np.float64], reference_times: NDArray[np.float64], near_seconds: float, *, period: float
) -> NDArray[np.float64]:
    """The offsets of the search range that put the first frames of the segment onto frames of the reference."""
    low, high = near_seconds + MIN_OFFSET_SECONDS - 1e-6, near_seconds + MAX_OFFSET_SECONDS + 1e-6
    # before the reference begins there is no frame to land on: its own spacing continues there
    earlier = reference_times[0] - period * np.arange(1, int(max(0.0, -low) / period) + 2)
    landings = np.concatenate([earlier, reference_times])
    offsets = np.unique(np.round(np.concatenate([landings - start for start in times[:_MIN_PAIRS]]), 6))
    within = offsets[(offsets >= low) & (offsets <= high)]
    # near zero first, so that a still picture keeps its own time
    return within[np.argsort(np.abs(within - near_seconds), kind="stable")]


def _pair_all(
    distances: _Floats,
    times: _Offsets,
    reference_times: _Offsets,
    offsets: _Offsets,
    keys: Sequence[int],
    *,
    period: float,
) -> tuple[_Offsets, _Offsets]:
    """The cost of each offset, and (key frames, offsets): the distance of each key frame and its partner.

    Infinite where too few frames, or the key frame, have a partner.
    """
    costs, key_distances = np.full(len(offsets), np.inf), np.full((len(keys), len(offsets)), np.inf)
    row_of_key = np.full(len(times), -1)
    row_of_key[list(keys)] = np.arange(len(keys))
    nearest, is_paired = _nearest_frames(times, reference_times, offsets, period=period)
    overlaps = _overlaps(times, reference_times, offsets, period=period)
    for index in range(len(offsets)):
        rows = np.flatnonzero(is_paired[index])
        if not _has_enough(times, rows):
            continue
        columns = nearest[index, rows]
        paired = distances[rows, columns]
        costs[index] = paired.mean() + _OVERLAP_COST * (1 - overlaps[index])
        is_key = row_of_key[rows] >= 0
        key_distances[row_of_key[rows[is_key]], index] = paired[is_key]
    return costs, key_distances


def _has_enough(times: _Offsets, rows: NDArray[np.int64]) -> bool:
    """Whether these frames are enough, and cover enough time, to tell an offset."""
    if len(rows) < _MIN_PAIRS:
        return False
    return bool(times[rows[-1]] - times[rows[0]] >= min(_MIN_OVERLAP_SECONDS, 0.5 * (times[-1] - times[0])))


def _judge(
    ours: _Vectors, theirs: _Vectors, distances: _Floats, *, offset: float, overlap: float, agreement: float
) -> Alignment:
    """Whether the pairs at the best offset are believed."""
    has_contrast = np.minimum((ours.pixels**2).sum(axis=1), (theirs.pixels**2).sum(axis=1)) > _MIN_CONTRAST
    correlation = float(1 - distances.mean())
    if has_contrast.mean() < 0.1:
        return Alignment(offset_seconds=offset, confidence=0.0, is_reliable=False)
    if ours.is_still and theirs.is_still:
        is_reliable = correlation >= _MIN_STILL_CORRELATION and overlap >= _MIN_STILL_OVERLAP
        return Alignment(offset_seconds=offset, confidence=max(0.0, correlation), is_reliable=is_reliable)
    our_changes, their_changes = ours.changes, theirs.changes
    scale = float(np.sqrt((our_changes * our_changes).sum() * (their_changes * their_changes).sum()))
    changes = float((our_changes * their_changes).sum()) / scale if scale > 0 else 0.0
    confidence = max(0.0, min(correlation, changes))
    needed = _AGREED_CHANGE_CORRELATION if agreement >= _MIN_AGREEMENT else _MIN_CHANGE_CORRELATION
    is_reliable = correlation >= _MIN_CORRELATION and changes >= needed
    return Alignment(offset_seconds=offset, confidence=round(confidence, 4), is_reliable=is_reliable)


def choose_partner(picture: NDArray[np.uint8], candidates: Sequence[NDArray[np.uint8]], *, expected: int) -> int:
    """The index of the candidate that shows the picture; the expected one unless another is clearly nearer.

    All are luma pictures of one size. A dropped frame moves the rest of a segment by one frame.
    """
    centred = picture.astype(np.float32) - picture.mean(dtype=np.float32)
    errors = []
    for candidate in candidates:
        difference = centred - (candidate.astype(np.float32) - candidate.mean(dtype=np.float32))
        errors.append(float((difference * difference).mean()))
    best = int(np.argmin(errors))
    return best if errors[best] < 0.8 * errors[expected] - 0.01 else expected
