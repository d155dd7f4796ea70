"""Pairs segments of the same source across arms and sums them up by cluster, in the order of the media timeline."""

import heapq
import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Literal

import numpy as np

from vqmon.core.experiments.data.clusters import ClusterTable, Floats
from vqmon.core.experiments.data.metrics import (
    ExperimentMetrics,
    cluster_of_segment,
    numeric_attribute,
    text_attribute,
)
from vqmon.core.experiments.data.pairing import PairingFacts
from vqmon.core.experiments.data.units import UnitTotals
from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.human_review import MissingPair, PairExample
from vqmon.core.types import Outcome, Segment

_MAX_EXTREME_PAIRS = 12
"""Worst pairs, and best pairs, that are shown."""

_MAX_EXTREME_PAIRS_PER_CLUSTER = 3

_MAX_REVIEW_CLUSTERS = 200
"""Clusters with a review pair: the first ones, so that votes stay valid whatever comes later."""

_MAX_LISTED_MISSING = 50
"""The newest missing pairs are listed; all are counted."""

_SILENT_AFTER_PAIRS = 20
"""An arm is silent when this many segments have waited for it longer than any of the last pairs had to wait."""

_RECENT_PAIRS = 1000

_EXTREME_CANDIDATES = 120
_REVIEW_CANDIDATES = 8
"""The review pair is one of the first pairs of its cluster, so that it soon stays the same and votes stay valid."""


class ExamplePairs:
    """Selects the worst, the best and the review pairs out of all pairs of an arm."""

    def __init__(self) -> None:
        self._worst: list[tuple[float, str, PairExample]] = []
        self._best: list[tuple[float, str, PairExample]] = []
        # cluster -> (pairs considered, hash of the pair, pair); the pair with the smallest hash is reviewed
        self._review: dict[str, tuple[int, bytes, PairExample]] = {}

    def add(self, pair: PairExample) -> None:
        """Consider a pair."""
        for heap, sign in ((self._worst, -1), (self._best, 1)):
            entry = (sign * pair.difference, pair.id, pair)
            if len(heap) < _EXTREME_CANDIDATES:
                heapq.heappush(heap, entry)
            elif entry > heap[0]:
                heapq.heapreplace(heap, entry)
        considered, smallest_hash, review_pair = self._review.get(pair.cluster, (0, b"", pair))
        if considered < _REVIEW_CANDIDATES and (considered or len(self._review) < _MAX_REVIEW_CLUSTERS):
            pair_hash = sha256(pair.id.encode()).digest()
            if not smallest_hash or pair_hash < smallest_hash:
                smallest_hash, review_pair = pair_hash, pair
            self._review[pair.cluster] = (considered + 1, smallest_hash, review_pair)

    def selected(self) -> tuple[PairExample, ...]:
        """Worst and best pairs, the most extreme first, and review pairs; one pair may be selected twice."""
        review = sorted(self._review.values(), key=lambda entry: entry[1])
        return (
            *_select_extremes(sorted(self._worst, reverse=True), "worst"),
            *_select_extremes(sorted(self._best, reverse=True), "best"),
            *(pair for _, _, pair in review),
        )


def _select_extremes(
    entries: Iterable[tuple[float, str, PairExample]], role: Literal["worst", "best"]
) -> Sequence[PairExample]:
    pairs: list[PairExample] = []
    pairs_per_cluster: Counter[str] = Counter()
    for _, _, pair in entries:
        if pairs_per_cluster[pair.cluster] < _MAX_EXTREME_PAIRS_PER_CLUSTER and len(pairs) < _MAX_EXTREME_PAIRS:
            pairs_per_cluster[pair.cluster] += 1
            pairs.append(replace(pair, role=role))
    return pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class _ArmObservation:
    """One outcome of an arm, reduced to what pairing needs."""

    # (metrics,)
    values: Floats
    event_id: str
    segment: Segment
    # seconds since 1970
    observed_at_seconds: float
    # why the score of a scorer of the experiment is lost, a key of errors.REASONS; "" when none is
    reason: str

    @property
    def is_scored(self) -> bool:
        """Whether no scorer of the experiment failed."""
        return not self.reason


@dataclass(slots=True, kw_only=True)
class _SourceSegment:
    """One source segment with the observations of all arms that have it."""

    # start on the media timeline, seconds since 1970
    starts_at_seconds: float
    # the attributes in `Experiment.same`
    attributes: tuple[str, ...]
    observations: dict[str, _ArmObservation] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class MissingPairs:
    """Source segments without a score in one arm: their number, and the newest of them."""

    count: int = 0
    newest: deque[MissingPair] = field(default_factory=lambda: deque(maxlen=_MAX_LISTED_MISSING))
    # cluster -> score of the arm that has one (first scorer); for the test whether losses depend on content
    scores: ClusterTable = field(default_factory=lambda: ClusterTable(1))
    # when the first _SILENT_AFTER_PAIRS of them were observed, seconds since 1970
    first_observed_at_seconds: list[float] = field(default_factory=list)

    def add(self, pair: MissingPair, *, score: float, observed_at_seconds: float) -> None:
        """Count one more; `score` (first scorer) and moment (seconds since 1970) are those of the other arm."""
        self.count += 1
        self.newest.append(pair)
        self.scores.add(pair.cluster, np.array([score]))
        if len(self.first_observed_at_seconds) < _SILENT_AFTER_PAIRS:
            self.first_observed_at_seconds.append(observed_at_seconds)

    def move_from(self, other: "MissingPairs") -> None:
        """Take all of `other` and empty it."""
        self.count += other.count
        self.newest.extend(other.newest)
        self.scores.add_all(other.scores)
        other.count = 0
        other.newest.clear()
        other.scores = ClusterTable(1)
        other.first_observed_at_seconds.clear()

    def have_waited(self, longest_wait_seconds: float, *, now_seconds: float) -> bool:
        """Whether enough of them have waited at least as long as the longest wait of the last pairs."""
        moments = self.first_observed_at_seconds
        return len(moments) == _SILENT_AFTER_PAIRS and now_seconds - max(moments) >= longest_wait_seconds


@dataclass(slots=True, kw_only=True)
class ArmPairs:
    """All pairs of one arm with the control, summed up by cluster.

    Columns of the table: difference, control value and arm value of every metric, then the covariates, then the squares
    and the lag-1 products of the scorers' differences.
    """

    table: ClusterTable
    examples: ExamplePairs
    # (attribute, value) -> table of the first scorer's differences
    slices: dict[tuple[str, str], ClusterTable] = field(default_factory=dict)
    units: UnitTotals
    # cluster -> the scorers' differences of its last pair
    last_differences: dict[str, Floats] = field(default_factory=dict)
    # by the arm without a score
    missing: dict[str, MissingPairs]
    # newer than any outcome of the arm that lacks them, so they may still come
    pending: dict[str, MissingPairs]
    # by the arm that came later: for how many seconds each of the last pairs waited for it
    waits_seconds: dict[str, deque[float]]
    # the arm that has fallen silent -> segments that have waited for it; they count as missing
    silent: dict[str, int] = field(default_factory=dict)


class PairMatcher:
    """Matches outcomes, added in the order of their starts, to pairs of every arm with the control."""

    def __init__(self, experiment: Experiment, metrics: ExperimentMetrics) -> None:
        self._experiment = experiment
        self._metrics = metrics
        self._open: deque[_SourceSegment] = deque()
        self._open_by_attributes: dict[tuple[str, ...], list[_SourceSegment]] = {}
        columns = 3 * len(metrics.keys) + len(experiment.covariates) + 2 * len(metrics.scorers)
        # segments of an arm at a moment for which it already has one
        self.duplicates = 0
        self.pairing = PairingFacts()
        self._last_observed_at_seconds = -math.inf
        self.arms = {
            arm.name: ArmPairs(
                table=ClusterTable(columns, max_segments=experiment.segments_per_cluster),
                examples=ExamplePairs(),
                units=UnitTotals(arm_label=experiment.label),
                missing={arm.name: MissingPairs(), experiment.control: MissingPairs()},
                pending={arm.name: MissingPairs(), experiment.control: MissingPairs()},
                waits_seconds={name: deque(maxlen=_RECENT_PAIRS) for name in (arm.name, experiment.control)},
            )
            for arm in experiment.treatments
        }

    def add(self, arm: str, outcome: Outcome) -> None:
        """Add an outcome of an arm."""
        segment = outcome.segment
        starts_at_seconds = segment.starts_at.timestamp()
        self._match_before(starts_at_seconds - self._experiment.tolerance_seconds)
        self._confirm_missing(arm)
        source = self._source_segment(arm, segment, starts_at_seconds)
        reason = self._metrics.loss_reason(outcome)
        observed_at_seconds = outcome.observed_at.timestamp()
        self._last_observed_at_seconds = max(self._last_observed_at_seconds, observed_at_seconds)
        earlier = source.observations.get(arm)
        if earlier is not None and earlier.is_scored:
            # The same segment may be scored again; only another segment is a duplicate.
            self.duplicates += not reason and earlier.segment.key != segment.key
            return
        source.observations[arm] = _ArmObservation(
            values=self._metrics.values(outcome),
            event_id=outcome.id,
            segment=segment,
            observed_at_seconds=observed_at_seconds,
            reason=reason,
        )

    def finish(self) -> None:
        """Match the last source segments and find silent arms; no outcome may be added after this."""
        self._match_before(math.inf)
        for pairs in self.arms.values():
            for arm, pending in pairs.pending.items():
                longest_wait_seconds = max(pairs.waits_seconds[arm], default=0.0)
                if pending.have_waited(longest_wait_seconds, now_seconds=self._last_observed_at_seconds):
                    pairs.silent[arm] = pending.count
                    pairs.missing[arm].move_from(pending)

    def _source_segment(self, arm: str, segment: Segment, starts_at_seconds: float) -> _SourceSegment:
        """The open source segment that the segment shows: one without the arm, else the last one, else a new one."""
        attributes = tuple(text_attribute(key, segment) for key in self._experiment.same)
        self.pairing.add(arm, attributes, starts_at_seconds)
        candidates = self._open_by_attributes.setdefault(attributes, [])
        without_arm = next((source for source in candidates if arm not in source.observations), None)
        if without_arm is not None:
            return without_arm
        if candidates:
            return candidates[-1]
        source = _SourceSegment(starts_at_seconds=starts_at_seconds, attributes=attributes)
        candidates.append(source)
        self._open.append(source)
        return source

    def _match_before(self, moment_seconds: float) -> None:
        """Match the source segments that start before this moment: no arm can add to them any more."""
        while self._open and self._open[0].starts_at_seconds < moment_seconds:
            source = self._open.popleft()
            self._open_by_attributes[source.attributes].remove(source)
            if not self._open_by_attributes[source.attributes]:
                del self._open_by_attributes[source.attributes]
            for arm, pairs in self.arms.items():
                self._match(source, arm, pairs)

    def _match(self, source: _SourceSegment, arm: str, pairs: ArmPairs) -> None:
        control_name = self._experiment.control
        control, treatment = source.observations.get(control_name), source.observations.get(arm)
        either = control or treatment
        cluster = cluster_of_segment(self._experiment, either.segment) if either else None
        if cluster is None:
            return
        if control is not None and treatment is not None:
            self.pairing.paired[arm] += 1
            self._add_pair(cluster, arm, control, treatment, pairs, source.observations.get(self._experiment.input_arm))
            wait_seconds = treatment.observed_at_seconds - control.observed_at_seconds
            pairs.waits_seconds[arm].append(max(0.0, wait_seconds))
            pairs.waits_seconds[control_name].append(max(0.0, -wait_seconds))
        for scored, partner, missing_arm in ((control, treatment, arm), (treatment, control, control_name)):
            if scored is not None and scored.is_scored and not (partner is not None and partner.is_scored):
                missing_pair = MissingPair(
                    cluster=cluster,
                    starts_at=scored.segment.starts_at,
                    missing=missing_arm,
                    event_id=scored.event_id,
                    reason=partner.reason or "absent" if partner else "absent",
                )
                (pairs.missing if partner is not None else pairs.pending)[missing_arm].add(
                    missing_pair, score=float(scored.values[0]), observed_at_seconds=scored.observed_at_seconds
                )

    def _add_pair(
        self,
        cluster: str,
        arm: str,
        control: _ArmObservation,
        treatment: _ArmObservation,
        pairs: ArmPairs,
        source: _ArmObservation | None,
    ) -> None:
        scorers = len(self._metrics.scorers)
        difference = treatment.values - control.values
        is_measured = np.isfinite(difference)
        score_differences = difference[:scorers]
        previous = pairs.last_differences.get(cluster)
        lag_products = score_differences * previous if previous is not None else np.full(scorers, np.nan)
        values = np.concatenate(
            [
                difference,
                np.where(is_measured, control.values, np.nan),
                np.where(is_measured, treatment.values, np.nan),
                self._covariates(control, source),
                score_differences * score_differences,
                lag_products,
            ]
        )
        if pairs.table.add(cluster, values) is None or not math.isfinite(score_differences[0]):
            return
        pairs.last_differences[cluster] = score_differences
        for key in self._experiment.slices:
            table = pairs.slices.setdefault((key, text_attribute(key, control.segment)), ClusterTable(1))
            table.add(cluster, score_differences[:1])
        for name, side in ((self._experiment.control, control), (arm, treatment)):
            pairs.units.add(name, control.segment, np.where(is_measured, side.values, np.nan)[:scorers])
        pairs.examples.add(_example(cluster, control, treatment))

    def _covariates(self, control: _ArmObservation, source: _ArmObservation | None) -> Floats:
        return np.array(
            [
                (source.values[0] if source else math.nan)
                if key == "input_score"
                else numeric_attribute(key, control.segment)
                for key in self._experiment.covariates
            ]
        )

    def _confirm_missing(self, arm: str) -> None:
        """The arm has reached a later moment: its pending pairs are missing for good."""
        for pairs in self.arms.values():
            if arm in pairs.pending and pairs.pending[arm].count:
                pairs.missing[arm].move_from(pairs.pending[arm])


def _example(cluster: str, control: _ArmObservation, treatment: _ArmObservation) -> PairExample:
    return PairExample(
        id=f"{control.event_id}:{treatment.event_id}",
        role="review",
        cluster=cluster,
        starts_at=control.segment.starts_at,
        control_event_id=control.event_id,
        arm_event_id=treatment.event_id,
        control_key=control.segment.rendition.key,
        arm_key=treatment.segment.rendition.key,
        control_score=float(control.values[0]),
        arm_score=float(treatment.values[0]),
    )
