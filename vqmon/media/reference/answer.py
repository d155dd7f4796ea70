"""The result of a comparison as the JSON of a decoder process's answer, and its checked reading.

Pictures for learned measures are written into the memory that both processes share, behind the views: of each size the
pairs one after the other, the reference first. The JSON tells where.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vqmon.core.scores import (
    UNSCORED_REFERENCE,
    HeatMap,
    PicturePairs,
    ReferenceComparison,
    ReferencePairing,
    ReferenceScore,
    pack_heat_map,
)
from vqmon.core.types import Pixels
from vqmon.media.images.pillow_resize import shrink_to_short_side
from vqmon.media.reference.canvas import Canvas
from vqmon.media.reference.comparison import PairedValues, ReferenceRequest
from vqmon.media.reference.libvmaf.pictures import StoredPictures, parse_layout
from vqmon.media.reference.measures.offered import ALONE_MEASURES, REFERENCE_MEASURES

_MAX_TEXT_CHARACTERS = 200
_MAX_COMPONENTS = 16
_MAX_VALUE = 1e9
# of all pictures of one segment: some 16 pairs of 1920 x 1080
_MAX_PICTURE_BYTES = 200_000_000
_MIN_PICTURE_SIDE, _MAX_PICTURE_SIDE = 16, 8192
_NO_MEMORY = np.empty(0, np.uint8)


class _MeasureFacts(Protocol):
    """What is stated of every measure."""

    @property
    def unit(self) -> str: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def higher_is_better(self) -> bool | None: ...


@dataclass(slots=True, kw_only=True)
class _Region:
    """Where the pairs of one size lie in the shared memory; `samples` are those that have been written."""

    side: int
    height: int
    width: int
    offset_bytes: int
    chosen: frozenset[int]
    samples: list[int] = field(default_factory=list)

    @property
    def picture_bytes(self) -> int:
        return self.height * self.width * 3


class PictureWriter:
    """Writes pairs of pictures into the shared memory behind its first `used_bytes`; a `comparison.PictureSink`.

    When there is no room for all pairs, those of sampled frames that are spread evenly are written.
    """

    def __init__(self, memory: NDArray[np.uint8], sides: Sequence[int], *, used_bytes: int) -> None:
        self._memory, self._sides, self._used_bytes = memory, sides, used_bytes
        self._regions: list[_Region] = []

    def start(self, canvas: Canvas, samples: Sequence[int]) -> None:
        """Divide the room among the sizes; of each size choose the sampled frames."""
        offset, room = self._used_bytes, min(len(self._memory) - self._used_bytes, _MAX_PICTURE_BYTES)
        for side in self._sides:
            height, width = _picture_size(canvas, side)
            count = min(len(samples), room // len(self._sides) // (2 * height * width * 3))
            chosen = frozenset(samples[index * len(samples) // count] for index in range(count))
            region = _Region(side=side, height=height, width=width, offset_bytes=offset, chosen=chosen)
            offset += count * 2 * region.picture_bytes
            self._regions.append(region)

    def wants(self, sample: int) -> bool:
        """Whether the pictures of a sampled frame are wanted."""
        return any(sample in region.chosen for region in self._regions)

    def add(self, sample: int, *, reference: Pixels, picture: Pixels) -> None:
        """Write a sampled frame and its partner at each size that wants it."""
        for region in self._regions:
            if sample not in region.chosen:
                continue
            for index, pixels in enumerate((reference, picture)):
                start = region.offset_bytes + (2 * len(region.samples) + index) * region.picture_bytes
                resized = shrink_to_short_side(pixels, region.side) if region.side else pixels
                self._memory[start : start + region.picture_bytes] = resized.ravel()
            region.samples.append(sample)

    def layout(self) -> list[dict[str, Any]]:
        """The JSON that tells where the pictures are."""
        return [
            {
                "side": region.side,
                "height": region.height,
                "width": region.width,
                "offset": region.offset_bytes,
                "samples": region.samples,
            }
            for region in self._regions
            if region.samples
        ]


def _picture_size(canvas: Canvas, side: int) -> tuple[int, int]:
    """(height, width) at which pictures are handed out."""
    shortest = min(canvas.height, canvas.width)
    if not side or shortest <= side:
        return canvas.height, canvas.width
    return side * canvas.height // shortest, side * canvas.width // shortest


def pack_values(values: PairedValues, request: ReferenceRequest) -> dict[str, Any]:
    """The JSON of values; components are means over the paired frames."""
    return {
        "offset_seconds": round(values.alignment.offset_seconds, 6),
        "confidence": min(1.0, round(values.alignment.confidence, 4)),
        "canvas": values.canvas.name,
        "segment_area": values.segment_area,
        "reference_area": values.reference_area,
        "samples": sorted(values.frames),
        "measures": {
            name: _pack_measure(values, name) for name in request.measures if name not in request.libvmaf_measures
        },
        "heat_map": None if (heat_map := _heat_map(values)) is None else list(heat_map.frames),
        "libvmaf_pictures": None if values.pictures is None else asdict(values.pictures),
    }


def _heat_map(values: PairedValues) -> HeatMap | None:
    """Of the paired samples alone."""
    return pack_heat_map("ssim", [values.losses.get(index) for index in sorted(values.frames)])


def pack_unscored(reason: str, detail: str) -> dict[str, Any]:
    """The JSON of a comparison without values."""
    return {"unscored": reason, "detail": detail}


def _pack_measure(values: PairedValues, name: str) -> dict[str, Any]:
    pairs = [values.frames[index][name] for index in sorted(values.frames)]
    parts = pairs[0][1]
    return {
        # nan: the measure has no value for this picture
        "values": [None if math.isnan(value) else round(value, 6) for value, _ in pairs],
        "components": {
            part: round(sum(components[part] for _, components in pairs) / len(pairs), 6)
            for part in parts
            if all(part in components for _, components in pairs)
        },
    }


def libvmaf_memory(memory: NDArray[np.uint8], request: ReferenceRequest, *, used_bytes: int) -> NDArray[np.uint8]:
    """The part of the shared memory for the pictures of libvmaf: behind the views and the room for learned measures."""
    return memory[used_bytes + (_MAX_PICTURE_BYTES if request.picture_sides else 0) :]


def parse_libvmaf_pictures(
    content: object, request: ReferenceRequest, memory: NDArray[np.uint8], *, used_bytes: int
) -> StoredPictures | None:
    """The pictures for libvmaf that a worker's answer tells of; None when there is nothing to compare.

    Raises ValueError, KeyError or TypeError for an answer that cannot be.
    """
    answer = _expect(content, dict)
    if "unscored" in answer:
        return None
    pictures = StoredPictures(
        memory=libvmaf_memory(memory, request, used_bytes=used_bytes),
        layout=parse_layout(answer["libvmaf_pictures"]),
        context=request.context,
    )
    if pictures.layout.count != len(_expect(answer["samples"], list)):
        raise ValueError("there are not as many pictures as samples")
    return pictures


def add_values(content: dict[str, Any], values: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """A worker's answer with the values of more measures, one per paired frame each."""
    more = {name: {"values": list(frame_values), "components": {}} for name, frame_values in values.items()}
    return {**content, "measures": {**content["measures"], **more}}


def parse_comparison(
    content: object, request: ReferenceRequest, *, sample_count: int, memory: NDArray[np.uint8] = _NO_MEMORY
) -> ReferenceComparison:
    """Check and read an answer, which an attacker may have written; raises ValueError, KeyError or TypeError.

    Pictures are copied from `memory`, which may change while it is read.
    """
    answer = _expect(content, dict)
    if "unscored" in answer:
        if answer["unscored"] not in UNSCORED_REFERENCE:
            raise ValueError("unknown reason")
        return ReferenceComparison(unscored=answer["unscored"], detail=_text(answer.get("detail", "")))
    samples = [int(_number(index, 0, sample_count - 1)) for index in _expect(answer["samples"], list)]
    if not samples or samples != sorted(set(samples)):
        raise ValueError("these are no samples")
    measures = _expect(answer["measures"], dict)
    if set(measures) != set(request.measures):
        raise ValueError("these are not the requested measures")
    pictures = _parse_pictures(answer["pictures"], request, samples, memory)
    if not request.measures and not pictures:
        return ReferenceComparison(unscored="failed", detail="there is no memory for pictures of this size")
    parsed = [
        _parse_measure(name, REFERENCE_MEASURES[name], measures[name], samples, sample_count)
        for name in request.measures
    ]
    scores = tuple(score for score in parsed if score is not None)
    if not scores and not pictures:
        return ReferenceComparison(
            unscored="failed", detail="no measure has a value for pictures with so little texture"
        )
    return ReferenceComparison(
        scores=scores,
        pictures=pictures,
        pairing=ReferencePairing(
            offset_seconds=_number(answer["offset_seconds"], -1e6, 1e6),
            confidence=_number(answer["confidence"], 0, 1),
            paired_frames=len(samples),
            canvas=_text(answer["canvas"]),
            segment_area=_text(answer["segment_area"]),
            reference_area=_text(answer["reference_area"]),
        ),
        heat_maps=_parse_heat_map(answer["heat_map"], samples, sample_count) if request.with_heat_map else (),
    )


def _parse_heat_map(frames: object, samples: list[int], sample_count: int) -> tuple[HeatMap, ...]:
    """HeatMap checks the size of each frame."""
    if frames is None:
        return ()
    by_sample = dict(zip(samples, _expect(frames, list), strict=True))
    if not all(isinstance(frame, str) and len(frame) <= _MAX_TEXT_CHARACTERS for frame in by_sample.values()):
        raise ValueError("these are no frames of a heat map")
    return (HeatMap(measure="ssim", frames=tuple(by_sample.get(index, "") for index in range(sample_count))),)


def parse_alone(content: object, names: Sequence[str], *, sample_count: int) -> tuple[ReferenceScore, ...]:
    """Check and read the values of measures that need no reference, as `parse_comparison`; those without are left out.

    Raises ValueError, KeyError or TypeError.
    """
    measures = _expect(content, dict)
    if set(measures) != set(names):
        raise ValueError("these are not the requested measures")
    samples = list(range(sample_count))
    parsed = [_parse_measure(name, ALONE_MEASURES[name], measures[name], samples, sample_count) for name in names]
    return tuple(replace(score, is_compared=False) for score in parsed if score is not None)


def _parse_measure(
    name: str, facts: _MeasureFacts, content: object, samples: list[int], sample_count: int
) -> ReferenceScore | None:
    """None when the measure has a value for no frame."""
    answer = _expect(content, dict)
    low = -_MAX_VALUE if facts.low is None else facts.low - 1e-6
    high = _MAX_VALUE if facts.high is None else facts.high + 1e-6
    values = [None if value is None else _number(value, low, high) for value in _expect(answer["values"], list)]
    components = _expect(answer["components"], dict)
    if len(values) != len(samples) or len(components) > _MAX_COMPONENTS:
        raise ValueError(f"{name}: wrong number of values")
    by_sample = dict(zip(samples, values, strict=True))
    measured = [value for value in values if value is not None]
    if not measured:
        return None
    return ReferenceScore(
        measure=name,
        value=round(sum(measured) / len(measured), 6),
        frame_values=tuple(by_sample.get(index) for index in range(sample_count)),
        unit=facts.unit,
        higher_is_better=facts.higher_is_better,
        components={_text(part): _number(value, -_MAX_VALUE, _MAX_VALUE) for part, value in components.items()},
    )


def _parse_pictures(
    content: object, request: ReferenceRequest, samples: Sequence[int], memory: NDArray[np.uint8]
) -> dict[int, PicturePairs]:
    """Pairs by the length of their short side."""
    pictures: dict[int, PicturePairs] = {}
    for region in _expect(content, list):
        side = _expect(region["side"], int)
        if side in pictures or side not in request.picture_sides:
            raise ValueError("these are not the requested pictures")
        height, width = (
            int(_number(region[name], _MIN_PICTURE_SIDE, _MAX_PICTURE_SIDE)) for name in ("height", "width")
        )
        chosen = _expect(region["samples"], list)
        if not chosen or not set(chosen) <= set(samples) or chosen != sorted(set(chosen)):
            raise ValueError("these are no samples")
        size = len(chosen) * 2 * height * width * 3
        start = int(_number(region["offset"], 0, len(memory) - size))
        pixels = memory[start : start + size].reshape(len(chosen), 2, height, width, 3)
        pictures[side] = PicturePairs(
            samples=tuple(chosen), reference=pixels[:, 0].copy(), segment=pixels[:, 1].copy()
        )  # fmt: skip
    return pictures


def _expect(value: object, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"expected {kind.__name__}")
    return value


def _number(value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("expected a number")
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError("number out of range")
    return float(value)


def _text(value: object) -> str:
    return "".join(character for character in str(value)[:_MAX_TEXT_CHARACTERS] if character.isprintable())
