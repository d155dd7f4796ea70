"""Scores, reference measures, heat maps and their provenance: pooling, calibration, promotion to heavy scorers."""

import base64
import binascii
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vqmon.core.calibration import ScoreInterval
from vqmon.core.frames import GRID_COLUMNS, GRID_ROWS, Sampling
from vqmon.errors import REASONS

_BANDS = ((80.0, "very high"), (60.0, "high"), (40.0, "medium"), (20.0, "low"))
"""Lowest score of each band of the scale; "very low" is below them. They name a place on the scale, not an opinion."""


def score_band(score: float) -> str:
    """The band of a score 0..100, as it is shown with one decimal.

    >>> score_band(61.0), score_band(59.96), score_band(-3.0)
    ('high', 'high', 'very low')
    """
    return next((band for lowest, band in _BANDS if round(score, 1) >= lowest), "very low")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One scorer's verdict on one segment: 0..100, higher is better; `native_value` is on the scorer's own scale."""

    # name@version, or name.task@version of a scorer with several tasks
    scorer: str
    # of the segment, 0..100
    value: float
    # the same on the scorer's own scale
    native_value: float
    # fifth percentile over the frames, 0..100
    p5: float
    # lowest frame, 0..100
    min: float
    # how frame values were pooled into `value`, e.g. "mean"
    pooling: str
    # one per sampled frame; a scorer of whole clips repeats the value of a clip at each of its frames
    frame_values: tuple[float, ...]
    # level ("good", "fair" ...) -> probability, mean over frames; only of level scorers
    levels: Mapping[str, float] = field(default_factory=dict, hash=False)
    # normalized entropy of the levels, mean over frames: 0 = certain of one level, 1 = all levels equally likely
    entropy: float | None = None
    # share of the population of the scorer's manifest that is worse, in percent; None when the manifest has no table
    percentile: float | None = None
    # where the mean human score is expected, 0..100; None when the manifest does not state it
    interval: ScoreInterval | None = None
    # scored besides the sampled frames, because these disagreed: `value`, `p5` and `min` are of all of them
    additional_frames: int = 0

    @property
    def standard_error(self) -> float:
        """Of the mean over the frames, in points, if these were independent; 0 for one frame and for other poolings."""
        count = len(self.frame_values)
        if count < 2 or self.pooling != "mean":
            return 0.0
        deviation = float(np.std(self.frame_values, ddof=1))
        return deviation / math.sqrt(count)


ScorerTier = Literal["main", "first", "heavy", "shadow"]
"""`main` is the first scorer of the first tier, whose score stands for the segment; the others there are `first`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerFailure:
    """Why one scorer has no score for a segment that others scored."""

    # name@version, or name.task@version of a scorer with several tasks
    scorer: str
    tier: ScorerTier
    # a key of errors.REASONS
    reason: str
    detail: str

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise ValueError(f"unknown reason {self.reason!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalSummary:
    """One signal over a segment: 0..1, higher means more of what it measures."""

    mean: float
    max: float
    frame_values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerIdentity:
    """The exact scorer, and the device it ran on."""

    scorer: str
    sha256: str
    preprocessing: str
    calibration_version: int
    device: str
    licence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What produced a verdict: enough to reproduce it."""

    scorers: tuple[ScorerIdentity, ...]
    sampling: Sampling
    # library name -> version; ffmpeg libraries included
    versions: Mapping[str, str]


PROMOTION_REASONS: dict[str, str] = {
    "sample": "in the random sample, which is drawn by the segment's key and so is the same in a replay",
    "label": "segments with one of its labels are always promoted",
    "low": "the cheap score is below the limit",
    "drop": "the cheap score fell below the median of the segments before it",
}
"""Why a segment is scored by the heavy scorers in addition to the cheap ones."""

PROMOTION_SKIP_REASONS: dict[str, str] = {
    "budget": "the device-seconds of this hour are used up",
    "failed": "every heavy scorer failed; only the cheap scores are reported",
    "timeout": "no heavy scorer was done in time; only the cheap scores are reported",
}
"""Why the heavy scorers did not score a segment although there was a reason to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """Whether the heavy scorers scored a segment, and why; only where heavy scorers are configured."""

    # keys of PROMOTION_REASONS; empty = not promoted
    reasons: tuple[str, ...] = ()
    # a key of PROMOTION_SKIP_REASONS; empty when nothing was skipped
    left_out: str = ""
    # the scorer that failed and by whose score `low` and `drop` are decided; empty when they were decided
    undecided_without: str = ""

    def __post_init__(self) -> None:
        if unknown := set(self.reasons) - set(PROMOTION_REASONS):
            raise ValueError(f"unknown reasons {sorted(unknown)}")
        if self.left_out and (self.left_out not in PROMOTION_SKIP_REASONS or not self.reasons):
            raise ValueError(f"left_out is unknown, or there is no promotion reason: {self.left_out!r}")


_Values = NDArray[np.float64]


def _harmonic(values: _Values) -> float:
    """The harmonic mean on a scale shifted by one, as VMAF pools, so that a single zero does not make it 0."""
    return float(len(values) / np.sum(1.0 / (np.clip(values, 0.0, None) + 1.0)) - 1.0)


POOLINGS: Mapping[str, Callable[[_Values], float]] = {
    "mean": lambda values: float(values.mean()),
    "min": lambda values: float(values.min()),
    "p5": lambda values: float(np.percentile(values, 5)),
    "harmonic": _harmonic,
}


def pool(name: str, values: Sequence[float]) -> float:
    """Pool frame values by the method `name` of `POOLINGS`; ValueError for an unknown name or no finite values."""
    if name not in POOLINGS:
        raise ValueError(f"unknown pooling {name!r}; one of {', '.join(sorted(POOLINGS))}")
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"cannot pool {array.size} values of which {int((~np.isfinite(array)).sum())} are not finite")
    return POOLINGS[name](array)


def summarize_signal(values: Sequence[float]) -> SignalSummary:
    """Summarize the frame values of one signal, rounded to 4 decimals."""
    return SignalSummary(
        mean=round(pool("mean", values), 4),
        max=round(max(values), 4),
        frame_values=tuple(round(float(value), 4) for value in values),
    )


REFERENCE_PREFIX = "reference:"
"""Before the name of a reference measure where names of scorers stand too, as in `reference:psnr`."""

EXPORTED_MEASURES = ("psnr", "ssim", "ms_ssim", "xpsnr", "vif", "msad", "gmsd", "vmaf", "vmaf_neg", "cambi")
"""The reference measures that have a column of their own in exports; the column `references` has all."""

UNSCORED_REFERENCE: dict[str, str] = {
    "misaligned": "the two sides cannot be paired: another content, another time, or another part of the picture",
    "fetch": "the reference cannot be fetched",
    "decode": "the reference cannot be decoded",
    "timeout": "the comparison took too long",
    "missing": "the playlist of the reference has no segment for this time",
    "failed": "a learned measure could not be computed, and no other was asked for",
    "program": "the ffmpeg program of scoring.ffmpeg failed, or is not there",
    "too_small": "the pictures are smaller than a measure needs",
}
"""Why a segment that has a reference has no values of reference measures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceScore:
    """One measure of one segment, compared with its reference or alone, on the measure's own scale."""

    # its name, e.g. "ssim"
    measure: str
    # mean over the frames that have one
    value: float
    # one per sampled frame; None for a frame that has no partner in the reference or no value
    frame_values: tuple[float | None, ...]
    # "dB", or "" for a measure without a unit
    unit: str
    # None of a measure that describes the content, such as `si`: where better and worse are asked, less of it is worse
    higher_is_better: bool | None
    # means of the parts that make up the value, such as "y", "u", "v" or "scale_0"
    components: Mapping[str, float] = field(default_factory=dict, hash=False)
    # whether it comes from a comparison with the reference; False for a measure of the segment alone
    is_compared: bool = True

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is."""
        return -1 if self.higher_is_better is False else 1

    @property
    def level(self) -> float:
        """The value with the sign that makes higher better, for control charts."""
        return self.sign * self.value

    @property
    def damages(self) -> tuple[float, ...]:
        """One number per sampled frame, higher where the frame is worse; frames without a partner are the best."""
        values = [None if value is None else -self.sign * value for value in self.frame_values]
        best = min(value for value in values if value is not None)
        return tuple(best if value is None else value for value in values)

    @property
    def worst(self) -> float:
        """The worst frame value."""
        values = [value for value in self.frame_values if value is not None]
        return min(values) if self.sign > 0 else max(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferencePairing:
    """How frames were paired with those of the reference."""

    # time in the reference minus time in the segment, each counted from its first frame
    offset_seconds: float
    # 0..1: correlation of the two sides at this offset
    confidence: float
    paired_frames: int
    # size, kernel, pixel format and colour at which both sides were compared, e.g.
    # "1920x1080 bicubic yuv420p bt709/limited"
    canvas: str
    # pictures outside black borders that were compared: "1920x800+0+140 of 1920x1080"; "" = the whole picture
    segment_area: str = ""
    reference_area: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PicturePairs:
    """Pictures of the segment and of the reference, (pairs, height, width, 3) uint8 RGB each, for a learned measure."""

    # indices of the sampled frames, rising
    samples: tuple[int, ...]
    reference: NDArray[np.uint8]
    segment: NDArray[np.uint8]

    def __post_init__(self) -> None:
        shape = self.segment.shape
        if self.reference.shape != shape or len(shape) != 4 or shape[0] != len(self.samples) or shape[3] != 3:
            raise ValueError(f"pictures of {self.reference.shape} and {shape} are not {len(self.samples)} pairs")


_MIN_PEAK = 0.1
"""A frame in which no cell loses more than this has no map: it would show noise."""

Losses = NDArray[np.float32]
"""(rows, columns) or (frames, rows, columns) of 0..1: 0 where nothing is lost."""

HEAT_MAP_MEANINGS: dict[str, str] = {
    "detail": "share of its fine detail that a part of the picture has lost since an earlier frame",
    "ssim": "1 - SSIM against the reference, in blocks of 8 x 8 pixels",
}
"""What a loss of 1 means, by the name of the map; the map of a scorer has the scorer's name."""

_SCORER_MEANING = "points of 100 that this part of the picture, scored alone, lies below the better parts"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """Where quality is lost in the sampled frames of a segment, by one measure.

    A frame is the base64 text of `rows * columns` bytes, row by row from the top left of the picture as displayed; a
    byte of 255 stands for a loss of 1. It is "" for a frame without a map: one that loses nothing, or that could not be
    compared.
    """

    # a key of HEAT_MAP_MEANINGS, or the id of a scorer
    measure: str
    # one per sampled frame
    frames: tuple[str, ...]
    rows: int = GRID_ROWS
    columns: int = GRID_COLUMNS

    def __post_init__(self) -> None:
        if not (1 <= self.rows <= 64 and 1 <= self.columns <= 64):
            raise ValueError(f"a heat map has 1..64 rows and columns, not {self.rows} x {self.columns}")
        for text in self.frames:
            if text and len(_unpack(text)) != self.rows * self.columns:
                raise ValueError(f"a frame of the heat map {self.measure} needs {self.rows * self.columns} bytes")

    @property
    def meaning(self) -> str:
        """What a loss of 1 means."""
        return HEAT_MAP_MEANINGS.get(self.measure, _SCORER_MEANING)

    @property
    def means(self) -> tuple[float, ...]:
        """The mean loss of each sampled frame, 0..1."""
        grids = (self.losses(index) for index in range(len(self.frames)))
        return tuple(0.0 if losses is None else float(losses.mean()) for losses in grids)

    def losses(self, index: int) -> Losses | None:
        """(rows, columns) of the sampled frame with this index; None for a frame without a map."""
        if not 0 <= index < len(self.frames) or not self.frames[index]:
            return None
        cells = np.frombuffer(_unpack(self.frames[index]), np.uint8).reshape(self.rows, self.columns)
        return (cells / np.float32(255)).astype(np.float32)


def pack_heat_map(measure: str, frames: Iterable[Losses | None], *, min_peak: float = _MIN_PEAK) -> HeatMap | None:
    """The map of one measure; None when no frame loses `min_peak` anywhere. All frames have one shape."""
    grids = list(frames)
    shapes = [grid.shape for grid in grids if grid is not None]
    texts = tuple("" if grid is None or grid.max() < min_peak else _pack(grid) for grid in grids)
    if not any(texts):
        return None
    rows, columns = shapes[0]
    return HeatMap(measure=measure, frames=texts, rows=rows, columns=columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceComparison:
    """The result of comparing a decoded segment with its reference: values, or the reason why there are none."""

    scores: tuple[ReferenceScore, ...] = ()
    # by the length of their short side in px, 0 = the canvas, as requested; empty once the measures have been computed
    pictures: Mapping[int, PicturePairs] = field(default_factory=dict, hash=False, compare=False, repr=False)
    # None when unscored
    pairing: ReferencePairing | None = None
    # a key of UNSCORED_REFERENCE; "" when scored
    unscored: str = ""
    detail: str = ""
    # where the segment differs from the reference; only when asked for
    heat_maps: tuple[HeatMap, ...] = ()

    def __post_init__(self) -> None:
        has_result = bool(self.scores) or bool(self.pictures)
        if bool(self.unscored) == (self.pairing is not None) or has_result != (self.pairing is not None):
            raise ValueError("a comparison has either scores and their pairing, or the reason why there are none")
        if self.unscored and self.unscored not in UNSCORED_REFERENCE:
            raise ValueError(f"unknown reason {self.unscored!r}")


def reference_subject(measure: str) -> str:
    """The name of a reference measure among scorers: `reference:psnr`."""
    return REFERENCE_PREFIX + measure


_ROW_NAMES, _COLUMN_NAMES = ("top", "middle", "bottom"), ("left", "centre", "right")


def region_means(losses: Losses) -> list[tuple[str, float]]:
    """Name and mean loss of the nine thirds-by-thirds regions of a picture, row by row.

    >>> region_means(np.tile(np.float32([1, 1, 0, 0, 0, 0]), (3, 1)))[:3]
    [('top left', 1.0), ('top centre', 0.0), ('top right', 0.0)]
    """
    rows, columns = (_thirds(length) for length in losses.shape)
    return [
        (f"{row_name} {column_name}", float(losses[row, column].mean()))
        for row_name, row in zip(_ROW_NAMES, rows, strict=True)
        for column_name, column in zip(_COLUMN_NAMES, columns, strict=True)
    ]


def describe_losses(losses: Losses) -> str:
    """Where most is lost, in words.

    >>> describe_losses(np.tile(np.float32([0.8, 0.8, 0.0, 0.0]), (4, 1)))
    'mostly left; mean 0.40, largest 0.80'
    """
    width, height = losses.shape[1], losses.shape[0]
    halves = {
        "left": losses[:, : width // 2].mean(),
        "right": losses[:, (width + 1) // 2 :].mean(),
        "top": losses[: height // 2].mean(),
        "bottom": losses[(height + 1) // 2 :].mean(),
    }
    sides = [
        name
        for name, opposite in (("top", "bottom"), ("bottom", "top"), ("left", "right"), ("right", "left"))
        if halves[name] > 2 * halves[opposite]
    ]
    where = f"mostly {' '.join(sides)}" if sides else "on no side in particular"
    return f"{where}; mean {losses.mean():.2f}, largest {losses.max():.2f}"


def _thirds(length: int) -> Sequence[slice]:
    edges = [round(length * third / 3) for third in range(4)]
    return [slice(start, max(stop, start + 1)) for start, stop in pairwise(edges)]


def _pack(losses: Losses) -> str:
    return base64.b64encode((np.clip(losses, 0, 1) * 255 + 0.5).astype(np.uint8).tobytes()).decode()


def _unpack(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("a frame of a heat map is not base64") from error
