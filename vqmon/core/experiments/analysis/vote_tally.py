"""Tallies the votes of the blind review: each cluster counts once, and only votes on review pairs count."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from vqmon.core.experiments.human_review import PairExample, Vote, VoteTally
from vqmon.core.experiments.stats.distributions import anytime_sign_test_p, wilson_interval

_EQUIVALENCE_HALF_WIDTH = 0.15
"""People see no difference when the interval of the arm's share of clusters lies within 0.5 plus or minus this."""

_MAX_CLUSTERS = 10_000


def tally_votes(
    votes: Sequence[Vote], review: Sequence[PairExample], *, arm: str, control: str, alpha: float
) -> VoteTally | None:
    """Tally the votes on the review pairs; None when there is no vote on any of them.

    Of several votes of a person on a pair, the last counts. A cluster counts for the side that more of its votes chose;
    a tied cluster counts for neither side in the sign test, and half in the share. People may look at the tally and
    vote on at any time, so the sign test is one that holds at all looks together.
    """
    cluster_of_pair = {pair.id: pair.cluster for pair in review}
    last_votes = {(vote.voter, vote.pair_id): vote for vote in sorted(votes, key=lambda vote: vote.at)}
    counted = [
        vote for vote in last_votes.values() if vote.pair_id in cluster_of_pair and vote.choice in (arm, control, "tie")
    ]
    if not counted:
        return None
    # cluster -> votes for the arm minus votes for the control
    balance: Counter[str] = Counter()
    for vote in counted:
        balance[cluster_of_pair[vote.pair_id]] += (vote.choice == arm) - (vote.choice == control)
    for_arm = sum(value > 0 for value in balance.values())
    for_control = sum(value < 0 for value in balance.values())
    tied = len(balance) - for_arm - for_control
    p = anytime_sign_test_p(for_arm, for_control)
    low, high = wilson_interval(for_arm + tied / 2, len(balance), alpha=alpha)
    decision: Literal["arm", "control", "no difference", ""] = ""
    if p <= alpha:
        decision = "arm" if for_arm > for_control else "control"
    elif low >= 0.5 - _EQUIVALENCE_HALF_WIDTH and high <= 0.5 + _EQUIVALENCE_HALF_WIDTH:
        decision = "no difference"
    return VoteTally(
        votes=len(counted),
        voters=len({vote.voter for vote in counted}),
        left_out=len(last_votes) - len(counted),
        clusters_for_arm=for_arm,
        clusters_for_control=for_control,
        clusters_tied=tied,
        p=p,
        share=(for_arm + tied / 2) / len(balance),
        low=low,
        high=high,
        says=decision,
    )


def clusters_until_decided(tally: VoteTally | None, *, alpha: float) -> int:
    """The fewest further clusters after which the votes decide: when all of them agree with the side that is ahead."""
    ahead = max(tally.clusters_for_arm, tally.clusters_for_control) if tally else 0
    behind = min(tally.clusters_for_arm, tally.clusters_for_control) if tally else 0
    return next(more for more in range(_MAX_CLUSTERS) if anytime_sign_test_p(ahead + more, behind) <= alpha)
