"""What one worker takes part in: the group of the segment messages, and that of the gathered outcomes."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version

from pipelines.fleet.fleet_wide_rules import MOST_WAITING, Gathered, read_gathered
from pipelines.fleet.judging import Looked, Noted, Observe, Speaker, Verdicts, look_at
from pipelines.fleet.membership import GroupPort, Member, stay_member
from pipelines.fleet.partition import Floor, Folding
from pipelines.service.lifecycle import Told
from vqmon.core.alerts.judge import AlertRule, over_all_streams
from vqmon.settings.sections import KafkaSettings
from vqmon.telemetry.metrics import Meters
from vqmon.transport.kafka import ClientConfig, GroupConsumer, TopicNames, TransactionalProducer, read_changelog
from vqmon.transport.kafka.records import Record


def speaker_of(kafka: KafkaSettings, *, max_rejected_bytes: int) -> Speaker:
    """How this deployment speaks."""
    return Speaker(
        names=TopicNames.from_prefix(kafka.prefix, kafka.group),
        source=f"vqmon:{kafka.prefix}/{kafka.group}",
        group=kafka.group,
        version=version("vqmon"),
        max_message_bytes=kafka.max_message_bytes,
        max_rejected_bytes=max_rejected_bytes,
    )


class Memberships:
    """The memberships of one worker, and what their lanes share."""

    def __init__(
        self,
        kafka: KafkaSettings,
        connection: ClientConfig,
        speaker: Speaker,
        *,
        rules: Sequence[AlertRule],
        meters: Meters,
        told: Told,
    ) -> None:
        self._kafka, self._connection, self._speaker = kafka, connection, speaker
        self._rules, self._meters, self._told = rules, meters, told

    def floors(self, observe: Observe) -> Mapping[str, Floor]:
        """Topic that this worker takes part in -> what its lanes share; the gathered one where rules need it."""
        names = self._speaker.names
        floors = {names.segments: self._segments(observe)}
        return floors | {names.gathered: self._gathered()} if over_all_streams(self._rules) else floors

    async def stay(self, topic: str, floor: Floor, *, stop: asyncio.Event, seen: Callable[[str, Member], None]) -> None:
        """Be a member of the topic's group until the stop."""
        kafka = self._kafka

        def open_group(member: Member) -> GroupPort:
            return GroupConsumer(
                self._connection,
                topic=topic,
                group=self._group_of(topic),
                session_seconds=kafka.session_seconds,
                rebalance_seconds=kafka.rebalance_seconds,
                assigned=member.assigned,
                revoked=member.revoked,
            )

        await stay_member(floor, open_group, stop=stop, revoke_seconds=kafka.revoke_seconds, seen=partial(seen, topic))

    def _segments(self, observe: Observe) -> Floor:
        """Look at each segment, and judge each partition by itself."""
        kafka, speaker = self._kafka, self._speaker

        async def look(record: Record) -> Looked | Noted:
            return await look_at(record, observe, speaker, now=lambda: datetime.now(UTC))

        def fold(partition: int, stored: Mapping[str, bytes]) -> Folding:
            return Verdicts(partition, speaker, rules=self._rules, stored=stored, limit=kafka.rejected_limit)

        return self._floor(look, fold, speaker.names.segments, state=speaker.names.state, most=kafka.max_waiting)

    def _gathered(self) -> Floor:
        """Hold the outcomes of all partitions against the rules over all streams."""
        speaker, rules = self._speaker, over_all_streams(self._rules)

        def fold(partition: int, stored: Mapping[str, bytes]) -> Folding:
            return Gathered(speaker.names, source=speaker.source, rules=rules, stored=stored)

        names = speaker.names
        return self._floor(read_gathered, fold, names.gathered, state=names.gathered_state, most=MOST_WAITING)

    def _floor(
        self,
        look: Callable[[Record], Awaitable[Looked | Noted]],
        fold: Callable[[int, Mapping[str, bytes]], Folding],
        topic: str,
        *,
        state: str,
        most: int,
    ) -> Floor:
        kafka, connection, group = self._kafka, self._connection, self._group_of(topic)

        def open_writer(partition: int) -> TransactionalProducer:
            name = f"{kafka.group}.{topic}.{partition}"
            return TransactionalProducer(
                connection, transactional_id=name, group=group, topic=topic, partition=partition
            )

        async def read_state(partition: int) -> Mapping[str, bytes]:
            return await read_changelog(connection, state, partition)

        return Floor(
            look=look,
            fold=fold,
            open_writer=open_writer,
            read_state=read_state,
            # Places are given out per try, by who observes; here each lane has as many as it may hold.
            running=asyncio.Semaphore(most * 1000),
            meters=self._meters,
            told=self._told,
            max_waiting=most,
            gather_seconds=kafka.commit_seconds,
            when_lost=kafka.when_lost,
        )

    def _group_of(self, topic: str) -> str:
        return f"{self._kafka.group}.gathered" if topic == self._speaker.names.gathered else self._kafka.group
