"""The Arms of an Experiment side by side: reads a history, gives the Comparison."""

from collections.abc import Sequence
from pathlib import Path

from pipelines.parts import shipped
from vqmon.core.comparisons import Comparison
from vqmon.core.experimentfile import parse_experiments
from vqmon.core.experiments import Experiment
from vqmon.core.review import Vote
from vqmon.errors import SettingsError
from vqmon.transport.store import History


def load_experiments(path: Path | None) -> tuple[Experiment, ...]:
    """The experiments in a file, else those that come with vqmon; SettingsError says what is wrong with it."""
    file = path or shipped("experiments.toml")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot read the experiments: {error}") from error
    return parse_experiments(text, origin=str(file))


def compare(history: History, experiment: Experiment, *, votes: Sequence[Vote] = ()) -> Comparison:
    """The answer of an experiment from what is stored now; the same history and votes give the same answer."""
    raise NotImplementedError
