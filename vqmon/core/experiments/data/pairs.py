"""Pairs of the same source segment, folded to clusters while outcomes come in the order of the media timeline."""

import heapq
import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Literal

import numpy as np

from vqmon.core.experiments.data.clusters import ClusterTable, Floats
from vqmon.core.experiments.data.metrics import ExperimentMetrics, cluster_of_segment, numeric_attribute, text_attribute
from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.human_review import MissingPair, PairExample
from vqmon.core.types import Outcome, QualityEvent, Segment

MAX_EXTREME_PAIRS = 12
"""Worst and best pairs that are shown."""

MAX_EXTREME_PAIRS_PER_CLUSTER = 3
"""Of one cluster at most so many of them."""

MAX_REVIEW_CLUSTERS = 200
"""Clusters that have a review pair: the first so many, so that votes stay valid whatever comes later."""

_HEAP = 120
_CHOICE = 8
"""The review pair is one of the first so many of its cluster: the choice soon stands, and votes stay valid."""


class ExamplePairs:
    """Sees every pair once and keeps a few."""

    def __init__(self) -> None:
        self._worst: list[tuple[float, str, PairExample]] = []
        self._best: list[tuple[float, str, PairExample]] = []
        self._review: dict[str, tuple[int, bytes, PairExample]] = {}

    def take(self, pair: PairExample) -> None:
        for heap, sign in ((self._worst, -1), (self._best, 1)):
            entry = (sign * pair.difference, pair.id, pair)
            if len(heap) < _HEAP:
                heapq.heappush(heap, entry)
            elif entry > heap[0]:
                heapq.heapreplace(heap, entry)
        seen, lot, kept = self._review.get(pair.cluster, (0, b"", pair))
        if seen < _CHOICE and (seen or len(self._review) < MAX_REVIEW_CLUSTERS):
            mine = sha256(pair.id.encode()).digest()
            if not lot or mine < lot:
                lot, kept = mine, pair
            self._review[pair.cluster] = (seen + 1, lot, kept)

    def shown(self) -> tuple[PairExample, ...]:
        """Worst, best and review pairs, each the most telling first; a pair may have two roles."""
        review = sorted(self._review.values(), key=lambda it: it[1])
        return (
            *_spread(sorted(self._worst, reverse=True), "worst"),
            *_spread(sorted(self._best, reverse=True), "best"),
            *(pair for _, _, pair in review),
        )


def _spread(entries: Iterable[tuple[float, str, PairExample]], role: Literal["worst", "best"]) -> Sequence[PairExample]:
    kept: list[PairExample] = []
    each: Counter[str] = Counter()
    for _, _, pair in entries:
        if each[pair.cluster] < MAX_EXTREME_PAIRS_PER_CLUSTER and len(kept) < MAX_EXTREME_PAIRS:
            each[pair.cluster] += 1
            kept.append(replace(pair, role=role))
    return kept


MAX_LISTED_MISSING = 50
"""The newest missing pairs are listed; all are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmObservation:
    """What is kept of one outcome until its partners are there."""

    values: Floats
    event_id: str
    segment: Segment
    # a key of errors.REASONS; "" when scored
    reason: str

    @property
    def is_scored(self) -> bool:
        return not self.reason


@dataclass(slots=True, kw_only=True)
class SourceSegment:
    """One source segment: what every arm has of it."""

    at: float
    group: tuple[str, ...]
    sides: dict[str, ArmObservation] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class MissingPairs:
    """Source segments that one side has no score of: counted, and the newest kept."""

    count: int = 0
    newest: deque[MissingPair] = field(default_factory=lambda: deque(maxlen=MAX_LISTED_MISSING))

    def add(self, lost: MissingPair) -> None:
        self.count += 1
        self.newest.append(lost)

    def take_over(self, other: "MissingPairs") -> None:
        """All that the other has."""
        self.count += other.count
        self.newest.extend(other.newest)
        other.count = 0
        other.newest.clear()


@dataclass(slots=True, kw_only=True)
class ArmPairs:
    """All pairs of one arm with the control, folded.

    Columns: difference, control and arm value of every measure, then covariates, then squares and lag-1 products of the
    scorers' differences.
    """

    table: ClusterTable
    examples: ExamplePairs
    slices: dict[tuple[str, str], ClusterTable] = field(default_factory=dict)
    last: dict[str, Floats] = field(default_factory=dict)
    # by the side that lacks them
    missing: dict[str, MissingPairs]
    # newer than anything of that side: they may still come
    waiting: dict[str, MissingPairs]


class PairMatcher:
    """Takes outcomes in the order of their starts; gives the clusters of every arm against the control."""

    def __init__(self, experiment: Experiment, measures: ExperimentMetrics) -> None:
        self._it = experiment
        self._measures = measures
        self._open: deque[SourceSegment] = deque()
        self._groups: dict[tuple[str, ...], list[SourceSegment]] = {}
        keys, scorers = len(measures.keys), len(measures.scorers)
        columns = 3 * keys + len(experiment.covariates) + 2 * scorers
        self.doubled = 0
        self.arms = {
            arm.name: ArmPairs(
                table=ClusterTable(columns, most_each=experiment.segments_per_cluster),
                examples=ExamplePairs(),
                missing={arm.name: MissingPairs(), experiment.control: MissingPairs()},
                waiting={arm.name: MissingPairs(), experiment.control: MissingPairs()},
            )
            for arm in experiment.treatments
        }

    def add(self, arm: str, outcome: Outcome) -> None:
        """One outcome of an arm more."""
        segment = outcome.segment
        at = segment.starts_at.timestamp()
        self._settle_before(at - self._it.tolerance_seconds)
        self._arrived(arm)
        group = tuple(text_attribute(key, segment) for key in self._it.same)
        slots = self._groups.setdefault(group, [])
        slot = next((it for it in slots if arm not in it.sides), None) or (slots[-1] if slots else None)
        if slot is None:
            slot = SourceSegment(at=at, group=group)
            slots.append(slot)
            self._open.append(slot)
        reason = "" if isinstance(outcome, QualityEvent) else outcome.reason
        known = slot.sides.get(arm)
        if known is not None and known.is_scored:
            # Scored again by the same scorers, the same segment has the same id.
            self.doubled += not reason and known.segment.key != segment.key
            return
        slot.sides[arm] = ArmObservation(
            values=self._measures.of(outcome), event_id=outcome.id, segment=segment, reason=reason
        )

    def finish(self) -> None:
        """No more outcomes."""
        self._settle_before(math.inf)

    def _settle_before(self, moment: float) -> None:
        while self._open and self._open[0].at < moment:
            slot = self._open.popleft()
            self._groups[slot.group].remove(slot)
            if not self._groups[slot.group]:
                del self._groups[slot.group]
            for arm, pairs in self.arms.items():
                self._settle(slot, arm, pairs)

    def _settle(self, slot: SourceSegment, arm: str, pairs: ArmPairs) -> None:
        control, other = slot.sides.get(self._it.control), slot.sides.get(arm)
        some = control or other
        cluster = cluster_of_segment(self._it, some.segment) if some else None
        if some is None or cluster is None:
            return
        if control is not None and other is not None:
            self._both(cluster, control, other, pairs, slot.sides.get(self._it.input_arm))
        for side, partner, missing in ((control, other, arm), (other, control, self._it.control)):
            if side is not None and side.is_scored and not (partner is not None and partner.is_scored):
                lost = MissingPair(
                    cluster=cluster,
                    starts_at=side.segment.starts_at,
                    missing=missing,
                    event_id=side.event_id,
                    reason=partner.reason or "absent" if partner else "absent",
                )
                (pairs.missing if partner is not None else pairs.waiting)[missing].add(lost)

    def _both(
        self,
        cluster: str,
        control: ArmObservation,
        other: ArmObservation,
        pairs: ArmPairs,
        source: ArmObservation | None,
    ) -> None:
        scorers = len(self._measures.scorers)
        difference = other.values - control.values
        there = np.isfinite(difference)
        first = difference[:scorers]
        before = pairs.last.get(cluster)
        lag = first * before if before is not None else np.full(scorers, np.nan)
        values = np.concatenate(
            [
                difference,
                np.where(there, control.values, np.nan),
                np.where(there, other.values, np.nan),
                self._covariates(control, source),
                first * first,
                lag,
            ]
        )
        if pairs.table.add(cluster, values) is None or not math.isfinite(first[0]):
            return
        pairs.last[cluster] = first
        for key in self._it.slices:
            where = (key, text_attribute(key, control.segment))
            part = pairs.slices.setdefault(where, ClusterTable(1))
            part.add(cluster, first[:1])
        pairs.examples.take(_example(cluster, control, other))

    def _covariates(self, control: ArmObservation, source: ArmObservation | None) -> Floats:
        return np.array(
            [
                (source.values[0] if source else math.nan)
                if key == "input_score"
                else numeric_attribute(key, control.segment)
                for key in self._it.covariates
            ]
        )

    def _arrived(self, arm: str) -> None:
        """An arm has come this far: what it has not brought is missing."""
        for pairs in self.arms.values():
            if arm in pairs.waiting and pairs.waiting[arm].count:
                pairs.missing[arm].take_over(pairs.waiting[arm])


def _example(cluster: str, control: ArmObservation, other: ArmObservation) -> PairExample:
    return PairExample(
        id=f"{control.event_id}:{other.event_id}",
        role="review",
        cluster=cluster,
        starts_at=control.segment.starts_at,
        control_event_id=control.event_id,
        arm_event_id=other.event_id,
        control_key=control.segment.rendition.key,
        arm_key=other.segment.rendition.key,
        control_score=float(control.values[0]),
        arm_score=float(other.values[0]),
    )
