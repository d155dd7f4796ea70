"""The topics of one deployment: their configuration, their creation, and the ACLs that each command needs."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError, TopicAlreadyExistsError, for_code

from vqmon.errors import BrokerError
from vqmon.flow import run_with_deadline
from vqmon.transport.kafka.connection import ClientConfig, start_client, translated_errors
from vqmon.transport.kafka.records import TopicNames

_ADMIN_TIMEOUT_SECONDS = 30.0
_CLOSE_TIMEOUT_SECONDS = 2.0
_MAX_BROKER_TRIES = 10
_NEXT_BROKER_SECONDS = 0.2
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """The configuration that one topic is created with, and the part of it that is checked at every start."""

    name: str
    partitions: int
    replication_factor: int
    # checked at every start
    required_config: Mapping[str, str]
    # set at creation only: an operator may change it
    initial_config: Mapping[str, str]
    # key -> the least value that works well, and why
    least_config: Mapping[str, tuple[int, str]]
    description: str


def topic_specs(
    names: TopicNames, *, partitions: int, replication_factor: int, max_message_bytes: int
) -> Sequence[TopicSpec]:
    """The eight topics; all have the same number of partitions, as outputs and state keep the input's."""
    min_insync_replicas = str(max(1, replication_factor - 1))
    delete, compact = {"cleanup.policy": "delete"}, {"cleanup.policy": "compact"}
    # A rejected record holds its original bytes and our headers: it must fit whatever the input topic accepted.
    large_messages = {"max.message.bytes": str(2 * max_message_bytes + (64 << 10))}

    def spec(name: str, description: str, required: Mapping[str, str], initial: Mapping[str, str]) -> TopicSpec:
        return TopicSpec(
            name=name,
            partitions=partitions,
            replication_factor=replication_factor,
            required_config=required,
            initial_config={"min.insync.replicas": min_insync_replicas, **initial},
            least_config=_least_config(name, names, required, initial, replication_factor=replication_factor),
            description=description,
        )

    two_weeks, two_days = {"retention.ms": str(14 * _DAY_MS)}, {"retention.ms": str(2 * _DAY_MS)}
    changelog = {"segment.ms": "3600000", **large_messages}
    return [
        spec(
            names.segments, "segment messages, key = stream id", delete, {"max.message.bytes": str(max_message_bytes)}
        ),
        spec(names.quality, "one outcome per segment message", delete, large_messages),
        spec(names.control, "ends and deploy markers that were judged", delete, large_messages),
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
            "what group rules need of each segment, by group",
            delete,
            {**large_messages, **two_days},
        ),
        spec(names.gathered_state, "state of the group rules", compact, changelog),
    ]


def _least_config(
    name: str,
    names: TopicNames,
    required: Mapping[str, str],
    initial: Mapping[str, str],
    *,
    replication_factor: int,
) -> Mapping[str, tuple[int, str]]:
    least = {"min.insync.replicas": (max(1, replication_factor - 1), "the loss of one broker can undo commits")}
    if required["cleanup.policy"] == "delete":
        least["retention.ms"] = (_DAY_MS, "records may be deleted before a reader that was away for a day reads them")
    if name != names.segments and "max.message.bytes" in initial:
        least["max.message.bytes"] = (int(initial["max.message.bytes"]), "a larger record would stop its partition")
    return least


Role = Literal[
    "vqmon run",
    "vqmon record",
    "vqmon notify",
    "vqmon switch-inputs",
    "vqmon tail",
    "vqmon publish, end, deploy, packagers",
    "vqmon topics",
]
Operation = Literal["READ", "WRITE", "CREATE", "DESCRIBE", "DESCRIBE_CONFIGS"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AclRule:
    """What one user may do with one resource, or with all whose names begin with `name`."""

    resource: Literal["topic", "group", "transactional-id"]
    name: str
    operations: tuple[Operation, ...]
    is_prefix: bool = False

    def command(self, principal: str, tool_options: str) -> str:
        """The command of Kafka's tool that allows it to a principal such as `User:vqmon`."""
        operations = " ".join(f"--operation {operation}" for operation in self.operations)
        pattern = " --resource-pattern-type prefixed" if self.is_prefix else ""
        resource = f"--{self.resource} {self.name}{pattern}"
        return f"kafka-acls.sh {tool_options} --add --allow-principal {principal} {operations} {resource}"


def required_acls(names: TopicNames, group: str) -> Mapping[Role, Sequence[AclRule]]:
    """The ACLs that each command needs, and no more; READ and WRITE imply DESCRIBE."""

    def topics(operations: tuple[Operation, ...], *topic_names: str) -> list[AclRule]:
        return [AclRule(resource="topic", name=name, operations=operations) for name in topic_names]

    inner = (names.state, names.gathered, names.gathered_state)
    outputs = (names.quality, names.control, names.alerts, names.rejected)
    return {
        "vqmon run": [
            *topics(("READ", "DESCRIBE_CONFIGS"), names.segments),
            *topics(("READ", "WRITE", "DESCRIBE_CONFIGS"), *inner),
            *topics(("WRITE", "DESCRIBE_CONFIGS"), *outputs),
            AclRule(resource="group", name=group, operations=("READ",)),
            AclRule(resource="group", name=f"{group}.gathered", operations=("READ",)),
            AclRule(resource="transactional-id", name=f"{group}.", operations=("WRITE", "DESCRIBE"), is_prefix=True),
        ],
        "vqmon record": [
            *topics(("READ", "DESCRIBE_CONFIGS"), names.quality, names.control, names.alerts),
            AclRule(resource="group", name=f"{group}.record.", operations=("READ",), is_prefix=True),
        ],
        "vqmon notify": topics(("READ",), names.alerts),
        "vqmon switch-inputs": topics(("READ",), names.quality),
        "vqmon tail": topics(("READ",), names.quality, names.alerts),
        "vqmon publish, end, deploy, packagers": topics(("WRITE",), names.segments),
        "vqmon topics": topics(("CREATE", "DESCRIBE", "DESCRIBE_CONFIGS"), names.segments, *inner, *outputs),
    }


def tool_options(config: ClientConfig) -> str:
    """The options with which Kafka's own tools reach these brokers."""
    secured = " --command-config client.properties" if config.mechanism or config.is_encrypted else ""
    return f"--bootstrap-server {','.join(config.bootstrap)}{secured}"


async def create_topics(config: ClientConfig, specs: Sequence[TopicSpec]) -> Sequence[str]:
    """Create the missing topics and return their names; existing topics stay as they are. Raises BrokerError."""
    async with AdminClient(config) as admin:
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


async def max_record_bytes(config: ClientConfig, topic: str) -> int:
    """The size limit of a topic's records, `max.message.bytes`."""
    async with AdminClient(config) as admin:
        configs = await topic_configs(admin, [topic])
    return int(configs[topic].get("max.message.bytes") or 1_000_000)


async def topic_configs(admin: AIOKafkaAdminClient, names: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    if not names:
        return {}
    responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    # A resource is (error code, message, type, name, entries), an entry begins with (key, value).
    return {
        resource[3]: {entry[0]: entry[1] or "" for entry in resource[4]}
        for response in responses
        for resource in response.resources
    }


class _RetryingAdminClient(AIOKafkaAdminClient):  # type: ignore[misc]
    """Asks another broker when one cannot be reached; aiokafka 0.14 asks a random one, once."""

    async def _send_request(self, request: object, node_id: int | None = None) -> object:
        for _ in range(_MAX_BROKER_TRIES):
            try:
                return await super()._send_request(request, node_id)
            except (NodeNotReadyError, KafkaConnectionError):
                await asyncio.sleep(_NEXT_BROKER_SECONDS)
        return await super()._send_request(request, node_id)


class AdminClient:
    """An admin client with deadlines."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._client = _RetryingAdminClient(
            **config.client_options(), request_timeout_ms=int(_ADMIN_TIMEOUT_SECONDS * 1000)
        )

    async def __aenter__(self) -> AIOKafkaAdminClient:
        start = self._client.start()
        try:
            await start_client(start, self._config, action="reach the brokers", within_seconds=_ADMIN_TIMEOUT_SECONDS)
        except BaseException:
            await self._close()
            raise
        return self._client

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        await self._close()
        if isinstance(error, Exception):
            with translated_errors("ask the brokers about topics"):
                raise error

    async def _close(self) -> None:
        try:
            await run_with_deadline(self._client.close(), within_seconds=_CLOSE_TIMEOUT_SECONDS)
        except Exception:
            return
