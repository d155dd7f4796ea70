"""The interfaces through which the pages read the history, experiment results and reviews, and their empty stand-ins.

All of them are called from several threads at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from vqmon.core.alerts.annotations import DeployMarker
from vqmon.core.alerts.reactions.input_switching import DecisionRecord
from vqmon.core.alerts.state import State, StateKey
from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.human_review import Vote
from vqmon.core.experiments.results import Comparison
from vqmon.core.timeline import HistoryChanges, RenditionState, TimeBucket, TimelinePoint
from vqmon.core.types import Alert, HeatMap, Outcome


class HistoryReader(Protocol):
    """Queries of the history; nothing is written through it."""

    def tip(self) -> int:
        """The number of the newest write."""
        ...

    def changes_since(self, tip: int, *, limit: int) -> HistoryChanges:
        """Outcomes and alerts written after `tip`, oldest first."""
        ...

    def renditions(self, *, stream_id: str | None = None, trend: int) -> Sequence[RenditionState]:
        """All renditions, or those of one stream, ordered by stream and name, with the last `trend` scores of each."""
        ...

    def points(
        self, stream_id: str, *, begins_at: datetime, ends_at: datetime, limit: int, rendition: str | None = None
    ) -> Sequence[TimelinePoint]:
        """The newest `limit` outcomes that start within the range, in time order; of one rendition or of all."""
        ...

    def points_written_after(
        self, number: int, *, limit: int, stream_id: str = "", rendition: str = ""
    ) -> Sequence[TimelinePoint]:
        """The oldest `limit` outcomes written after a number, of all streams unless one is named."""
        ...

    def buckets(
        self, stream_id: str, *, begins_at: datetime, ends_at: datetime, count: int, scorer: str
    ) -> Sequence[TimeBucket]:
        """The range as `count` buckets of equal length, without the empty ones; scores are those of `scorer`."""
        ...

    def outcome(self, event_id: str) -> Outcome | None: ...

    def neighbours(self, event_id: str) -> tuple[str | None, str | None]:
        """Event ids of the previous and the next outcome of the same rendition."""
        ...

    def thumbnails(self, event_id: str) -> Sequence[bytes]:
        """JPEGs of the sampled frames, in order; empty once they are deleted."""
        ...

    def alerts(
        self, *, open_only: bool = False, stream_id: str | None = None, since: datetime | None = None, limit: int = 200
    ) -> Sequence[Alert]:
        """Alerts, newest first; `since` leaves out those resolved before it."""
        ...

    def input_decisions(self, *, stream_id: str | None = None, limit: int) -> Sequence[DecisionRecord]:
        """The newest decisions about inputs, newest first, of one stream or of all."""
        ...

    def last_input_changes(self) -> Sequence[DecisionRecord]:
        """The newest switch or return of each hook and stream, oldest first; that of dry runs beside the real one."""
        ...

    def alert(self, alert_id: str) -> Alert | None: ...

    def markers(self, *, limit: int) -> Sequence[DeployMarker]:
        """The newest `limit` markers of deliberate changes such as deploys, oldest first."""
        ...

    def states_of_stream(self, stream_id: str) -> Mapping[StateKey, State]:
        """The stored states of the alert rules for the series of one stream."""
        ...

    def evidence(self, alert_id: str) -> Sequence[bytes]:
        """JPEGs of the worst frames, in the order of `Evidence.worst_times_seconds`."""
        ...

    def evidence_heat_maps(self, alert_id: str) -> Sequence[HeatMap]:
        """Where quality is lost in the worst frames: a heat map per measure, its frames in the same order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentResult:
    """The newest comparison of an experiment, if there is one, and whether a newer one is being computed."""

    comparison: Comparison | None = None
    made_at: datetime | None = None
    is_running: bool = False
    # why there is no comparison
    problem: str = ""


class ExperimentResults(Protocol):
    """Experiments and their results; no method waits for a result to be computed."""

    def experiments(self) -> Sequence[Experiment]: ...
    def result(self, name: str) -> ExperimentResult: ...

    @property
    def problem(self) -> str:
        """Why the experiments file cannot be read; empty if it can."""
        ...


class ReviewStore(Protocol):
    """Votes of human reviewers, and the pictures stored for the pairs that they judge."""

    def votes(self, experiment: str) -> Sequence[Vote]: ...

    def store_vote(self, experiment: str, vote: Vote) -> None:
        """Store a vote; it replaces the same voter's earlier vote on the same pair."""
        ...

    def pictures(self, event_id: str) -> Sequence[tuple[float, bytes]]:
        """(seconds into the segment, JPEG) per stored picture."""
        ...

    def event_ids_with_pictures(self) -> set[str]:
        """The event ids for which pictures are stored."""
        ...

    def clip(self, event_id: str) -> bytes | None:
        """A short MP4 of an outcome; None when none is stored."""
        ...

    def event_ids_with_clips(self) -> set[str]:
        """The event ids for which clips are stored."""
        ...

    def secret(self) -> bytes:
        """The key that signs the tokens of voting forms."""
        ...


class NoExperiments:
    """`ExperimentResults` of a site without experiments."""

    problem = ""

    def experiments(self) -> Sequence[Experiment]:
        return ()

    def result(self, name: str) -> ExperimentResult:
        return ExperimentResult()


class NoReviews:
    """`ReviewStore` of a site where nobody can vote."""

    def votes(self, experiment: str) -> Sequence[Vote]:
        return ()

    def store_vote(self, experiment: str, vote: Vote) -> None:
        raise RuntimeError("this site does not accept votes")

    def pictures(self, event_id: str) -> Sequence[tuple[float, bytes]]:
        return ()

    def event_ids_with_pictures(self) -> set[str]:
        return set()

    def clip(self, event_id: str) -> bytes | None:
        return None

    def event_ids_with_clips(self) -> set[str]:
        return set()

    def secret(self) -> bytes:
        raise RuntimeError("this site does not accept votes")
