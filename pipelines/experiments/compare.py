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
from vqmon.core.types import QualityEvent
from vqmon.errors import SettingsError
from vqmon.settings.experiments_file import find_experiment
from vqmon.transport.history.history import History
from vqmon.web.pages.report import FramesOfPairs, pair_frames, render_report, shown_pairs
from vqmon.web.pages.scores import ScoredFile
from vqmon.whole_files import write_whole_file

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


def frames_in_history(history: History, comparison: Comparison) -> FramesOfPairs:
    """The worst moments of the worst and best pairs, as far as the history still has their pictures."""
    frames = {}
    for pair in shown_pairs(comparison):
        sides = [_with_thumbnails(history, id) for id in (pair.control_event_id, pair.arm_event_id)]
        if sides[0] and sides[1] and (both := pair_frames(sides[0], sides[1])):
            frames[pair.id] = both
    return frames


def _with_thumbnails(history: History, event_id: str) -> ScoredFile | None:
    outcome = history.queries.outcome(event_id)
    if not isinstance(outcome, QualityEvent):
        return None
    thumbnails = history.queries.thumbnails(event_id)
    return ScoredFile(outcome=outcome, thumbnails=list(zip(outcome.times_seconds, thumbnails, strict=False)))


def write_html_report(comparison: Comparison, file: Path, *, title: str, frames: FramesOfPairs) -> None:
    """Write the comparison as one HTML file; raises SettingsError when the file cannot be written."""
    text = render_report(comparison, title=title, now=utc_now(), frames=frames)
    write_whole_file(file, text)


def _seed(name: str) -> int:
    return int.from_bytes(sha256(name.encode()).digest()[:8], "big")
