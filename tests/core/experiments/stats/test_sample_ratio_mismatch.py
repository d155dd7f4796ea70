"""The check of the sample ratio."""

import numpy as np

from vqmon.core.experiments.stats.sample_ratio_mismatch import check_sample_ratio


def test_the_sample_ratio_fails_from_an_e_value_of_1000_on() -> None:
    """The largest e-value at any look decides."""
    counts, shares = {"v1": 500, "v2": 500}, {"v1": 1.0, "v2": 1.0}
    assert check_sample_ratio(counts, shares, max_log_e_value=np.log(999)).is_good
    assert not check_sample_ratio(counts, shares, max_log_e_value=np.log(1001)).is_good
