"""What pruning by the settings deletes, and what it does when the database is away."""

import asyncio
import logging
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.service import retention
from pipelines.service.history_thread import open_history_thread
from pipelines.service.retention import _prune_history, regular_pruning
from tests import factories
from vqmon.core.timeline import PrunedCounts
from vqmon.errors import StoreUnreachableError
from vqmon.settings.sections import HistorySettings
from vqmon.transport.history.history import open_history

EVENTS = [factories.event(sequence=sequence) for sequence in range(4)]
DAY = timedelta(days=1)


class RecordingMaintenance:
    """Records what it was asked for; raises `fault` when set. Stands in for Maintenance."""

    def __init__(self, fault: StoreUnreachableError | None = None) -> None:
        self.requests: list[dict[str, object]] = []
        self.checkpoint_count = 0
        self._fault = fault

    def prune(self, **request: object) -> PrunedCounts:
        self.requests.append(request)
        if self._fault:
            raise self._fault
        return PrunedCounts(outcomes=1, thumbnails=2)

    def checkpoint(self) -> None:
        self.checkpoint_count += 1


def history_of(maintenance: RecordingMaintenance) -> SimpleNamespace:
    return SimpleNamespace(maintenance=maintenance)


def test_each_kind_of_row_has_its_own_age() -> None:
    """In days before now; thumbnails are limited by number."""
    maintenance = RecordingMaintenance()
    settings = HistorySettings(keep_days=1, keep_rollups_days=2.5, keep_alerts_days=40, keep_frames_of_segments=7)
    pruned = _prune_history(history_of(maintenance), settings, now=factories.START)  # type: ignore[arg-type]
    assert pruned == PrunedCounts(outcomes=1, thumbnails=2)
    assert maintenance.requests == [
        {
            "before": factories.START - DAY,
            "keep_frames_of_segments": 7,
            "rollups_before": factories.START - 2.5 * DAY,
            "alerts_before": factories.START - 40 * DAY,
        }
    ]
    assert maintenance.checkpoint_count == 1


@pytest.mark.parametrize(("days_later", "left"), [(34.9, EVENTS), (35.1, [])])
def test_outcomes_are_deleted_after_their_retention(days_later: float, left: list[object], tmp_path: Path) -> None:
    """Of a real history; 35 days by default."""
    with open_history(tmp_path / "vqmon.db", "write") as history:
        history.publish(EVENTS)
        pruned = _prune_history(history, HistorySettings(), now=EVENTS[-1].observed_at + days_later * DAY)
        assert pruned is not None
        assert pruned.outcomes == len(EVENTS) - len(left)
        assert list(history.documents.outcomes_in_write_order()) == left


def test_a_database_that_is_away_is_logged_and_left_for_the_next_time(caplog: pytest.LogCaptureFixture) -> None:
    """Pruning never ends the daemon."""
    maintenance = RecordingMaintenance(StoreUnreachableError("the server is away"))
    with caplog.at_level(logging.WARNING, "vqmon.history"):
        pruned = _prune_history(history_of(maintenance), HistorySettings(), now=factories.START)  # type: ignore[arg-type]
    assert pruned is None
    assert maintenance.checkpoint_count == 0
    assert [record.getMessage() for record in caplog.records] == ["history.not_kept"]


def test_an_error_that_is_not_the_databases_is_raised() -> None:
    """A bug must not look like a server that is away."""
    with pytest.raises(AttributeError):
        _prune_history(SimpleNamespace(maintenance=None), HistorySettings(), now=factories.START)  # type: ignore[arg-type]


async def test_pruning_repeats_while_the_context_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the thread of the history, so that it never runs at the same time as a write."""
    monkeypatch.setattr(retention, "_PRUNE_INTERVAL_SECONDS", 0.0)
    pruned_twice, loop = asyncio.Event(), asyncio.get_running_loop()
    count = 0

    def count_pruning(*arguments: object, **options: object) -> None:
        nonlocal count
        count += 1
        if count == 2:
            loop.call_soon_threadsafe(pruned_twice.set)

    monkeypatch.setattr(retention, "_prune_history", count_pruning)
    with open_history_thread(tmp_path / "vqmon.db", mode="write") as thread:
        with regular_pruning(thread, HistorySettings()):
            await pruned_twice.wait()
        await thread.run(lambda: None)
        final_count = count
        await asyncio.sleep(0)
        await thread.run(lambda: None)
        assert count == final_count
