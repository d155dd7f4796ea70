"""The check of the sample ratio."""

import math

import numpy as np
import pytest

from vqmon.core.experiments.stats.sample_ratio_mismatch import (
    SRM_ALPHA,
    check_sample_ratio,
    check_silent_arms,
    srm_log_e_value,
)


def test_the_sample_ratio_fails_from_an_e_value_of_50_on() -> None:
    """The largest e-value at any look decides."""
    counts, shares = {"v1": 500, "v2": 500}, {"v1": 1.0, "v2": 1.0}
    assert check_sample_ratio(counts, shares, max_log_e_value=np.log(49)).is_good
    assert not check_sample_ratio(counts, shares, max_log_e_value=np.log(51)).is_good


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.3, 0.4, 0.45, 0.48])
def test_an_uneven_split_is_found_within_a_fifth_of_what_chi_square_needs(share: float) -> None:
    """Chi-square at .001 is 10.83; it is n (1 - 2 share) ** 2 where every session is as likely as it should be."""
    sessions = math.ceil(1.2 * 10.83 / (1 - 2 * share) ** 2)
    in_arm = math.floor(sessions * share)
    assert srm_log_e_value([in_arm, sessions - in_arm], [1, 1]) >= -math.log(SRM_ALPHA)


def test_a_dead_arm_is_found_after_eleven_sessions_and_an_even_split_never() -> None:
    """Eleven sessions of one arm alone, as chi-square at .001; a half of 3,000 is evidence for the plan."""
    alarm = -math.log(SRM_ALPHA)
    assert srm_log_e_value([11, 0], [1, 1]) >= alarm > srm_log_e_value([10, 0], [1, 1])
    assert srm_log_e_value([1500, 1500], [1, 1]) < 0


def test_shares_that_changed_are_compared_by_their_planned_numbers() -> None:
    """The shares may be counts; without sessions nothing is divided by 0."""
    check = check_sample_ratio({"v1": 950, "v2": 250}, {"v1": 950.0, "v2": 250.0}, max_log_e_value=0.0)
    assert "v1 950 of 950 planned" in check.text
    assert check_sample_ratio({"v1": 0, "v2": 0}, {"v1": 0.0, "v2": 0.0}, max_log_e_value=0.0).is_good


def test_a_run_without_sessions_of_an_arm_is_silence_when_chance_is_excluded() -> None:
    """Twenty sessions of the other arm after 500: 520 * 2**-20 = .0005; 19 are twice as likely."""
    runs = {"v1": 0, "v2": 20}
    silent = check_silent_arms({"v1": 0.0, "v2": 20 * np.log(0.5)}, runs, sessions=520)
    chance = check_silent_arms({"v1": 0.0, "v2": 19 * np.log(0.5)}, {"v1": 0, "v2": 19}, sessions=530)

    assert not silent.is_good
    assert silent.text == "v2 got none of the last 20 sessions"
    assert chance.is_good
