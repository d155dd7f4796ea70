"""What a plan rests on: the spread of a pilot is the one that it was made with."""

import numpy as np
import pytest

from pipelines.experiments.plan import estimate_pilot_variance, power_assumptions
from tests import factories
from vqmon.core.experiments.results import Comparison
from vqmon.errors import SettingsError


def pilot(*, clusters: int, segments: int) -> Comparison:
    """Differences with s.d. 5 points, of which 30 % of the variance is common to a cluster."""
    rng = np.random.default_rng(2)
    outcomes = []
    for stream in range(clusters):
        common = rng.normal(0, 5 * 0.3**0.5)
        for number in range(segments):
            outcomes.append(factories.arm_event(stream=stream, arm="v1", sequence=number, score=50.0))
            outcomes.append(
                factories.arm_event(
                    stream=stream, arm="v2", sequence=number, score=50.0 + common + rng.normal(0, 5 * 0.7**0.5)
                )
            )
    return factories.comparison(experiment=factories.experiment(), outcomes=outcomes)


def test_the_spread_of_a_pilot_is_found_again() -> None:
    """Standard deviation, share common to clusters, segments per cluster."""
    variance = estimate_pilot_variance(pilot(clusters=150, segments=10))

    assert variance.sd == pytest.approx(5, rel=0.06)
    assert variance.icc == pytest.approx(0.3, abs=0.06)
    assert (variance.segments_per_cluster, variance.clusters) == (10, 150)


def test_what_a_person_says_goes_over_the_pilot() -> None:
    """Each value for itself; a pilot that is too small is refused unless all is said."""
    small = pilot(clusters=3, segments=2)
    assumed = power_assumptions(pilot(clusters=20, segments=5), difference=1.0, sd=7.0, icc=None, segments=None)

    assert (assumed.sd, assumed.segments_per_cluster, assumed.alpha) == (7.0, 5, 0.05)
    with pytest.raises(SettingsError, match="give --sd and --icc"):
        power_assumptions(small, difference=1.0, sd=None, icc=None, segments=None)
    assert power_assumptions(small, difference=1.0, sd=3.0, icc=0.1, segments=8).icc == 0.1


def test_what_is_no_number_is_refused_in_words() -> None:
    """By the command's error, not by a stack trace."""
    with pytest.raises(SettingsError, match="difference as a number that is more than 0, got nan"):
        power_assumptions(None, difference=float("nan"), sd=3.0, icc=None, segments=None)
    with pytest.raises(SettingsError, match="power as a number"):
        power_assumptions(None, difference=1.0, sd=3.0, icc=None, segments=None, power=float("nan"))


def test_a_pilot_gives_its_size_and_the_unevenness_of_its_clusters() -> None:
    """A given deviation needs no allowance for a small pilot."""
    small = pilot(clusters=6, segments=5)
    assumed = power_assumptions(small, difference=1.0, sd=None, icc=None, segments=None)

    assert (assumed.pilot_clusters, assumed.segments_cv, assumed.blocks_per_cluster) == (6, 0.0, 1.0)
    assert power_assumptions(small, difference=1.0, sd=3.0, icc=None, segments=None).pilot_clusters == 0
