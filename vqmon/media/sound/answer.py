"""What a decoder process, which is not trusted, answers about the sound of a segment."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from vqmon.core.frames import UNMEASURED_AUDIO, AudioFacts

_MAX_NUMBER = 1e9
_MAX_CODEC_CHARACTERS = 40


def parse_sound(content: object) -> dict[str, Any]:
    """`audio` and `unmeasured_audio` of a DecodedSegment; raises ValueError or KeyError for anything unexpected."""
    if isinstance(content, str):
        if content not in UNMEASURED_AUDIO:
            raise ValueError("unknown reason why the sound was not measured")
        return {"unmeasured_audio": content}
    if not isinstance(content, Mapping) or set(content) != {field.name for field in fields(AudioFacts)}:
        raise ValueError("these are not the facts of a sound track")
    return {
        "audio": AudioFacts(**{field.name: _checked(field.name, content[field.name]) for field in fields(AudioFacts)})
    }


def _checked(name: str, value: object) -> Any:
    if name == "codec":
        if not isinstance(value, str) or len(value) > _MAX_CODEC_CHARACTERS or not value.isprintable():
            raise ValueError("not the name of a codec")
        return value
    if name == "is_mono":
        if not isinstance(value, bool):
            raise ValueError("is_mono is not a boolean")
        return value
    if value is None and name in _OPTIONAL:
        return None
    kinds = int if name in _INTEGERS else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise ValueError(f"{name} is not a number")
    low, high = _RANGES.get(name, (-_MAX_NUMBER, _MAX_NUMBER))
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{name} is out of range")
    return value


_INTEGERS = ("sample_rate_hz", "channels", "lost_channels")
_OPTIONAL = (
    *("loudness_lufs", "momentary_max_lufs", "true_peak_dbtp", "phase_correlation"),
    *("offset_seconds", "end_offset_seconds"),
)
_RANGES = {
    "sample_rate_hz": (1, 10_000_000),
    "channels": (1, 256),
    "lost_channels": (0, 256),
    "duration_seconds": (0, _MAX_NUMBER),
    "silent_share": (0, 1),
    "clipped_share": (0, 1),
    "phase_correlation": (-1, 1),
}
