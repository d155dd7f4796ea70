"""Qualities of a ladder, and the filters and options that its settings stand for."""

import pytest

from vqmon.media.encode.codecs import CODECS, EncodeSettings, gop_frames


@pytest.mark.parametrize("name", CODECS)
def test_qualities_run_from_best_to_worst(name: str) -> None:
    codec = CODECS[name]
    qualities = codec.qualities(4)
    assert qualities == sorted(set(qualities))
    assert (qualities[0], qualities[-1], len(qualities)) == (codec.best, codec.worst, 4)
    assert codec.lowest <= codec.best < codec.worst <= codec.highest


def test_a_quantizer_scale_is_spaced_by_ratios() -> None:
    assert CODECS["mpeg2"].qualities(4) == [3, 6, 12, 24]
    assert CODECS["h264"].qualities(4) == [20, 27, 34, 41]


def test_settings_say_what_the_encoder_is_asked_for() -> None:
    constant = EncodeSettings(codec="h264", lines=720, seconds=4.0, quality=26)
    target = EncodeSettings(codec="h264", lines=720, seconds=4.0, rate_kbps=800)
    assert (constant.setting, constant.encoder_options()["crf"]) == ("CRF 26", "26")
    assert (target.setting, "crf" in target.encoder_options()) == ("800 kb/s", False)
    quantized = EncodeSettings(codec="mpeg2", lines=720, seconds=4.0, quality=6)
    assert (quantized.setting, quantized.encoder_options()["qmax"]) == ("Q 6", "6")


def test_a_soft_picture_is_downscaled_and_back_before_it_is_sharpened() -> None:
    settings = EncodeSettings(codec="h264", lines=720, seconds=2.0, soft_lines=360, sharpen=1.5, noise=6)
    names = [(name, arguments.split(":flags")[0]) for name, arguments in settings.filters(1280)]
    assert names[:3] == [("scale", "1280:720"), ("scale", "640:360"), ("scale", "1280:720")]
    assert names[3] == ("unsharp", "7:7:1.5:7:7:0")
    assert names[4][0] == "noise"
    assert [name for name, _ in EncodeSettings(codec="h264", lines=720, seconds=2.0).filters(1280)] == ["scale"]


def test_key_frames_are_two_seconds_apart() -> None:
    assert [gop_frames(fps) for fps in (25.0, 59.94, 0.2)] == [50, 120, 1]
