"""The topics of one deployment: their required configuration, their creation, and checks with remedies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

from vqmon.errors import BrokerError
from vqmon.flow import run_with_deadline
from vqmon.transport.kafka.connection import ClientConfig, translated_errors
from vqmon.transport.kafka.records import TopicNames

_ADMIN_TIMEOUT_SECONDS = 30.0
_CLOSE_TIMEOUT_SECONDS = 2.0
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """The configuration that one topic is created with, and the part of it that is checked at every start."""

    name: str
    partitions: int
    # one partition, however many the other topics have
    has_one_partition: bool = False
    replication_factor: int
    # checked at every start
    required_config: Mapping[str, str]
    # set at creation only: an operator may change it
    initial_config: Mapping[str, str]
    description: str


def topic_specs(
    names: TopicNames, *, partitions: int, replication_factor: int, max_message_bytes: int
) -> Sequence[TopicSpec]:
    """The seven topics; all but two have the same number of partitions, as outputs and state keep the input's."""
    min_insync_replicas = str(max(1, replication_factor - 1))
    delete, compact = {"cleanup.policy": "delete"}, {"cleanup.policy": "compact"}
    # A rejected record holds its original bytes and our headers: it must fit whatever the input topic accepted.
    large_messages = {"max.message.bytes": str(2 * max_message_bytes + (64 << 10))}

    def spec(name: str, description: str, required: Mapping[str, str], initial: Mapping[str, str]) -> TopicSpec:
        has_one_partition = name in names.single_partition
        return TopicSpec(
            name=name,
            partitions=1 if has_one_partition else partitions,
            has_one_partition=has_one_partition,
            replication_factor=replication_factor,
            required_config=required,
            initial_config={"min.insync.replicas": min_insync_replicas, **initial},
            description=description,
        )

    two_weeks, two_days = {"retention.ms": str(14 * _DAY_MS)}, {"retention.ms": str(2 * _DAY_MS)}
    changelog = {"segment.ms": "3600000", **large_messages}
    return [
        spec(
            names.segments, "segment messages, key = stream id", delete, {"max.message.bytes": str(max_message_bytes)}
        ),
        spec(names.quality, "one outcome per segment message; ends and markers among them", delete, large_messages),
        spec(names.alerts, "alerts that open or resolve", delete, two_weeks),
        spec(names.state, "state of the alert rules", compact, changelog),
        spec(
            names.rejected,
            "records that are not segment messages, with their bytes",
            delete,
            {**large_messages, **two_weeks},
        ),
        spec(
            names.gathered,
            "all outcomes in one partition, for rules over all streams",
            delete,
            {**large_messages, **two_days},
        ),
        spec(names.gathered_state, "state of the rules over all streams", compact, changelog),
    ]


async def create_topics(config: ClientConfig, specs: Sequence[TopicSpec]) -> Sequence[str]:
    """Create the missing topics and return their names; existing topics stay as they are. Raises BrokerError."""
    async with _AdminClient(config) as admin:
        new_topics = [
            NewTopic(
                spec.name,
                spec.partitions,
                spec.replication_factor,
                topic_configs={**spec.initial_config, **spec.required_config},
            )
            for spec in specs
        ]
        response = await admin.create_topics(new_topics)
    created = []
    for name, code, *details in response.topic_errors:
        if code == 0:
            created.append(name)
        elif code != TopicAlreadyExistsError.errno:
            detail = details[0] if details and details[0] else ""
            raise BrokerError(f"create topic {name}: {for_code(code).__name__} {detail}".strip())
    return created


async def check_topics(config: ClientConfig, specs: Sequence[TopicSpec]) -> Sequence[str]:
    """Compare the topics with their specs; returns one sentence with a remedy per problem. Raises BrokerError."""
    async with _AdminClient(config) as admin:
        descriptions = {topic["topic"]: topic for topic in await admin.describe_topics([spec.name for spec in specs])}
        missing = {"error_code": UnknownTopicOrPartitionError.errno}
        existing = [spec for spec in specs if not descriptions.get(spec.name, missing)["error_code"]]
        configs = await _topic_configs(admin, [spec.name for spec in existing])
    counts = {spec.name: len(descriptions[spec.name]["partitions"]) for spec in existing}
    return topic_problems(specs, partition_counts=counts, configs=configs)


def topic_problems(
    specs: Sequence[TopicSpec], *, partition_counts: Mapping[str, int], configs: Mapping[str, Mapping[str, str]]
) -> Sequence[str]:
    """The problems of topics with these partition counts and configs, by name; topics without a count are missing."""
    existing = [spec for spec in specs if spec.name in partition_counts]
    problems = [
        f"topic {spec.name} ({spec.description}) does not exist: create it, or run `vqmon topics create`"
        for spec in specs
        if spec.name not in partition_counts
    ]
    shared_counts = {spec.name: partition_counts[spec.name] for spec in existing if not spec.has_one_partition}
    if len(set(shared_counts.values())) > 1:
        counts = ", ".join(f"{name} {count}" for name, count in shared_counts.items())
        problems.append(f"these topics must have the same number of partitions, but: {counts}")
    problems += [
        f"topic {spec.name} ({spec.description}) has {partition_counts[spec.name]} partitions, it must have one: "
        "delete it and create it again"
        for spec in existing
        if spec.has_one_partition and partition_counts[spec.name] != 1
    ]
    for spec in existing:
        for key, required in spec.required_config.items():
            actual = configs[spec.name].get(key, "")
            if actual != required:
                problems.append(f"topic {spec.name} has {key}={actual}, it must be {required} ({spec.description})")
    return problems


async def max_record_bytes(config: ClientConfig, topic: str) -> int:
    """The size limit of a topic's records, `max.message.bytes`."""
    async with _AdminClient(config) as admin:
        configs = await _topic_configs(admin, [topic])
    return int(configs[topic].get("max.message.bytes") or 1_000_000)


async def _topic_configs(admin: AIOKafkaAdminClient, names: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    if not names:
        return {}
    responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    # A resource is (error code, message, type, name, entries), an entry begins with (key, value).
    return {
        resource[3]: {entry[0]: entry[1] or "" for entry in resource[4]}
        for response in responses
        for resource in response.resources
    }


class _AdminClient:
    """An admin client with deadlines."""

    def __init__(self, config: ClientConfig) -> None:
        self._client = AIOKafkaAdminClient(
            **config.client_options(), request_timeout_ms=int(_ADMIN_TIMEOUT_SECONDS * 1000)
        )

    async def __aenter__(self) -> AIOKafkaAdminClient:
        with translated_errors("reach the brokers"):
            try:
                await run_with_deadline(self._client.start(), within_seconds=_ADMIN_TIMEOUT_SECONDS)
            except BaseException:
                await self._close()
                raise
        return self._client

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        await self._close()

    async def _close(self) -> None:
        try:
            await run_with_deadline(self._client.close(), within_seconds=_CLOSE_TIMEOUT_SECONDS)
        except Exception:
            return
