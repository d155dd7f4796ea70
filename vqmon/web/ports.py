"""What the pages ask of a history: read-only, and safe to ask from several threads at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from vqmon.core.alerts.annotations import Marker
from vqmon.core.alerts.state import State
from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.human_review import Vote
from vqmon.core.experiments.results import Comparison
from vqmon.core.timeline import HistoryChanges, RenditionState, TimeBucket, TimelinePoint
from vqmon.core.types import Alert, Outcome


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


class History(Protocol):
    """The questions."""

    def tip(self) -> int:
        """The number of the newest write."""
        ...

    def changes_since(self, tip: int, *, limit: int) -> HistoryChanges:
        """What was written after `tip`, oldest first."""
        ...

    def renditions(self, *, stream_id: str | None = None, trend: int) -> Sequence[RenditionState]:
        """Every rendition, or those of one stream, by stream and name; `trend` outcomes of each."""
        ...

    def points(
        self, stream_id: str, *, begins_at: datetime, ends_at: datetime, limit: int, rendition: str | None = None
    ) -> Sequence[TimelinePoint]:
        """Outcomes that start within the range, in time order; the newest `limit` of them; of one rendition or all."""
        ...

    def buckets(
        self, stream_id: str, *, begins_at: datetime, ends_at: datetime, count: int, scorer: str
    ) -> Sequence[TimeBucket]:
        """The range in `count` parts of equal length, empty ones left out; scores are those of `scorer`."""
        ...

    def outcome(self, event_id: str) -> Outcome | None: ...

    def neighbours(self, event_id: str) -> tuple[str | None, str | None]:
        """The outcomes before and after this one, of the same rendition."""
        ...

    def thumbnails(self, event_id: str) -> Sequence[bytes]:
        """JPEGs of the sampled frames, in order; none when they are not kept any more."""
        ...

    def alerts(
        self, *, open_only: bool = False, stream_id: str | None = None, since: datetime | None = None, limit: int = 200
    ) -> Sequence[Alert]:
        """Alerts, newest first."""
        ...

    def alert(self, alert_id: str) -> Alert | None: ...

    def markers(self, *, limit: int) -> Sequence[Marker]:
        """What was changed on purpose, the newest `limit`, oldest first."""
        ...

    def states_of_stream(self, stream_id: str) -> Mapping[str, State]:
        """What the rules remember of one stream's series."""
        ...

    def evidence(self, alert_id: str) -> Sequence[bytes]:
        """JPEGs of the worst frames, in the order of `Evidence.worst_times_seconds`."""
        ...
