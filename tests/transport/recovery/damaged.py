"""A history of a thousand outcomes, and overwriting its pages."""

import json
import random
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from tests import factories
from tests.factories import START
from tests.transport.history.samples import SPORTS, end_after, jpegs, open_alert
from vqmon.core.alerts.annotations import DeployMarker
from vqmon.core.types import LaneCursor
from vqmon.transport.history.history import open_history

OUTCOMES = 1000
ALERTS = 8
PAGE_BYTES = 8192
BATCH = 50


def write_history(path: Path) -> None:
    """Outcomes of two streams in batches, with alerts, evidence, ends, markers, cursors and rollups."""
    with open_history(path, "write") as history:
        history.seen_segments()
        for begin in range(0, OUTCOMES, BATCH):
            rendition = SPORTS if begin % (2 * BATCH) else factories.RENDITION
            outcomes = [
                factories.failure(sequence=number, rendition=rendition)
                if number % 40 == 0
                else factories.event(sequence=number, rendition=rendition, score=number % 90)
                for number in range(begin, begin + BATCH)
            ]
            scored = outcomes[1]
            alerts = [open_alert(scored, name="abcdefgh"[begin // BATCH])] if begin // BATCH < ALERTS else []
            history.publish(
                outcomes,
                alerts=alerts,
                ends=[end_after(begin)],
                cursors=[LaneCursor(lane=rendition.name, sequence=begin, segment_key="k", ends_at=START)],
                thumbnails=jpegs(scored.id),
                queued_at=START,
            )
        at = START + timedelta(hours=1)
        history.add_marker(DeployMarker(id="m", at=at, name="release", stream="*", rendition="*"))
        history.maintenance.roll_up()


def overwrite_pages(path: Path, pages: Iterable[int], *, seed: int = 1) -> None:
    """Overwrite pages, counted from 0 on, by random bytes."""
    source = random.Random(seed)
    with path.open("r+b") as opened:
        for page in pages:
            opened.seek(page * PAGE_BYTES)
            opened.write(source.randbytes(PAGE_BYTES))


def pages_of(path: Path, *tables: str) -> list[int]:
    """The pages of tables, ascending, from 0 on; the pages of their indexes are not among them."""
    marks = ", ".join("?" * len(tables))
    select = f"SELECT pageno FROM dbstat WHERE name IN ({marks}) ORDER BY pageno"
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] - 1 for row in connection.execute(select, tables)]


def all_rows(path: Path, table: str) -> list[tuple[object, ...]]:
    """The rows of a table, sorted; JSON is compared by its content."""
    with closing(sqlite3.connect(path)) as connection:
        rows = sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
    return [(*row[:-1], json.loads(row[-1])) for row in rows] if table == "outcome" else rows
