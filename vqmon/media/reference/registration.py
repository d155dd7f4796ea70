"""Registration of the picture: black borders, what may be cut, and whether two pictures show the same part."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vqmon.media.images.frames import count_dark_ends, luma_plane
from vqmon.media.reference.alignment import BorderShares

if TYPE_CHECKING:
    from vqmon.media.reference.canvas import SideFrame

# luma on an 8-bit scale
_DARK_MEAN = 24.0
_DARK_PEAK = 56.0
REGISTRATION_SIZE = (640, 360)
"""(width, height) to which pictures are brought before they are compared by `are_registered`."""

_BLOCK = 128
_ROWS, _COLUMNS = 3, 4
_MIN_DEVIATION = 3.0
_MAX_ASPECT_ERROR = 0.02
# of the size of a picture inside bars: no whole number, and how far rounding moves its edges
_WHOLE_PX, _ROUNDED_PX = 0.05, 2
_MAX_SHIFT_PX = 0.7
# of a block's correlation surface: height of the peak over its standard deviation
_MIN_PEAK = 10.0
# cycles per px
_HIGHEST_FREQUENCY = 0.15

_Luma = NDArray[np.uint8]
_Floats = NDArray[np.float32]


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


def are_registered(first: _Luma, second: _Luma) -> bool:
    """Whether two luma pictures of REGISTRATION_SIZE show the same part of the scene, to 0.7 px.

    The displacement of 3 x 4 blocks of 128 x 128 px is measured by phase correlation (Kuglin and Hines, "The phase
    correlation image alignment method", 1975) of the low frequencies, each weighted by the root of its strength in both
    pictures, so that blur and noise count less. Blocks without detail or without a clear peak do not count; where none
    counts, the pictures are taken for registered.
    """
    shifts = [
        shift
        for top in _block_starts(first.shape[0], _ROWS)
        for left in _block_starts(first.shape[1], _COLUMNS)
        if (shift := _shift_of(_block(first, top, left), _block(second, top, left))) is not None
    ]
    # a crop leaves the blocks near its centre in place
    return not shifts or float(np.percentile(shifts, 75)) <= _MAX_SHIFT_PX


def _block_starts(size: int, count: int) -> list[int]:
    return [round(index * (size - _BLOCK) / (count - 1)) for index in range(count)]


def _block(picture: _Luma, top: int, left: int) -> _Floats:
    return picture[top : top + _BLOCK, left : left + _BLOCK].astype(np.float32)


def _shift_of(first: _Floats, second: _Floats) -> float | None:
    """The displacement of two blocks in px; None without detail or a clear peak."""
    if min(float(first.std()), float(second.std())) < _MIN_DEVIATION:
        return None
    window = np.outer(np.hanning(_BLOCK), np.hanning(_BLOCK)).astype(np.float32)
    spectra = [np.fft.rfft2((block - block.mean()) * window) for block in (first, second)]
    cross = spectra[0] * np.conj(spectra[1])
    frequencies = np.hypot(np.fft.fftfreq(_BLOCK)[:, None], np.fft.rfftfreq(_BLOCK)[None, :])
    weighted = np.where(frequencies <= _HIGHEST_FREQUENCY, cross / np.sqrt(np.abs(cross) + 1e-9), 0)
    surface = np.fft.irfft2(weighted, s=(_BLOCK, _BLOCK))
    row, column = (int(index) for index in np.unravel_index(int(np.argmax(surface)), surface.shape))
    if float(surface[row, column]) < _MIN_PEAK * float(surface.std()):
        return None
    return float(np.hypot(_peak_position(surface[:, column], row), _peak_position(surface[row], column)))


def _peak_position(line: NDArray[np.float64], peak: int) -> float:
    """The position of a peak on a periodic line, -size / 2 .. size / 2, by a parabola through its neighbours."""
    size = len(line)
    before, at, after = (float(line[index % size]) for index in (peak - 1, peak, peak + 1))
    curvature = before - 2 * at + after
    position = peak + (0.5 * (before - after) / curvature if curvature else 0.0)
    return (position + size / 2) % size - size / 2


# ---- borders of two sides


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
