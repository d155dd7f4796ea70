"""Registration of the picture: black borders, what may be cut, and whether one side is shifted, zoomed or cropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vqmon.media.images.frames import count_dark_ends, luma_plane
from vqmon.media.measures.filters import correlate_separable, halve
from vqmon.media.reference.alignment import BorderShares

if TYPE_CHECKING:
    from vqmon.media.reference.canvas import SideFrame

# luma on an 8-bit scale
_DARK_MEAN = 24.0
_DARK_PEAK = 56.0
_MAX_ASPECT_ERROR = 0.02
# of the size of a picture inside bars: no whole number, and how far rounding moves its edges
_WHOLE_PX, _ROUNDED_PX = 0.05, 2

_Luma = NDArray[np.uint8]
_Floats = NDArray[np.float32]
_Parameters = NDArray[np.float64]

# ---- displacement

REGISTRATION_SIZE = (640, 360)
"""(width, height) to which pictures are brought before their displacement is measured."""

# (how often the pictures are halved, iterations)
_LEVELS = ((3, 3), (2, 3), (1, 2))
_BINOMIAL = tuple(tap / 16 for tap in (1, 4, 6, 4, 1))
# of the height and width: what a shift moves out of the picture is not compared
_MARGIN_SHARE = 0.05
_AFFINE = 6
# over the picture, of 1 and of the coordinates -1..1 across and down
_MEAN_SQUARES = np.array([1, 1 / 3, 1 / 3])
# luma, 8-bit: below it differences are rounding; of robust weights: this, and so many lower
# quartiles of the differences
_ROUNDING, _ROBUST_LEVELS, _ROBUST_QUARTILES = 1.0, 6.0, 4.0
# px: how far a picture without detail may be moved
_PRIOR_PX = 10.0
# px of REGISTRATION_SIZE, root mean square over the picture: what scalers do, what the error of the fit may add (the
# residuals of neighbouring pixels are alike, so that their number overstates what is known), and the most
_MIN_LIMIT_PX, _ERRORS, _MAX_LIMIT_PX = 0.35, 32.0, 2.0
# px, and times the error of the direction that tells most: above either the pictures hardly tell their place in a
# direction; along bars noise is the only detail
_MAX_ERROR_PX, _MAX_ERROR_RATIO = 0.18, 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Borders:
    """Widths in px of the black borders of a coded picture."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def intersect(self, other: Borders) -> Borders:
        """What is border in both pictures."""
        return Borders(
            top=min(self.top, other.top),
            bottom=min(self.bottom, other.bottom),
            left=min(self.left, other.left),
            right=min(self.right, other.right),
        )

    def even(self) -> Borders:
        """Rounded up to even numbers, so that a cut keeps whole chroma samples."""
        return Borders(
            top=self.top + self.top % 2,
            bottom=self.bottom + self.bottom % 2,
            left=self.left + self.left % 2,
            right=self.right + self.right % 2,
        )

    @property
    def is_empty(self) -> bool:
        """Whether there are no borders."""
        return not (self.top or self.bottom or self.left or self.right)


NO_BORDERS = Borders()


def find_borders(luma: _Luma) -> Borders:
    """The black rows and columns around a picture, (height, width) luma; none for a picture that is black throughout.

    A row is black when its mean is under 24 and no pixel is over 56, of 255.
    """
    top, bottom = _count_dark_rows(luma)
    if top + bottom >= len(luma):
        return NO_BORDERS
    left, right = _count_dark_rows(luma[top : len(luma) - bottom].T)
    return Borders(top=top, bottom=bottom, left=left, right=right)


def _count_dark_rows(luma: _Luma) -> tuple[int, int]:
    # nearly every picture has no borders: its outermost rows tell that
    if _are_lit(luma[[0, -1]]).all():
        return 0, 0
    return count_dark_ends(_are_lit(luma))


def _are_lit(rows: _Luma) -> NDArray[np.bool_]:
    lit: NDArray[np.bool_] = (rows.mean(axis=1) >= _DARK_MEAN) | (rows.max(axis=1) >= _DARK_PEAK)
    return lit


def merge_borders(borders: Borders | None, frame: SideFrame) -> Borders:
    """What is border in this frame and in all before it; `borders` is None for the first."""
    if frame.needs_rgb:
        return NO_BORDERS
    found = find_borders(luma_plane(frame.frame))
    return found if borders is None else borders.intersect(found)


def border_choices(
    ours: SideFrame, dark: Borders, theirs: SideFrame, their_dark: Borders
) -> list[tuple[Borders, Borders]]:
    """What may be cut: nothing, of one side the bars that give it the other's shape, or what is dark."""
    choices = [(NO_BORDERS, NO_BORDERS)]
    for own, other in _shapes(ours, theirs):
        if (bars := _bars(own, dark, other.active_size(NO_BORDERS))) is not None:
            choices.append((bars, NO_BORDERS))
        if (bars := _bars(other, their_dark, own.active_size(NO_BORDERS))) is not None:
            choices.append((NO_BORDERS, bars))
    dark, their_dark = dark.even(), their_dark.even()
    return list(dict.fromkeys([*choices, (dark, their_dark), (dark, NO_BORDERS), (NO_BORDERS, their_dark)]))


def have_same_shape_inside(ours: SideFrame, theirs: SideFrame, borders: tuple[Borders, Borders]) -> bool:
    """Whether the pictures inside the borders have one shape, as displayed or as coded.

    Scaling and padding often go by the coded size and drop the shape of the pixels.
    """
    return any(
        have_same_shape(own.active_size(borders[0]), other.active_size(borders[1]))
        for own, other in _shapes(ours, theirs)
    )


def _shapes(ours: SideFrame, theirs: SideFrame) -> list[tuple[SideFrame, SideFrame]]:
    """The two sides, and with square pixels where they state other shapes of pixels."""
    if ours.sample_aspect_ratio == theirs.sample_aspect_ratio:
        return [(ours, theirs)]
    return [(ours, theirs), (replace(ours, sample_aspect_ratio=1.0), replace(theirs, sample_aspect_ratio=1.0))]


def _bars(frame: SideFrame, dark: Borders, size: tuple[int, int]) -> Borders | None:
    """The bars around a centred picture of the shape `size`; None when what is dark differs from them.

    A dark scene, such as a night sky, makes the dark borders larger than the bars. Where the size of the picture is no
    whole number, a scaler has rounded it in its own way, and what is dark are the bars if it is within 2 px of them.
    """
    width, height = frame.active_size(NO_BORDERS)
    scale = min(width / size[0], height / size[1])
    lengths = [(1 - size[1] * scale / height) * frame.frame.height, (1 - size[0] * scale / width) * frame.frame.width]
    rows, columns = (round(length) for length in lengths)
    # whole chroma samples before the picture, as the filter `pad` of FFmpeg leaves them
    top, left = rows // 4 * 2, columns // 4 * 2
    bars = Borders(top=top, bottom=rows - top, left=left, right=columns - left)
    if bars.is_empty:
        return None
    fits = bars.intersect(dark.even()) == bars
    if fits and max(abs(length - round(length)) for length in lengths) < _WHOLE_PX:
        return bars
    differences = (bars.top - dark.top, bars.bottom - dark.bottom, bars.left - dark.left, bars.right - dark.right)
    if max(map(abs, differences)) <= _ROUNDED_PX:
        return dark
    return bars if fits else None


def have_same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes (width, height) have the same aspect ratio, to 2 %."""
    return abs((size[0] / size[1]) / (other[0] / other[1]) - 1) <= _MAX_ASPECT_ERROR


def border_shares(frame: SideFrame, borders: Borders) -> BorderShares:
    """The borders as shares of the coded picture."""
    width, height = frame.frame.width, frame.frame.height
    return BorderShares(
        top=borders.top / height,
        bottom=borders.bottom / height,
        left=borders.left / width,
        right=borders.right / width,
    )


def describe_area(frame: SideFrame, borders: Borders) -> str:
    """The picture inside the borders, e.g. "1920x800+0+140 of 1920x1080"; empty for the whole picture."""
    if borders.is_empty:
        return ""
    width, height = frame.frame.width, frame.frame.height
    inner = f"{width - borders.left - borders.right}x{height - borders.top - borders.bottom}"
    return f"{inner}+{borders.left}+{borders.top} of {width}x{height}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Displacement:
    """How the content of a picture lies against that of its reference."""

    # px of REGISTRATION_SIZE: (x, y) at the centre, and what is added at its right edge, and at its bottom edge, as
    # (x, x right, x bottom, y, y right, y bottom)
    affine: _Parameters
    # (6, 6) px squared
    covariance: _Parameters

    @property
    def is_none(self) -> bool:
        """Whether this pair alone shows that there is none."""
        return _extent(self.affine) <= _MIN_LIMIT_PX


def are_registered(displacements: Sequence[Displacement]) -> bool:
    """Whether pairs of pictures of one segment show the same part of the scene, by the median of their displacements.

    Up to 0.35 px of REGISTRATION_SIZE is no displacement; for poor encodes, up to 2 px. Detail in one direction, as of
    bars, tells the displacement across it alone: the two directions that tell most and least are judged each where its
    error is small. Pictures that are flat but for noise are taken for registered.
    """
    affine = np.median([each.affine for each in displacements], axis=0).reshape(2, 3)
    by_error = sorted(displacements, key=lambda each: float(np.trace(each.covariance)))
    covariance = by_error[len(by_error) // 2].covariance
    _, axes = np.linalg.eigh(covariance[::3, ::3])
    affine = axes.T @ affine
    # of the same parameters along these directions
    blocks = covariance.reshape(2, 3, 2, 3)
    variances = np.einsum("ak,aibi,bk->ki", axes, blocks, axes)
    errors = np.sqrt(variances @ _MEAN_SQUARES)
    is_known = errors <= min(_MAX_ERROR_PX, _MAX_ERROR_RATIO * float(errors.min()))
    limit = min(_MIN_LIMIT_PX + _ERRORS * float(np.hypot.reduce(errors[is_known])), _MAX_LIMIT_PX)
    return float(np.sqrt((affine[is_known] ** 2 @ _MEAN_SQUARES).sum())) <= limit


def measure_displacement(picture: _Luma, reference: _Luma) -> Displacement:
    """Where the content of a luma picture lies against its reference, both of REGISTRATION_SIZE.

    An affine displacement, a gain and an offset of luma are fitted by least squares to all pixels at once, from coarse
    to fine: B. D. Lucas and T. Kanade, "An iterative image registration technique with an application to stereo
    vision", IJCAI 1981. The gradients are those of the reference, which the coding of the segment does not disturb, so
    that what is left of a poor encode tells its place too.
    Pixels that differ far more than a quarter of them, as those of a graphic, hardly count (redescending weights, as
    Geman's and McClure's). Where the pictures have no detail, nothing speaks for a displacement.
    """
    affine, covariance = np.zeros(_AFFINE), np.zeros((_AFFINE, _AFFINE))
    pyramids = [_pyramid(each, _LEVELS[0][0]) for each in (picture, reference)]
    for level, iterations in _LEVELS:
        ours, theirs = (pyramid[level] for pyramid in pyramids)
        for _ in range(iterations):
            step, covariance = _step(ours, theirs, affine, scale=2.0**level)
            affine = affine + step
    return Displacement(affine=affine, covariance=covariance)


def _extent(affine: _Parameters) -> float:
    """Root mean square over the picture."""
    return float(np.sqrt((affine.reshape(2, 3) ** 2 @ _MEAN_SQUARES).sum()))


def _pyramid(picture: _Luma, levels: int) -> list[_Floats]:
    """The picture halved 0, 1, 2 ... times, each smoothed."""
    planes = [picture.astype(np.float32)]
    for _ in range(levels):
        planes.append(halve(planes[-1]))
    return [correlate_separable(np.pad(plane, 2, mode="edge"), _BINOMIAL, _BINOMIAL) for plane in planes]


def _step(
    ours: _Floats, theirs: _Floats, affine: _Parameters, *, scale: float
) -> tuple[_Parameters, NDArray[np.float64]]:
    """What is added to the displacement (px of the full size), and the covariance of the sum.

    `scale` is the size of a pixel of these pictures in px of the full size.
    """
    height, width = theirs.shape
    across = np.linspace(-1, 1, width, dtype=np.float32)[None]
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    shift_x, shift_y = ((a + b * across + c * down) / scale for a, b, c in affine.reshape(2, 3).astype(np.float32))
    moved = _sample(theirs, shift_x, shift_y)
    slope_y, slope_x = (np.asarray(np.gradient(moved, scale, axis=axis)) for axis in (0, 1))
    rows, columns = (slice(round(size * _MARGIN_SHARE), size - round(size * _MARGIN_SHARE)) for size in theirs.shape)
    parts = (slope_x, slope_x * across, slope_x * down, slope_y, slope_y * across, slope_y * down, moved)
    design = np.stack([part[rows, columns].ravel() for part in parts], axis=1)
    design = np.concatenate([design - design.mean(axis=0), np.ones((len(design), 1), np.float32)], axis=1)
    residuals: _Floats = (ours - moved)[rows, columns].ravel()
    residuals -= float(np.median(residuals))
    magnitudes = np.abs(residuals)
    limit = np.float32(_ROBUST_LEVELS + _ROBUST_QUARTILES * float(np.quantile(magnitudes[::7], 0.25)))
    weights = (limit / np.maximum(magnitudes, limit)) ** 4
    weighted = design * weights[:, None]
    normal = (weighted.T @ design).astype(np.float64)
    variance = max(_ROUNDING, float((weights * residuals * residuals).mean()))
    normal[np.diag_indices(_AFFINE)] += variance / _PRIOR_PX**2
    normal[_AFFINE, _AFFINE] += variance
    inverse = np.linalg.inv(normal)
    solution = inverse @ (weighted.T @ residuals).astype(np.float64)
    # without what the fit explains
    variance = max(_ROUNDING, float((weights * (residuals - design @ solution.astype(np.float32)) ** 2).mean()))
    return solution[:_AFFINE].clip(-8 * scale, 8 * scale), inverse[:_AFFINE, :_AFFINE] * variance


def _sample(plane: _Floats, shift_x: _Floats, shift_y: _Floats) -> _Floats:
    """The plane at each pixel's place plus its shift in px, bilinear; edges are continued."""
    height, width = plane.shape
    x = np.clip(np.arange(width, dtype=np.float32)[None] + shift_x, 0, width - 1.001)
    y = np.clip(np.arange(height, dtype=np.float32)[:, None] + shift_y, 0, height - 1.001)
    left, top = x.astype(np.int32), y.astype(np.int32)
    x -= left
    y -= top
    index, flat = top * width + left, plane.ravel()
    upper = flat[index] * (1 - x) + flat[index + 1] * x
    lower = flat[index + width] * (1 - x) + flat[index + width + 1] * x
    sampled: _Floats = upper * (1 - y) + lower * y
    return sampled
