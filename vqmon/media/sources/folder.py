"""FolderSource: a folder where media files appear -> Segments, one per finished file."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable, Container, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from vqmon.core.types import Rendition, Segment, SegmentFailure
from vqmon.errors import SegmentError
from vqmon.flow import Wait, wait_or_stop
from vqmon.media.fetch.policy import printable
from vqmon.media.sources.staleness import Silence

MEDIA_SUFFIXES = frozenset({".ts", ".m2ts", ".mts", ".mp4", ".m4s", ".m4v", ".cmfv", ".mov", ".mkv", ".webm"})
"""Other files are not media: playlists, subtitles, and those that are still being written under another name."""

_FRAGMENTS = frozenset({".m4s", ".cmfv"})

MAIN = "main"
"""The rendition of files that lie in the folder itself; sub-folders name theirs."""

Until = Literal["stopped", "exhausted"]


@dataclass(frozen=True, slots=True, order=True)
class _Found:
    """One media file as it is at this moment; ordered by when it was written."""

    modified_ns: int
    path: Path
    size_bytes: int
    rendition: str
    # the name of the initialization section beside it, if it needs one
    init: str


class FolderSource:
    """One lane of files, ordered by modification time, then name.

    A file is finished when its size and time have not changed for `settle_seconds`. `seen` knows the keys of segments
    from earlier runs. `until="exhausted"` ends when every file that is there has been given out.
    """

    def __init__(
        self,
        folder: Path,
        *,
        stream_id: str,
        now: Callable[[], datetime],
        stop: asyncio.Event,
        seen: Container[str] = frozenset(),
        settle_seconds: float = 2.0,
        until: Until = "stopped",
        wait: Wait = wait_or_stop,
    ) -> None:
        self._folder = folder.absolute()
        self._stream_id = stream_id
        self._now = now
        self._stop = stop
        self._seen = seen
        self._settle = timedelta(seconds=settle_seconds)
        self._until: Until = until
        self._wait = wait
        # when each unfinished file was first seen as it is now
        self._settling: dict[_Found, datetime] = {}
        # as they were when they were given out; a file that is written again is a new segment
        self._given: set[_Found] = set()

    @property
    def name(self) -> str:
        """The lane's name: the stream."""
        return self._stream_id

    async def lanes(self) -> "tuple[FolderSource, ...]":
        """The folder is its own and only lane; raises SegmentError("file") when it is no folder."""
        if not await asyncio.to_thread(self._folder.is_dir):
            raise SegmentError("file", f"{printable(str(self._folder))} is not a folder")
        return (self,)

    async def __aiter__(self) -> AsyncIterator[Segment | SegmentFailure]:
        silence = Silence(self._rendition(MAIN), self._folder.as_uri(), stale_after_seconds=None)
        pause = max(self._settle.total_seconds() / 2, 0.2)
        while not self._stop.is_set():
            now = self._now()
            try:
                found = await asyncio.to_thread(lambda: sorted(_files(self._folder)))
            except OSError as error:
                gone = SegmentError("playlist", f"{printable(str(self._folder))}: {error.strerror}")
                if said := silence.said(now, target_seconds=pause, error=gone, sequence=int(now.timestamp())):
                    yield said
                found = []
            for segment in self._finished(found, now):
                yield segment
                if self._stop.is_set():
                    return
            if self._until == "exhausted" and not self._settling:
                return
            await self._wait(self._stop, pause)

    def _finished(self, found: list[_Found], now: datetime) -> Iterator[Segment]:
        """The files that are complete and not given out yet, marked as given one by one."""
        self._given.intersection_update(found)
        self._settling = {file: self._settling.get(file, now) for file in found if file not in self._given}
        ready = [file for file, since in self._settling.items() if self._is_settled(file, since, now)]
        for file in ready:
            del self._settling[file]
            self._given.add(file)
            segment = self._segment(file)
            if segment.key not in self._seen:
                yield segment

    def _is_settled(self, file: _Found, since: datetime, now: datetime) -> bool:
        """By its own time, or by ours where the file's clock is ahead."""
        return now - _moment(file.modified_ns) >= self._settle or now - since >= self._settle

    def _segment(self, file: _Found) -> Segment:
        return Segment(
            rendition=self._rendition(file.rendition),
            sequence=file.modified_ns // 1_000_000,
            url=file.path.as_uri(),
            starts_at=_moment(file.modified_ns),
            init_url=file.path.with_name(file.init).as_uri() if file.init else None,
        )

    def _rendition(self, name: str) -> Rendition:
        return Rendition(stream_id=self._stream_id, name=name)


def _files(folder: Path) -> Iterator[_Found]:
    """Every visible media file in the folder and below; links to folders are not followed. Raises OSError."""
    folder.stat()
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(parent).relative_to(folder).parts
        media = [name for name in names if not name.startswith(".") and Path(name).suffix.lower() in MEDIA_SUFFIXES]
        init = _init_among(media)
        for name in media:
            if name != init and (facts := _facts(Path(parent, name))) is not None:
                yield _Found(
                    modified_ns=facts.st_mtime_ns,
                    path=Path(parent, name),
                    size_bytes=facts.st_size,
                    rendition=printable(below[0]) if below else MAIN,
                    init=init if Path(name).suffix.lower() in _FRAGMENTS else "",
                )


def _facts(path: Path) -> os.stat_result | None:
    """What is known of a regular file; None when it is none, or has just gone."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts if stat.S_ISREG(facts.st_mode) else None


def _init_among(names: list[str]) -> str:
    """The initialization section that the fragments of one folder share, when there is just one."""
    inits = [name for name in names if name.lower().startswith("init")]
    fragments = [name for name in names if Path(name).suffix.lower() in _FRAGMENTS and name not in inits]
    return inits[0] if len(inits) == 1 and fragments else ""


def _moment(modified_ns: int) -> datetime:
    return datetime.fromtimestamp(max(0, modified_ns) // 1_000_000 / 1000, UTC)
