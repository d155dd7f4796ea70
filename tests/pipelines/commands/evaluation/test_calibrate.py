"""`vqmon calibrate`: the new manifest, the files beside it, and what events then carry."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from pipelines.commands.evaluation.calibrate import (
    CalibratedScorer,
    calibrate_scorer,
    write_calibration_report,
    write_scorer,
)
from pipelines.commands.evaluation.datasets import RatedData, RatedFile
from pipelines.commands.evaluation.predictions import FileResult, Predictions
from tests.scoring.tiny_levels import write_levels
from tests.scoring.tiny_onnx import decoded, pictures, tiny_spec, write_bundle
from vqmon.core.types import Score
from vqmon.errors import ScorerError, SettingsError
from vqmon.scoring.manifests.frame_scorer import load_frame_spec
from vqmon.scoring.runtime.graph import Placement
from vqmon.scoring.scorers.registry import ScorerOptions, open_scorers, pooled_score
from vqmon.settings.load import Settings
from vqmon.settings.scoring import ScoringSettings

RNG = np.random.default_rng(1)
NATIVES = RNG.uniform(12, 90, (200, 1)) + RNG.uniform(-8, 8, (200, 3))


def _settings(folder: Path) -> Settings:
    return Settings(scoring=ScoringSettings(folders=(folder,)))


def _data(scores: list[float], *, scale: tuple[float, float] | None = None) -> RatedData:
    rated = [RatedFile(path=Path(f"{index}.png"), score=score) for index, score in enumerate(scores)]
    return RatedData(file=Path("scores.csv"), layout="plain CSV", rated=rated, missing=[], scale=scale)


def _predictions(name: str = "tiny@1") -> Predictions:
    """What the tiny scorer gives for segments of three frames; one file could not be scored."""
    spec = tiny_spec(b"x")
    scores = [pooled_score(spec, natives.tolist()) for natives in NATIVES]
    results = [FileResult(scores={name: score}) for score in scores]
    return Predictions(names=[name], results=[*results[:-1], FileResult(reason="corrupt: x")])


def _calibrated(folder: Path) -> CalibratedScorer:
    """People use 1 to 5, and like what the scorer calls 30 already very much."""
    noise = np.random.default_rng(2).normal(size=200)
    scores = np.clip(1 + 4 / (1 + np.exp(-(NATIVES.mean(axis=1) - 30) / 12)) + 0.2 * noise, 1, 5)
    return calibrate_scorer(
        _settings(folder), "tiny", _data(scores.tolist()), _predictions(), scale=(1, 5), coverage=0.9
    )


def test_a_new_version_has_the_same_graph_and_the_owners_scale(tmp_path: Path) -> None:
    """It loads with its self-test; each of its scores has a percentile and an interval around it."""
    (tmp_path / "old").mkdir()
    write_bundle(tmp_path / "old")
    calibrated = _calibrated(tmp_path / "old")
    path = write_scorer(calibrated, tmp_path / "new")
    old, new = load_frame_spec(tmp_path / "old/tiny@1.json"), load_frame_spec(path)
    assert (new.id, new.sha256, new.calibration.version) == ("tiny@2", old.sha256, old.calibration.version + 1)
    assert new.provenance["calibrated_from"] == "tiny@1"
    assert "199 items" in new.provenance["calibrated_on"]
    assert new.calibration.apply(60) > 85
    assert calibrated.fitted.error_rms < 7 < calibrated.old_error_rms
    assert calibrated.remarks == ["1 file could not be scored."]

    async def scored() -> Score:
        options = ScorerOptions(placement=Placement(device="cpu"))
        async with open_scorers(["tiny"], [tmp_path / "old", tmp_path / "new"], options) as (scorer,):
            return await scorer.score(decoded(pictures(2)))

    score = asyncio.run(scored())
    assert score.scorer == "tiny@2"
    assert new.percentiles is not None
    assert score.percentile == pytest.approx(new.percentiles.apply(score.native_value), abs=0.01)
    assert score.interval is not None
    assert score.interval.low <= score.value <= score.interval.high


def test_the_value_of_a_segment_is_pooled_under_the_new_map(tmp_path: Path) -> None:
    """Held-out values come from the frames, as they will in events, not from the mean of the native values."""
    (tmp_path / "old").mkdir()
    write_bundle(tmp_path / "old")
    fitted = _calibrated(tmp_path / "old").fitted
    expected = [np.mean([fitted.calibration.apply(native) for native in frames]) for frames in NATIVES[:-1].tolist()]
    of_means = [fitted.calibration.apply(float(native)) for native in NATIVES[:-1].mean(axis=1)]
    held_out = np.array(fitted.held_out_values)
    assert np.abs(held_out - expected).mean() < 0.7
    assert np.abs(held_out - expected).mean() < 0.7 * np.abs(held_out - of_means).mean()


def test_the_report_states_error_and_coverage(tmp_path: Path) -> None:
    """With the band of the interval."""
    (tmp_path / "old").mkdir()
    write_bundle(tmp_path / "old")
    calibrated = _calibrated(tmp_path / "old")
    write_calibration_report(calibrated, tmp_path / "report.html", title="vqmon")
    text = (tmp_path / "report.html").read_text()
    assert f"{100 * calibrated.fitted.coverage:.1f} % of held-out items; stated: 90 %" in text
    assert 'class="band"' in text
    assert "tiny@2: tiny@1 calibrated" in text


def test_a_version_is_never_overwritten(tmp_path: Path) -> None:
    """A second one goes to another folder, or gets the next number once its folder is in the settings."""
    (tmp_path / "old").mkdir()
    write_bundle(tmp_path / "old")
    write_scorer(_calibrated(tmp_path / "old"), tmp_path / "new")
    with pytest.raises(SettingsError, match=r"tiny@2\.json: exists already"):
        write_scorer(_calibrated(tmp_path / "old"), tmp_path / "new")


def test_a_scorer_with_several_graphs_takes_all_of_them_along(tmp_path: Path) -> None:
    """A level scorer: two graphs and the weights of one of them."""
    (tmp_path / "old").mkdir()
    write_levels(tmp_path / "old")
    natives = np.linspace(1.2, 4.8, 60)
    scores = [
        Score(scorer="tiny-levels.quality@1", value=25 * (native - 1), native_value=native, p5=0, min=0, pooling="mean",
              frame_values=(25 * (native - 1),))
        for native in natives.tolist()
    ]  # fmt: skip
    predictions = Predictions(
        names=["tiny-levels.quality@1"], results=[FileResult(scores={score.scorer: score}) for score in scores]
    )
    data = _data((natives * 10).tolist(), scale=(0, 100))
    calibrated = calibrate_scorer(
        _settings(tmp_path / "old"), "tiny-levels", data, predictions, scale=None, coverage=0.8
    )
    write_scorer(calibrated, tmp_path / "new")

    async def identity() -> str:
        options = ScorerOptions(placement=Placement(device="cpu"))
        async with open_scorers(["tiny-levels@2"], [tmp_path / "new"], options) as (scorer,):
            return scorer.id

    assert asyncio.run(identity()) == "tiny-levels.quality@2"


def test_data_that_do_not_fit_are_refused_with_a_remedy(tmp_path: Path) -> None:
    """Unknown scale, scores outside it, unknown scorer."""
    (tmp_path / "old").mkdir()
    write_bundle(tmp_path / "old")
    settings, data = _settings(tmp_path / "old"), _data([float(index % 7) for index in range(200)])
    with pytest.raises(SettingsError, match=r"human scores from 0 to 6; state which.*--scale 1 5"):
        calibrate_scorer(settings, "tiny", data, _predictions(), scale=None, coverage=0.9)
    with pytest.raises(SettingsError, match=r"from 0 to 6 lie outside the scale 1\.\.5"):
        calibrate_scorer(settings, "tiny", data, _predictions(), scale=(1, 5), coverage=0.9)
    with pytest.raises(ScorerError, match="unknown scorer 'tinny'"):
        calibrate_scorer(settings, "tinny", data, _predictions(), scale=(0, 6), coverage=0.9)
