"""What goes over the border of this room: records, batches, topic names, and what a transaction writer can do."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

Headers = tuple[tuple[str, bytes], ...]

LAST_MS = 32_503_680_000_000
"""The year 3000."""

Assigned = Callable[[Collection[int]], None]
Revoked = Callable[[Collection[int]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Record:
    """One input record as the broker gave it; positional for speed."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    # of the record, milliseconds since 1970
    timestamp_ms: int

    @property
    def at(self) -> datetime:
        # A producer may write anything there.
        return datetime.fromtimestamp(min(max(self.timestamp_ms, 0), LAST_MS) / 1000, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One record to write; a value of None on a compacted topic forgets the key."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What becomes visible together: records, and how far the input partition has come."""

    records: Sequence[Outgoing]
    # the offset to go on with
    next_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a partition of the input stands for our group."""

    # None when the group has never committed here
    committed: int | None
    # first offset still kept, and the one after the last readable
    oldest: int
    newest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicNames:
    """The seven topics of one deployment and group."""

    segments: str
    quality: str
    alerts: str
    state: str
    rejected: str
    gathered: str
    gathered_state: str

    @property
    def single(self) -> tuple[str, ...]:
        """Those of one partition, whatever the others have."""
        return (self.gathered, self.gathered_state)

    @classmethod
    def of(cls, prefix: str, group: str) -> "TopicNames":
        """The names of version 1.

        >>> TopicNames.of("vqmon", "vqmon").state
        'vqmon.state.vqmon.v1'
        """
        return cls(
            segments=f"{prefix}.segments.v1",
            quality=f"{prefix}.quality.v1",
            alerts=f"{prefix}.alerts.v1",
            state=f"{prefix}.state.{group}.v1",
            rejected=f"{prefix}.rejected.v1",
            gathered=f"{prefix}.gathered.{group}.v1",
            gathered_state=f"{prefix}.gathered-state.{group}.v1",
        )


class Transactions(Protocol):
    """Writes batches of one input partition, each in one transaction; opening fences every earlier holder."""

    async def open(self) -> None: ...
    async def write(self, batch: Batch) -> None: ...
    async def close(self) -> None: ...
    async def kill(self) -> None: ...
