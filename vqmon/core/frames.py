"""Frames: how they are sampled, the views that scorers ask for, signals, and the result of decoding a segment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from vqmon.core.scores import ReferenceComparison, ReferenceScore

_WINDOW_STRIDE_PX = 32
"""Distance between neighbouring windows (LIQE)."""


def fragment_origins(
    height: int, width: int, *, rows: int, columns: int, side: tuple[int, int], seed: int
) -> NDArray[np.int64]:
    """(rows, columns, 2): top and left in px of each fragment of `side` (height, width) in a frame of this size.

    Each cell of the grid has one fragment at a random position; where cells are no larger than fragments, at the start
    of the cell. Wu et al., "FAST-VQA: Efficient End-to-end Video Quality Assessment with Fragment Sampling", ECCV 2022.
    The random numbers are those of the published sampler under torch's seed of that number: all rows, then all columns,
    each a 32-bit number of the Mersenne twister modulo the free space in its cell. Raises ValueError for a frame that
    is smaller than a fragment.
    """
    if height < side[0] or width < side[1]:
        raise ValueError(f"frames of {height} x {width} hold no fragment of {side[0]} x {side[1]}")
    twister = np.random.RandomState(seed)
    origins = np.empty((rows, columns, 2), dtype=np.int64)
    for axis, (size, count) in enumerate(((height, rows), (width, columns))):
        cell = size // count
        starts = np.minimum(np.arange(count) * cell, size - side[axis])
        origins[..., axis] = starts[:, None] if axis == 0 else starts[None, :]
        if cell > side[axis]:
            numbers = twister.randint(0, 2**32, size=(rows, columns), dtype=np.uint32)
            origins[..., axis] += numbers % np.uint32(cell - side[axis])
    return origins


def canvas_size(width: int, height: int, *, lines: int) -> tuple[int, int]:
    """(width, height) in px of a picture, given in square pixels, on a 16:9 display with `lines` lines.

    The picture is scaled until it touches the display's edges; the display is turned upright for an upright picture.

    >>> canvas_size(640, 360, lines=1080), canvas_size(1920, 800, lines=1080), canvas_size(720, 1280, lines=1080)
    ((1920, 1080), (1920, 800), (1080, 1920))
    """
    scale = min(lines * 16 / 9 / max(width, height), lines / min(width, height))
    return max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))


def window_corners(height: int, width: int, *, size: tuple[int, int], count: int) -> list[tuple[int, int]]:
    """Top and left in px of `count` windows of `size` (height, width), chosen from windows at a distance of 32 px.

    Of all windows, row by row, every n-th one is chosen from the first on; windows repeat in a frame with fewer. This
    is how LIQE chooses (Zhang et al., CVPR 2023). Raises ValueError for a frame that is smaller than a window.

    >>> corners(224, 256, size=(224, 224), count=3)
    [(0, 0), (0, 32), (0, 0)]
    """
    if height < size[0] or width < size[1]:
        raise ValueError(f"a frame of {height} x {width} holds no window of {size[0]} x {size[1]}")
    tops, lefts = (
        range(0, frame_size - window_size + 1, _WINDOW_STRIDE_PX)
        for frame_size, window_size in zip((height, width), size, strict=True)
    )
    windows = list(product(tops, lefts))
    step = max(1, len(windows) // count)
    return [windows[index * step % len(windows)] for index in range(count)]


def grid_corners(height: int, width: int, *, size: tuple[int, int], columns: int, rows: int) -> list[tuple[int, int]]:
    """Top and left in px of `columns` x `rows` crops of `size` (height, width), row by row, at equal steps from edge to
    edge; a single row or column is centred. In an upright frame columns and rows change places. Raises ValueError for a
    frame that is smaller than a crop.

    >>> grid_corners(384, 683, size=(384, 384), columns=2, rows=1)
    [(0, 0), (0, 299)]
    """
    if height < size[0] or width < size[1]:
        raise ValueError(f"a frame of {height} x {width} holds no crop of {size[0]} x {size[1]}")
    counts = (columns, rows) if height > width else (rows, columns)
    tops, lefts = (
        [free * step // (count - 1) if count > 1 else free // 2 for step in range(count)]
        for free, count in zip((height - size[0], width - size[1]), counts, strict=True)
    )
    return list(product(tops, lefts))


Pixels = NDArray[np.uint8]
"""(frames, height, width, 3), RGB, full range, sRGB-like transfer."""

Sampling = Literal["exact", "keyframes"]

Fingerprint = str
"""A 32x18 luma thumbnail, row by row, two hexadecimal digits per cell, by which pictures are compared."""

SIGNALS: dict[str, str] = {
    "black": "share of the picture that is black",
    "solid": "how close the picture is to a single colour",
    "freeze": "1 when the picture is the same as the sampled picture before it",
    "blockiness": "strength of the regular block grid that coding leaves",
    "blur": "lack of sharp edges",
    "noise": "random grain, as a standard deviation",
    "banding": "false contours in smooth areas",
    "over_sharpness": "halos and ringing around edges",
    "flicker": "brightness that changes abruptly between frames without motion",
    "borders": "share of the picture covered by constant black borders",
    "decode_errors": "share of the frames that the decoder reported as damaged or lost",
    "shimmer": "texture that changes from frame to frame without movement, as a standard deviation",
    "judder": "unevenness of the movement from frame to frame",
    "repeated_frames": "share of the frames that repeat the one before while the picture moves",
    "dropped_frames": "share of the frames that are missing from the timeline",
    "jumps": "how far the largest step of a movement exceeds the others",
}
"""Name and meaning of every signal, 0..1, higher means more. Formulas and sources: `media/images/signals/meter.py`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSampling:
    """Which frames belong to the clip of a sampled frame: that frame and every `stride`-th after it, `frames` in all.

    See `clip_indices` for segments that end earlier and for gaps.
    """

    frames: int
    stride: int = 1

    def __post_init__(self) -> None:
        if not 2 <= self.frames <= 256 or not 1 <= self.stride <= 64:
            raise ValueError(f"a clip has 2..256 frames, 1..64 apart; got {self.frames}, {self.stride}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """The display whose viewer a score speaks for: its lines, and the viewer's distance in heights of the picture.

    `lines` = 0 stands for a picture seen pixel by pixel, at its own size.
    """

    lines: int = 1080
    distance_heights: float = 3.0

    def __post_init__(self) -> None:
        if not (self.lines == 0 or 144 <= self.lines <= 4320) or not 0.5 <= self.distance_heights <= 20:
            raise ValueError(f"no such display: {self.lines} lines, seen from {self.distance_heights} heights")

    def canvas_lines(self, *, resolved_lines: int) -> int:
        """The lines to which pictures are brought: those of the display, but no more than the viewer resolves.

        `resolved_lines` are resolved from 3 heights; from another distance, in inverse proportion.

        >>> Display(lines=2160, distance_heights=1.5).canvas_lines(resolved_lines=1080)
        2160
        >>> Display(lines=2160, distance_heights=3.0).canvas_lines(resolved_lines=1080)
        1080
        """
        return min(self.lines, round(resolved_lines * 3.0 / self.distance_heights))


@dataclass(frozen=True, slots=True, kw_only=True)
class TileGrid:
    """A grid of tiles on the display canvas reduced by `reduction` (1 = the canvas itself), row by row; each tile is
    centred in its cell."""

    reduction: int
    columns: int
    rows: int

    def __post_init__(self) -> None:
        if min(self.reduction, self.columns, self.rows) < 1 or self.reduction > 16 or self.columns * self.rows > 64:
            raise ValueError(f"no such grid of tiles: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The picture that a scorer asks for, made from a decoded frame inside the decoder process.

    `stretch` squeezes the whole frame to width x height. `fit` keeps the aspect ratio and pads the rest evenly with
    `pad_rgb`. `tiles` scales the frame so that its short side has `short_side` pixels and lays a grid of
    `columns` x `rows` native-scale tiles, each centred in its cell, side by side into width x height. `centre` scales
    the frame in the same way and crops the centre. `fragments` lays `columns` x `rows` fragments of the frame at its
    own size side by side, each from a random position within its cell (`fragment_origins`). `windows` are that many
    crops of width x height of the frame at its own size (`window_corners`). Frames too small for the last two are
    enlarged until they fit. `grid` are `columns` x `rows` crops of width x height at equal steps (`grid_corners`) of
    the frame scaled so that its short side has `short_side` pixels; 0: of the frame at its own size, enlarged if a crop
    would not fit. `halves` are the upper and the lower half of the frame, each padded with `pad_rgb` to a square and
    then resized to width x height.

    `display` is what the viewer of a display with `short_side` lines sees (`canvas_size`; 0 lines: the frame at its own
    size): bars are left out, the rest is scaled to that canvas with chroma at a quarter of its lines, and tiles
    are cut from it: those of each of the `grids` in turn, then the whole canvas squeezed into one tile (lying on its
    side for an upright picture). The tiles stand one below the other, all of the same size.

    With a `clip`, a row holds the views of all frames of the sampled frame's clip, not only of the sampled frame.
    """

    kind: Literal["stretch", "fit", "tiles", "centre", "fragments", "windows", "grid", "halves", "display"]
    width: int
    height: int
    short_side: int = 0
    columns: int = 0
    rows: int = 0
    pad_rgb: tuple[int, int, int] = (0, 0, 0)
    windows: int = 0
    grids: tuple[TileGrid, ...] = ()
    clip: ClipSampling | None = None

    def __post_init__(self) -> None:
        if min(self.width, self.height) <= 0:
            raise ValueError(f"a view needs a size, got {self.width}x{self.height}")
        if self.kind == "centre" and max(self.width, self.height) > self.short_side:
            raise ValueError("a centre view needs a short_side that neither width nor height exceeds")
        if (self.kind == "windows") != (self.windows > 0) or (self.windows and self.clip is not None):
            raise ValueError("a windows view, and no other, needs windows; it is of one frame, so it has no clip")
        if self.kind == "halves" and (self.width != self.height or self.clip is not None):
            raise ValueError("a halves view is square, and of one frame, so it has no clip")
        checks = {"fragments": self._check_fragments, "tiles": self._check_tiles, "grid": self._check_grid}
        if self.kind in checks:
            checks[self.kind]()
        if (self.kind == "display") != bool(self.grids):
            raise ValueError("a display view, and no other, needs grids of tiles")
        if self.kind == "display" and (self.height % self.tile_count or self.short_side < 0 or self.clip is not None):
            raise ValueError(f"{self.tile_count} tiles do not fill a height of {self.height}, or the view has a clip")

    def _check_fragments(self) -> None:
        if min(self.columns, self.rows) <= 0 or self.width % self.columns or self.height % self.rows:
            raise ValueError(f"{self.columns}x{self.rows} fragments do not fill {self.width}x{self.height}")

    def _check_grid(self) -> None:
        if min(self.columns, self.rows) <= 0 or self.clip is not None:
            raise ValueError("a grid view needs columns and rows; it is of one frame, so it has no clip")
        if 0 < self.short_side < max(self.width, self.height):
            raise ValueError("a grid view needs a short_side that is 0 or that neither width nor height exceeds")

    def _check_tiles(self) -> None:
        if min(self.short_side, self.columns, self.rows) <= 0:
            raise ValueError("a tiles view needs short_side, columns and rows")
        if self.width % self.columns or self.height % self.rows:
            raise ValueError(f"{self.columns}x{self.rows} tiles do not fill {self.width}x{self.height}")
        if self.width > self.short_side or self.height > self.short_side:
            raise ValueError("tiles must not overlap: width and height must not exceed short_side")

    @property
    def tile_count(self) -> int:
        """Tiles of a display view: those of its grids, and the whole canvas."""
        return 1 + sum(grid.columns * grid.rows for grid in self.grids)

    @property
    def picture_count(self) -> int:
        """Pictures per row: 1 except for clips, windows, grids and halves."""
        if self.kind == "halves":
            return 2
        if self.kind == "grid":
            return self.columns * self.rows
        return self.windows or (self.clip.frames if self.clip is not None else 1)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """(height, width, 3); for clips, windows, grids and halves (picture_count, height, width, 3)."""
        picture_shape = (self.height, self.width, 3)
        has_picture_axis = self.clip is not None or self.kind in ("windows", "grid", "halves")
        return (self.picture_count, *picture_shape) if has_picture_axis else picture_shape

    @property
    def row_bytes(self) -> int:
        return self.picture_count * self.width * self.height * 3


GRID_ROWS, GRID_COLUMNS = 9, 16
"""The cells of a heat map: the picture, as displayed, is divided into so many."""

DETAIL_GRID_BYTES = 4 * 2 * GRID_ROWS * GRID_COLUMNS
"""Of a packed `DetailGrid`."""

_STEPS_PER_LEVEL = 256
_UNKNOWN = 2.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DetailGrid:
    """What one frame tells about its cells: (GRID_ROWS, GRID_COLUMNS) arrays."""

    # mean absolute differences of neighbouring pixels, and of pixels eight times as far apart, 0..255 levels
    fine: NDArray[np.float32]
    coarse: NDArray[np.float32]
    # mean luma, 0..255
    luma: NDArray[np.float32]
    # share 0..1 of the fine detail that cells have lost since earlier frames of the segment; None where too few of them
    # were decoded
    lost: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        for grid in (self.fine, self.coarse, self.luma, self.lost):
            if grid is not None and grid.shape != (GRID_ROWS, GRID_COLUMNS):
                raise ValueError(f"a grid has {GRID_ROWS} x {GRID_COLUMNS} cells, not {grid.shape}")

    def pack(self) -> bytes:
        """DETAIL_GRID_BYTES: fine, coarse, luma, lost as 16-bit numbers of 1/256, low byte first."""
        lost = np.full_like(self.luma, _UNKNOWN) if self.lost is None else self.lost
        levels = np.stack([self.fine, self.coarse, self.luma, lost])
        steps: NDArray[np.uint16] = np.clip(levels * _STEPS_PER_LEVEL + 0.5, 0, 65535).astype("<u2")
        return steps.tobytes()

    @classmethod
    def unpack(cls, packed: bytes | bytearray | memoryview) -> "DetailGrid":
        """The inverse of `pack`; raises ValueError for another number of bytes."""
        levels = np.frombuffer(packed, "<u2").astype(np.float32) / np.float32(_STEPS_PER_LEVEL)
        fine, coarse, luma, lost = levels.reshape(4, GRID_ROWS, GRID_COLUMNS)
        return cls(fine=fine, coarse=coarse, luma=luma, lost=None if lost.max() > 1 else lost)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpliceCue:
    """An ad break begins or ends, as a splice message (SCTE 35) in the media says."""

    begins: bool
    # after the first picture of the segment; the message comes some seconds before
    at_seconds: float
    # length of the break; 0 = not stated
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFacts:
    """Facts about the decoded track, and how its pictures were converted to RGB."""

    container: str
    codec: str
    # as displayed: after rotation and before any view; with square pixels when the sample aspect ratio is applied
    width: int
    height: int
    fps: float
    # span of the presentation times, including the duration of the last frame
    duration_seconds: float
    frame_count: int
    pixel_format: str
    # matrix and range used for the conversion, e.g. "bt709/limited"; contains "guessed" when the stream lacks them
    colour: str
    transfer: str
    rotation_degrees: int = 0
    is_interlaced: bool = False
    # whether a sampled frame carries captions, CEA-608 or CEA-708
    has_captions: bool = False
    # name of the HDR-to-SDR method, None for SDR
    tone_mapping: str | None = None
    notes: tuple[str, ...] = ()
    splices: tuple[SpliceCue, ...] = ()

    @property
    def is_still(self) -> bool:
        """Whether this is a single picture that the media gives no duration."""
        return self.frame_count == 1 and self.duration_seconds == 0


UNMEASURED_AUDIO: dict[str, str] = {
    "no_audio": "the segment has no sound track",
    "unsupported_codec": "the codec of the sound is not on the list of those allowed",
    "corrupt": "the sound cannot be decoded",
    "unavailable": "the playlist lists the sound apart from the pictures, and it could not be found or fetched",
}
"""Why the sound of a segment was not measured."""


SUBTITLE_PROBLEMS: dict[str, str] = {
    "missing": "its playlist lists no segment of this time, or the server does not have it",
    "unavailable": "its playlist or its segment cannot be fetched",
    "unreadable": "its segment is not WebVTT or TTML, or damaged",
}
"""Why it is not known whether a rendition of subtitles has cues."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubtitleFacts:
    """What one rendition of subtitles holds at the time of a segment."""

    # its language and its label, as the playlist states them
    name: str
    # as the playlist states it; empty = not stated
    language: str = ""
    # it only holds what must be shown to everybody, such as foreign dialogue
    is_forced: bool = False
    # in the segments of subtitles of this time; 0 = nothing is to be shown, or `problem` tells more
    cues: int = 0
    # a key of SUBTITLE_PROBLEMS; empty = it was read
    problem: str = ""
    detail: str = ""

    def __post_init__(self) -> None:
        if self.problem and self.problem not in SUBTITLE_PROBLEMS:
            raise ValueError(f"unknown problem of subtitles: {self.problem!r}")
        if self.cues < 0 or (self.cues and self.problem):
            raise ValueError(f"cues out of range: {self.cues}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioFacts:
    """What is measured of the sound of a segment: loudness, levels and timeline.

    Formulas: `media/sound/levels.py`; loudness as EBU R 128, from libavfilter's `ebur128`. A measurement that a
    rule names is a field of numbers.
    """

    codec: str
    sample_rate_hz: int
    channels: int
    # of the decoded samples
    duration_seconds: float
    # integrated over the segment; None when nothing is above the gate of -70 LUFS
    loudness_lufs: float | None
    # highest momentary loudness; None when nothing is above the gate
    momentary_max_lufs: float | None
    # largest value between samples; None for digital silence
    true_peak_dbtp: float | None
    # share of the segment that is silent, 0..1
    silent_share: float
    # share of the samples that are clipped, 0..1
    clipped_share: float
    # of stereo: 1 when one channel is silent and the other is not
    lost_channels: int
    # of stereo: whether both channels are the same
    is_mono: bool
    # correlation of both channels of stereo, -1..1; None otherwise
    phase_correlation: float | None
    # begin of the sound minus begin of the pictures, by their timestamps; None without these
    offset_seconds: float | None
    # end of the sound minus end of the pictures
    end_offset_seconds: float | None
    # span of the timestamps minus the duration of the samples: positive = samples are missing
    gap_seconds: float

    def measurement(self, name: str) -> float | None:
        """The value of a measurement by its name, a key of AUDIO_MEASUREMENTS."""
        if name == "drift_seconds":
            if self.offset_seconds is None or self.end_offset_seconds is None:
                return None
            return self.end_offset_seconds - self.offset_seconds
        value = getattr(self, name)
        return None if value is None else float(value)

    @property
    def measurements(self) -> dict[str, float]:
        """The measurements that have a value, by name."""
        values = {name: self.measurement(name) for name in AUDIO_MEASUREMENTS}
        return {name: value for name, value in values.items() if value is not None}


AUDIO_MEASUREMENTS: dict[str, str] = {
    "loudness_lufs": "LUFS",
    "momentary_max_lufs": "LUFS",
    "true_peak_dbtp": "dBTP",
    "silent_share": "",
    "clipped_share": "",
    "lost_channels": "",
    "is_mono": "",
    "phase_correlation": "",
    "offset_seconds": "s",
    "end_offset_seconds": "s",
    "drift_seconds": "s",
    "gap_seconds": "s",
}
"""Name of every measurement of the sound -> its unit."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DecodedSegment:
    """The result of decoding a segment: sampled pictures and measured signals, frame by frame."""

    # presentation times of the sampled frames, seconds after the segment's first frame, rising
    times_seconds: tuple[float, ...]
    # one (frames, *view.row_shape) uint8 array per requested view
    views: Mapping[View, Pixels]
    # one value 0..1 per sampled frame and signal name
    signals: Mapping[str, tuple[float, ...]]
    # one small JPEG per sampled frame; empty when not requested
    thumbnails: tuple[bytes, ...]
    media: MediaFacts
    # fingerprints of the first and the last sampled frame, to detect a freeze across segments
    edges: tuple[Fingerprint, Fingerprint]
    # what the generated pictures were asked to show, as the segment states; "" = not stated
    prompt: str = ""
    # None where the segment has no reference
    reference: "ReferenceComparison | None" = None
    # of the segment alone, as requested; those without a value are left out
    measures: "tuple[ReferenceScore, ...]" = ()
    # one per sampled frame; empty when not requested
    detail: tuple[DetailGrid, ...] = ()
    # None when it is not requested, or was not measured
    audio: AudioFacts | None = None
    # a key of UNMEASURED_AUDIO, or ""
    unmeasured_audio: str = ""

    def __post_init__(self) -> None:
        count = len(self.times_seconds)
        if count == 0:
            raise ValueError("a decoded segment has at least one frame")
        for view, pixels in self.views.items():
            if pixels.shape != (count, *view.row_shape) or pixels.dtype != np.uint8:
                raise ValueError(f"view {view.kind} {view.width}x{view.height}: got {pixels.dtype}{pixels.shape}")
        if len(self.detail) not in (0, count):
            raise ValueError(f"detail: {len(self.detail)} grids for {count} frames")
        for name, values in self.signals.items():
            if len(values) != count:
                raise ValueError(f"signal {name}: {len(values)} values for {count} frames")

    def __repr__(self) -> str:
        return f"DecodedSegment({len(self.times_seconds)} frames of {self.media.width}x{self.media.height})"


_GOLDEN_RATIO = 0.6180339887498949

MAX_CLIP_GAP_SECONDS = 1.0
"""Between frames that are further apart than this, frames are missing: a clip does not continue across the gap."""


def sample_indices(times_seconds: Sequence[float], *, fps: float = 1.0, from_seconds: float = 0.0) -> tuple[int, ...]:
    """Indices of the sampled frames: for k = 0, 1, 2 ... the first frame at or after (first frame's time + k / fps).

    `times_seconds` are the presentation times of all frames of a segment, rising. A frame that is chosen for two
    moments (a gap in the stream) is sampled once. A tolerance of half a microsecond absorbs time-base rounding. A
    segment with a frame has at least one sampled frame. Of frames less than `from_seconds` after the first one none is
    sampled; where that leaves none, the last frame is.

    >>> sample_indices([10.0, 10.5, 11.0, 11.5, 12.0])
    (0, 2, 4)
    >>> sample_indices([0.0, 0.9, 2.5, 2.9])
    (0, 2)
    >>> sample_indices([0.0, 0.9, 2.5, 2.9], from_seconds=2.6)
    (3,)
    """
    if not len(times_seconds):
        return ()
    times = np.asarray(times_seconds, dtype=np.float64)
    moments = times[0] + np.arange(int((times[-1] - times[0]) * fps + 1e-6) + 1) / fps
    indices = np.searchsorted(times, moments - 5e-7, side="left")
    first = int(np.searchsorted(times, times[0] + from_seconds - 5e-7, side="left"))
    sampled = tuple(dict.fromkeys(int(index) for index in indices if first <= index < len(times)))
    return sampled or (len(times) - 1,)


def additional_indices(times_seconds: Sequence[float], *, fps: float = 1.0, density: int) -> tuple[int, ...]:
    """Indices of the frames that are added to those of `sample_indices` to have `density` times as many.

    `times_seconds` is as there, on the stream's own clock. That clock is divided into cells of 1 / (fps * density) s;
    of each cell without a sampled frame one frame is added: the first at or after a moment, or else the last. The
    moment moves by the golden ratio from cell to cell, so that it falls on no period of coded pictures. Cells and
    moments are those of the stream wherever a segment begins, and the same for all its renditions.

    >>> additional_indices([10.0, 10.25, 10.5, 10.75, 11.0, 11.25, 11.5, 11.75], density=2)
    (3, 7)
    """
    sampled = sample_indices(times_seconds, fps=fps)
    if not sampled or density < 2:
        return ()
    times = np.asarray(times_seconds, dtype=np.float64)
    cells = np.floor(times * (fps * density) + 1e-6).astype(np.int64)
    free_cells = np.setdiff1d(cells, cells[list(sampled)])
    moments = (free_cells + free_cells * _GOLDEN_RATIO % 1.0) / (fps * density)
    last_indices = np.searchsorted(cells, free_cells, side="right") - 1
    chosen = np.minimum(np.searchsorted(times, moments - 5e-7, side="left"), last_indices)
    return tuple(int(index) for index in chosen)


def clip_indices(times_seconds: Sequence[float], starts: Sequence[int], clip: ClipSampling) -> NDArray[np.int64]:
    """(starts, clip.frames): indices of the frames of the clip that begins at each index in `starts`.

    The last frame is repeated where the segment ends before the clip, as in the published code of RQ-VQA; the frame
    before a gap of more than `MAX_CLIP_GAP_SECONDS` is repeated in the same way. A clip counts frames, not time, so its
    span varies with a variable frame rate; clips may overlap.

    >>> clip_indices([0.0, 0.5, 1.0, 1.5, 9.0], [0, 2], ClipSampling(frames=3)).tolist()
    [[0, 1, 2], [2, 3, 3]]
    """
    indices = np.empty((len(starts), clip.frames), dtype=np.int64)
    for row, start in enumerate(starts):
        index = start
        for slot in range(clip.frames):
            indices[row, slot] = index
            next_index = index + clip.stride
            if (
                next_index >= len(times_seconds)
                or times_seconds[next_index] - times_seconds[index] > MAX_CLIP_GAP_SECONDS
            ):
                indices[row, slot:] = index
                break
            index = next_index
    return indices
