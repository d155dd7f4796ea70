"""The types of the Kafka interface: records, transaction batches, partition offsets and topic names."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

Headers = tuple[tuple[str, bytes | None], ...]
"""Names may repeat; a value may be null."""

_MAX_TIMESTAMP_MS = 32_503_680_000_000
"""The year 3000."""

INPUT_HEADER = "vqmon-input"
"""The header that names the input record for which a record was written, as topic/partition/offset."""

OnAssigned = Callable[[Collection[int]], None]
OnRevoked = Callable[[Collection[int]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Record:
    """One consumed record as the broker gave it; positional for speed."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    # milliseconds since the epoch
    timestamp_ms: int

    def headers_by_name(self) -> dict[str, bytes]:
        """The last value of each header; null as b""."""
        return {name: value or b"" for name, value in self.headers}

    @property
    def at(self) -> datetime:
        """The timestamp, clamped to 1970..3000, as a producer may send any number."""
        return datetime.fromtimestamp(min(max(self.timestamp_ms, 0), _MAX_TIMESTAMP_MS) / 1000, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerRecord:
    """One record to produce; on a compacted topic a value of None (a tombstone) deletes the key."""

    topic: str
    # None = the key decides
    partition: int | None
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionBatch:
    """The contents of one transaction: records, and the input offset that is committed with them."""

    records: Sequence[ProducerRecord]
    # the offset of the next input record to read
    next_offset: int
    # tells this commit from others of the same offset
    metadata: str = ""

    @property
    def commit(self) -> "CommittedOffset":
        """What the group has committed once the batch is written."""
        return CommittedOffset(offset=self.next_offset, metadata=self.metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedOffset:
    """What a group has committed for one input partition."""

    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionOffsets:
    """The offsets of one input partition for our group."""

    # None when the group has never committed one
    committed: CommittedOffset | None
    # of the first record that is still stored
    beginning: int
    # one after the last record that can be read
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicNames:
    """The eight topics of one deployment and group."""

    segments: str
    quality: str
    control: str
    alerts: str
    state: str
    rejected: str
    gathered: str
    gathered_state: str

    @classmethod
    def from_prefix(cls, prefix: str, group: str) -> "TopicNames":
        """The names of this version; a topic whose records have another form has another version.

        >>> TopicNames.from_prefix("vqmon", "vqmon").state
        'vqmon.state.vqmon.v1'
        """
        return cls(
            segments=f"{prefix}.segments.v1",
            quality=f"{prefix}.quality.v1",
            control=f"{prefix}.control.v1",
            alerts=f"{prefix}.alerts.v1",
            state=f"{prefix}.state.{group}.v1",
            rejected=f"{prefix}.rejected.v1",
            gathered=f"{prefix}.gathered.{group}.v2",
            gathered_state=f"{prefix}.gathered-state.{group}.v2",
        )


class BatchWriter(Protocol):
    """Writes batches of one input partition, one transaction each; `open` fences every earlier writer."""

    async def open(self) -> None: ...
    async def write(self, batch: TransactionBatch) -> None: ...
    async def close(self) -> None: ...
    async def kill(self) -> None: ...
