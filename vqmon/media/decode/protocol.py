"""What the daemon and a decoder process say to each other: a fixed head, then JSON, then raw bytes; no pickle.

Views do not travel: the worker puts them on a board, memory that both share, sample after sample, the views of a sample
in the order of the request. The daemon copies them from there.
"""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import accumulate, pairwise
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vqmon.core.types import SIGNALS, ClipSampling, Decoded, MediaFacts, Pixels, Sampling, View
from vqmon.errors import REASONS, DecodeError

HEAD = struct.Struct("!4sIQ")
"""Magic, length of the JSON, length of the raw bytes."""

MAX_JSON_BYTES = 4_000_000
EDGE_DIGITS = 32 * 18 * 2

Board = NDArray[np.uint8]
"""Flat memory for the views of one segment."""

HdrRule = Literal["tonemap", "refuse"]

_MAGIC = b"vqm1"
_MAX_TEXT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeLimits:
    """What one segment may cost; whatever asks for more is refused with a reason.

    `deadline_seconds` and `wait_seconds` are kept by the daemon (the first for the decoding, the second for a free
    worker), the rest by the worker. `max_pixels` is that of 4096 x 2160 by default.
    """

    deadline_seconds: float = 10.0
    wait_seconds: float = 120.0
    max_pixels: int = 8_847_360
    # coded frames in one segment
    max_frames: int = 72_000
    max_samples: int = 600
    max_duration_seconds: float = 3_600.0
    max_media_bytes: int = 256_000_000
    # all views of all samples of one segment; one board of this size per worker, of which only what is used is taken
    max_view_bytes: int = 512_000_000
    # address space of one worker, the board not counted
    memory_bytes: int = 1_500_000_000
    # codec threads inside one worker; workers are the parallelism
    threads: int = 1

    def __post_init__(self) -> None:
        if any(getattr(self, item.name) <= 0 for item in fields(self)):
            raise ValueError(f"every decode limit must be positive: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRequest:
    """What is asked of a worker about one segment."""

    views: tuple[View, ...]
    sampling: Sampling = "exact"
    fps: float = 1.0
    hdr: HdrRule = "tonemap"
    # 0: no thumbnails
    thumbnail_width: int = 0
    signals: tuple[str, ...] = tuple(SIGNALS)
    # where fragments are drawn from; row k of a segment draws from seed + k
    seed: int = 0
    limits: DecodeLimits = field(default_factory=DecodeLimits)

    def __post_init__(self) -> None:
        if self.sampling not in get_args(Sampling) or self.hdr not in get_args(HdrRule):
            raise ValueError(f"unknown sampling or hdr rule: {self.sampling!r}, {self.hdr!r}")
        if not 0 < self.fps <= 240 or not 0 <= self.thumbnail_width <= 1920:
            raise ValueError(f"out of range: fps {self.fps}, thumbnail_width {self.thumbnail_width}")
        if unknown := set(self.signals) - set(SIGNALS):
            raise ValueError(f"unknown signals: {sorted(unknown)}")
        if len(set(self.views)) != len(self.views):
            raise ValueError("a view is asked for twice")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be within 0..2**32-1, got {self.seed}")

    @property
    def bytes_per_sample(self) -> int:
        return sum(view.row_bytes for view in self.views)

    @property
    def clips(self) -> tuple[ClipSampling, ...]:
        """Every way in which clips are wanted."""
        return tuple(dict.fromkeys(view.clip for view in self.views if view.clip is not None))

    def to_fields(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_fields(cls, fields_: Mapping[str, Any]) -> "DecodeRequest":
        views = tuple(_view(view) for view in fields_["views"])
        limits = DecodeLimits(**fields_["limits"])
        return cls(**{**fields_, "views": views, "signals": tuple(fields_["signals"]), "limits": limits})


def _view(facts: Mapping[str, Any]) -> View:
    clip = None if facts["clip"] is None else ClipSampling(**facts["clip"])
    return View(**{**facts, "pad_rgb": tuple(facts["pad_rgb"]), "clip": clip})


def head_and_json(content: Mapping[str, Any], *, raw_bytes: int) -> bytes:
    """The start of a message; `raw_bytes` bytes must follow."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
    return HEAD.pack(_MAGIC, len(text), raw_bytes) + text


def lengths_of(head: bytes | bytearray, *, max_raw_bytes: int) -> tuple[int, int]:
    """(JSON bytes, raw bytes) that a head announces; ValueError when it is none or asks for too much."""
    magic, json_bytes, raw_bytes = HEAD.unpack(head)
    if magic != _MAGIC or json_bytes > MAX_JSON_BYTES or raw_bytes > max_raw_bytes:
        raise ValueError("not a message, or one that is too large")
    return json_bytes, raw_bytes


def decoded_from(content: object, raw: bytes | bytearray, board: Board, request: DecodeRequest) -> Decoded:
    """Read a worker's answer as if an enemy had written it; `board` may change while it is read.

    Raises the DecodeError that the worker reports, and ValueError when the answer does not fit the request.
    """
    answer = _need(content, dict)
    if answer.get("ok") is not True:
        raise _error_from(answer)
    times = _times(answer.get("times"), max_samples=request.limits.max_samples)
    sizes = [_integer(size, 0, 10_000_000) for size in _need(answer.get("thumbnails"), list)]
    if len(sizes) != (len(times) if request.thumbnail_width else 0):
        raise ValueError("wrong number of thumbnails")
    if len(raw) != sum(sizes) or request.bytes_per_sample * len(times) > len(board):
        raise ValueError("wrong number of raw bytes, or more views than there is room for")
    first, last = (_edge(edge) for edge in _need(answer.get("edges"), list, length=2))
    return Decoded(
        times_seconds=times,
        views=_views(board, request, count=len(times)),
        signals=_signals(answer.get("signals"), request.signals, count=len(times)),
        thumbnails=tuple(bytes(raw[end - size : end]) for size, end in zip(sizes, accumulate(sizes), strict=True)),
        media=_media(_need(answer.get("media"), dict)),
        edges=(first, last),
    )


def text_of(value: object) -> str:
    """A short printable text, whatever was sent."""
    return "".join(letter for letter in str(value)[:_MAX_TEXT] if letter.isprintable())


def _error_from(answer: Mapping[str, Any]) -> DecodeError:
    reason = answer.get("reason")
    if not isinstance(reason, str) or reason not in REASONS:
        raise ValueError("unknown reason")
    return DecodeError(reason, text_of(answer.get("detail", "")))


def _views(board: Board, request: DecodeRequest, *, count: int) -> dict[View, Pixels]:
    samples = board[: count * request.bytes_per_sample].reshape(count, request.bytes_per_sample)
    found: dict[View, Pixels] = {}
    at = 0
    for view in request.views:
        pixels = np.array(samples[:, at : at + view.row_bytes], order="C").reshape(count, *view.row_shape)
        pixels.flags.writeable = False
        found[view] = pixels
        at += view.row_bytes
    return found


def _signals(value: object, names: Sequence[str], *, count: int) -> dict[str, tuple[float, ...]]:
    table = _need(value, dict)
    if set(table) != set(names):
        raise ValueError("wrong signals")
    return {name: tuple(_number(x, 0, 1) for x in _need(table[name], list, length=count)) for name in names}


def _times(value: object, *, max_samples: int) -> tuple[float, ...]:
    times = tuple(_number(x, 0, 1e9) for x in _need(value, list))
    if not 1 <= len(times) <= max_samples or any(b <= a for a, b in pairwise(times)):
        raise ValueError("times are not rising, none, or too many")
    return times


def _media(table: Mapping[str, Any]) -> MediaFacts:
    tone_mapping = table["tone_mapping"]
    return MediaFacts(
        container=text_of(table["container"]),
        codec=text_of(table["codec"]),
        width=_integer(table["width"], 1, 100_000),
        height=_integer(table["height"], 1, 100_000),
        fps=_number(table["fps"], 0, 1e6),
        duration_seconds=_number(table["duration_seconds"], 0, 1e9),
        frame_count=_integer(table["frame_count"], 0, 10**9),
        pixel_format=text_of(table["pixel_format"]),
        colour=text_of(table["colour"]),
        transfer=text_of(table["transfer"]),
        rotation_degrees=_integer(table["rotation_degrees"], -360, 360),
        is_interlaced=table["is_interlaced"] is True,
        tone_mapping=None if tone_mapping is None else text_of(tone_mapping),
        notes=tuple(text_of(note) for note in _need(table["notes"], list)[:16]),
    )


def _need(value: object, kind: type, *, length: int | None = None) -> Any:
    if not isinstance(value, kind) or (length is not None and len(value) != length):  # type: ignore[arg-type]
        raise ValueError(f"expected {kind.__name__}")
    return value


def _number(value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("expected a number")
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError("number out of range")
    return float(value)


def _integer(value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError("integer out of range")
    return value


def _edge(value: object) -> str:
    if not isinstance(value, str) or len(value) != EDGE_DIGITS or set(value) - set("0123456789abcdef"):
        raise ValueError("not a fingerprint")
    return value
