"""What is saved of a history with overwritten pages."""

import random
from pathlib import Path

import pytest

from tests import factories
from tests.transport.recovery.damaged import ALERTS, OUTCOMES, all_rows, overwrite_pages, pages_of
from vqmon.errors import StoreError
from vqmon.transport.history.history import open_history
from vqmon.transport.recovery.integrity import check_integrity
from vqmon.transport.recovery.salvage import salvage

TABLES = (
    *("outcome", "document", "dictionary", "rendition", "scorer", "rollup", "rolled", "alert", "evidence", "outbox"),
    *("ended", "marker", "thumbnail", "state", "cursor", "seen", "published", "tip", "identity", "unfilled"),
)


def test_of_a_sound_history_everything_is_saved(sound_history: Path, tmp_path: Path) -> None:
    """All rows are the same, numbers and ids too."""
    counts = salvage(sound_history, tmp_path / "new.db")
    assert {count.lost for count in counts.values()} == {0}
    assert (counts["outcome"].saved, counts["alert"].saved, counts["marker"].saved) == (OUTCOMES, ALERTS, 1)
    for table in TABLES:
        assert all_rows(tmp_path / "new.db", table) == all_rows(sound_history, table), table


def test_most_outcomes_are_saved_from_random_damage(damaged_history: Path, sound_history: Path, tmp_path: Path) -> None:
    """Pages of events, outcomes and the rest; what is saved is as it was written, and the new history is written to."""
    pages = pages_of(damaged_history, "document", "outcome", "ended", "thumbnail", "seen")
    overwrite_pages(damaged_history, random.Random(17).sample(pages, len(pages) // 40))
    before = check_integrity(damaged_history)
    assert not before.is_sound
    assert before.outcomes_without_event > 0

    new = tmp_path / "new.db"
    counts = salvage(damaged_history, new)
    outcomes = counts["outcome"]
    assert outcomes.saved + outcomes.lost == OUTCOMES
    assert outcomes.lost == before.outcomes_without_event
    assert OUTCOMES / 2 < outcomes.saved < OUTCOMES
    assert check_integrity(new).is_sound
    assert check_integrity(new).outcomes == outcomes.saved
    with open_history(sound_history, "read") as history:
        documents = set(history.documents.documents_in_write_order())
        tip = history.queries.tip()
    with open_history(new, "write") as history:
        saved = set(history.documents.documents_in_write_order())
        assert len(saved) == outcomes.saved
        assert saved < documents
        history.publish([factories.event(sequence=OUTCOMES)])
        assert history.queries.tip() == tip + 1


def test_the_rows_of_outcomes_are_made_anew_from_their_events(
    damaged_history: Path, sound_history: Path, tmp_path: Path
) -> None:
    """A file without one readable row of outcomes, renditions and minutes is saved whole."""
    overwrite_pages(damaged_history, pages_of(damaged_history, "outcome", "rendition", "rollup", "scorer", "published"))
    new = tmp_path / "new.db"
    assert salvage(damaged_history, new)["outcome"].saved == OUTCOMES
    assert check_integrity(new).is_sound
    for table in ("outcome", "rendition", "rollup", "scorer", "published", "tip"):
        assert all_rows(new, table) == all_rows(sound_history, table), table


def test_without_the_dictionary_no_event_is_left(damaged_history: Path, tmp_path: Path) -> None:
    """It is said, and alerts, ends and markers are saved all the same."""
    overwrite_pages(damaged_history, pages_of(damaged_history, "dictionary"))
    report = check_integrity(damaged_history)
    assert "needs dictionary 1, which is missing" in report.block_problems[0]
    counts = salvage(damaged_history, tmp_path / "new.db")
    assert (counts["outcome"].saved, counts["outcome"].lost) == (0, OUTCOMES)
    assert (counts["alert"].saved, counts["ended"].lost, counts["marker"].saved) == (ALERTS, 0, 1)


def test_what_salvage_refuses(damaged_history: Path, sound_history: Path, tmp_path: Path) -> None:
    """A new file that exists, an old one that is written, and one whose list of tables is lost."""
    with pytest.raises(StoreError, match="exists; name a new file"):
        salvage(damaged_history, sound_history)
    with open_history(damaged_history, "write"), pytest.raises(StoreError, match="another vqmon writes"):
        salvage(damaged_history, tmp_path / "new.db")
    overwrite_pages(damaged_history, [0])
    with pytest.raises(StoreError, match="its first page or list of tables is damaged"):
        salvage(damaged_history, tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()
