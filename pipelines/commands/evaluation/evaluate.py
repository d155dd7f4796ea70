"""`vqmon evaluate`: how well scorers agree with the human scores of a data set; as JSON and as an HTML report."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from pipelines.commands.evaluation.datasets import RatedData, RatedFile
from pipelines.commands.evaluation.predictions import FileResult, Predictions, thumbnails
from pipelines.service.wiring import utc_now
from vqmon.core.evaluation.evaluation import RatedItems, evaluate
from vqmon.core.evaluation.results import Evaluation
from vqmon.errors import SettingsError
from vqmon.media.reference.measures.offered import ALONE_MEASURES
from vqmon.plurals import plural
from vqmon.settings.load import Settings
from vqmon.web.pages.evaluation import EvaluationReport, pictured_outliers, render_evaluation
from vqmon.whole_files import write_whole_file

_EVALUATION = TypeAdapter(Evaluation)
_MAX_REASONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedData:
    """An evaluation, and the items that it is about: those with a prediction of every scorer."""

    data: RatedData
    names: Sequence[str]
    rated: Sequence[RatedFile]
    # by scorer, in the order of `rated`
    predictions: Mapping[str, Sequence[float]]
    # files without a score, and why
    unscored: Mapping[Path, str]
    evaluation: Evaluation

    def remarks(self) -> list[str]:
        """Sentences about the items that are left out."""
        remarks = []
        if self.data.missing:
            remarks.append(f"{len(self.data.missing)} listed files do not exist, for example {self.data.missing[0]}.")
        if self.unscored:
            reasons = sorted({reason.split(":")[0] for reason in self.unscored.values()})
            listed = ", ".join(reasons[:_MAX_REASONS])
            remarks.append(f"{plural(len(self.unscored), 'file')} could not be scored ({listed}).")
        return remarks


def evaluate_predictions(
    data: RatedData, predictions: Predictions, *, draws: int, on_scorer: Callable[[str], None] = lambda scorer: None
) -> EvaluatedData:
    """Evaluate what was predicted for the rated files; raises SettingsError when too little could be scored."""
    values = [[result.prediction(name) for name in predictions.names] for result in predictions.results]
    is_complete = [all(value is not None for value in row) for row in values]
    unscored = {
        item.path: result.reason or _why_incomplete(result, predictions.names)
        for item, result, complete in zip(data.rated, predictions.results, is_complete, strict=True)
        if not complete
    }
    rated = [item for item, complete in zip(data.rated, is_complete, strict=True) if complete]
    columns = {
        name: [float(row[index] or 0.0) for row, complete in zip(values, is_complete, strict=True) if complete]
        for index, name in enumerate(predictions.names)
    }
    names = _short_names(rated)
    try:
        evaluation = evaluate(
            _rated_items(names, rated),
            {name: np.array(column) for name, column in columns.items()},
            draws=draws,
            on_scorer=on_scorer,
        )
    except ValueError as error:
        first = next(iter(unscored.items()), None)
        why = f"; {len(unscored)} could not be scored, for example {first[0]}: {first[1]}" if first else ""
        raise SettingsError(f"{data.file}: cannot be evaluated: {error}{why}") from error
    return EvaluatedData(
        data=data, names=names, rated=rated, predictions=columns, unscored=unscored, evaluation=evaluation
    )


def _why_incomplete(result: FileResult, names: Sequence[str]) -> str:
    missing = [name for name in names if result.prediction(name) is None]
    failures = [f"{name}: {result.scorer_failures[name]}" for name in missing if name in result.scorer_failures]
    if failures:
        return "; ".join(failures)
    if alone := [name for name in missing if name in ALONE_MEASURES]:
        return f"no {', '.join(alone)}: the picture is too small for it, or has hardly any texture"
    is_scorer = all("@" in name or ":" in name for name in missing)
    return f"no score by {', '.join(missing)}" if is_scorer else result.unscored_reference


def _rated_items(names: Sequence[str], rated: Sequence[RatedFile]) -> RatedItems:
    errors = [item.standard_error for item in rated]
    return RatedItems(
        names=names,
        scores=np.array([item.score for item in rated], dtype=np.float64),
        groups=[item.group for item in rated] if any(item.group for item in rated) else (),
        contents=[item.content for item in rated] if all(item.content for item in rated) else (),
        standard_errors=[error for error in errors if error is not None] if None not in errors else (),
    )


def _short_names(rated: Sequence[RatedFile]) -> list[str]:
    """File names, or whole paths where two files have the same name."""
    names = [item.path.name for item in rated]
    return names if len(set(names)) == len(names) else [str(item.path) for item in rated]


def evaluation_json(evaluated: EvaluatedData) -> str:
    """The evaluation as JSON, with every item's human score and predictions."""
    items = [
        {
            "path": str(item.path),
            "score": item.score,
            "group": item.group,
            "content": item.content,
            "predictions": {scorer: values[index] for scorer, values in evaluated.predictions.items()},
        }
        for index, item in enumerate(evaluated.rated)
    ]
    document = {
        "data": {"file": str(evaluated.data.file), "layout": evaluated.data.layout},
        "evaluation": _EVALUATION.dump_python(evaluated.evaluation, mode="json"),
        "items": items,
        "unscored": [{"path": str(path), "reason": reason} for path, reason in evaluated.unscored.items()],
        "missing": [str(path) for path in evaluated.data.missing],
    }
    return json.dumps(document, indent=2, allow_nan=False)


def write_evaluation_report(evaluated: EvaluatedData, file: Path, settings: Settings, *, title: str) -> None:
    """Decode the worst disagreements for their pictures, and write the HTML report; raises SettingsError."""
    by_name = dict(zip(evaluated.names, evaluated.rated, strict=True))
    pictured = list(
        dict.fromkeys(outlier.item for result in evaluated.evaluation.scorers for outlier in pictured_outliers(result))
    )
    pictures = asyncio.run(thumbnails(settings, [by_name[name] for name in pictured]))
    report = EvaluationReport(
        evaluation=evaluated.evaluation,
        data=f"{evaluated.data.layout}: {evaluated.data.file.name}",
        scores=[item.score for item in evaluated.rated],
        predictions=evaluated.predictions,
        pictures={name: picture for name, picture in zip(pictured, pictures, strict=True) if picture},
        remarks=evaluated.remarks(),
    )
    write_whole_file(file, render_evaluation(report, title=title, now=utc_now()))
