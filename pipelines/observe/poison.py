"""Segments that end the process which observes them: counted in a file over restarts, tried alone, then passed."""

import asyncio
import fcntl
import json
import logging
import os
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from vqmon.core.types import Segment, SegmentFailure, failure_from_error
from vqmon.errors import ScoreError
from vqmon.telemetry.logs import log_event

log = logging.getLogger("vqmon.observe")

_MAX_DEATHS = 3
"""A segment that was being observed when the process ended so often is passed; see `PoisonGuard` for those before."""

_MAX_SUSPECTS = 100
_MAX_FILES = 64
_PAGE_BYTES = 4096


class Suspicion(Protocol):
    """What others than this process know of the segment that is going to be observed."""

    @property
    def deaths(self) -> int: ...
    @property
    def is_poison(self) -> bool: ...
    def attempt(self) -> AbstractAsyncContextManager[None]: ...


_suspicion: ContextVar[Suspicion | None] = ContextVar("suspicion", default=None)


@contextmanager
def under_suspicion(suspicion: Suspicion) -> Iterator[None]:
    """Segments that get their turn in this context are observed alone, in an attempt; not at all if it is poison."""
    token = _suspicion.set(suspicion)
    try:
        yield
    finally:
        _suspicion.reset(token)


class PoisonGuard:
    """Gives segments their turn, and passes those that end the process again and again, as `poison`; a context manager.

    A file holds the keys of the segments that are being observed, so that the next process knows them when this one is
    killed: by a fault of native code, for its memory, or by a watchdog. The first death may be the fault of any of
    them, so each is then observed alone. One that is being observed at a second death is not observed any more when
    this process had observed nothing else before, else after a third: a kill from outside hits no segment so often.
    Those that were in flight with it at the first death are not under suspicion any more.
    The file is written when a segment begins, and not flushed to the disk: it outlives the process, not a power
    failure. Processes that are given the same path use files of their own beside it.
    """

    def __init__(
        self,
        path: Path,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._now = now
        self._file = _InFlightFile(path)
        self._turns = _Turns()

    def __enter__(self) -> Self:
        self._file.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @asynccontextmanager
    async def turn(self, item: Segment | SegmentFailure) -> AsyncIterator[Segment | SegmentFailure]:
        """Wait until a segment may be observed, in the context: alone when it is under suspicion.

        The context is what there is to observe: the item, or the failure `poison` in place of a segment that is passed.
        """
        if isinstance(item, SegmentFailure):
            yield item
            return
        key, suspicion = item.key, _suspicion.get()
        deaths = max(self._file.deaths(key), suspicion.deaths if suspicion else 0)
        if self._file.is_poison(key) or (suspicion and suspicion.is_poison):
            log.error(**log_event("segment.poison", segment=key, deaths=deaths))
            error = ScoreError("poison", f"vqmon ended {deaths} times while it observed this segment")
            yield failure_from_error(item.without_secrets(), error, observed_at=self._now())
            return
        async with (
            self._turns.alone() if deaths or suspicion else self._turns.in_company(),
            suspicion.attempt() if suspicion else nullcontext(),
        ):
            self._file.begin(key)
            try:
                yield item
                self._file.note_success()
            finally:
                self._file.end(key)


class _Turns:
    """Lets many observe at once, or one alone, who is waited for by those that come later."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._observing = 0
        self._waiting_alone = 0
        self._is_alone = False

    @asynccontextmanager
    async def in_company(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._is_alone and not self._waiting_alone)
            self._observing += 1
        try:
            yield
        finally:
            self._observing -= 1
            await self._notify()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        self._waiting_alone += 1
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: not self._is_alone and not self._observing)
                self._is_alone = True
        finally:
            self._waiting_alone -= 1
            await self._notify()
        try:
            yield
        finally:
            self._is_alone = False
            await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """What the file holds."""

    in_flight: list[str]
    # whether the process has observed any segment
    has_success: bool
    # of segments under suspicion
    deaths: dict[str, int]
    poison: list[str]


class _InFlightFile:
    """The keys of the segments in flight, and how many deaths of a process those under suspicion have seen.

    One write per segment, over the same bytes: it needs no room on a full disk, and less than a page is never torn.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = -1
        self._size_bytes = 0
        self._is_refused = False
        self._in_flight: Counter[str] = Counter()
        self._has_success = False
        self._deaths: dict[str, int] = {}
        self._poison: dict[str, None] = {}

    def open(self) -> None:
        """Take the first file that no other process has, and count the death of the one that had it."""
        try:
            self._handle = self._lock_free_file()
            content = os.pread(self._handle, os.fstat(self._handle).st_size, 0)
        except OSError as error:
            remedy = "make the folder writable, or set daemon.state_folder, else no segment that ends vqmon is passed"
            log.warning(**log_event("poison.no_file", file=self._path, error=error.strerror, remedy=remedy))
            return
        self._size_bytes = len(content)
        stored = _parse(content)
        self._deaths, self._poison = stored.deaths, dict.fromkeys(stored.poison)
        for key in stored.in_flight:
            self._deaths[key] = self._deaths.get(key, 0) + 1
            # those with a death are observed alone
            if self._deaths[key] >= (_MAX_DEATHS if stored.has_success else 2):
                self._poison[key] = None
                # It explains the first death, at which the others were in flight with it.
                self._deaths = {other: deaths for other, deaths in self._deaths.items() if deaths > 1}
        if stored.in_flight:
            remedy = "each of them is observed alone"
            log.warning(**log_event("daemon.died", segments=stored.in_flight, remedy=remedy))
        self._write()

    def close(self) -> None:
        """Nothing is in flight any more."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def deaths(self, key: str) -> int:
        """At how many deaths of a process the segment was being observed."""
        return self._deaths.get(key, 0)

    def is_poison(self, key: str) -> bool:
        """Whether the segment is not to be observed any more."""
        return key in self._poison

    def note_success(self) -> None:
        """This process has observed a segment."""
        self._has_success = True

    def begin(self, key: str) -> None:
        """The segment is being observed from now on."""
        self._in_flight[key] += 1
        self._write()

    def end(self, key: str) -> None:
        """The process outlived the observation: the segment is not under suspicion any more.

        The file says so with the next segment that begins. At once when none is in flight, as that may take a while,
        and of a segment under suspicion, whose next death would be its second one.
        """
        self._in_flight[key] -= 1
        self._in_flight += Counter()
        was_suspect = self._deaths.pop(key, None) is not None
        if was_suspect or not self._in_flight:
            self._write()

    def _lock_free_file(self) -> int:
        for number in range(_MAX_FILES):
            path = self._path.with_name(f"{self._path.name}.{number}") if number else self._path
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
            else:
                return handle
        raise BlockingIOError(0, f"{_MAX_FILES} other processes use this folder")

    def _write(self) -> None:
        if self._handle < 0:
            return
        state = _Stored(
            in_flight=sorted(self._in_flight),
            has_success=self._has_success,
            deaths=dict(list(self._deaths.items())[-_MAX_SUSPECTS:]),
            poison=list(self._poison)[-_MAX_SUSPECTS:],
        )
        body = json.dumps(asdict(state)).encode()
        content = b"%08x %s" % (zlib.crc32(body), body)
        # spaces overwrite the rest of what was longer
        self._size_bytes = max(self._size_bytes, -(-len(content) // _PAGE_BYTES) * _PAGE_BYTES)
        try:
            os.pwrite(self._handle, content.ljust(self._size_bytes), 0)
            self._is_refused = False
        except OSError as error:
            if not self._is_refused:
                log.warning(**log_event("poison.not_written", file=self._path, error=error.strerror))
            self._is_refused = True


def _parse(content: bytes) -> _Stored:
    """The content of the file; nothing when it is empty or torn."""
    checksum, _, padded = content.partition(b" ")
    body = padded.rstrip()
    if checksum != b"%08x" % zlib.crc32(body):
        return _Stored(in_flight=[], has_success=False, deaths={}, poison=[])
    return _Stored(**json.loads(body))
