"""The objective: good is what is usual for a rendition, or what a floor says."""

import random
from dataclasses import replace

from pipelines.service.objective import Objective
from tests import factories


def good(objective: Objective, scores: list[float], *, name: str = "1080p") -> list[bool]:
    """Whether each of these segments is good, in order."""
    rendition = factories.rendition(name=name)
    return [
        objective.is_good(factories.event(segment=factories.segment(sequence=number, rendition=rendition), score=score))
        for number, score in enumerate(scores)
    ]


def test_a_stream_that_is_modest_by_nature_is_good() -> None:
    """Scores around 35, as a low rendition has; a fall by 15 points is bad, and only for the rendition that fell."""
    usual = [random.Random(number).gauss(35.0, 4.0) for number in range(1200)]
    objective = Objective(floor=None, drop=5.0)
    assert sum(good(objective, usual, name="360p")) > 0.99 * 1200
    assert sum(good(objective, [90.0] * 200)) == 200
    assert sum(good(objective, [score - 15.0 for score in usual[:40]], name="360p")) < 8
    assert sum(good(objective, [90.0] * 10)) == 10


def test_what_is_usual_follows_a_lasting_change() -> None:
    """After a thousand segments at the new level it is the usual one: alerts, not the objective, tell of the change."""
    objective = Objective(floor=None, drop=5.0)
    found = good(objective, [80.0] * 1000 + [60.0] * 1100)
    assert found[:1000] == [True] * 1000
    assert not any(found[1000:1045])
    assert found[-1]


def test_the_first_segments_only_have_to_be_scored() -> None:
    """Nothing is known yet; an unscored segment is bad from the first on, and so is one below a floor."""
    objective = Objective(floor=None, drop=5.0)
    assert all(good(objective, [5.0 + 90.0 * (number % 2) for number in range(99)]))
    assert not objective.is_good(factories.failure())
    assert good(Objective(floor=60.0, drop=5.0), [59.9, 60.0]) == [False, True]


def test_the_score_of_another_scorer_does_not_stand_for_the_first() -> None:
    """A segment that the first scorer lost is bad; one that only another scorer lost is as good as its score."""
    event = factories.event(score=90.0)
    first, other = factories.scorer_failure(tier="main"), factories.scorer_failure(tier="first")
    objective = Objective(floor=40.0, drop=5.0)
    assert not objective.is_good(replace(event, scorer_failures=(first,)))
    assert objective.is_good(replace(event, scorer_failures=(other,)))
