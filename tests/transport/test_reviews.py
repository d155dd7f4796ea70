"""Votes and pictures beside the history."""

import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from vqmon.core.experiments.human_review import Vote
from vqmon.errors import StoreError
from vqmon.transport.reviews import Reviews

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def vote(pair_id: str = "a:b", choice: str = "tie", voter: str = "v", seconds: float = 0.0) -> Vote:
    return Vote(pair_id=pair_id, choice=choice, voter=voter, at=NOW + timedelta(seconds=seconds))


def test_reading_makes_no_file(tmp_path: Path) -> None:
    """A site that nobody votes at leaves nothing behind."""
    reviews = Reviews(tmp_path / "r.db")
    assert (reviews.votes("x"), reviews.pictures("e"), reviews.delete_pictures("x", except_event_ids=[])) == ([], [], 0)
    assert list(tmp_path.iterdir()) == []


def test_a_first_write_that_fails_spoils_nothing(tmp_path: Path) -> None:
    """On a full disk: the message says where to look, what is left reads as empty, and is written later."""
    reviews = Reviews(tmp_path / "r.db")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(StoreError, match=r"r\.db: disk I/O error; see whether its disk is full or fails"):
            reviews.store_vote("x", vote())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (reviews.votes("x"), reviews.clip("e"), reviews.clip_bytes()) == ([], None, 0)
    reviews.store_vote("x", vote())
    assert len(reviews.votes("x")) == 1


def test_one_vote_per_voter_and_pair(tmp_path: Path) -> None:
    """The last one counts; other voters, pairs and experiments have their own."""
    reviews = Reviews(tmp_path / "r.db")
    for new_vote in (vote(), vote(choice="sr", seconds=1), vote(voter="w", seconds=2), vote(pair_id="c:d", seconds=3)):
        reviews.store_vote("x", new_vote)
    reviews.store_vote("y", vote())
    assert [
        (stored_vote.pair_id, stored_vote.voter, stored_vote.choice) for stored_vote in Reviews(reviews.path).votes("x")
    ] == [
        ("a:b", "v", "sr"),
        ("a:b", "w", "tie"),
        ("c:d", "v", "tie"),
    ]


def test_pictures_are_replaced_and_deleted(tmp_path: Path) -> None:
    """An outcome has the pictures that were stored last; an experiment deletes only its own."""
    reviews = Reviews(tmp_path / "r.db")
    reviews.replace_pictures("x", "e", [(0.0, b"old"), (1.0, b"older")])
    reviews.replace_pictures("x", "e", [(0.5, b"new")])
    reviews.replace_pictures("x", "f", [(0.0, b"f")])
    reviews.replace_pictures("y", "f", [(0.0, b"f of y")])
    reviews.replace_pictures("y", "g", [(0.0, b"g")])
    assert reviews.pictures("e") == [(0.5, b"new")]
    assert reviews.delete_pictures("x", except_event_ids=["e"]) == 1
    assert reviews.pictures("f") == [(0.0, b"f of y")]
    assert (reviews.event_ids_with_pictures("x"), reviews.event_ids_with_pictures()) == ({"e"}, {"e", "f", "g"})


def test_the_secret_stays(tmp_path: Path) -> None:
    """All who open the file sign with the same bytes."""
    first = Reviews(tmp_path / "r.db").secret()
    assert (Reviews(tmp_path / "r.db").secret(), len(first)) == (first, 32)
    assert Reviews(tmp_path / "other.db").secret() != first


_VOTER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from vqmon.core.experiments.human_review import Vote
from vqmon.transport.reviews import Reviews
for number in range(40):
    it = Vote(pair_id=f"a:{number}", choice="tie", voter=sys.argv[2], at=datetime(2026, 1, 1, tzinfo=UTC))
    Reviews(Path(sys.argv[1])).store_vote("x", it)
"""


def test_several_processes_may_write(tmp_path: Path) -> None:
    """No vote is lost when web processes vote at once."""
    path = tmp_path / "r.db"
    voters = [subprocess.Popen([sys.executable, "-c", _VOTER, str(path), name]) for name in "abc"]
    assert [process.wait(timeout=60) for process in voters] == [0, 0, 0]
    assert len(Reviews(path).votes("x")) == 120


def test_threads_may_share_one(tmp_path: Path) -> None:
    """The pages ask from several."""
    reviews = Reviews(tmp_path / "r.db")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: reviews.store_vote("x", vote(pair_id=f"a:{number}")), range(40)))
    assert len(reviews.votes("x")) == 40


def _other_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")


@pytest.mark.parametrize(
    "make", [_other_database, lambda path: path.write_bytes(b"no database at all" * 100), lambda path: path.mkdir()]
)
def test_another_file_is_left_alone(tmp_path: Path, make: Callable[[Path], object]) -> None:
    """A file that holds no votes is neither read nor written, and the message names it."""
    path = tmp_path / "r.db"
    make(path)
    with pytest.raises(StoreError, match=r"r\.db"):
        Reviews(path).store_vote("x", vote())
