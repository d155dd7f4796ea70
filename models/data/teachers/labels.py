"""Labels of rungs: the quality that a scorer shall give them, and how strong each degradation is."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.data.teachers.ladders import TaughtRung

Labels = NDArray[np.float64]

# libvmaf's VMAF-NEG of a picture against itself
_VMAF_NEG_OF_EQUALS = 97.4
# MS-SSIM on a scale of decibels: from 5 dB (0) to 30 dB (100)
_LOW_DB, _HIGH_DB = 5.0, 30.0
# What the teachers hardly see, by the step of the bands in levels.
_BANDING = {6: 88.0, 10: 76.0, 16: 60.0, 28: 42.0}
# A matter of taste more than of loss: the teachers are too harsh.
_TONES = {"contrast": 75.0, "exposure": 80.0}
_LINES = 1080


def quality_labels(rungs: Sequence[TaughtRung]) -> Labels:
    """[rungs] 0..100: the mean of both teachers, limited where neither of them sees a fault.

    Clean scenes have 100. A soft scene that is sharpened is below the soft one, by more the stronger the mask. A soft
    scene must come before its sharpened forms.
    """
    soft = {}
    labels = []
    for rung in rungs:
        taught = _taught_quality(rung)
        if rung.kind == "soft":
            soft[rung.pair] = taught
        labels.append(_limited(rung, taught, soft.get(rung.pair, taught)))
    return np.array(labels)


def _taught_quality(rung: TaughtRung) -> float:
    return min(100.0, 50 * rung.vmaf_neg / _VMAF_NEG_OF_EQUALS + 0.5 * _from_ms_ssim(rung.ms_ssim))


def _from_ms_ssim(value: float) -> float:
    decibels = -10 * np.log10(max(1 - value, 1e-3))
    return float((np.clip(decibels, _LOW_DB, _HIGH_DB) - _LOW_DB) * 100 / (_HIGH_DB - _LOW_DB))


def _limited(rung: TaughtRung, taught: float, soft: float) -> float:
    if rung.kind.startswith("clean"):
        return 100.0
    if rung.kind == "banding":
        return min(taught, _BANDING[int(rung.amount)])
    limits = {
        "softsharp": soft - (1 + 4 * rung.amount),
        "sharp": 99 - 6 * rung.amount,
        "noise": 100 - 2 * rung.amount,
        "grain": 100 - 1.5 * rung.amount,
    }
    return _TONES.get(rung.kind, min(taught, limits.get(rung.kind, 100.0)))


def degradation_labels(rungs: Sequence[TaughtRung]) -> Mapping[str, Labels]:
    """Name -> [rungs] 0 (none) .. 1 (strong)."""
    tables: dict[str, list[float]] = {}
    for rung in rungs:
        for name, strength in _strengths(rung, _taught_quality(rung)).items():
            tables.setdefault(name, []).append(min(1.0, max(0.0, strength)))
    return {name: np.array(table) for name, table in tables.items()}


def _strengths(rung: TaughtRung, quality: float) -> dict[str, float]:
    kind, is_sharpened = rung.kind, rung.kind in ("sharp", "softsharp")
    return {
        "compression": rung.damage if kind in ("codec", "sizecodec", "srcodec") else 0.0,
        "blur": rung.amount / 4 if kind == "blur" else 0.7 if kind == "motionblur" else 0.0,
        "noise": rung.amount / 34 if kind in ("noise", "grain") else 0.0,
        "upscaling": np.log2(_upscaling_factor(rung)) / 3,
        "over_sharpening": 0.6 if rung.network == "oversharp" else rung.amount / 3.5 if is_sharpened else 0.0,
        "banding": rung.amount / 28 if kind == "banding" else 0.0,
        "damage": (100 - quality) / 70 if kind == "torn" else 0.0,
    }


def _upscaling_factor(rung: TaughtRung) -> float:
    return _LINES / rung.lines if rung.lines else rung.factor or 1.0
