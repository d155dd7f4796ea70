"""Media of the newest segments of experiments, in a folder of bounded size: clips can be made of it later.

A live playlist lists a segment for a minute or so, while the pairs that people compare are chosen afterwards.
"""

import os
import re
from contextlib import suppress
from pathlib import Path

from vqmon.errors import StoreError

_EVENT_ID_PATTERN = re.compile(r"[0-9a-f]{32}")
_SUFFIX = ".media"


class SegmentMedia:
    """One file per segment, named by its event id; the oldest ones go. Several processes and threads may write."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.folder = folder
        self._max_bytes = max_bytes

    def store(self, event_id: str, media: bytes) -> None:
        """Store the media of a segment, unless they are larger than the folder may be; raises StoreError."""
        if len(media) > self._max_bytes:
            return
        file = self._file(event_id)
        # invisible to `read` until it is complete
        incomplete = file.with_suffix(f".{os.getpid()}")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_room(len(media))
            incomplete.write_bytes(media)
            incomplete.replace(file)
        except OSError as error:
            with suppress(OSError):
                incomplete.unlink()
            raise StoreError(f"{self.folder}: media of experiments cannot be stored: {error.strerror}") from error

    def __contains__(self, event_id: str) -> bool:
        """Whether the media of a segment are stored now."""
        return self._file(event_id).is_file()

    def read(self, event_id: str) -> bytes | None:
        """The media of a segment; None when they are not, or no longer, stored."""
        try:
            return self._file(event_id).read_bytes()
        except OSError:
            return None

    def _make_room(self, new_bytes: int) -> None:
        """Delete the oldest files, until the new one fits too."""
        files = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                try:
                    facts = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    # another process made room
                    continue
                files.append((facts.st_mtime_ns, facts.st_size, entry.path))
        total = new_bytes + sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._max_bytes:
                return
            Path(path).unlink(missing_ok=True)
            total -= size

    def _file(self, event_id: str) -> Path:
        if not _EVENT_ID_PATTERN.fullmatch(event_id):
            raise ValueError(f"no event id: {event_id!r}")
        return self.folder / f"{event_id}{_SUFFIX}"
