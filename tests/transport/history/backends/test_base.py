"""Retries of idempotent writes while the database is away."""

import logging

import pytest

from vqmon.errors import StoreError, StoreUnreachableError
from vqmon.transport.history.backends.base import retry_until_reachable


class FailingWrite:
    """A write that fails a number of times."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.calls = 0
        self._failures = failures
        self._error = error or StoreUnreachableError("away")

    def __call__(self) -> None:
        self.calls += 1
        if self.calls <= self._failures:
            raise self._error


def test_a_write_is_retried_with_growing_delays_until_it_succeeds(caplog: pytest.LogCaptureFixture) -> None:
    """0.2, 0.4 ... up to 5 s; logged when it begins and when it ends."""
    delays: list[float] = []
    write = FailingWrite(7)
    with caplog.at_level(logging.WARNING):
        retry_until_reachable(write, timeout_seconds=60.0, sleep=delays.append)
    assert write.calls == 8
    assert delays == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
    assert [record.getMessage() for record in caplog.records] == ["history.unreachable", "history.reachable"]


def test_a_write_fails_when_the_delays_reach_the_timeout() -> None:
    """The last error is raised; with a timeout of 0 the first one."""
    delays: list[float] = []
    with pytest.raises(StoreUnreachableError):
        retry_until_reachable(FailingWrite(99), timeout_seconds=1.0, sleep=delays.append)
    assert delays == pytest.approx([0.2, 0.4, 0.8])
    with pytest.raises(StoreUnreachableError):
        retry_until_reachable(FailingWrite(1), timeout_seconds=0.0, sleep=delays.append)
    assert len(delays) == 3


def test_other_errors_are_not_retried() -> None:
    """A full disk does not become reachable."""
    write = FailingWrite(1, StoreError("disk full"))
    with pytest.raises(StoreError, match="disk full"):
        retry_until_reachable(write, timeout_seconds=60.0, sleep=lambda seconds: None)
    assert write.calls == 1


def test_a_write_that_succeeds_at_once_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The usual case."""
    retry_until_reachable(FailingWrite(0), timeout_seconds=60.0)
    assert caplog.records == []
