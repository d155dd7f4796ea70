"""Labels of rungs: teachers where they see a fault, own limits where they do not."""

from typing import Any

import pytest

pytest.importorskip("torch")

from models.data.teachers.labels import degradation_labels, quality_labels
from models.data.teachers.ladders import TaughtRung

pytestmark = pytest.mark.torch


def rung(kind: str, *, vmaf_neg: float = 97.4, ms_ssim: float = 1.0, **facts: Any) -> TaughtRung:
    defaults = {
        "amount": 0.0,
        "damage": 0.0,
        "codec": None,
        "lines": None,
        "factor": None,
        "pair": None,
        "network": None,
    }
    return TaughtRung(kind=kind, vmaf_neg=vmaf_neg, ms_ssim=ms_ssim, **{**defaults, **facts})


def test_the_label_is_the_mean_of_both_teachers() -> None:
    """VMAF-NEG over its value for equal pictures; MS-SSIM of 0.99 is 20 dB, at 60 between 5 and 30 dB."""
    (label,) = quality_labels([rung("codec", vmaf_neg=48.7, ms_ssim=0.99)])
    assert label == pytest.approx((50 + 60) / 2)


def test_clean_scenes_have_the_whole_mark() -> None:
    labels = quality_labels([rung("clean", vmaf_neg=96), rung("clean444", vmaf_neg=90)])
    assert labels.tolist() == [100, 100]


def test_sharpening_never_beats_what_was_sharpened() -> None:
    """By more, the stronger the mask; each pair for itself."""
    good, bad = ({"vmaf_neg": 80.0, "ms_ssim": 0.99}, {"vmaf_neg": 40.0, "ms_ssim": 0.9})
    ladder = [
        rung("soft", pair=1, **bad),
        rung("softsharp", pair=1, amount=0.5, **good),
        rung("softsharp", pair=1, amount=3.5, **good),
        rung("soft", pair=2, **good),
        rung("softsharp", pair=2, amount=0.5, **good),
        rung("sharp", amount=3.0),
    ]
    labels = quality_labels(ladder)
    assert labels[0] - labels[1] == pytest.approx(3)
    assert labels[0] - labels[2] == pytest.approx(15)
    assert labels[3] - labels[4] == pytest.approx(3)
    assert labels[5] == pytest.approx(81)


def test_faults_that_teachers_hardly_see_are_limited() -> None:
    """Noise, grain and bands by their strength; a teacher that is stricter decides."""
    ladder = [rung("noise", amount=9), rung("grain", amount=10), rung("banding", amount=16), rung("contrast")]
    assert quality_labels(ladder).tolist() == [82, 85, 60, 75]
    assert quality_labels([rung("banding", amount=6, vmaf_neg=0, ms_ssim=0.5)]).tolist() == [0]


def test_degradations_say_what_was_done() -> None:
    """Only the heads concerned, in proportion to the strength, never above 1."""
    labels = degradation_labels(
        [
            rung("clean"),
            rung("sizecodec", damage=0.4, lines=540),
            rung("kernel", factor=8.0),
            rung("softsharp", factor=2.0, amount=7.0),
            rung("sr", factor=4.0, network="oversharp"),
            rung("torn", vmaf_neg=0, ms_ssim=0.5),
            rung("blur", amount=2.2),
            rung("banding", amount=28),
        ]
    )
    assert all(values[0] == 0 for values in labels.values())
    assert labels["compression"].tolist() == [0, 0.4, 0, 0, 0, 0, 0, 0]
    assert labels["upscaling"] == pytest.approx([0, 1 / 3, 1, 1 / 3, 2 / 3, 0, 0, 0])
    assert labels["over_sharpening"].tolist() == [0, 0, 0, 1, 0.6, 0, 0, 0]
    assert labels["damage"].tolist() == [0, 0, 0, 0, 0, 1, 0, 0]
    assert labels["blur"][6] == pytest.approx(0.55)
    assert labels["banding"][7] == 1
