"""The Arms of an Experiment side by side: reads a history, gives the Comparison."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from pipelines.service.wiring import default_file, utc_now
from vqmon.core.experiments.analysis.analysis import ExperimentAnalysis
from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.human_review import Vote
from vqmon.core.experiments.results import Comparison
from vqmon.errors import SettingsError
from vqmon.settings.experiments_file import find_experiment, parse_experiments
from vqmon.transport.history.history import History
from vqmon.web.pages.report import render_report

PROGRESS_INTERVAL_OUTCOMES = 1000
_COMPARISON = TypeAdapter(Comparison)


def load_experiments(path: Path | None) -> tuple[Experiment, ...]:
    """The experiments in a file, else those that come with vqmon; SettingsError says what is wrong with it."""
    file = path or default_file("experiments.toml")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot read the experiments: {error}") from error
    return parse_experiments(text, origin=str(file))


def load_experiment(name: str, path: Path | None) -> Experiment:
    """One experiment of the file; SettingsError names the nearest, or says where experiments are written."""
    known = load_experiments(path)
    if path is None and not known:
        raise SettingsError("no experiment yet: write a file like config/experiments.toml, name it experiments.path")
    return find_experiment(known, name, origin=str(path or default_file("experiments.toml")))


def compare_arms(
    history: History,
    experiment: Experiment,
    *,
    votes: Sequence[Vote] = (),
    told: Callable[[int], None] = lambda outcomes: None,
) -> Comparison:
    """The answer of an experiment from what is stored now; the same history and votes give the same answer.

    Reads every outcome of the experiment's streams and time once; `told` hears now and then how many were read.
    """
    comparing = ExperimentAnalysis(experiment)

    def wanted(stream_id: str, rendition: str) -> bool:
        in_streams = any(fnmatchcase(stream_id, pattern) for pattern in experiment.streams)
        return in_streams and any(
            fnmatchcase(stream_id, arm.stream) and fnmatchcase(rendition, arm.rendition) for arm in experiment.arms
        )

    outcomes = history.documents.outcomes_by_start_time(
        select_rendition=wanted, since=experiment.since, until=experiment.until
    )
    for read, outcome in enumerate(outcomes, start=1):
        comparing.add(outcome)
        if read % PROGRESS_INTERVAL_OUTCOMES == 0:
            told(read)
    return comparing.finish(votes=votes, rng=np.random.default_rng(_seed(experiment.name)))


def comparison_json(comparison: Comparison) -> str:
    """The whole answer, field by field as `core.comparisons` names them; what cannot be said is null."""
    return _COMPARISON.dump_json(comparison, indent=2).decode()


def write_html_report(comparison: Comparison, file: Path, *, title: str) -> None:
    """Write the answer as one HTML file; SettingsError when it cannot be written."""
    text = render_report(comparison, title=title, now=utc_now())
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{file}: cannot write the report: {error.strerror}") from error


def _seed(name: str) -> int:
    return int.from_bytes(sha256(name.encode()).digest()[:8], "big")
