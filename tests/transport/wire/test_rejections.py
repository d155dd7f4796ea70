"""The rejection rate of a partition: how it rises and falls, and when it exceeds a limit."""

import pytest

from vqmon.transport.wire.rejections import NEGLIGIBLE_SHARE, RejectionRate


def rate_after(*, rejected: int, accepted: int = 0) -> RejectionRate:
    """The rate after so many rejected records and then so many accepted ones."""
    rate = RejectionRate()
    for _ in range(rejected):
        rate = rate.after_rejected()
    for _ in range(accepted):
        rate = rate.after_accepted()
    return rate


def test_a_hundred_rejected_records_in_a_row_exceed_a_limit_of_85_percent() -> None:
    """The share approaches 1 with the weight of the latest hundred records: 1 - 0.98 ** n."""
    assert rate_after(rejected=1).share == pytest.approx(0.02)
    assert rate_after(rejected=100).share == pytest.approx(1 - 0.98**100)
    assert rate_after(rejected=100).exceeds(0.85)
    assert not rate_after(rejected=90).exceeds(0.85)


def test_a_single_bad_record_never_exceeds_a_limit() -> None:
    """One rejected record among accepted ones counts for two percent."""
    assert not rate_after(rejected=1).exceeds(0.5)


def test_the_rate_falls_with_accepted_records_and_ends_at_exactly_zero() -> None:
    """Below one percent it counts as zero, so that the state of a healthy partition no longer changes."""
    assert rate_after(rejected=50, accepted=10).share == pytest.approx((1 - 0.98**50) * 0.98**10)
    healthy = rate_after(rejected=10, accepted=200)
    assert healthy.share == 0
    assert healthy.after_accepted() is healthy
    assert rate_after(rejected=1, accepted=40).share == 0 < NEGLIGIBLE_SHARE


def test_a_share_outside_0_to_1_is_refused() -> None:
    """Stored state that is damaged must not pass."""
    for share in (-0.1, 1.1):
        with pytest.raises(ValueError, match="a share is"):
            RejectionRate(share=share)
