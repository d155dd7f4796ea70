"""The encodes and altered forms that options stand for, and options that are refused."""

import pytest

from pipelines.commands.evaluation.ladder.plan import LadderOptions, default_sizes, plan_ladder
from vqmon.errors import SettingsError


def test_the_default_is_two_codecs_at_four_rates_and_three_sizes() -> None:
    plan = plan_ladder(LadderOptions(), clip_lines=1080)
    assert len(plan.encodes) == 24
    assert {(each.codec, each.lines) for each in plan.encodes} == {
        (codec, lines) for codec in ("h264", "av1") for lines in (1080, 720, 480)
    }
    assert [each.quality for each in plan.encodes[:4]] == [20, 27, 34, 41]
    kinds = [form.kind for form in plan.forms]
    assert kinds == ["source", "soft", "sharpened", "sharpened", "sharpened", "noise", "noise", "noise"]
    assert {form.settings.seconds for form in plan.forms} == {2.0}
    assert len(set(plan.all_settings)) == 32


def test_sizes_follow_the_clip() -> None:
    assert default_sizes(2160) == [1080, 720, 480]
    assert default_sizes(721) == [720, 480, 320]
    assert default_sizes(96) == [96, 64]
    assert default_sizes(48) == [48]


def test_own_qualities_and_target_rates() -> None:
    options = LadderOptions(codecs=("h264",), qualities={"h264": (28, 18, 23)}, sizes=(480,), has_altered_forms=False)
    plan = plan_ladder(options, clip_lines=1080)
    assert [each.setting for each in plan.encodes] == ["CRF 18", "CRF 23", "CRF 28"]
    assert plan.forms == []
    rates = plan_ladder(LadderOptions(codecs=("hevc",), rates_kbps=(500, 2000), sizes=(480, 360)), clip_lines=480)
    assert [each.setting for each in rates.encodes] == ["2000 kb/s", "500 kb/s"] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codecs": ("h266",)}, "no codec 'h266' for a ladder; one of h264, hevc"),
        ({"codecs": ("h264",), "qualities": {"h264": (60,)}}, "those of h264 are from 0 to 51"),
        ({"codecs": ("h264",), "qualities": {"av1": (30,)}}, "add --codec av1"),
        ({"codecs": ("av1",), "qualities": {"av1": (30,)}, "rates_kbps": (500,)}, "exclude each other"),
        ({"rates_kbps": (5,)}, "from 10 to 1000000"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        LadderOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("lines", [1440, 32, 481])
def test_sizes_that_the_clip_cannot_give_are_refused(lines: int) -> None:
    with pytest.raises(SettingsError, match=f"{lines} lines cannot be made of a clip of 1080 lines"):
        plan_ladder(LadderOptions(sizes=(lines,)), clip_lines=1080)
