"""`vqmon calibrate`: a new version of a scorer's manifest, fitted to human scores of the owner's data."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.commands.evaluation.datasets import RatedData, RatedFile
from pipelines.commands.evaluation.predictions import Predictions
from pipelines.service.wiring import utc_now
from vqmon.core.calibration import Calibration
from vqmon.core.evaluation.calibration_fit import CalibrationSample, FittedCalibration, fit_calibration
from vqmon.core.scores import pool
from vqmon.core.types import Score
from vqmon.errors import SettingsError
from vqmon.plurals import plural
from vqmon.scoring.manifests.composite_scorer import CompositeSpec, save_composite_spec
from vqmon.scoring.manifests.frame_scorer import ScorerSpec, find_bundles, save_frame_spec
from vqmon.scoring.manifests.level_scorer import LevelScorerSpec, save_level_spec
from vqmon.scoring.scorers.registry import Spec, builtin_folder, load_scorer_manifest, resolve_manifests
from vqmon.settings.load import Settings
from vqmon.web.pages.calibration import CalibrationReport, render_calibration
from vqmon.whole_files import write_problem, write_whole_file

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedScorer:
    """A scorer with a new calibration, not yet written."""

    old: Spec
    new: Spec
    # of the old one
    manifest: Path
    fitted: FittedCalibration
    # human scores on 0..100, and the values that the old calibration gave
    scores: Sequence[float]
    old_values: Sequence[float]
    # sentences about items that were left out
    remarks: Sequence[str]

    @property
    def old_error_rms(self) -> float:
        """The error of the old calibration on the same items, in points of 0..100."""
        return float(np.sqrt(((np.array(self.scores) - np.array(self.old_values)) ** 2).mean()))


def calibrate_scorer(
    settings: Settings,
    scorer: str,
    data: RatedData,
    predictions: Predictions,
    *,
    scale: tuple[float, float] | None,
    coverage: float,
) -> CalibratedScorer:
    """Fit the calibration of `name` or `name@version` to rated files; `scale` are the scores that become 0 and 100.

    Raises ScorerError for an unknown scorer, SettingsError when the data do not allow it.
    """
    bundles = find_bundles([builtin_folder(), *settings.scoring.folders])
    (manifest,) = resolve_manifests([scorer], bundles).values()
    old, scored = load_scorer_manifest(manifest), _scored(data, predictions)
    human = _on_common_scale(data, scored, scale=scale)

    def revalue(calibration: Calibration, rows: NDArray[np.intp]) -> _Floats:
        return np.array([_recalibrated_value(scored[row][1], old, calibration) for row in rows.tolist()])

    try:
        fitted = fit_calibration(
            CalibrationSample(
                natives=np.array([score.native_value for _, score in scored]),
                scores=human,
                contents=tuple(item.content for item, _ in scored) if all(item.content for item, _ in scored) else (),
            ),
            revalue,
            version=old.calibration.version + 1,
            higher_is_better=old.higher_is_better,
            coverage=coverage,
            population=f"{data.layout}, {data.file.name}: {len(scored)} items",
        )
    except ValueError as error:
        raise SettingsError(f"{data.file}: {old.id} cannot be calibrated: {error}") from error
    unscored = len(data.rated) - len(scored)
    return CalibratedScorer(
        old=old,
        new=_new_spec(old, fitted, bundle_ids=list(bundles), data=data),
        manifest=manifest,
        fitted=fitted,
        scores=human.tolist(),
        old_values=[score.value for _, score in scored],
        remarks=[f"{plural(unscored, 'file')} could not be scored."] if unscored else [],
    )


def _scored(data: RatedData, predictions: Predictions) -> list[tuple[RatedFile, Score]]:
    """The rated files with the score of the only scorer, without those that could not be scored."""
    (name,) = predictions.names
    return [
        (item, result.scores[name])
        for item, result in zip(data.rated, predictions.results, strict=True)
        if result.scores
    ]


def _on_common_scale(
    data: RatedData, scored: Sequence[tuple[RatedFile, Score]], *, scale: tuple[float, float] | None
) -> _Floats:
    """The human scores on 0..100; raises SettingsError when their scale is unknown or wrong."""
    low, high = scale or data.scale or _unknown_scale(data)
    human = np.array([100 * (item.score - low) / (high - low) for item, _ in scored], dtype=np.float64)
    if len(human) and not (human.min() >= -1e-9 and human.max() <= 100 + 1e-9):
        lowest, highest = (bound(item.score for item, _ in scored) for bound in (min, max))
        raise SettingsError(
            f"{data.file}: human scores from {lowest:g} to {highest:g} lie outside the scale {low:g}..{high:g}; state "
            "the worst and the best possible score with --scale WORST BEST"
        )
    return human


def _recalibrated_value(score: Score, spec: Spec, calibration: Calibration) -> float:
    """The pooled 0..100 value that a segment would have under another calibration.

    Frame values go back to the native scale through the old calibration, which is exact between its ends; the score of
    a single picture is mapped directly.
    """
    if len(score.frame_values) == 1:
        return calibration.apply(score.native_value)
    natives, values = zip(*spec.calibration.points, strict=True)
    if values[0] > values[-1]:
        natives, values = natives[::-1], values[::-1]
    frames = [calibration.apply(float(np.interp(value, values, natives))) for value in score.frame_values]
    return pool(score.pooling, frames)


def _unknown_scale(data: RatedData) -> tuple[float, float]:
    lowest, highest = min(item.score for item in data.rated), max(item.score for item in data.rated)
    raise SettingsError(
        f"{data.file}: human scores from {lowest:g} to {highest:g}; state which scores are worst and best, "
        "for example --scale 1 5"
    )


def _new_spec(old: Spec, fitted: FittedCalibration, *, bundle_ids: Sequence[str], data: RatedData) -> Spec:
    versions = [int(bundle.rpartition("@")[2]) for bundle in bundle_ids if bundle.rpartition("@")[0] == old.name]
    provenance = {
        **old.provenance,
        "calibrated_from": old.id,
        "calibrated_on": fitted.interval.population,
        "calibration_error": f"RMS {fitted.error_rms:.2f} points of 0..100 on held-out items of {data.file.name}",
    }
    new = replace(
        old,
        version=max(versions) + 1,
        calibration=fitted.calibration,
        percentiles=fitted.percentiles,
        interval=fitted.interval,
        provenance=provenance,
    )
    # its points are those of the old map
    return new if isinstance(new, LevelScorerSpec) else replace(new, noise=None)


def write_scorer(calibrated: CalibratedScorer, folder: Path) -> Path:
    """Write the new manifest to a folder, with the graphs beside it as links or copies; returns its path.

    Raises SettingsError when it exists already or cannot be written.
    """
    new, source = calibrated.new, calibrated.manifest.parent
    path = folder / f"{new.id}.json"
    if path.exists():
        raise SettingsError(f"{path}: exists already; name another folder with --folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old_name, new_name in _files(calibrated.old, new):
            _link_or_copy(source / old_name, folder / new_name)
    except OSError as error:
        raise SettingsError(f"{folder}: the scorer {write_problem(error)}") from error
    if isinstance(new, LevelScorerSpec):
        save_level_spec(new, path)
    elif isinstance(new, CompositeSpec):
        save_composite_spec(new, path)
    else:
        save_frame_spec(new, path)
    return path


def _files(old: Spec, new: Spec) -> list[tuple[str, str]]:
    """The files that belong to a manifest: their names in the old and in the new folder."""
    if isinstance(old, ScorerSpec):
        return [(f"{old.id}.onnx", f"{new.id}.onnx")]
    if isinstance(old, LevelScorerSpec):
        graphs, texts = [old.encoder, old.language], []
    else:
        graphs, texts = [step.graph for step in old.steps], [text.file for text in old.texts]
    names = [graph.file for graph in graphs] + [f"{graph.file}.data" for graph in graphs if graph.has_data] + texts
    return [(name, name) for name in dict.fromkeys(names)]


def _link_or_copy(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:
        try:
            shutil.copyfile(source, target)
        except OSError:
            # half a graph would be taken for a whole one
            target.unlink(missing_ok=True)
            raise


def write_calibration_report(calibrated: CalibratedScorer, file: Path, *, title: str) -> None:
    """Write what was fitted, and how well, as one HTML file; raises SettingsError."""
    report = CalibrationReport(
        old=calibrated.old.id,
        new=calibrated.new.id,
        fitted=calibrated.fitted,
        scores=calibrated.scores,
        old_error_rms=calibrated.old_error_rms,
        remarks=calibrated.remarks,
    )
    write_whole_file(file, render_calibration(report, title=title, now=utc_now()))
