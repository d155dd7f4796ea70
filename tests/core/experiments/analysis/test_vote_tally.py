"""The vote tally: which votes count, and when they decide."""

from dataclasses import replace
from datetime import timedelta

from tests.factories import START
from vqmon.core.experiments.analysis.vote_tally import clusters_until_decided, tally_votes
from vqmon.core.experiments.human_review import PairExample, Vote, VoteTally

PAIR = PairExample(
    id="a:b",
    role="review",
    cluster="film-0",
    starts_at=START,
    control_event_id="a",
    arm_event_id="b",
    control_key="film-0/v1",
    arm_key="film-0/v2",
    control_score=50.0,
    arm_score=52.0,
)
REVIEW = [replace(PAIR, id=f"p{number}", cluster=f"film-{number}") for number in range(60)]


def tally(choices: str) -> VoteTally | None:
    """One vote per review pair: `a` for the arm, `c` for the control, `t` for a tie."""
    names = {"a": "v2", "c": "v1", "t": "tie"}
    votes = [
        Vote(pair_id=pair.id, choice=names[choice], voter="ann", at=START)
        for pair, choice in zip(REVIEW, choices, strict=False)
    ]
    return tally_votes(votes, REVIEW, arm="v2", control="v1", alpha=0.05)


def test_eight_clusters_of_one_mind_decide_and_seven_do_not() -> None:
    """The anytime sign test: p is 0.0625 after seven and 0.035 after eight."""
    assert [(result.says if result else None) for result in map(tally, ("a" * 7, "a" * 8, "c" * 8))] == [
        "",
        "arm",
        "control",
    ]
    assert clusters_until_decided(None, alpha=0.05) == 8
    assert clusters_until_decided(tally("a" * 7), alpha=0.05) == 1


def test_sixty_ties_say_that_there_is_no_difference() -> None:
    """The interval of the share lies within 0.5 plus or minus 0.15."""
    result = tally("t" * 60)
    assert result is not None
    assert (result.says, result.share) == ("no difference", 0.5)


def test_without_a_vote_on_a_review_pair_there_is_no_tally() -> None:
    """Votes on other pairs prove nothing; the last vote of a voter on a pair counts."""
    other = Vote(pair_id="other", choice="v2", voter="ann", at=START)
    assert tally_votes([other], REVIEW, arm="v2", control="v1", alpha=0.05) is None
    first = Vote(pair_id="p0", choice="v1", voter="ann", at=START)
    last = replace(first, choice="v2", at=START + timedelta(seconds=1))
    result = tally_votes([last, first, other], REVIEW, arm="v2", control="v1", alpha=0.05)
    assert result is not None
    assert (result.clusters_for_arm, result.votes, result.left_out) == (1, 1, 1)
