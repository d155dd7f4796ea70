"""The topics of one deployment: what they must be like, making them, and finding out what is wrong with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from vqmon.errors import BrokerError
from vqmon.flow import apart
from vqmon.transport.kafka.connection import Connection, translated
from vqmon.transport.kafka.records import TopicNames

ADMIN_SECONDS = 30.0
DAY_MS = 86_400_000
NAME_TAKEN = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicPlan:
    """What one topic must be like."""

    name: str
    partitions: int
    # one partition, however many the others have
    is_single: bool = False
    copies: int
    # what the broker must be told, and what is checked again at every start
    must: Mapping[str, str]
    # told at creation only: an operator may change it
    may: Mapping[str, str]
    meaning: str


def planned_topics(names: TopicNames, *, partitions: int, copies: int, max_message_bytes: int) -> Sequence[TopicPlan]:
    """The seven topics; all but two have as many partitions, so that a partition's output and state stay beside it."""
    least = str(max(1, copies - 1))
    delete, compact = {"cleanup.policy": "delete"}, {"cleanup.policy": "compact"}
    # A rejected record carries its original bytes and our headers: it must fit whatever the input took.
    roomy = {"max.message.bytes": str(2 * max_message_bytes + (64 << 10))}

    def plan(name: str, meaning: str, must: Mapping[str, str], may: Mapping[str, str]) -> TopicPlan:
        settings = {"min.insync.replicas": least, **may}
        is_single = name in names.single
        return TopicPlan(
            name=name,
            partitions=1 if is_single else partitions,
            is_single=is_single,
            copies=copies,
            must=must,
            may=settings,
            meaning=meaning,
        )

    keep, soon = {"retention.ms": str(14 * DAY_MS)}, {"retention.ms": str(2 * DAY_MS)}
    states = {"segment.ms": "3600000", **roomy}
    return [
        plan(
            names.segments, "segment messages, key = stream id", delete, {"max.message.bytes": str(max_message_bytes)}
        ),
        plan(names.quality, "one outcome per segment message; ends and markers in their places", delete, roomy),
        plan(names.alerts, "alerts that open or resolve", delete, keep),
        plan(names.state, "memory of the alert rules", compact, states),
        plan(names.rejected, "records that are no segment message, with their bytes", delete, {**roomy, **keep}),
        plan(
            names.gathered,
            "every outcome once more, in one order, for rules over all streams",
            delete,
            {**roomy, **soon},
        ),
        plan(names.gathered_state, "memory of the rules over all streams", compact, states),
    ]


async def create_topics(connection: Connection, plans: Sequence[TopicPlan]) -> Sequence[str]:
    """Create the topics that are missing and give their names; those that exist stay as they are."""
    async with _Admin(connection) as admin:
        wanted = [
            NewTopic(plan.name, plan.partitions, plan.copies, topic_configs={**plan.may, **plan.must}) for plan in plans
        ]
        answer = await admin.create_topics(wanted)
    made = []
    for name, code, *why in answer.topic_errors:
        if code == 0:
            made.append(name)
        elif code != NAME_TAKEN:
            raise BrokerError(
                f"create topic {name}: {for_code(code).__name__} {why[0] if why and why[0] else ''}".strip()
            )
    return made


async def check_topics(connection: Connection, plans: Sequence[TopicPlan]) -> Sequence[str]:
    """What is wrong with the topics, one sentence each with its remedy; empty when all is well."""
    async with _Admin(connection) as admin:
        found = {one["topic"]: one for one in await admin.describe_topics([plan.name for plan in plans])}
        there = [plan for plan in plans if not found.get(plan.name, {"error_code": 3})["error_code"]]
        settings = await _settings(admin, [plan.name for plan in there])
    wrong = [
        f"topic {plan.name} ({plan.meaning}) does not exist: create it, or run `vqmon topics create`"
        for plan in plans
        if plan not in there
    ]
    counts = {plan.name: len(found[plan.name]["partitions"]) for plan in there}
    alike = {plan.name: counts[plan.name] for plan in there if not plan.is_single}
    if len(set(alike.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in alike.items())
        wrong.append(f"these topics must have the same number of partitions, but: {told}")
    wrong += [
        f"topic {plan.name} ({plan.meaning}) has {counts[plan.name]} partitions, it must have one: make it anew"
        for plan in there
        if plan.is_single and counts[plan.name] != 1
    ]
    for plan in there:
        for key, value in plan.must.items():
            actual = settings[plan.name].get(key, "")
            if actual != value:
                wrong.append(f"topic {plan.name} has {key}={actual}, it must be {value} ({plan.meaning})")
    return wrong


async def largest_record(connection: Connection, topic: str) -> int:
    """How many bytes the largest record of a topic may have."""
    async with _Admin(connection) as admin:
        settings = await _settings(admin, [topic])
    return int(settings[topic].get("max.message.bytes") or 1_000_000)


async def _settings(admin: AIOKafkaAdminClient, names: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    if not names:
        return {}
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    return {
        resource[3]: {entry[0]: entry[1] or "" for entry in resource[4]}
        for answer in answers
        for resource in answer.resources
    }


class _Admin:
    """An admin client within a time limit."""

    def __init__(self, connection: Connection) -> None:
        self._client = AIOKafkaAdminClient(**connection.options(), request_timeout_ms=int(ADMIN_SECONDS * 1000))

    async def __aenter__(self) -> AIOKafkaAdminClient:
        with translated("reach the brokers"):
            try:
                await apart(self._client.start(), within_seconds=ADMIN_SECONDS)
            except BaseException:
                await self._close()
                raise
        return self._client

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await self._close()

    async def _close(self) -> None:
        try:
            await apart(self._client.close(), within_seconds=2.0)
        except Exception:
            return
