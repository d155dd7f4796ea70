"""Pairs that people look at, and what they say: the blind look beside the scorers."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class PairExample:
    """The same source segment in control and arm: event ids of both sides.

    `review` pairs are chosen without looking at scores, one per cluster: only these are for blind review.
    """

    # control_event_id:arm_event_id
    id: str
    role: Literal["worst", "best", "review"]
    cluster: str
    starts_at: datetime
    control_event_id: str
    arm_event_id: str
    # stream/rendition of both sides
    control_key: str
    arm_key: str
    # of the first scorer, 0..100
    control_score: float
    arm_score: float

    @property
    def difference(self) -> float:
        return self.arm_score - self.control_score


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingPair:
    """A source segment that one side has no score for."""

    cluster: str
    starts_at: datetime
    # which side is missing: an arm's name
    missing: str
    # the event of the other side
    event_id: str
    # a key of errors.REASONS, or "absent" when nothing was said about it
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """What one person saw in one blind look at a pair."""

    pair_id: str
    # name of an arm, or "tie"
    choice: str
    voter: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteTally:
    """What people saw: a cluster counts once, for the side that most of its votes chose."""

    votes: int
    voters: int
    # votes on pairs that are not (or no longer) among the review pairs
    left_out: int
    clusters_for_arm: int
    clusters_for_control: int
    clusters_tied: int
    # sign test over clusters, two-sided; holds at all looks together
    p: float
    # share of the clusters that chose the arm, a tie being half, with its interval (Wilson, 1 - alpha)
    share: float
    low: float
    high: float
    # what people say, if they say anything
    says: Literal["arm", "control", "no difference", ""]
