"""The Arms of an Experiment side by side: reads a history, gives the Comparison."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path

import numpy as np

from pipelines.parts import shipped
from vqmon.core.comparing import Comparing
from vqmon.core.comparisons import Comparison
from vqmon.core.experimentfile import parse_experiments
from vqmon.core.experiments import Experiment
from vqmon.core.review import Vote
from vqmon.errors import SettingsError
from vqmon.transport.store import History

TELL_EVERY = 1000


def load_experiments(path: Path | None) -> tuple[Experiment, ...]:
    """The experiments in a file, else those that come with vqmon; SettingsError says what is wrong with it."""
    file = path or shipped("experiments.toml")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot read the experiments: {error}") from error
    return parse_experiments(text, origin=str(file))


def compare(
    history: History,
    experiment: Experiment,
    *,
    votes: Sequence[Vote] = (),
    told: Callable[[int], None] = lambda outcomes: None,
) -> Comparison:
    """The answer of an experiment from what is stored now; the same history and votes give the same answer.

    Reads every outcome of the experiment's streams and time once; `told` hears now and then how many were read.
    """
    comparing = Comparing(experiment)

    def wanted(stream_id: str, rendition: str) -> bool:
        in_streams = any(fnmatchcase(stream_id, pattern) for pattern in experiment.streams)
        return in_streams and any(
            fnmatchcase(stream_id, arm.stream) and fnmatchcase(rendition, arm.rendition) for arm in experiment.arms
        )

    outcomes = history.outcomes_by_time(wanted=wanted, since=experiment.since, until=experiment.until)
    for read, outcome in enumerate(outcomes, start=1):
        comparing.take(outcome)
        if read % TELL_EVERY == 0:
            told(read)
    return comparing.finish(votes=votes, rng=np.random.default_rng(_seed(experiment.name)))


def _seed(name: str) -> int:
    return int.from_bytes(sha256(name.encode()).digest()[:8], "big")
