"""What a picture is: views, signals, and what decoding a segment gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

WINDOW_STRIDE = 32


def fragment_origins(
    height: int, width: int, *, rows: int, columns: int, side: tuple[int, int], seed: int
) -> NDArray[np.int64]:
    """(rows, columns, 2): row and column in px where each piece of `side` (height, width) starts in such a frame.

    One piece per cell of the grid, at a drawn place; where cells are no larger than pieces, at the cell's start. Wu et
    al., "FAST-VQA: Efficient End-to-end Video Quality Assessment with Fragment Sampling", ECCV 2022; the draws are
    those of the published sampler under torch's seed of that number: all rows, then all columns, each a 32-bit number
    of the Mersenne twister modulo the room in its cell. Raises ValueError for a frame smaller than a piece.
    """
    if height < side[0] or width < side[1]:
        raise ValueError(f"frames of {height} x {width} hold no piece of {side[0]} x {side[1]}")
    draw = np.random.RandomState(seed)
    found = np.empty((rows, columns, 2), dtype=np.int64)
    for axis, (size, count) in enumerate(((height, rows), (width, columns))):
        cell = size // count
        starts = np.minimum(np.arange(count) * cell, size - side[axis])
        found[..., axis] = starts[:, None] if axis == 0 else starts[None, :]
        if cell > side[axis]:
            numbers = draw.randint(0, 2**32, size=(rows, columns), dtype=np.uint32)
            found[..., axis] += numbers % np.uint32(cell - side[axis])
    return found


def window_corners(height: int, width: int, *, size: tuple[int, int], count: int) -> list[tuple[int, int]]:
    """Row and column in px of `count` windows of `size` (height, width), which stand every 32 px.

    Of the list row by row they are taken at equal whole steps from the first; a frame with fewer gives them over again.
    The choice of LIQE (Zhang et al., CVPR 2023). Raises ValueError for a frame smaller than a window.

    >>> corners(224, 256, size=(224, 224), count=3)
    [(0, 0), (0, 32), (0, 0)]
    """
    if height < size[0] or width < size[1]:
        raise ValueError(f"a frame of {height} x {width} holds no window of {size[0]} x {size[1]}")
    lines, places = (
        range(0, whole - part + 1, WINDOW_STRIDE) for whole, part in zip((height, width), size, strict=True)
    )
    every = list(product(lines, places))
    step = max(1, len(every) // count)
    return [every[at * step % len(every)] for at in range(count)]


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
    def picture_count(self) -> int:
        """How many pictures make a row: 1 but for clips, windows and halves."""
        if self.kind == "halves":
            return 2
        return self.windows or (self.clip.frames if self.clip is not None else 1)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """(height, width, 3), of clips, windows and halves (pictures, height, width, 3)."""
        one = (self.height, self.width, 3)
        is_several = self.clip is not None or self.kind in ("windows", "halves")
        return (self.picture_count, *one) if is_several else one

    @property
    def row_bytes(self) -> int:
        return self.picture_count * self.width * self.height * 3


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
class DecodedSegment:
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
        return f"DecodedSegment({len(self.times_seconds)} frames of {self.media.width}x{self.media.height})"


MAX_CLIP_GAP_SECONDS = 1.0
"""Frames of a clip that are further apart than this have something missing between them."""


def sample_indices(times_seconds: Sequence[float], *, fps: float = 1.0) -> tuple[int, ...]:
    """Choose, for k = 0, 1, 2 ..., the first frame at or after (first frame's time + k / fps).

    `times_seconds` are the presentation times of all frames of a segment, rising. A frame chosen for two moments (a
    gap in the stream) is looked at once. Half a microsecond of tolerance absorbs time-base rounding. A segment of at
    least one frame gives at least one index.

    >>> sample_indices([10.0, 10.5, 11.0, 11.5, 12.0])
    (0, 2, 4)
    >>> sample_indices([0.0, 0.9, 2.5, 2.9])
    (0, 2)
    """
    if not len(times_seconds):
        return ()
    times = np.asarray(times_seconds, dtype=np.float64)
    moments = times[0] + np.arange(int((times[-1] - times[0]) * fps + 1e-6) + 1) / fps
    found = np.searchsorted(times, moments - 5e-7, side="left")
    return tuple(dict.fromkeys(int(index) for index in found if index < len(times)))


def clip_indices(times_seconds: Sequence[float], starts: Sequence[int], clip: ClipSampling) -> NDArray[np.int64]:
    """(starts, frames): the frames of the clip that begins at each of `starts`, all counted in the order of the times.

    The segment's last frame is repeated where the segment ends before the clip, as the published code of RQ-VQA
    completes its last clips; the frame before a gap of more than `MAX_CLIP_GAP_SECONDS` is repeated likewise.
    Frames are counted, not timed: of a variable rate come those that there are, and clips may overlap.

    >>> clip_indices([0.0, 0.5, 1.0, 1.5, 9.0], [0, 2], ClipSampling(frames=3)).tolist()
    [[0, 1, 2], [2, 3, 3]]
    """
    found = np.empty((len(starts), clip.frames), dtype=np.int64)
    for row, start in enumerate(starts):
        at = start
        for slot in range(clip.frames):
            found[row, slot] = at
            after = at + clip.stride
            if after >= len(times_seconds) or times_seconds[after] - times_seconds[at] > MAX_CLIP_GAP_SECONDS:
                found[row, slot:] = at
                break
            at = after
    return found
