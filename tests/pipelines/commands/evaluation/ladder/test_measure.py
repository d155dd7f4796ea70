"""What becomes of encodes that could not be measured, and the settings of a ladder."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.commands.evaluation.ladder import measure
from pipelines.commands.evaluation.ladder.measure import settings_for_ladder
from pipelines.commands.evaluation.ladder.plan import LadderOptions, plan_ladder
from pipelines.commands.evaluation.ladder.work_folder import StoredEncode
from tests import factories
from tests.pipelines.commands.evaluation.ladder.test_work_folder import EXCERPT
from vqmon.core.scores import ReferencePairing, ReferenceScore
from vqmon.core.types import QualityEvent
from vqmon.errors import SettingsError
from vqmon.settings.load import Settings

PLAN = plan_ladder(LadderOptions(codecs=("h264",), sizes=(720,), has_altered_forms=False), clip_lines=720)
STORED = StoredEncode(file=Path("x.mp4"), rate_kbps=900.0, width=1280, height=720)


def compared(*measures: str) -> QualityEvent:
    """An event with these reference measures."""
    pairing = ReferencePairing(offset_seconds=0.0, confidence=1.0, paired_frames=1, canvas="1280x720")
    references = tuple(
        ReferenceScore(measure=name, value=40.0, frame_values=(40.0,), unit="dB", higher_is_better=True)
        for name in measures
    )
    return replace(factories.event(), references=references, reference_pairing=pairing)


def assemble(*results: QualityEvent | str) -> measure.MeasuredLadder:
    """The ladder of four encodes with these events or problems."""
    measured = {
        each: measure._Measured(problem=result)
        if isinstance(result, str)
        else measure._Measured(encode=STORED, event=result)
        for each, result in zip(PLAN.encodes, results, strict=True)
    }
    return measure._assemble(Path("film.mp4"), EXCERPT, PLAN, measured)


def test_an_encode_that_cannot_be_measured_is_left_out_and_said() -> None:
    bare = replace(factories.event(), unscored_reference="misaligned", unscored_reference_detail="no offset pairs them")
    result = assemble(compared("psnr"), "cannot be encoded (crashed)", compared("psnr"), bare)
    assert [encode.setting for encode in result.ladder.encodes] == ["CRF 20", "CRF 34"]
    assert list(result.remarks) == [
        "Left out: h264 720p CRF 27 cannot be encoded (crashed).",
        "Left out: h264 720p CRF 41 has no reference measures (no offset pairs them).",
    ]


def test_a_measure_that_some_encodes_lack_is_left_out_and_said() -> None:
    result = assemble(compared("psnr", "vmaf"), compared("psnr"), compared("psnr", "vmaf"), compared("psnr", "vmaf"))
    assert [subject.name for subject in result.ladder.measures] == ["psnr"]
    assert list(result.remarks) == ["Left out, as some encodes have no value of them: vmaf."]


def test_measures_of_an_encode_alone_are_judged_unless_they_describe_the_content() -> None:
    """And they do not hide that an encode could not be compared with the clip."""
    alone = [
        ReferenceScore(
            measure=name, value=3.0, frame_values=(3.0,), unit="", higher_is_better=better, is_compared=False
        )
        for name, better in (("cambi", False), ("si", None))
    ]
    event = replace(compared("psnr"), references=(*compared("psnr").references, *alone))
    unpaired = replace(factories.event(), references=tuple(alone), unscored_reference="misaligned")
    result = assemble(event, event, event, unpaired)
    assert [(each.name, each.higher_is_better) for each in result.ladder.measures] == [("psnr", True), ("cambi", False)]
    assert [encode.setting for encode in result.ladder.encodes] == ["CRF 20", "CRF 27", "CRF 34"]


def test_without_any_reference_measure_scorers_remain() -> None:
    result = assemble(*[factories.event()] * 4)
    assert result.ladder.measures == []
    assert len(result.ladder.encodes) == 4
    assert "only rates and noise can be judged" in result.remarks[0]


def test_a_ladder_of_nothing_is_refused_with_the_first_problem() -> None:
    with pytest.raises(SettingsError, match=r"film.mp4: no encode could be measured. Left out: h264 720p CRF 20 broke"):
        assemble(*["broke"] * 4)


def test_the_settings_sample_twice_per_second_and_take_chosen_measures() -> None:
    settings = settings_for_ladder(Settings(), measures=("ms_ssim", "psnr", "ms_ssim"))
    assert settings.scoring.references == ("ms_ssim", "psnr")
    assert settings.decode.fps == 2.0
    assert settings_for_ladder(Settings()).scoring.references == Settings().scoring.references
    alone = settings_for_ladder(Settings(), measures=("cambi", "niqe", "psnr")).scoring
    # NIQE of all encodes on one canvas; without an ffmpeg program, CAMBI of the encode as it is coded
    assert (alone.measures, alone.references) == (("cambi",), ("niqe", "psnr"))
    with pytest.raises(SettingsError, match=r"^no reference measure is named pnsr; psnr, "):
        settings_for_ladder(Settings(), measures=("pnsr",))
