"""What blind votes say: each cluster counts once, and only pairs that were chosen without looking at scores."""

from collections import Counter
from collections.abc import Sequence

from vqmon.core.experiments.human_review import PairExample, Vote, VoteTally
from vqmon.core.experiments.stats.distributions import anytime_sign_test_p, wilson_interval

EQUIVALENCE_HALF_WIDTH = 0.15
"""People see no difference when the interval of their share lies within 0.5 plus or minus this."""


def tally_votes(
    votes: Sequence[Vote], review: Sequence[PairExample], *, arm: str, control: str, alpha: float
) -> VoteTally | None:
    """Combine votes on the review pairs; None without a vote on one of them.

    The last vote of a person on a pair counts. A cluster stands for the side that more of its votes chose; ties of a
    cluster count for neither side in the sign test and half for each in the share. Votes are looked at whenever
    somebody likes to, and more are asked for until they decide: the test holds at all looks together.
    """
    cluster_of = {pair.id: pair.cluster for pair in review}
    last = {(vote.voter, vote.pair_id): vote for vote in sorted(votes, key=lambda it: it.at)}
    kept = [vote for vote in last.values() if vote.pair_id in cluster_of and vote.choice in (arm, control, "tie")]
    if not kept:
        return None
    balance: Counter[str] = Counter()
    for vote in kept:
        balance[cluster_of[vote.pair_id]] += (vote.choice == arm) - (vote.choice == control)
    for_arm = sum(value > 0 for value in balance.values())
    for_control = sum(value < 0 for value in balance.values())
    tied = len(balance) - for_arm - for_control
    p = anytime_sign_test_p(for_arm, for_control)
    low, high = wilson_interval(for_arm + tied / 2, len(balance), alpha=alpha)
    says = ""
    if p <= alpha:
        says = "arm" if for_arm > for_control else "control"
    elif low >= 0.5 - EQUIVALENCE_HALF_WIDTH and high <= 0.5 + EQUIVALENCE_HALF_WIDTH:
        says = "no difference"
    return VoteTally(
        votes=len(kept),
        voters=len({vote.voter for vote in kept}),
        left_out=len(last) - len(kept),
        clusters_for_arm=for_arm,
        clusters_for_control=for_control,
        clusters_tied=tied,
        p=p,
        share=(for_arm + tied / 2) / len(balance),
        low=low,
        high=high,
        says=says,  # type: ignore[arg-type]
    )


def clusters_until_decided(answer: VoteTally | None, *, alpha: float) -> int:
    """How many more clusters must be voted on before people can decide, if all of them agree from here on."""
    ahead = max(answer.clusters_for_arm, answer.clusters_for_control) if answer else 0
    behind = min(answer.clusters_for_arm, answer.clusters_for_control) if answer else 0
    return next(more for more in range(10_000) if anytime_sign_test_p(ahead + more, behind) <= alpha)
