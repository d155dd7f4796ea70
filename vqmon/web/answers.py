"""What the pages ask about experiments, and how they come by votes and pictures; given to them from outside."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.human_review import Vote
from vqmon.core.experiments.results import Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The newest answer of an experiment, if there is one yet, and whether a newer one is being worked out."""

    comparison: Comparison | None = None
    made_at: datetime | None = None
    is_running: bool = False
    # why there is none
    problem: str = ""


class Answers(Protocol):
    """Experiments and their answers; asking never waits for an answer to be worked out."""

    def experiments(self) -> Sequence[Experiment]: ...
    def answer(self, name: str) -> Answer: ...

    @property
    def problem(self) -> str:
        """What is wrong with the experiments file; empty when nothing is."""
        ...


class Reviews(Protocol):
    """Votes of people, and pictures kept for pairs."""

    def votes(self, experiment: str) -> Sequence[Vote]: ...
    def cast(self, experiment: str, vote: Vote) -> None: ...
    def pictures(self, event_id: str) -> Sequence[tuple[float, bytes]]: ...
    def pictured(self) -> set[str]:
        """The event ids that have pictures."""
        ...

    def secret(self) -> bytes:
        """Bytes that sign what forms carry."""
        ...


class NoExperiments:
    """Stands for a site without experiments."""

    problem = ""

    def experiments(self) -> Sequence[Experiment]:
        return ()

    def answer(self, name: str) -> Answer:
        return Answer()


class NoReviews:
    """Stands for a site without votes and pictures of its own."""

    def votes(self, experiment: str) -> Sequence[Vote]:
        return ()

    def cast(self, experiment: str, vote: Vote) -> None:
        raise RuntimeError("votes are not allowed here")

    def pictures(self, event_id: str) -> Sequence[tuple[float, bytes]]:
        return ()

    def pictured(self) -> set[str]:
        return set()

    def secret(self) -> bytes:
        raise RuntimeError("votes are not allowed here")
