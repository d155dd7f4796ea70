"""A real history in a file, with the seeded data that it contains."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.web.seed import Seeded
from vqmon.core.types import Alert, Outcome
from vqmon.transport.history.history import History, open_history


@dataclass(frozen=True)
class StoredHistory:
    """A history file, and what was written to it."""

    seeded: Seeded
    store: History
    path: Path = Path("history.db")

    def write(self, *items: Outcome | Alert) -> None:
        """Publish outcomes and alerts as the daemon does."""
        outcomes = [item for item in items if not isinstance(item, Alert)]
        self.store.publish(outcomes, alerts=[item for item in items if isinstance(item, Alert)])

    def outcomes(self, stream_id: str | None = None, rendition: str | None = None) -> list[Outcome]:
        """The seeded outcomes, oldest first."""
        return [
            outcome
            for outcome in self.seeded.outcomes
            if stream_id in (None, outcome.segment.rendition.stream_id)
            and rendition in (None, outcome.segment.rendition.name)
        ]


def write_history(path: Path, seeded: Seeded) -> Path:
    """Write the seeded data to a new history file."""
    with open_history(path, "write") as store:
        store.publish(seeded.outcomes, alerts=seeded.alerts, thumbnails=seeded.thumbnails)
        store.maintenance.checkpoint()
    return path


@contextmanager
def open_copy(path: Path, seeded: Seeded, folder: Path) -> Iterator[StoredHistory]:
    """Open a copy of a history file."""
    copy = Path(shutil.copy(path, folder / "history.db"))
    with open_history(copy, "write") as store:
        yield StoredHistory(seeded, store, copy)
