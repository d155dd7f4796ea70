"""The measures of libvmaf: models and features by name, the arguments of FFmpeg's filter, and the reading of its log.

VMAF weighs a picture's loss by the motion of the reference around it, so each compared frame needs neighbours in the
reference (`FrameContext`). The models and what they are for: `resource/doc/models_v0.md`, `models_v1.md` and `cambi.md`
of Netflix/vmaf.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_ROUNDING = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameContext:
    """How many frames of the reference before and after a compared one a measure reads."""

    before: int = 0
    after: int = 0

    @property
    def period(self) -> int:
        """Frames of the reference per compared frame."""
        return self.before + 1 + self.after


@dataclass(frozen=True, slots=True, kw_only=True)
class LibvmafMeasure:
    """The facts of a measure. `model` is a model that libvmaf has built in, with its options; "" for a feature."""

    description: str
    unit: str = ""
    low: float = 0.0
    high: float = 100.0
    higher_is_better: bool = True
    model: str = ""
    feature: str = ""
    context: FrameContext = FrameContext(before=1, after=1)


_HIGH_FRAME_RATE = FrameContext(before=4, after=2)

LIBVMAF_MEASURES: Mapping[str, LibvmafMeasure] = {
    "vmaf": LibvmafMeasure(description="VMAF v0.6.1: 1080p at three picture heights", model="vmaf_v0.6.1"),
    "vmaf_neg": LibvmafMeasure(
        description="VMAF v0.6.1 without enhancement gain: sharpening earns nothing", model="vmaf_v0.6.1neg"
    ),
    "vmaf_phone": LibvmafMeasure(description="VMAF v0.6.1 for a phone", model="vmaf_v0.6.1\\\\:enable_transform=true"),
    "vmaf_4k": LibvmafMeasure(description="VMAF v0.6.1: 4K at 1.5 picture heights", model="vmaf_4k_v0.6.1"),
    "vmaf_4k_neg": LibvmafMeasure(
        description="VMAF v0.6.1: 4K at 1.5 picture heights, without enhancement gain", model="vmaf_4k_v0.6.1neg"
    ),
    "vmaf_v1": LibvmafMeasure(description="VMAF v1: 1080p at three picture heights", model="vmaf_v1.0.16_3d0h"),
    "vmaf_v1_phone": LibvmafMeasure(description="VMAF v1: a phone, five picture heights", model="vmaf_v1.0.16_5d0h"),
    "vmaf_v1_4k": LibvmafMeasure(description="VMAF v1: 4K at 1.5 picture heights", model="vmaf_v1.0.16_1d5h_2160"),
    "vmaf_v1_4k_tv": LibvmafMeasure(
        description="VMAF v1: 4K at three picture heights, up to 110", model="vmaf_v1.0.16_3d0h_2160", high=110.0
    ),
    "vmaf_v1_hfr": LibvmafMeasure(
        description="VMAF v1 for 50 and 60 fps: 1080p at three picture heights",
        model="vmaf_v1.0.16_hfr_3d0h",
        context=_HIGH_FRAME_RATE,
    ),
    "vmaf_v1_hfr_phone": LibvmafMeasure(
        description="VMAF v1 for 50 and 60 fps: a phone", model="vmaf_v1.0.16_hfr_5d0h", context=_HIGH_FRAME_RATE
    ),
    "vmaf_v1_hfr_4k": LibvmafMeasure(
        description="VMAF v1 for 50 and 60 fps: 4K at 1.5 picture heights",
        model="vmaf_v1.0.16_hfr_1d5h_2160",
        context=_HIGH_FRAME_RATE,
    ),
    "vmaf_v1_hfr_4k_tv": LibvmafMeasure(
        description="VMAF v1 for 50 and 60 fps: 4K at three picture heights, up to 110",
        model="vmaf_v1.0.16_hfr_3d0h_2160",
        high=110.0,
        context=_HIGH_FRAME_RATE,
    ),
    "cambi": LibvmafMeasure(
        description="CAMBI: banding of the segment alone, about 5 is where it annoys",
        high=24.0,
        higher_is_better=False,
        feature="cambi",
        context=FrameContext(),
    ),
}
"""The measures of libvmaf by name."""


def libvmaf_context(names: Sequence[str]) -> FrameContext:
    """The frames of the reference around a compared one that these measures read; names of others do not count."""
    contexts = [LIBVMAF_MEASURES[name].context for name in names if name in LIBVMAF_MEASURES]
    return FrameContext(
        before=max((context.before for context in contexts), default=0),
        after=max((context.after for context in contexts), default=0),
    )


def filter_arguments(names: Sequence[str], *, period: int) -> str:
    """FFmpeg's filter for these measures on each `period`-th frame, with its log as JSON on the standard output."""
    models = [f"version={measure.model}\\\\:name={name}" for name in names if (measure := LIBVMAF_MEASURES[name]).model]
    features = [f"name={measure.feature}" for name in names if (measure := LIBVMAF_MEASURES[name]).feature]
    options = ["log_fmt=json", "log_path=/dev/stdout", f"n_subsample={period}"]
    options += [f"model={'|'.join(models)}"] if models else []
    options += [f"feature={'|'.join(features)}"] if features else []
    return f"libvmaf={':'.join(options)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LibvmafLog:
    """What libvmaf logged: its version, and for each measure one value per asked frame."""

    version: str
    values: Mapping[str, Sequence[float]]


def parse_log(text: bytes, names: Sequence[str], *, indices: Sequence[int]) -> LibvmafLog:
    """The values of the measures at some frames; raises ValueError when one is missing or out of its range."""
    try:
        content = json.loads(text)
        metrics = {frame["frameNum"]: frame["metrics"] for frame in content["frames"]}
        values = {name: [_value(name, metrics[index]) for index in indices] for name in names}
        return LibvmafLog(version=str(content["version"])[:40], values=values)
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"there is no {error}") from None


def _value(name: str, metrics: Mapping[str, Any]) -> float:
    measure = LIBVMAF_MEASURES[name]
    value = metrics[measure.feature or name]
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is no number")
    if not measure.low - _ROUNDING <= value <= measure.high + _ROUNDING:
        raise ValueError(f"{name} is {value:g}, outside of {measure.low:g} to {measure.high:g}")
    return min(max(float(value), measure.low), measure.high)
