"""The codecs of a ladder: PyAV's encoder of each, its options, and its range of qualities."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

_GOP_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """An encoder, on one thread; `best` to `worst` is the range of its constant quality that a ladder covers."""

    # of libav
    encoder: str
    options: Mapping[str, str]
    # name of the constant quality: "CRF", or "Q" of the quantizer scale
    scale: str
    best: int
    worst: int
    # the limits of the scale
    lowest: int
    highest: int
    has_10_bits: bool = True

    def qualities(self, count: int) -> list[int]:
        """`count` settings from best to worst, evenly spaced: by differences of a CRF, by ratios of a quantizer."""
        spaced = np.geomspace if self.scale == "Q" else np.linspace
        return sorted({round(float(value)) for value in spaced(self.best, self.worst, count)})


CODECS: Mapping[str, Codec] = MappingProxyType(
    {
        "h264": Codec(
            encoder="libx264",
            options={"preset": "veryfast"},
            scale="CRF",
            best=20,
            worst=41,
            lowest=0,
            highest=51,
        ),
        "hevc": Codec(
            encoder="libx265",
            options={"preset": "superfast", "x265-params": "log-level=none:pools=1:frame-threads=1"},
            scale="CRF",
            best=20,
            worst=41,
            lowest=0,
            highest=51,
        ),
        "av1": Codec(
            encoder="libsvtav1",
            options={"preset": "10", "svtav1-params": "lp=1"},
            scale="CRF",
            best=26,
            worst=59,
            lowest=1,
            highest=63,
        ),
        "vp9": Codec(
            encoder="libvpx-vp9",
            options={"deadline": "realtime", "cpu-used": "6"},
            scale="CRF",
            best=24,
            worst=57,
            lowest=0,
            highest=63,
            has_10_bits=False,
        ),
        "mpeg2": Codec(
            encoder="mpeg2video",
            # other frame rates than those of the standard
            options={"strict": "unofficial"},
            scale="Q",
            best=3,
            worst=24,
            lowest=1,
            highest=31,
            has_10_bits=False,
        ),
    }
)
"""Codec -> encoder; the presets are fast ones, a ladder compares qualities and not encoders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeSettings:
    """How one rendition is made: a constant quality, or a target rate where `rate_kbps` is above 0.

    The clip is brought to `lines`, downscaled to `soft_lines` and back where that is above 0, sharpened by an unsharp
    mask of 7 x 7 px and the weight `sharpen`, and gets temporal noise of the strength `noise`, in levels.
    """

    # a key of CODECS
    codec: str
    lines: int
    # of the excerpt, from its beginning
    seconds: float
    quality: int = 0
    rate_kbps: int = 0
    soft_lines: int = 0
    # 8 = also of deeper excerpts, so that every browser can play it
    max_bits: int = 10
    sharpen: float = 0.0
    noise: int = 0

    @property
    def setting(self) -> str:
        """What the encoder is asked for, in words: "CRF 26", "800 kb/s"."""
        return f"{self.rate_kbps} kb/s" if self.rate_kbps else f"{CODECS[self.codec].scale} {self.quality}"

    def encoder_options(self) -> dict[str, str]:
        """The options of the encoder but for frame rate and threads."""
        codec = CODECS[self.codec]
        options = dict(codec.options)
        if self.rate_kbps:
            return options
        if codec.scale == "Q":
            return {**options, "qmin": str(self.quality), "qmax": str(self.quality)}
        return {**options, "crf": str(self.quality)}

    def filters(self, width: int) -> list[tuple[str, str]]:
        """(name, arguments) of the filters that make the pictures of this rendition, `width` px wide."""
        chain = [("scale", f"{width}:{self.lines}:flags=bicubic")]
        if self.soft_lines:
            soft_width = max(2, round(width * self.soft_lines / self.lines / 2) * 2)
            chain.append(("scale", f"{soft_width}:{self.soft_lines}:flags=bicubic"))
            chain.append(("scale", f"{width}:{self.lines}:flags=bicubic"))
        if self.sharpen:
            chain.append(("unsharp", f"7:7:{self.sharpen:g}:7:7:0"))
        if self.noise:
            chain.append(("noise", f"alls={self.noise}:allf=t:all_seed=1"))
        return chain


def gop_frames(fps: float) -> int:
    """Frames from one key frame to the next: two seconds, as in streams."""
    return max(1, round(fps * _GOP_SECONDS))
