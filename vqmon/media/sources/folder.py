"""A source that reads a folder: each finished media file in it becomes a segment."""

import asyncio
import os
import stat
import time
from collections.abc import AsyncIterator, Callable, Container, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from vqmon.core.types import Rendition, Segment, SegmentFailure
from vqmon.errors import SegmentError
from vqmon.flow import StoppableSleep, wait_or_stop
from vqmon.media.fetch.ssrf_policy import printable
from vqmon.media.sources.staleness import StalenessMonitor

_VIDEO_SUFFIXES = frozenset({".ts", ".m2ts", ".mts", ".mp4", ".m4s", ".m4v", ".cmfv", ".mov", ".mkv", ".webm"})
_STILL_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".avif"})
_MEDIA_SUFFIXES = _VIDEO_SUFFIXES | _STILL_SUFFIXES
"""Files with other suffixes are ignored: playlists, subtitles, and files that are still written under another name."""

_FRAGMENT_SUFFIXES = frozenset({".m4s", ".cmfv"})

_ROOT_RENDITION = "main"
"""The rendition of files in the folder itself; files in sub-folders belong to the rendition of that name."""

Until = Literal["stopped", "exhausted"]


@dataclass(frozen=True, slots=True, order=True)
class _MediaFile:
    """The state of a media file when the folder was read; ordered by modification time."""

    modified_ns: int
    path: Path
    size_bytes: int
    rendition: str
    # the name of its initialization section in the same folder; empty when it needs none
    init_name: str


class FolderSource:
    """One lane with the files of a folder, ordered by modification time, then name.

    A file is finished when its size and modification time have not changed for `settle_seconds`. Segments whose keys
    are in `seen` (from earlier runs) are skipped. With `until="exhausted"` the lane ends when the folder holds no
    further file.
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
        wait: StoppableSleep = wait_or_stop,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder.absolute()
        self._stream_id = stream_id
        self._now = now
        self._stop = stop
        self._seen = seen
        self._settle = timedelta(seconds=settle_seconds)
        self._until: Until = until
        self._wait = wait
        self._monotonic = monotonic
        # since when each unfinished file has not changed
        self._settling: dict[_MediaFile, datetime] = {}
        # files as they were when their segments were yielded; a rewritten file is a new segment
        self._yielded: set[_MediaFile] = set()

    @property
    def name(self) -> str:
        """The lane's name, which is the stream id."""
        return self._stream_id

    @property
    def oldest_available(self) -> None:
        """None: files stay until they are read."""
        return None

    @property
    def address(self) -> str:
        """The folder as a URL."""
        return self._folder.as_uri()

    async def lanes(self) -> "tuple[FolderSource, ...]":
        """The source itself, as its only lane; raises SegmentError("file") when the folder does not exist."""
        if not await asyncio.to_thread(self._folder.is_dir):
            raise SegmentError("file", f"{printable(str(self._folder))} is not a folder")
        return (self,)

    async def __aiter__(self) -> AsyncIterator[Segment | SegmentFailure]:
        staleness = StalenessMonitor(self._rendition(_ROOT_RENDITION), self._folder.as_uri(), stale_after_seconds=None)
        interval_seconds = max(self._settle.total_seconds() / 2, 0.2)
        while not self._stop.is_set():
            now = self._now()
            try:
                files = await asyncio.to_thread(lambda: sorted(_list_media_files(self._folder)))
            except OSError as error:
                error_to_report = SegmentError("playlist", f"{printable(str(self._folder))}: {error.strerror}")
                sequence = int(now.timestamp())
                failure = staleness.check(
                    now,
                    seconds=self._monotonic(),
                    target_seconds=interval_seconds,
                    error=error_to_report,
                    sequence=sequence,
                )
                if failure:
                    yield failure
                files = []
            for segment in self._pop_finished(files, now):
                yield segment
                if self._stop.is_set():
                    return
            if self._until == "exhausted" and not self._settling:
                return
            await self._wait(self._stop, interval_seconds)

    def _pop_finished(self, files: list[_MediaFile], now: datetime) -> Iterator[Segment]:
        """The segments of files that are finished and not yielded yet; each is marked as yielded."""
        self._yielded.intersection_update(files)
        self._settling = {file: self._settling.get(file, now) for file in files if file not in self._yielded}
        finished = [file for file, since in self._settling.items() if self._is_settled(file, since, now)]
        for file in finished:
            del self._settling[file]
            self._yielded.add(file)
            segment = self._segment(file)
            if segment.key not in self._seen:
                yield segment

    def _is_settled(self, file: _MediaFile, since: datetime, now: datetime) -> bool:
        """By its modification time, or by our own clock when that time is in the future."""
        return now - _utc_from_ns(file.modified_ns) >= self._settle or now - since >= self._settle

    def _segment(self, file: _MediaFile) -> Segment:
        return Segment(
            rendition=self._rendition(file.rendition),
            sequence=file.modified_ns // 1_000_000,
            url=file.path.as_uri(),
            starts_at=_utc_from_ns(file.modified_ns),
            init_url=file.path.with_name(file.init_name).as_uri() if file.init_name else None,
        )

    def _rendition(self, name: str) -> Rendition:
        return Rendition(stream_id=self._stream_id, name=name)


def _list_media_files(folder: Path) -> Iterator[_MediaFile]:
    """Every media file in the folder and below, without hidden ones and linked folders; raises OSError."""
    folder.stat()
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(parent).relative_to(folder).parts
        media = [name for name in names if not name.startswith(".") and Path(name).suffix.lower() in _MEDIA_SUFFIXES]
        init = _find_init_name(media)
        for name in media:
            if name != init and (status := _stat_regular_file(Path(parent, name))) is not None:
                yield _MediaFile(
                    modified_ns=status.st_mtime_ns,
                    path=Path(parent, name),
                    size_bytes=status.st_size,
                    rendition=printable(below[0]) if below else _ROOT_RENDITION,
                    init_name=init if Path(name).suffix.lower() in _FRAGMENT_SUFFIXES else "",
                )


def _stat_regular_file(path: Path) -> os.stat_result | None:
    """The status of a regular file; None for other files and for a file that has just been removed."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _find_init_name(names: list[str]) -> str:
    """The name of the initialization section that the fragments of a folder share; empty unless it is unique."""
    inits = [name for name in names if name.lower().startswith("init")]
    fragments = [name for name in names if Path(name).suffix.lower() in _FRAGMENT_SUFFIXES and name not in inits]
    return inits[0] if len(inits) == 1 and fragments else ""


def _utc_from_ns(modified_ns: int) -> datetime:
    return datetime.fromtimestamp(max(0, modified_ns) // 1_000_000 / 1000, UTC)
