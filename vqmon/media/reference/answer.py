"""The result of a comparison as the JSON of a decoder process's answer, and its checked reading."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vqmon.core.scores import (
    UNSCORED_REFERENCE,
    ReferenceComparison,
    ReferencePairing,
    ReferenceScore,
)
from vqmon.media.reference.comparison import PairedValues, ReferenceRequest
from vqmon.media.reference.offered import REFERENCE_MEASURES

_MAX_TEXT_CHARACTERS = 200
_MAX_COMPONENTS = 16
_MAX_VALUE = 1e9


def pack_values(values: PairedValues, request: ReferenceRequest) -> dict[str, Any]:
    """The JSON of values; components are means over the paired frames."""
    return {
        "offset_seconds": round(values.alignment.offset_seconds, 6),
        "confidence": min(1.0, round(values.alignment.confidence, 4)),
        "canvas": values.canvas.name,
        "segment_area": values.segment_area,
        "reference_area": values.reference_area,
        "samples": sorted(values.frames),
        "measures": {name: _pack_measure(values, name) for name in request.measures},
    }


def pack_unscored(reason: str, detail: str) -> dict[str, Any]:
    """The JSON of a comparison without values."""
    return {"unscored": reason, "detail": detail}


def _pack_measure(values: PairedValues, name: str) -> dict[str, Any]:
    pairs = [values.frames[index][name] for index in sorted(values.frames)]
    parts = pairs[0][1]
    return {
        "values": [round(value, 6) for value, _ in pairs],
        "components": {
            part: round(sum(components[part] for _, components in pairs) / len(pairs), 6)
            for part in parts
            if all(part in components for _, components in pairs)
        },
    }


def parse_comparison(content: object, request: ReferenceRequest, *, sample_count: int) -> ReferenceComparison:
    """Check and read an answer, which an attacker may have written; raises ValueError, KeyError or TypeError."""
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
    return ReferenceComparison(
        scores=tuple(
            _parse_measure(name, _expect(measures[name], dict), samples, sample_count) for name in request.measures
        ),
        pairing=ReferencePairing(
            offset_seconds=_number(answer["offset_seconds"], -1e6, 1e6),
            confidence=_number(answer["confidence"], 0, 1),
            paired_frames=len(samples),
            canvas=_text(answer["canvas"]),
            segment_area=_text(answer["segment_area"]),
            reference_area=_text(answer["reference_area"]),
        ),
    )


def _parse_measure(name: str, answer: Mapping[str, Any], samples: list[int], sample_count: int) -> ReferenceScore:
    facts = REFERENCE_MEASURES[name]
    low = -_MAX_VALUE if facts.low is None else facts.low - 1e-6
    high = _MAX_VALUE if facts.high is None else facts.high + 1e-6
    values = [_number(value, low, high) for value in _expect(answer["values"], list)]
    components = _expect(answer["components"], dict)
    if len(values) != len(samples) or len(components) > _MAX_COMPONENTS:
        raise ValueError(f"{name}: wrong number of values")
    by_sample = dict(zip(samples, values, strict=True))
    return ReferenceScore(
        measure=name,
        value=round(sum(values) / len(values), 6),
        frame_values=tuple(by_sample.get(index) for index in range(sample_count)),
        unit=facts.unit,
        # of a measure that needs a reference it is stated
        higher_is_better=bool(facts.higher_is_better),
        components={_text(part): _number(value, -_MAX_VALUE, _MAX_VALUE) for part, value in components.items()},
    )


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
