"""Measures of sampled frames that need no reference: of the coded luma, or of the displayed picture in RGB."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vqmon.media.images.colour import Colour
from vqmon.media.images.frames import luma_codes
from vqmon.media.images.resampling import FrameResampler, Orientation
from vqmon.media.measures.measure import Picture, Plane
from vqmon.media.measures.no_reference.banding import CAMBI, banding, without_dither
from vqmon.media.measures.no_reference.integrated import IL_NIQE
from vqmon.media.measures.no_reference.natural_statistics import NIQE
from vqmon.media.measures.no_reference.spatial_temporal import (
    pq_levels,
    spatial_information,
    temporal_information,
)
from vqmon.media.reference.measures.offered import ALONE_MEASURES

if TYPE_CHECKING:
    import av


class _NoValueError(Exception):
    """A measure has no value for a frame; the message says why."""


@dataclass(frozen=True, slots=True)
class SampledFrame:
    """A sampled frame as it is decoded and deinterlaced, the one that follows it, and how it is displayed."""

    decoded: av.VideoFrame
    # None where the following frame is not decoded
    following: av.VideoFrame | None
    deinterlaced: av.VideoFrame
    colour: Colour
    orientation: Orientation
    # (width, height), upright and with square pixels
    size: tuple[int, int]


class AloneMeter:
    """Collects the values of measures that need no reference; a measure without any says why in `notes`."""

    def __init__(self, names: Sequence[str], resampler: FrameResampler) -> None:
        self._resampler = resampler
        self._values: dict[str, list[float | None]] = {name: [] for name in names}
        # why the last frame without a value has none, by measure
        self._reasons: dict[str, str] = {}

    def add_frame(self, frame: SampledFrame) -> None:
        """Measure one sampled frame."""
        pictures = _Pictures(frame, self._resampler)
        for name, values in self._values.items():
            try:
                values.append(_value(name, pictures))
            except _NoValueError as error:
                values.append(None)
                self._reasons[name] = str(error)

    def answer(self) -> dict[str, Any]:
        """The JSON of the values, for `answer.parse_alone`."""
        return {name: {"values": values, "components": {}} for name, values in self._values.items()}

    def notes(self) -> list[str]:
        """Which measures have no value, and why."""
        return [
            f"no {name}: {self._reasons[name]}"
            for name, values in self._values.items()
            if name in self._reasons and all(value is None for value in values)
        ]


def _value(name: str, pictures: _Pictures) -> float:
    least = ALONE_MEASURES[name].min_side_px
    if pictures.shortest_side < least:
        raise _NoValueError(f"the picture is smaller than {least} x {least} px")
    value = _FUNCTIONS[name](pictures)
    if not math.isfinite(value):
        raise _NoValueError("the pictures have hardly any texture")
    return round(value, 6)


@dataclass(frozen=True, slots=True)
class _Luma:
    """The coded luma of a frame, (height, width), as indices into tables of levels."""

    codes: NDArray[np.uint8] | NDArray[np.uint16]
    bits: int
    is_full: bool

    def full_range(self) -> NDArray[np.float64]:
        """The table of levels 0..255, 255 is white."""
        codes = np.arange(1 << self.bits, dtype=np.float64)
        levels: NDArray[np.float64] = codes * (255 / codes[-1])
        if not self.is_full:
            levels = ((codes / (1 << (self.bits - 8)) - 16) * (255 / 219)).clip(0, 255)
        return levels

    def limited_10_bits(self) -> NDArray[np.int32]:
        """The table of levels 64..940 in 10 bits, and those beyond black and white of a limited picture."""
        levels: NDArray[np.float64] = 64 + self.full_range() * (876 / 255)
        if not self.is_full:
            levels = np.arange(1 << self.bits, dtype=np.float64) * 2.0 ** (10 - self.bits)
        return np.floor(levels + 0.5).astype(np.int32)


class _Pictures:
    """What measures take from a sampled frame, each computed once."""

    def __init__(self, frame: SampledFrame, resampler: FrameResampler) -> None:
        self._frame, self._resampler = frame, resampler
        self.shortest_side = min(frame.decoded.width, frame.decoded.height, *frame.size)

    @cached_property
    def displayed(self) -> Picture:
        """The picture as displayed, HDR tone-mapped to SDR."""
        frame = self._frame
        rgb = self._resampler.to_rgb(frame.deinterlaced, frame.size, colour=frame.colour, orientation=frame.orientation)
        return Picture(np.ascontiguousarray(rgb))

    @cached_property
    def luma(self) -> _Luma:
        """Of the deinterlaced picture."""
        return self._luma_of(self._frame.deinterlaced)

    def full_range(self, luma: _Luma) -> Plane:
        """(height, width), 0..255."""
        return luma.full_range().astype(np.float32)[luma.codes]

    def in_pq_domain(self, luma: _Luma) -> Plane:
        """(height, width), 0..255: luma of SDR on the display of P.910, that of PQ as it is coded."""
        transfer = self._frame.colour.transfer
        if transfer == "hlg":
            raise _NoValueError("HLG is not brought to the PQ domain")
        levels = luma.full_range()
        return (pq_levels(levels) if transfer == "sdr" else levels.astype(np.float32))[luma.codes]

    def consecutive(self) -> tuple[_Luma, _Luma]:
        """Of the decoded picture and the one that follows; of interlaced ones one field, as both show other moments."""
        first, second = self._frame.decoded, self._frame.following
        if second is None or (first.width, first.height, first.format.name) != (
            second.width, second.height, second.format.name
        ):  # fmt: skip
            raise _NoValueError("no frame follows a sampled one, or one of another size")
        step = 2 if first.interlaced_frame else 1
        lumas = [self._luma_of(frame) for frame in (first, second)]
        earlier, later = (_Luma(luma.codes[::step], luma.bits, luma.is_full) for luma in lumas)
        return earlier, later

    def cambi(self) -> float:
        """Of luma in limited range and 10 bits, without the dither of pictures of less."""
        colour = self._frame.colour
        if colour.transfer != "sdr":
            raise _NoValueError("CAMBI is of SDR")
        if colour.matrix == "rgb":
            return CAMBI.compute(None, self.displayed)
        levels = self.luma.limited_10_bits()[self.luma.codes]
        return banding(without_dither(levels) if self.luma.bits < 10 else levels)

    def _luma_of(self, frame: av.VideoFrame) -> _Luma:
        colour = self._frame.colour
        if colour.matrix == "rgb":
            return _Luma(self._resampler.to_planes(frame, colour=colour).y, bits=8, is_full=False)
        return _Luma(luma_codes(frame), bits=frame.format.components[0].bits, is_full=colour.range == "pc")


_FUNCTIONS: Mapping[str, Callable[[_Pictures], float]] = {
    "niqe": lambda pictures: NIQE.compute(None, pictures.displayed),
    "il_niqe": lambda pictures: IL_NIQE.compute(None, pictures.displayed),
    "cambi": lambda pictures: pictures.cambi(),
    "si": lambda pictures: spatial_information(pictures.full_range(pictures.luma)),
    "ti": lambda pictures: temporal_information(*map(pictures.full_range, pictures.consecutive())),
    "si_pq": lambda pictures: spatial_information(pictures.in_pq_domain(pictures.luma)),
    "ti_pq": lambda pictures: temporal_information(*map(pictures.in_pq_domain, pictures.consecutive())),
}
