"""Membership in the consumer group: which partitions are ours, and their records as raw bytes."""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from vqmon.flow import apart
from vqmon.transport.kafka.connection import Connection, translated
from vqmon.transport.kafka.records import Assigned, Position, Record, Revoked

log = logging.getLogger("vqmon.kafka")

ASK_SECONDS = 10.0
PING_SECONDS = 5.0
STOP_SECONDS = 5.0
START_SECONDS = 60.0
DAY_MS = 86_400_000


class Group:
    """One member of the group, reading one topic.

    `assigned` must return at once. `revoked` may finish what it has begun; by then the partitions may already be
    somebody else's, which only the transactions can tell. Neither may raise.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        topic: str,
        group: str,
        session_seconds: float,
        rebalance_seconds: float,
        assigned: Assigned,
        revoked: Revoked,
    ) -> None:
        self._topic = topic
        self._group = group
        self._listener = _Listener(self, assigned, revoked)
        self.is_stable = False
        self._consumer = AIOKafkaConsumer(
            **connection.options(),
            group_id=group,
            enable_auto_commit=False,
            isolation_level="read_committed",
            # A reset must be our decision: the default skips everything that was written while we were away.
            auto_offset_reset="none",
            # Exactly one: aiokafka 0.14 joins once per assignor and waits for all of them.
            partition_assignment_strategy=(StickyPartitionAssignor,),
            session_timeout_ms=int(session_seconds * 1000),
            heartbeat_interval_ms=max(100, int(session_seconds * 150)),
            rebalance_timeout_ms=int(rebalance_seconds * 1000),
            # A join answers only when everybody has joined: below the rebalance timeout it would give up too early.
            request_timeout_ms=int((max(rebalance_seconds, session_seconds) + 10) * 1000),
            # The watchdog looks whether polling goes on; a worker that waits for a broker must stay a member.
            max_poll_interval_ms=DAY_MS,
            max_partition_fetch_bytes=1 << 20,
            fetch_max_wait_ms=100,
            retry_backoff_ms=100,
            metadata_max_age_ms=30_000,
        )

    async def start(self) -> None:
        """Reach the brokers and begin to join."""
        with translated("join the group"):
            await apart(self._consumer.start(), within_seconds=START_SECONDS)
            self._consumer.subscribe([self._topic], listener=self._listener)

    async def poll(
        self, partitions: Collection[int], *, seconds: float, max_records: int
    ) -> Mapping[int, Sequence[Record]]:
        """What has come for these partitions; waits up to `seconds`, longer while the group is rebalancing.

        Never cancel this and go on: aiokafka 0.14 would lose count of who polls.
        """
        if not partitions:
            # An empty list would mean all of them.
            await asyncio.sleep(seconds)
            return {}
        with translated("poll"):
            got = await self._consumer.getmany(
                *(self._of(number) for number in partitions), timeout_ms=int(seconds * 1000), max_records=max_records
            )
        return {place.partition: [record_of(one) for one in records] for place, records in got.items()}

    async def committed(self, partition: int) -> int | None:
        """How far the group has come; None when it has never been here."""
        with translated("read the committed offset"):
            offset = await apart(self._consumer.committed(self._of(partition)), within_seconds=ASK_SECONDS)
        return None if offset is None else int(offset)

    async def position(self, partition: int) -> Position:
        """Where the group stands between the oldest and the newest record."""
        place = self._of(partition)
        with translated("read the ends of the partition"):
            oldest = await apart(self._consumer.beginning_offsets([place]), within_seconds=ASK_SECONDS)
            newest = await apart(self._consumer.end_offsets([place]), within_seconds=ASK_SECONDS)
        return Position(committed=await self.committed(partition), oldest=oldest[place], newest=newest[place])

    def go_on(self, partition: int, *, offset: int) -> None:
        """Let the records of a partition come, from this offset on."""
        with translated("seek"):
            self._consumer.seek(self._of(partition), offset)
            self._consumer.resume(self._of(partition))

    async def read_up_to(self, partition: int) -> int:
        """The offset of the next poll: beyond markers and gaps that no record will tell of."""
        with translated("read the position"):
            return int(await apart(self._consumer.position(self._of(partition)), within_seconds=ASK_SECONDS))

    def lag_records(self, partition: int, *, next_offset: int) -> int | None:
        """How many records lie before us, as far as the last fetch told."""
        end = self._consumer.highwater(self._of(partition))
        return None if end is None else max(0, end - next_offset)

    async def ping(self) -> bool:
        """Whether a broker answers."""
        try:
            return bool(await apart(_refreshed(self._consumer._client), within_seconds=PING_SECONDS))
        except (KafkaError, OSError, TimeoutError):
            return False

    def owns(self, partition: int) -> bool:
        """Whether we believe that the partition is ours."""
        return self._of(partition) in self._consumer.assignment()

    async def stop(self) -> None:
        """Leave the group; never hangs, never raises."""
        for closing in (self._consumer.stop, self._consumer._client.close):
            try:
                # A stop without brokers raises CancelledError half-way: the connections are closed all the same.
                await apart(closing(), within_seconds=STOP_SECONDS)
            except Exception as error:
                log.debug("consumer did not stop: %r", error)

    def hold(self, partitions: Collection[int]) -> None:
        """Let no record of these partitions come until `go_on`."""
        self._consumer.pause(*(self._of(number) for number in partitions))

    def _of(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, group: Group, assigned: Assigned, revoked: Revoked) -> None:
        self._group = group
        self._assigned = assigned
        self._revoked = revoked

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self._group.is_stable = False
        await self._revoked([place.partition for place in revoked])

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        # Not a coroutine: nothing else runs before every partition is held, and no heartbeat is missed.
        numbers = [place.partition for place in assigned]
        if numbers:
            self._group.hold(numbers)
        self._assigned(numbers)
        self._group.is_stable = True


async def _refreshed(client: AIOKafkaClient) -> bool:
    # The only question that any broker answers, whichever partitions are ours; it is asked anyway from time to time.
    return bool(await client.force_metadata_update())


def record_of(one: "ConsumerRecord[bytes, bytes]") -> Record:
    headers = tuple((name, value if value is not None else b"") for name, value in one.headers)
    return Record(one.partition, one.offset, one.key, one.value, headers, one.timestamp)
