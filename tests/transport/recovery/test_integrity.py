"""The check of a whole history, in both databases."""

from contextlib import closing

from tests import factories
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import open_database, open_history
from vqmon.transport.recovery.integrity import check_integrity


def test_outcomes_without_their_event_are_counted(history_location: HistoryLocation) -> None:
    """A missing block, one that is cut off, and an outcome with the id of another event."""
    with open_history(history_location, "write") as history:
        for begin in range(0, 40, 10):
            history.publish([factories.event(sequence=number) for number in range(begin, begin + 10)])
    report = check_integrity(history_location)
    assert report.is_sound
    assert (report.outcomes, report.blocks) == (40, 4)
    with closing(open_database(history_location, "write")) as database, database.transaction() as transaction:
        transaction.execute("DELETE FROM document WHERE number = 1")
        body = transaction.execute("SELECT body FROM document WHERE number = 11").fetchone()[0]
        transaction.execute("UPDATE document SET body = ? WHERE number = 11", (bytes(body)[:-9],))
        transaction.execute("UPDATE outcome SET id = ? WHERE number = 25", (b"x" * 16,))
    report = check_integrity(history_location)
    assert not report.is_sound
    assert (report.damaged_blocks, report.outcomes_without_event) == (1, 21)
    assert "cut off" in report.block_problems[0]
