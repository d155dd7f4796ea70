"""Compares the arms of an experiment: loads its definition, reads the history, writes the results."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from pipelines.service.wiring import default_file, load_experiments, utc_now
from vqmon.core.experiments.analysis.analysis import ExperimentAnalysis
from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.human_review import Vote
from vqmon.core.experiments.results import Comparison
from vqmon.errors import SettingsError
from vqmon.settings.experiments_file import find_experiment
from vqmon.transport.history.history import History
from vqmon.web.pages.report import render_report

_PROGRESS_INTERVAL_OUTCOMES = 1000
_COMPARISON = TypeAdapter(Comparison)


def load_experiment(name: str, path: Path | None) -> Experiment:
    """The experiment of this name; raises SettingsError, which names the nearest one."""
    experiments = load_experiments(path)
    if path is None and not experiments:
        raise SettingsError(
            "no experiments are defined: write a file like config/experiments.toml and set experiments.path to it"
        )
    return find_experiment(experiments, name, origin=str(path or default_file("experiments.toml")))


def compare_arms(
    history: History,
    experiment: Experiment,
    *,
    votes: Sequence[Vote] = (),
    on_progress: Callable[[int], None] = lambda outcomes: None,
) -> Comparison:
    """The comparison from the outcomes that are stored now; the same history and votes give the same comparison.

    Reads every outcome of the experiment's streams and period once; `on_progress` gets the number of outcomes read.
    """
    analysis = ExperimentAnalysis(experiment)

    def may_belong_to_arm(stream_id: str, rendition: str) -> bool:
        is_in_streams = any(fnmatchcase(stream_id, pattern) for pattern in experiment.streams)
        return is_in_streams and any(
            fnmatchcase(stream_id, arm.stream) and fnmatchcase(rendition, arm.rendition) for arm in experiment.arms
        )

    outcomes = history.documents.outcomes_by_start_time(
        select_rendition=may_belong_to_arm, since=experiment.since, until=experiment.until
    )
    for count, outcome in enumerate(outcomes, start=1):
        analysis.add(outcome)
        if count % _PROGRESS_INTERVAL_OUTCOMES == 0:
            on_progress(count)
    return analysis.finish(votes=votes, rng=np.random.default_rng(_seed(experiment.name)))


def comparison_json(comparison: Comparison) -> str:
    """The comparison as JSON; keys are the field names of `vqmon.core.experiments.results`."""
    return _COMPARISON.dump_json(comparison, indent=2).decode()


def write_html_report(comparison: Comparison, file: Path, *, title: str) -> None:
    """Write the comparison as one HTML file; raises SettingsError when the file cannot be written."""
    text = render_report(comparison, title=title, now=utc_now())
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{file}: cannot write the report: {error.strerror}") from error


def _seed(name: str) -> int:
    return int.from_bytes(sha256(name.encode()).digest()[:8], "big")
