"""Breaks a fleet at random moments while segments flow, and tells afterwards what a reader finds."""

import asyncio
import logging
import signal
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from random import Random

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipelines.fleet.partitions.offsets import NEXT_OFFSET_KEY
from pipelines.fleet.partitions.trials import TRIALS_KEY
from tests.acceptance.kafka.broker import Broker
from tests.acceptance.kafka.fleet import Worker, header, read_all
from tests.acceptance.kafka.observers import outcome_of_segment
from tests.acceptance.kafka.proxy import Proxies
from tests.pipelines.memory_fleet import judged_with_groups
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.regression.groups.detector import GroupJudge, MemberValue
from vqmon.core.alerts.rules import AlertRule
from vqmon.core.alerts.state import State
from vqmon.core.types import Alert, Outcome, Segment
from vqmon.settings.rules_file import parse_rules
from vqmon.transport.kafka import Changelog, TopicNames
from vqmon.transport.kafka.connection import ClientConfig
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.member_values import parse_member_values
from vqmon.transport.wire.segment_messages import parse_segment

RULES = Path(__file__).parents[3] / "config" / "rules.toml"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is broken, how fast, and with which seed."""

    worker_kills: int
    broker_kills: int
    stalls: int
    seed: int
    pause_seconds: tuple[float, float] = (3.0, 8.0)
    freezes: int = 1
    stall_seconds: float = 4.0
    # beyond the session of a worker: it is fenced when it wakes
    freeze_seconds: float = 9.0

    def faults(self) -> list[str]:
        """What is broken, in which order."""
        faults = ["worker"] * self.worker_kills + ["broker"] * self.broker_kills + ["stall"] * self.stalls
        faults += ["freeze"] * self.freezes
        Random(self.seed).shuffle(faults)
        return faults


class Visible:
    """Counts what a reader of committed records can see, as it comes."""

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self.count = 0
        self._places = [TopicPartition(topic, number) for number in range(partitions)]
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )

    async def __aenter__(self) -> "Visible":
        await self._consumer.start()
        self._consumer.assign(self._places)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def count_on(self) -> None:
        """Count until cancelled."""
        while True:
            for records in (await self._consumer.getmany(timeout_ms=200)).values():
                self.count += len(records)


@dataclass
class Chaos:
    """Does the plan's faults; knows how long it took until all that was published before a fault had an outcome."""

    plan: Plan
    workers: Sequence[Worker]
    brokers: Sequence[Broker]
    proxies: Proxies
    visible: Visible
    published: int = 0
    all_published: bool = False
    recoveries: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    async def run(self) -> None:
        """One fault after the other, at random moments."""
        random = Random(self.plan.seed + 1)
        async with asyncio.TaskGroup() as group:
            for fault in self.plan.faults():
                await asyncio.sleep(random.uniform(*self.plan.pause_seconds))
                group.create_task(self._recovery(fault, self.published, time.monotonic()))
                faults = {"worker": self._kill_worker, "broker": self._kill_broker, "stall": self._stall}
                await {**faults, "freeze": self._freeze}[fault](random)

    async def _recovery(self, fault: str, published: int, began: float) -> None:
        """From the fault until what was published right after it is visible."""
        deadline = began + 180
        while self.published == published and not self.all_published and time.monotonic() < deadline:  # noqa: ASYNC110 - counted elsewhere
            await asyncio.sleep(0.05)
        published = self.published
        while self.visible.count < published and time.monotonic() < deadline:  # noqa: ASYNC110 - counted elsewhere
            await asyncio.sleep(0.05)
        self.recoveries[fault].append(time.monotonic() - began)

    async def _kill_worker(self, random: Random) -> None:
        worker = random.choice(self.workers)
        worker.kill()
        await asyncio.sleep(random.uniform(0.1, 1.0))
        worker.start()

    async def _kill_broker(self, random: Random) -> None:
        broker = random.choice(self.brokers)
        broker.kill()
        await asyncio.sleep(random.uniform(0.5, 3.0))
        broker.start()
        await asyncio.to_thread(broker.wait)

    async def _freeze(self, random: Random) -> None:
        frozen = random.choice([*self.workers, *self.brokers])
        frozen.signal(signal.SIGSTOP)
        await asyncio.sleep(self.plan.freeze_seconds)
        frozen.signal(signal.SIGCONT)

    async def _stall(self, random: Random) -> None:
        number = random.randrange(len(self.proxies.all))
        kind = random.choice(["stall", "drop_replies", "delay", "reset"])
        if kind != "reset":
            self.proxies.all[number].mode = kind  # type: ignore[assignment]
            await asyncio.sleep(self.plan.stall_seconds)
            self.proxies.all[number].mode = "pass"
        # Bytes were lost or are late: a real network ends such connections too.
        self.proxies.reset(number)

    def summary(self) -> str:
        """The recovery times, for people."""
        lines = []
        for fault, seconds in sorted(self.recoveries.items()):
            middle, worst = statistics.median(seconds), max(seconds)
            lines.append(f"  {fault:7} {len(seconds):3} times, recovered after {middle:.1f} s (median), {worst:.1f} s")
        return "\n".join(lines)


@dataclass(kw_only=True)
class Finding:
    """What a reader of committed records finds, beside what it should find."""

    inputs: int
    outputs: int
    missing: int
    doubled: int
    out_of_order: int
    wrong_outcomes: int
    alerts: int
    wrong_alerts: int
    wrong_states: int

    @property
    def is_perfect(self) -> bool:
        wrong = self.missing + self.doubled + self.out_of_order + self.wrong_outcomes
        return wrong + self.wrong_alerts + self.wrong_states == 0 and self.inputs == self.outputs


async def is_gathered(bootstrap: str, names: TopicNames, group: str) -> bool:
    """Whether the rules over all streams have seen all that was gathered."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=f"{group}.gathered",
        isolation_level="read_committed",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        numbers = await consumer._client.fetch_all_metadata()
        partitions = [TopicPartition(names.gathered, n) for n in numbers.partitions_for_topic(names.gathered) or ()]
        ends = {partition: end for partition, end in (await consumer.end_offsets(partitions)).items() if end}
        committed = [(await consumer.committed(partition) or 0, end) for partition, end in ends.items()]
        return bool(committed) and all(offset >= end for offset, end in committed)
    finally:
        await consumer.stop()


async def find(bootstrap: str, names: TopicNames) -> Finding:
    """Read everything back and hold it against an undisturbed run of the same records."""
    inputs = await read_all(bootstrap, names.segments)
    outputs = await read_all(bootstrap, names.quality)
    alerts = await read_all(bootstrap, names.alerts)
    expected = {f"{names.segments}/{record.partition}/{record.offset}": record for record in inputs}
    seen = [header(record, "vqmon-input") for record in outputs]
    order: dict[bytes, list[int]] = defaultdict(list)
    wrong = 0
    for record, position in zip(outputs, seen, strict=True):
        order[record.key].append(int(position.rsplit("/", 1)[1]))
        source = expected.get(position)
        wrong += source is None or cloudevents.parse_outcome(record.value).id != outcome_of_segment(_segment(source)).id
    rules = parse_rules(RULES.read_text(encoding="utf-8"), origin=str(RULES))
    grouped = {rule.name for rule in judged_with_groups(rules)}
    alerts_by_partition: dict[int, list[Alert]] = defaultdict(list)
    group_alerts: list[Alert] = []
    for record in alerts:
        alert = cloudevents.parse_alert(record.value)
        (group_alerts if alert.rule in grouped else alerts_by_partition[record.partition]).append(alert)
    judged = _undisturbed(rules, inputs)
    gathered_records = await read_all(bootstrap, names.gathered)
    gathered = [parse_member_values(record.value) for record in gathered_records]
    wrong_alerts = sum(
        _differ(f"alerts of partition {partition}", alerts_by_partition[partition], one.alerts)
        for partition, one in judged.items()
    )
    group_judge = GroupJudge(rules)
    judged_groups = [alert for values in gathered for alert in group_judge.judge(values)]
    wrong_alerts += _differ("alerts of groups", group_alerts, judged_groups)
    wrong += _by_rendition(value for values in gathered for value in values) != _by_rendition(
        value for one in judged.values() for value in one.values
    )
    expected_states = {partition: list(one.judge.states().values()) for partition, one in judged.items()}
    wrong_states = await _wrong_states(bootstrap, names.state, expected_states)
    group_states = [state for state in group_judge.drain_changes().values() if state is not None]
    wrong_states += await _wrong_states(bootstrap, names.gathered_state, {gathered_records[0].partition: group_states})
    return Finding(
        inputs=len(inputs),
        outputs=len(outputs),
        missing=len(expected.keys() - set(seen)),
        doubled=len(seen) - len(set(seen)),
        out_of_order=sum(numbers != sorted(numbers) for numbers in order.values()),
        wrong_outcomes=wrong,
        alerts=len(alerts),
        wrong_alerts=wrong_alerts,
        wrong_states=wrong_states,
    )


def _differ(name: str, found: Sequence[Alert], expected: Sequence[Alert]) -> bool:
    """Whether alerts differ within a stream, logging where; streams may pass each other while a record waits."""
    found, expected = (sorted(alerts, key=lambda alert: alert.stream_id) for alerts in (found, expected))
    if found == expected:
        return False
    first = next(pair for pair in zip_longest(found, expected) if pair[0] != pair[1])
    logging.getLogger(__name__).warning("%s: found %s, expected %s", name, *first)
    return True


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """What comes of the records of a partition."""

    judge: Judge
    alerts: list[Alert]
    # for the groups
    values: list[MemberValue]


def _undisturbed(rules: Sequence[AlertRule], inputs: Sequence[object]) -> dict[int, _Judged]:
    """What one judge per partition says when nothing is broken."""
    outcomes_by_partition: dict[int, list[Outcome]] = defaultdict(list)
    for record in inputs:
        outcomes_by_partition[record.partition].append(outcome_of_segment(_segment(record)))  # type: ignore[attr-defined]
    return {partition: _judged(rules, outcomes) for partition, outcomes in outcomes_by_partition.items()}


def _judged(rules: Sequence[AlertRule], outcomes: Sequence[Outcome]) -> _Judged:
    values: list[MemberValue] = []
    judge = Judge(rules, gather=lambda shard, value: values.append(value))
    alerts = [alert for outcome in outcomes for alert in judge.judge(outcome)]
    return _Judged(judge=judge, alerts=alerts, values=values)


def _by_rendition(values: Iterable[MemberValue]) -> Mapping[str, list[MemberValue]]:
    by_rendition: dict[str, list[MemberValue]] = defaultdict(list)
    for value in values:
        by_rendition[value.rendition_key].append(value)
    return by_rendition


async def _wrong_states(bootstrap: str, topic: str, expected: Mapping[int, Sequence[State]]) -> int:
    connection = ClientConfig(bootstrap=tuple(bootstrap.split(",")))
    wrong = 0
    for partition, states in expected.items():
        stored = await Changelog(connection, topic, partition).read()
        stored.pop(NEXT_OFFSET_KEY, None)
        stored.pop(TRIALS_KEY, None)
        found = {state.key: state for state in map(cloudevents.parse_state, stored.values())}
        wrong += found != {state.key: state for state in states}
    return wrong


def _segment(record: object) -> Segment:
    return parse_segment(record.key, record.value, {})  # type: ignore[attr-defined]
