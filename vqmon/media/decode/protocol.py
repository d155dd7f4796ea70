"""The messages between the daemon and a decoder process: a fixed header, then JSON, then raw bytes; no pickle.

The worker is not trusted: an attacker may control it. Each request has an id that cannot be guessed, which its answer
repeats; the JSON of an answer is bounded in length and depth, and everything in it is checked.

Views are not part of a message: the worker writes them into memory that both processes share, sample after sample, the
views of one sample in the order of the request. The daemon copies them from there.
"""

import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import accumulate, pairwise
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vqmon.core.frames import DETAIL_GRID_BYTES, DetailGrid, SpliceCue
from vqmon.core.types import SIGNALS, ClipSampling, DecodedSegment, MediaFacts, Pixels, Sampling, TileGrid, View
from vqmon.errors import DecodeError
from vqmon.media.reference.alignment import ALIGNMENT_CLIP
from vqmon.media.reference.answer import parse_alone, parse_comparison, parse_libvmaf_pictures
from vqmon.media.reference.comparison import ReferenceRequest
from vqmon.media.reference.libvmaf.pictures import StoredPictures
from vqmon.media.reference.measures.offered import ALONE_MEASURES
from vqmon.media.sound.answer import parse_sound

HEADER = struct.Struct("!4sQIQ")
"""Magic number, id of the request, length of the JSON in bytes, length of the raw bytes."""

START_ID = 0
"""The id of a worker's first message, which answers no request."""

MAX_JSON_BYTES = 4_000_000
FINGERPRINT_DIGITS = 32 * 18 * 2

SharedMemory = NDArray[np.uint8]
"""The views of one segment as flat bytes, in memory shared by the daemon and a decoder process."""

HdrMode = Literal["tonemap", "refuse"]

CONTAINERS = {
    "mp4": "mov",
    "mpegts": "mpegts",
    "matroska": "matroska",
    "avi": "avi",
    "flv": "flv",
    "mxf": "mxf",
    "y4m": "yuv4mpegpipe",
    "ivf": "ivf",
    "h264": "h264",
    "hevc": "hevc",
    "vvc": "vvc",
    "mpegps": "mpeg",
    "mpegvideo": "mpegvideo",
    "mjpeg": "mjpeg",
    "obu": "obu",
}
"""The containers that can be read, "mp4" with QuickTime and "matroska" with WebM -> their libav demuxer."""

CODECS = (
    "h264",
    "hevc",
    "av1",
    "vp9",
    "vp8",
    "mpeg2video",
    "mpeg1video",
    "mpeg4",
    "vvc",
    "prores",
    "dnxhd",
    "mjpeg",
    "rawvideo",
)
"""The codecs that can be decoded."""

_MAGIC = b"vqm2"
_MAX_TEXT_CHARACTERS = 200
_MAX_JSON_DEPTH = 8
_MAX_JSON_VALUES = 250_000
"""Four times the numbers of the longest segment: more would hold the daemon for seconds."""
_VALUE_MARKS = b',[{"'
_JSON_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_MAX_THUMBNAIL_BYTES = 10_000_000
_MAX_RAW_BYTES = 256_000_000
_WORKER_REASONS = frozenset(
    (
        "colour",
        "corrupt",
        "encrypted",
        "hdr",
        "missing_init",
        "no_frames",
        "no_video",
        "not_media",
        "too_long",
        "too_many_pixels",
        "unsupported_codec",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeLimits:
    """Limits on time, memory and size for decoding one segment; a segment that exceeds one is refused with a reason.

    The daemon enforces `deadline_seconds` (for the decoding) and `wait_seconds` (for a free worker), the worker the
    rest. `max_pixels` is 4096 x 2160 by default, `max_still_pixels` 8192 x 6144.
    """

    deadline_seconds: float = 10.0
    wait_seconds: float = 120.0
    max_pixels: int = 8_847_360
    max_still_pixels: int = 50_331_648
    # coded frames in one segment
    max_frames: int = 72_000
    max_samples: int = 600
    max_duration_seconds: float = 3_600.0
    max_media_bytes: int = 256_000_000
    # all views of all samples of one segment; every worker reserves this much address space, and memory as it is used
    max_view_bytes: int = 512_000_000
    # address space of one worker, without the memory for views
    memory_bytes: int = 1_500_000_000
    # codec threads inside one worker; several segments are decoded in parallel by several workers
    threads: int = 1
    # which of CONTAINERS and CODECS are opened
    containers: tuple[str, ...] = tuple(CONTAINERS)
    codecs: tuple[str, ...] = CODECS

    def __post_init__(self) -> None:
        values = [getattr(self, limit.name) for limit in fields(self)]
        if any(value <= 0 for value in values if isinstance(value, int | float)):
            raise ValueError(f"every decode limit must be positive: {self}")
        if unknown := {*self.containers, *self.codecs} - {*CONTAINERS, *CODECS}:
            raise ValueError(f"unknown containers or codecs: {sorted(unknown)}")

    @property
    def max_padded_pixels(self) -> int:
        """The limit for libav, which counts the padding of its buffers: under 64 px, so less than most pictures."""
        return 2 * self.max_pixels


def check_size(width: int, height: int, max_pixels: int, *, setting: str = "decode.max_pixels") -> None:
    """Raise DecodeError, which names the setting, for a picture of more than `max_pixels`."""
    if width * height > max_pixels:
        detail = f"{width}x{height} has {width * height} pixels; at most {max_pixels} by {setting}"
        raise DecodeError("too_many_pixels", detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRequest:
    """What a worker shall extract from one segment."""

    views: tuple[View, ...]
    sampling: Sampling = "exact"
    fps: float = 1.0
    # above 1: not the sampled frames, but those that make them so many times as many (`core.frames.additional_indices`)
    density: int = 1
    # after the first frame; earlier frames are decoded as far as later ones need them, and not sampled
    from_seconds: float = 0.0
    hdr: HdrMode = "tonemap"
    # 0: no thumbnails
    thumbnail_width: int = 0
    signals: tuple[str, ...] = tuple(SIGNALS)
    # whether to measure what heat maps are computed from
    with_heat_maps: bool = False
    # of ALONE_MEASURES
    measures: tuple[str, ...] = ()
    # whether to measure the sound
    with_audio: bool = False
    # seeds the positions of fragments; those of sample k are drawn with seed + k
    seed: int = 0
    # how to compare the segment with the reference whose bytes follow its own; None = there is no reference
    reference: ReferenceRequest | None = None
    reference_bytes: int = 0
    # of sound that is not in the segment; it follows the reference
    sound_bytes: int = 0
    limits: DecodeLimits = field(default_factory=DecodeLimits)

    def __post_init__(self) -> None:
        if self.sampling not in get_args(Sampling) or self.hdr not in get_args(HdrMode):
            raise ValueError(f"unknown sampling or HDR mode: {self.sampling!r}, {self.hdr!r}")
        if not 0 < self.fps <= 240 or not 0 <= self.thumbnail_width <= 1920:
            raise ValueError(f"out of range: fps {self.fps}, thumbnail_width {self.thumbnail_width}")
        self._check_chosen_samples()
        if unknown := {*self.signals, *self.measures} - {*SIGNALS, *ALONE_MEASURES}:
            raise ValueError(f"unknown signals or measures: {sorted(unknown)}")
        if any(len(set(wanted)) != len(wanted) for wanted in (self.views, self.measures)):
            raise ValueError("the same view or measure is requested twice")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be within 0..2**32-1, got {self.seed}")
        if (self.reference is None) != (self.reference_bytes == 0) or self.reference_bytes < 0:
            raise ValueError("a reference needs bytes and measures")
        if self.sound_bytes < 0 or (self.sound_bytes and not self.with_audio):
            raise ValueError("separate sound is sent to be measured")

    def _check_chosen_samples(self) -> None:
        if not 1 <= self.density <= 64 or not 0 <= self.from_seconds < math.inf:
            raise ValueError(f"out of range: density {self.density}, from_seconds {self.from_seconds}")
        if self.sampling == "keyframes" and (self.density, self.from_seconds) != (1, 0):
            raise ValueError("of key frames neither additional ones nor only the last ones are sampled")

    @property
    def max_answer_bytes(self) -> int:
        """Most raw bytes behind an answer: the thumbnails and the detail grids."""
        samples = self.limits.max_samples
        thumbnails = min(samples * _MAX_THUMBNAIL_BYTES, _MAX_RAW_BYTES) if self.thumbnail_width else 0
        return thumbnails + self.detail_bytes(samples)

    @property
    def bytes_per_sample(self) -> int:
        """Bytes of all views of one sampled frame."""
        return sum(view.row_bytes for view in self.views)

    def detail_bytes(self, sample_count: int) -> int:
        """Bytes of the detail grids of all sampled frames, which follow the thumbnails."""
        return sample_count * DETAIL_GRID_BYTES if self.with_heat_maps else 0

    def split(self, sent: bytes) -> tuple[bytes, bytes, bytes]:
        """The bytes of the segment, of its reference, and of its separate sound."""
        sound_starts = len(sent) - self.sound_bytes
        reference_starts = sound_starts - self.reference_bytes
        return sent[:reference_starts], sent[reference_starts:sound_starts], sent[sound_starts:]

    @property
    def clips(self) -> tuple[ClipSampling, ...]:
        """The distinct clip samplings of the requested views."""
        return tuple(dict.fromkeys(view.clip for view in self.views if view.clip is not None))

    @property
    def with_following(self) -> bool:
        """Whether the frame after each sampled one is decoded too."""
        return any(ALONE_MEASURES[name].needs == "previous" for name in self.measures)

    @property
    def alignment_clip(self) -> ClipSampling | None:
        """The frames after each sample by which a segment is aligned with its reference, where others are too few."""
        return ALIGNMENT_CLIP if self.reference else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "DecodeRequest":
        """The inverse of `to_dict`; raises ValueError, KeyError or TypeError for anything else."""
        views = tuple(_view_from_dict(view) for view in values["views"])
        allowed = {key: tuple(values["limits"][key]) for key in ("containers", "codecs")}
        limits = DecodeLimits(**{**values["limits"], **allowed})
        reference = None if values["reference"] is None else ReferenceRequest.from_dict(values["reference"])
        names = {key: tuple(values[key]) for key in ("signals", "measures")}
        return cls(**{**values, **names, "views": views, "limits": limits, "reference": reference})


def _view_from_dict(values: Mapping[str, Any]) -> View:
    clip = None if values["clip"] is None else ClipSampling(**values["clip"])
    grids = tuple(TileGrid(**grid) for grid in values["grids"])
    return View(**{**values, "pad_rgb": tuple(values["pad_rgb"]), "grids": grids, "clip": clip})


def pack_message_start(content: Mapping[str, Any], *, request_id: int, raw_bytes: int) -> bytes:
    """The header and the JSON of a message; the sender adds `raw_bytes` bytes."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
    return HEADER.pack(_MAGIC, request_id, len(text), raw_bytes) + text


def unpack_header(header: bytes | bytearray, *, max_raw_bytes: int) -> tuple[int, int, int]:
    """(request id, JSON bytes, raw bytes) of a message; raises ValueError when it is invalid or too large."""
    magic, request_id, json_bytes, raw_bytes = HEADER.unpack(header)
    if magic != _MAGIC or json_bytes > MAX_JSON_BYTES or raw_bytes > max_raw_bytes:
        raise ValueError("the message has an invalid header or is too large")
    return request_id, json_bytes, raw_bytes


def parse_json(text: bytes | bytearray) -> object:
    """Parse JSON that an attacker may have written, in bounded time.

    Raises ValueError, also when it is nested more than 8 deep or has more than some 250,000 values.
    """
    if sum(text.count(mark) for mark in _VALUE_MARKS) > _MAX_JSON_VALUES:
        raise ValueError(f"JSON of more than {_MAX_JSON_VALUES} values")
    brackets = np.frombuffer(_JSON_STRING.sub(b"", text).translate(None, _NOT_BRACKETS), np.uint8)
    steps = np.where((brackets == ord("[")) | (brackets == ord("{")), np.int32(1), np.int32(-1))
    if np.cumsum(steps).max(initial=0) > _MAX_JSON_DEPTH:
        raise ValueError(f"JSON nested more than {_MAX_JSON_DEPTH} deep")
    # UTF-8 alone: what is counted above would be other characters in UTF-16, which json.loads would recognize
    return json.loads(text.decode())


def parse_answer(
    content: object, raw: bytes | bytearray, shared_memory: SharedMemory, request: DecodeRequest
) -> DecodedSegment:
    """Parse and check a worker's answer.

    The shared memory may change while it is read. Raises the DecodeError that the worker reports, and ValueError,
    KeyError, TypeError or OverflowError when the answer does not fit the request.
    """
    answer = _expect(content, dict)
    if answer.get("ok") is not True:
        raise _reported_error(answer)
    times = _parse_times(answer.get("times"), max_samples=request.limits.max_samples)
    sizes = [_bounded_integer(size, 0, _MAX_THUMBNAIL_BYTES) for size in _expect(answer.get("thumbnails"), list)]
    if len(sizes) != (len(times) if request.thumbnail_width else 0):
        raise ValueError("wrong number of thumbnails")
    picture_bytes = sum(sizes)
    if len(raw) != picture_bytes + request.detail_bytes(len(times)) or request.bytes_per_sample * len(times) > len(
        shared_memory
    ):
        raise ValueError("the number of raw bytes is wrong, or the views exceed the shared memory")
    first, last = (_parse_fingerprint(fingerprint) for fingerprint in _expect(answer.get("edges"), list, length=2))
    return DecodedSegment(
        times_seconds=times,
        views=_copy_views(shared_memory, request, count=len(times)),
        signals=_parse_signals(answer.get("signals"), request.signals, count=len(times)),
        thumbnails=tuple(bytes(raw[end - size : end]) for size, end in zip(sizes, accumulate(sizes), strict=True)),
        media=_parse_media(_expect(answer.get("media"), dict)),
        edges=(first, last),
        reference=None
        if request.reference is None
        else parse_comparison(
            answer.get("reference"), request.reference, sample_count=len(times), memory=shared_memory
        ),
        measures=parse_alone(answer.get("measures"), request.measures, sample_count=len(times))
        if request.measures
        else (),
        detail=_unpack_detail(memoryview(raw)[picture_bytes:]),
        **(parse_sound(answer.get("sound")) if request.with_audio else {}),
    )


def _unpack_detail(raw: memoryview) -> tuple[DetailGrid, ...]:
    return tuple(
        DetailGrid.unpack(raw[start : start + DETAIL_GRID_BYTES]) for start in range(0, len(raw), DETAIL_GRID_BYTES)
    )


def parse_stored_pictures(
    content: object, shared_memory: SharedMemory, request: DecodeRequest
) -> StoredPictures | None:
    """The pictures behind the views from which libvmaf computes measures; None when none are requested or there.

    Raises ValueError, KeyError or TypeError when the answer does not fit the request.
    """
    answer = _expect(content, dict)
    if request.reference is None or not request.reference.libvmaf_measures or answer.get("ok") is not True:
        return None
    times = _parse_times(answer.get("times"), max_samples=request.limits.max_samples)
    used_bytes = request.bytes_per_sample * len(times)
    return parse_libvmaf_pictures(answer.get("reference"), request.reference, shared_memory, used_bytes=used_bytes)


def printable_text(value: object) -> str:
    """The printable characters of a value, at most 200."""
    return "".join(character for character in str(value)[:_MAX_TEXT_CHARACTERS] if character.isprintable())


def _reported_error(answer: Mapping[str, Any]) -> DecodeError:
    reason = answer.get("reason")
    if not isinstance(reason, str) or reason not in _WORKER_REASONS:
        raise ValueError("unknown reason")
    return DecodeError(reason, printable_text(answer.get("detail", "")))


def _copy_views(shared_memory: SharedMemory, request: DecodeRequest, *, count: int) -> dict[View, Pixels]:
    samples = shared_memory[: count * request.bytes_per_sample].reshape(count, request.bytes_per_sample)
    views: dict[View, Pixels] = {}
    offset = 0
    for view in request.views:
        pixels = np.array(samples[:, offset : offset + view.row_bytes], order="C").reshape(count, *view.row_shape)
        pixels.flags.writeable = False
        views[view] = pixels
        offset += view.row_bytes
    return views


def _parse_signals(value: object, names: Sequence[str], *, count: int) -> dict[str, tuple[float, ...]]:
    table = _expect(value, dict)
    if set(table) != set(names):
        raise ValueError("these are not the requested signals")
    return {name: tuple(_bounded_number(x, 0, 1) for x in _expect(table[name], list, length=count)) for name in names}


def _parse_times(value: object, *, max_samples: int) -> tuple[float, ...]:
    numbers = _expect(value, list)
    if not 1 <= len(numbers) <= max_samples:
        raise ValueError("there are no times or too many")
    times = tuple(_bounded_number(x, 0, 1e9) for x in numbers)
    if any(b <= a for a, b in pairwise(times)):
        raise ValueError("the times are not increasing")
    return times


def _parse_media(table: Mapping[str, Any]) -> MediaFacts:
    tone_mapping = table["tone_mapping"]
    return MediaFacts(
        container=printable_text(table["container"]),
        codec=printable_text(table["codec"]),
        width=_bounded_integer(table["width"], 1, 100_000),
        height=_bounded_integer(table["height"], 1, 100_000),
        fps=_bounded_number(table["fps"], 0, 1e6),
        duration_seconds=_bounded_number(table["duration_seconds"], 0, 1e9),
        frame_count=_bounded_integer(table["frame_count"], 0, 10**9),
        pixel_format=printable_text(table["pixel_format"]),
        colour=printable_text(table["colour"]),
        transfer=printable_text(table["transfer"]),
        rotation_degrees=_bounded_integer(table["rotation_degrees"], -360, 360),
        is_interlaced=table["is_interlaced"] is True,
        has_captions=table.get("has_captions") is True,
        tone_mapping=None if tone_mapping is None else printable_text(tone_mapping),
        notes=tuple(printable_text(note) for note in _expect(table["notes"], list)[:16]),
        splices=tuple(_parse_splice(_expect(cue, dict)) for cue in _expect(table.get("splices", []), list)[:16]),
    )


def _parse_splice(table: Mapping[str, Any]) -> SpliceCue:
    return SpliceCue(
        begins=table["begins"] is True,
        at_seconds=_bounded_number(table["at_seconds"], -86_400, 86_400),
        seconds=_bounded_number(table["seconds"], 0, 86_400),
    )


def _expect(value: object, kind: type, *, length: int | None = None) -> Any:
    if not isinstance(value, kind) or (length is not None and len(value) != length):  # type: ignore[arg-type]
        raise ValueError(f"expected {kind.__name__}")
    return value


def _bounded_number(value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("expected a number")
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError("number out of range")
    return float(value)


def _bounded_integer(value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError("integer out of range")
    return value


def _parse_fingerprint(value: object) -> str:
    if not isinstance(value, str) or len(value) != FINGERPRINT_DIGITS or set(value) - set("0123456789abcdef"):
        raise ValueError("not a fingerprint")
    return value
