"""The retry policy: delays, jitter and counting."""

import pytest

from vqmon.retry import Backoff, Retries


def test_a_backoff_doubles_from_the_first_delay_to_the_last() -> None:
    """The delay follows from the number of failures alone, also when that number is huge."""
    backoff = Backoff(first_seconds=0.2, last_seconds=5.0)

    assert [backoff.delay_seconds(failures) for failures in range(1, 8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert backoff.delay_seconds(10_000) == 5.0


def test_a_backoff_without_a_last_delay_grows_by_its_factor() -> None:
    """The factor is that of the caller, and nothing caps the delay unless the caller says so."""
    backoff = Backoff(first_seconds=0.25, factor=3.0)

    assert [backoff.delay_seconds(failures) for failures in (1, 2, 3)] == [0.25, 0.75, 2.25]
    assert Backoff(first_seconds=2.0, factor=1.0).delay_seconds(50) == 2.0


def test_jitter_takes_a_share_of_the_delay_by_the_draw() -> None:
    """With a jitter of a half, a draw of 0 gives half the capped delay and a draw of 1 all of it."""
    backoff = Backoff(first_seconds=1.0, last_seconds=60.0, jitter=0.5)

    assert [backoff.delay_seconds(3, draw=draw) for draw in (0.0, 0.5, 1.0)] == [2.0, 3.0, 4.0]
    assert backoff.delay_seconds(50, draw=0.0) == 30.0


def test_retries_start_over_after_a_success() -> None:
    """Each failure lengthens the delay; a reset makes the next failure the first again."""
    retries = Retries(Backoff(first_seconds=1.0, last_seconds=5.0))

    assert [retries.next_delay_seconds() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    retries.reset()
    assert retries.failures == 0
    assert retries.next_delay_seconds() == 1.0


@pytest.mark.parametrize(
    "wrong", [{"first_seconds": 0.0}, {"last_seconds": 0.5}, {"factor": 0.9}, {"jitter": -0.1}, {"jitter": 1.1}]
)
def test_a_backoff_refuses_lengths_that_make_no_sense(wrong: dict[str, float]) -> None:
    """A delay of nothing, a last delay below the first, a shrinking factor and a jitter beyond the delay."""
    with pytest.raises(ValueError, match="not a backoff"):
        Backoff(**{"first_seconds": 1.0, **wrong})
    with pytest.raises(ValueError, match="after 0 failures"):
        Backoff(first_seconds=1.0).delay_seconds(0)
