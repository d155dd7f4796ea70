"""What a picture is: views, signals, and what decoding a segment gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""(frames, height, width, 3), RGB, full range, sRGB-like transfer."""

Sampling = Literal["exact", "keyframes"]

Fingerprint = str
"""A 32x18 luma picture, row by row, two hexadecimal digits per cell: tells whether two frames are the same picture."""

SIGNALS: dict[str, str] = {
    "black": "share of the picture that is black",
    "solid": "how near the picture is to one single colour",
    "freeze": "1 when the picture is the same as the one looked at before",
    "blockiness": "strength of a regular block grid left by coding",
    "blur": "lack of sharp edges",
    "noise": "random grain, as standard deviation",
    "banding": "false contours in smooth areas",
    "over_sharpness": "halos and ringing around edges",
    "flicker": "brightness that jumps between frames without motion",
    "borders": "share of the picture covered by constant black borders",
    "decode_errors": "share of the frames that the decoder reported as damaged or lost",
}
"""Every signal, 0..1, higher means more of it. `media.signals` holds the formulas and their sources."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSampling:
    """Which frames belong to the clip of a sampled frame: that one and every `stride`-th after it, `frames` in all.

    See `sampling.clip_indices` for segments that end earlier and for gaps.
    """

    frames: int
    stride: int = 1

    def __post_init__(self) -> None:
        if not 2 <= self.frames <= 256 or not 1 <= self.stride <= 64:
            raise ValueError(f"a clip has 2..256 frames, 1..64 apart; got {self.frames}, {self.stride}")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The picture that a scorer asks for, made from a decoded frame inside the decoder process.

    `stretch` squeezes the whole frame to width x height. `fit` keeps the aspect ratio and pads the rest evenly with
    `pad_rgb`. `tiles` scales the frame so that its short side has `short_side` pixels and lays a grid of
    `columns` x `rows` native-scale tiles, each centred in its cell, side by side into width x height. `centre` scales
    likewise and keeps the middle. `fragments` lays `columns` x `rows` pieces of the frame at its own size side by side,
    each from a place drawn within its cell (`pieces.origins`). `windows` are so many pieces of width x height of the
    frame at its own size (`pieces.corners`). Frames too small for the last two are enlarged until they fit. `halves`
    are the upper and the lower half of the frame, each padded with `pad_rgb` to a square of its own and only then
    brought to width x height.

    With a `clip`, a row is not the view of one sampled frame but of all frames of its clip.
    """

    kind: Literal["stretch", "fit", "tiles", "centre", "fragments", "windows", "halves"]
    width: int
    height: int
    short_side: int = 0
    columns: int = 0
    rows: int = 0
    pad_rgb: tuple[int, int, int] = (0, 0, 0)
    windows: int = 0
    clip: ClipSampling | None = None

    def __post_init__(self) -> None:
        if min(self.width, self.height) <= 0:
            raise ValueError(f"a view needs a size, got {self.width}x{self.height}")
        if self.kind == "centre" and max(self.width, self.height) > self.short_side:
            raise ValueError("a centre view needs a short_side that neither width nor height exceeds")
        if (self.kind == "windows") != (self.windows > 0) or (self.windows and self.clip is not None):
            raise ValueError("a windows view, and no other, needs windows, and is of one frame: no clip")
        if self.kind == "halves" and (self.width != self.height or self.clip is not None):
            raise ValueError("a halves view is square, and of one frame: no clip")
        if self.kind == "fragments" and (
            min(self.columns, self.rows) <= 0 or self.width % self.columns or self.height % self.rows
        ):
            raise ValueError(f"{self.columns}x{self.rows} pieces do not fill {self.width}x{self.height}")
        if self.kind == "tiles":
            self._check_tiles()

    def _check_tiles(self) -> None:
        if min(self.short_side, self.columns, self.rows) <= 0:
            raise ValueError("a tiles view needs short_side, columns and rows")
        if self.width % self.columns or self.height % self.rows:
            raise ValueError(f"{self.columns}x{self.rows} tiles do not fill {self.width}x{self.height}")
        if self.width > self.short_side or self.height > self.short_side:
            raise ValueError("tiles must not overlap: width and height must not exceed short_side")

    @property
    def pictures(self) -> int:
        """How many pictures make a row: 1 but for clips, windows and halves."""
        if self.kind == "halves":
            return 2
        return self.windows or (self.clip.frames if self.clip is not None else 1)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """(height, width, 3), of clips, windows and halves (pictures, height, width, 3)."""
        one = (self.height, self.width, 3)
        is_several = self.clip is not None or self.kind in ("windows", "halves")
        return (self.pictures, *one) if is_several else one

    @property
    def row_bytes(self) -> int:
        return self.pictures * self.width * self.height * 3


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFacts:
    """What the decoder saw: the coded picture and how it was turned into RGB."""

    container: str
    codec: str
    # as displayed: after rotation, before any view; square pixels when sar is applied
    width: int
    height: int
    fps: float
    # span of the presentation times seen, including the last frame's own duration
    duration_seconds: float
    frame_count: int
    pixel_format: str
    # as used for the conversion, e.g. "bt709/limited"; "guessed" is said when the stream does not tell
    colour: str
    transfer: str
    rotation_degrees: int = 0
    is_interlaced: bool = False
    # name of the HDR-to-SDR method, None for SDR
    tone_mapping: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Decoded:
    """What one segment looks like: sampled pictures and measured signals, frame by frame."""

    # presentation times of the sampled frames, seconds after the segment's first frame, rising
    times_seconds: tuple[float, ...]
    # one (frames, *view.row_shape) uint8 array per view asked for
    views: Mapping[View, Pixels]
    # one value 0..1 per sampled frame and signal name
    signals: Mapping[str, tuple[float, ...]]
    # one small JPEG per sampled frame; empty when none were asked for
    thumbnails: tuple[bytes, ...]
    media: MediaFacts
    # fingerprints of the first and the last sampled frame, for freeze across segments; see `Fingerprint`
    edges: tuple[Fingerprint, Fingerprint]
    # what the pictures were asked to show, as the segment says; "" = nobody has said
    prompt: str = ""

    def __post_init__(self) -> None:
        count = len(self.times_seconds)
        if count == 0:
            raise ValueError("a decoded segment has at least one frame")
        for view, pixels in self.views.items():
            if pixels.shape != (count, *view.row_shape) or pixels.dtype != np.uint8:
                raise ValueError(f"view {view.kind} {view.width}x{view.height}: got {pixels.dtype}{pixels.shape}")
        for name, values in self.signals.items():
            if len(values) != count:
                raise ValueError(f"signal {name}: {len(values)} values for {count} frames")

    def __repr__(self) -> str:
        return f"Decoded({len(self.times_seconds)} frames of {self.media.width}x{self.media.height})"
