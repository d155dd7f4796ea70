"""Records that may end the process that observes them: found by what is never finished, tried alone, then passed."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from pipelines.observe.poison import Suspicion
from vqmon.errors import BrokerError, WireError
from vqmon.telemetry.logs import log_event

log = logging.getLogger("vqmon.fleet")

TRIALS_KEY = "trials"
"""The key of `RecordTrials` in the state topic; the keys of rules contain a `|`."""

_MAX_TRIES = 2
"""A record that was observed alone when its process ended so often is passed."""

_FIRST_SUSPECTS = 8
"""After a second death so many offsets are under suspicion, from the first unfinished record on; then twice as many."""

_MAX_DOUBLINGS = 10

_CALM_RECORDS = 1000
"""A death so many offsets after the one before has nothing to do with it."""

_UNDO_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """What the state topic holds."""

    # of the first unfinished record at the last death of a process that had the partition, or at the first opening
    offset: int
    # which process has the partition; "" = none, the last one gave it back
    process_id: str
    # how many processes died in a row; deaths during a try are not among them
    deaths: int = 0
    # offset -> at how many deaths this record, and no other, was being observed
    tries: Mapping[int, int]

    @property
    def suspects_end(self) -> int:
        """The records before this offset are under suspicion; none after one death, which may come from outside."""
        return self.offset + (_FIRST_SUSPECTS << min(self.deaths - 2, _MAX_DOUBLINGS) if self.deaths > 1 else 0)


class RecordTrials:
    """Which records of one partition are under suspicion, as the state topic has it.

    A process that opens the partition writes its name, and takes it back when it gives the partition back in good
    order. Another one that finds the name knows that the first has died, or was lost. After two such deaths the next
    records are under suspicion. Each of them is observed while the process observes nothing else; the try is written
    before that, and taken back after it by a process that lives. A record with two tries is poison.
    """

    def __init__(
        self,
        stored: bytes | None,
        *,
        process_id: str,
        write: Callable[[], Awaitable[None]],
    ) -> None:
        """`stored` is the value of `TRIALS_KEY`; `write` writes `encoded` in a transaction. Raises WireError."""
        self._process_id = process_id
        self._write = write
        # what the state topic has
        self.written = stored
        self._state = None if stored is None else _parse(stored)
        self._tries: dict[int, int] = dict(self._state.tries) if self._state else {}

    async def open_at(self, offset: int) -> int:
        """Work begins at this offset; returns the offset before which records are under suspicion."""
        self._tries = {tried: count for tried, count in self._tries.items() if tried >= offset}
        state = self._state or _Stored(offset=offset, process_id="", tries={})
        if offset >= max(state.suspects_end, state.offset + _CALM_RECORDS):
            state = replace(state, deaths=0)
        if state.process_id not in ("", self._process_id) and not self._tries:
            state = replace(state, offset=offset, deaths=state.deaths + 1)
        self._state = replace(state, process_id=self._process_id)
        await self._write_changes()
        return self._state.suspects_end

    async def give_back(self) -> None:
        """The process has finished what it began; a name that cannot be written within a moment stays."""
        if self._state is not None and self._state.process_id == self._process_id:
            self._state = replace(self._state, process_id="")
            await _within_a_moment(self._write_changes())

    def trial_of(self, offset: int) -> Suspicion | None:
        """How to observe a record that is under suspicion; None for any other."""
        is_suspect = offset in self._tries or (self._state is not None and offset < self._state.suspects_end)
        return _RecordTrial(self, offset) if is_suspect else None

    def finish(self, offsets: Sequence[int]) -> None:
        """These records are finished."""
        for offset in offsets:
            self._tries.pop(offset, None)

    @property
    def encoded(self) -> bytes | None:
        """The value for the state topic; None = none."""
        if self._state is None:
            return None
        state = self._state
        document = {"offset": state.offset, "process": state.process_id, "deaths": state.deaths, "tries": self._tries}
        return json.dumps(document, separators=(",", ":")).encode()

    def tries(self, offset: int) -> int:
        """How often a process ended while it observed this record alone."""
        return self._tries.get(offset, 0)

    async def begin_try(self, offset: int) -> None:
        """Write that the record is observed next, and nothing else."""
        self._tries[offset] = self.tries(offset) + 1
        await self._write()

    async def end_try(self, offset: int) -> None:
        """The process lives: the record is not to blame for what ends it later."""
        self._tries.pop(offset, None)
        await self._write()

    async def _write_changes(self) -> None:
        if self.encoded != self.written:
            await self._write()


class _RecordTrial:
    """How one record that is under suspicion is observed."""

    def __init__(self, trials: RecordTrials, offset: int) -> None:
        self._trials = trials
        self._offset = offset

    @property
    def deaths(self) -> int:
        """How often a process ended while it observed the record and no other."""
        return self._trials.tries(self._offset)

    @property
    def is_poison(self) -> bool:
        """Whether the record is not to be observed any more."""
        return self.deaths >= _MAX_TRIES

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[None]:
        """Observe the record in this context."""
        await self._trials.begin_try(self._offset)
        try:
            yield
        except asyncio.CancelledError:
            await _within_a_moment(self._trials.end_try(self._offset))
            raise
        except BaseException:
            await self._trials.end_try(self._offset)
            raise
        await self._trials.end_try(self._offset)


async def _within_a_moment(writing: Awaitable[None]) -> None:
    """Write on the way out, unless the brokers are away or another process has the partition."""
    try:
        async with asyncio.timeout(_UNDO_SECONDS):
            await writing
    except (BrokerError, TimeoutError) as error:
        log.warning(**log_event("partition.trials_not_written", error=error))


def _parse(stored: bytes) -> _Stored:
    try:
        document = json.loads(stored)
        return _Stored(
            offset=int(document["offset"]),
            process_id=str(document["process"]),
            deaths=int(document["deaths"]),
            tries={int(offset): int(count) for offset, count in document["tries"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WireError(f"not a list of tries: {error!r}") from error
