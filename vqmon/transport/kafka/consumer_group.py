"""Consumers of the partitions of a topic, as raw bytes: those that a group assigns, and those that a caller assigns."""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord

from vqmon.errors import RecordsDeletedError
from vqmon.flow import run_with_deadline
from vqmon.transport.kafka.connection import ClientConfig, start_client, stop_consumer, translated_errors
from vqmon.transport.kafka.records import CommittedOffset, OnAssigned, OnRevoked, PartitionOffsets, Record

log = logging.getLogger("vqmon.kafka")

_REQUEST_TIMEOUT_SECONDS = 10.0
_PING_TIMEOUT_SECONDS = 5.0
_STOP_TIMEOUT_SECONDS = 5.0
_START_TIMEOUT_SECONDS = 60.0
_DAY_MS = 86_400_000


class _PartitionConsumer:
    """Reads committed records of those partitions of one topic that its consumer has been assigned."""

    def __init__(self, config: ClientConfig, topic: str, consumer: AIOKafkaConsumer) -> None:
        self._config = config
        self._topic = topic
        self._consumer = consumer

    async def poll(
        self, partitions: Collection[int], *, seconds: float, max_records: int
    ) -> Mapping[int, Sequence[Record]]:
        """Fetch records of these partitions; waits up to `seconds`, longer while the group is rebalancing.

        Raises RecordsDeletedError when a partition's next record is not there any more; the others can be polled on.
        Do not cancel this and poll again: aiokafka 0.14 would lose count of its pollers.
        """
        if not partitions:
            # For aiokafka, no partitions means all partitions.
            await asyncio.sleep(seconds)
            return {}
        with translated_errors("poll"):
            try:
                fetched = await self._consumer.getmany(
                    *(self._topic_partition(partition) for partition in partitions),
                    timeout_ms=int(seconds * 1000),
                    max_records=max_records,
                )
            except OffsetOutOfRangeError as error:
                raise RecordsDeletedError([topic_partition.partition for topic_partition in error.args[0]]) from error
        return {
            topic_partition.partition: [to_record(record) for record in records]
            for topic_partition, records in fetched.items()
        }

    async def committed(self, partition: int) -> CommittedOffset | None:
        """The committed offset of the consumer's group; None when there is none, or no group."""
        return None

    async def partition_offsets(self, partition: int) -> PartitionOffsets:
        """The committed offset of a partition, and its beginning and end offsets."""
        topic_partition = self._topic_partition(partition)
        with translated_errors("read the beginning and end offsets"):
            beginning_offsets = await run_with_deadline(
                self._consumer.beginning_offsets([topic_partition]), within_seconds=_REQUEST_TIMEOUT_SECONDS
            )
            end_offsets = await run_with_deadline(
                self._consumer.end_offsets([topic_partition]), within_seconds=_REQUEST_TIMEOUT_SECONDS
            )
        return PartitionOffsets(
            committed=await self.committed(partition),
            beginning=beginning_offsets[topic_partition],
            end=end_offsets[topic_partition],
        )

    def resume(self, partition: int, *, offset: int) -> None:
        """Resume a partition at this offset; newly assigned partitions are paused."""
        with translated_errors("seek"):
            self._consumer.seek(self._topic_partition(partition), offset)
            self._consumer.resume(self._topic_partition(partition))

    async def next_fetch_offset(self, partition: int) -> int:
        """The consumer's position: the offset of the next fetch, beyond transaction markers and compacted records."""
        with translated_errors("read the position"):
            return int(
                await run_with_deadline(
                    self._consumer.position(self._topic_partition(partition)), within_seconds=_REQUEST_TIMEOUT_SECONDS
                )
            )

    async def partition_counts(self, topics: Collection[str]) -> Mapping[str, int]:
        """Topic -> its number of partitions; 0 for a topic that does not exist."""
        with translated_errors("read the partitions of the topics"):
            # The public method knows only the topics to which the client is subscribed.
            metadata = await run_with_deadline(
                self._consumer._client.fetch_all_metadata(), within_seconds=_REQUEST_TIMEOUT_SECONDS
            )
        return {topic: len(metadata.partitions_for_topic(topic) or ()) for topic in topics}

    async def ping(self) -> bool:
        """Whether a broker answers."""
        try:
            return bool(
                await run_with_deadline(_refresh_metadata(self._consumer._client), within_seconds=_PING_TIMEOUT_SECONDS)
            )
        except (KafkaError, OSError, TimeoutError):
            return False

    async def stop(self) -> None:
        """Leave the group; never hangs, never raises."""
        for error in await stop_consumer(self._consumer, timeout_seconds=_STOP_TIMEOUT_SECONDS):
            log.debug("consumer did not stop: %r", error)

    def _topic_partition(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)


class GroupConsumer(_PartitionConsumer):
    """One member of a consumer group, reading one topic.

    `assigned` must return at once. `revoked` may finish what it has begun; by then the partitions may already belong to
    another member, which only the transactions find out. Neither may raise.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        topic: str,
        group: str,
        session_seconds: float,
        rebalance_seconds: float,
        assigned: OnAssigned,
        revoked: OnRevoked,
    ) -> None:
        consumer = AIOKafkaConsumer(
            **config.client_options(),
            group_id=group,
            enable_auto_commit=False,
            isolation_level="read_committed",
            # A reset is our decision: the default skips everything that was written while we were away.
            auto_offset_reset="none",
            # Exactly one: aiokafka 0.14 joins once per assignor and waits for all of them.
            partition_assignment_strategy=(StickyPartitionAssignor,),
            session_timeout_ms=int(session_seconds * 1000),
            heartbeat_interval_ms=max(100, int(session_seconds * 150)),
            rebalance_timeout_ms=int(rebalance_seconds * 1000),
            # A join is answered when every member has joined: a timeout below the rebalance timeout gives up too early.
            request_timeout_ms=int((max(rebalance_seconds, session_seconds) + 10) * 1000),
            # The watchdog notices when polling stops; a worker that waits for a broker must stay a member.
            max_poll_interval_ms=_DAY_MS,
            max_partition_fetch_bytes=1 << 20,
            fetch_max_wait_ms=100,
            retry_backoff_ms=100,
            metadata_max_age_ms=30_000,
        )
        super().__init__(config, topic, consumer)
        self._listener = _RebalanceListener(consumer, assigned, revoked)

    async def start(self) -> None:
        """Connect to the brokers and begin to join the group; raises BrokerError."""
        start = self._consumer.start()
        await start_client(start, self._config, action="join the group", within_seconds=_START_TIMEOUT_SECONDS)
        with translated_errors("join the group"):
            self._consumer.subscribe([self._topic], listener=self._listener)

    async def committed(self, partition: int) -> CommittedOffset | None:
        """The group's committed offset; None when there is none."""
        topic_partition = self._topic_partition(partition)
        with translated_errors("read the committed offset"):
            # The public method drops the metadata of the commit.
            commits = await run_with_deadline(
                self._consumer._coordinator.fetch_committed_offsets([topic_partition]),
                within_seconds=_REQUEST_TIMEOUT_SECONDS,
            )
        commit = commits.get(topic_partition)
        if commit is None or commit.offset < 0:
            return None
        return CommittedOffset(offset=commit.offset, metadata=commit.metadata or "")


class AssignedConsumer(_PartitionConsumer):
    """Reads those partitions of a topic that its caller assigns, without a group; it also reads high watermarks."""

    def __init__(self, config: ClientConfig, *, topic: str) -> None:
        options = {
            **config.client_options(),
            "group_id": None,
            "enable_auto_commit": False,
            "fetch_max_wait_ms": 100,
            "retry_backoff_ms": 100,
            "metadata_max_age_ms": 30_000,
        }
        # A reset is our decision, as in a group.
        consumer = AIOKafkaConsumer(**options, isolation_level="read_committed", auto_offset_reset="none")
        super().__init__(config, topic, consumer)
        # To a reader of committed records the end of a partition is where the first open transaction began.
        self._uncommitted = AIOKafkaConsumer(**options, isolation_level="read_uncommitted")

    async def start(self) -> None:
        """Connect to the brokers; raises BrokerError."""
        for consumer in (self._consumer, self._uncommitted):
            start = consumer.start()
            await start_client(start, self._config, action="follow the topic", within_seconds=_START_TIMEOUT_SECONDS)

    def assign(self, partitions: Collection[int]) -> None:
        """Read these partitions and no others, each once it is resumed at an offset."""
        topic_partitions = [self._topic_partition(partition) for partition in partitions]
        self._consumer.assign(topic_partitions)
        self._consumer.pause(*topic_partitions)

    async def high_watermarks(self, topic: str, partitions: Collection[int]) -> Mapping[int, int]:
        """The end offset of each partition, records of open transactions included; raises BrokerError."""
        with translated_errors(f"read the end of topic {topic}"):
            end_offsets = await run_with_deadline(
                self._uncommitted.end_offsets([TopicPartition(topic, partition) for partition in partitions]),
                within_seconds=_REQUEST_TIMEOUT_SECONDS,
            )
        return {topic_partition.partition: offset for topic_partition, offset in end_offsets.items()}

    async def stop(self) -> None:
        """Close the connections; never hangs, never raises."""
        await stop_consumer(self._uncommitted, timeout_seconds=_STOP_TIMEOUT_SECONDS)
        await super().stop()


class _RebalanceListener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, consumer: AIOKafkaConsumer, assigned: OnAssigned, revoked: OnRevoked) -> None:
        self._consumer = consumer
        self._assigned = assigned
        self._revoked = revoked

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._revoked([topic_partition.partition for topic_partition in revoked])

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        # Not a coroutine: every partition is paused before anything else runs, and no heartbeat is missed.
        if assigned:
            self._consumer.pause(*assigned)
        self._assigned([topic_partition.partition for topic_partition in assigned])


async def _refresh_metadata(client: AIOKafkaClient) -> bool:
    # Every broker answers this request, whichever partitions are ours, and clients send it from time to time anyway.
    return bool(await client.force_metadata_update())


def to_record(record: "ConsumerRecord[bytes, bytes]") -> Record:
    return Record(record.partition, record.offset, record.key, record.value, tuple(record.headers), record.timestamp)
