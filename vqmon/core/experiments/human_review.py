"""Blind human review: the pairs that people compare, their votes, and the tally of the votes."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class PairExample:
    """The same source segment in control and arm, named by the event ids of both.

    `review` pairs are chosen independently of their scores, one per cluster; only they are for blind review.
    """

    # control_event_id:arm_event_id
    id: str
    role: Literal["worst", "best", "review"]
    cluster: str
    starts_at: datetime
    control_event_id: str
    arm_event_id: str
    # stream/rendition of both
    control_key: str
    arm_key: str
    # scores of the first scorer, 0..100
    control_score: float
    arm_score: float

    @property
    def difference(self) -> float:
        """arm - control, in points of 0..100."""
        return self.arm_score - self.control_score


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingPair:
    """A source segment that has a score in only one of control and arm."""

    cluster: str
    starts_at: datetime
    # name of the arm without a score
    missing: str
    # the event of the other arm
    event_id: str
    # a key of errors.REASONS, or "absent" when there is no outcome at all
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """The choice of one person in the blind review of one pair."""

    pair_id: str
    # name of the preferred arm, or "tie"
    choice: str
    voter: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteTally:
    """The votes on one arm against the control; a cluster counts once, for the side that most of its votes chose."""

    votes: int
    voters: int
    # votes on pairs that are not, or no longer, review pairs
    left_out: int
    clusters_for_arm: int
    clusters_for_control: int
    clusters_tied: int
    # two-sided p-value of the sign test over clusters; valid at all looks together
    p: float
    # share of the clusters that chose the arm (a tie counts half), with its Wilson interval at 1 - alpha
    share: float
    low: float
    high: float
    # what the votes decide; "" while they decide nothing
    says: Literal["arm", "control", "no difference", ""]
