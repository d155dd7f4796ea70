"""What is wrong with the topics of a deployment, and the command that repairs each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka.errors import TopicAuthorizationFailedError

from vqmon.transport.kafka.connection import ClientConfig
from vqmon.transport.kafka.topics import AdminClient, TopicSpec, tool_options, topic_configs

_UNLIMITED = -1
_INTERNAL_TOPICS = ("__consumer_offsets", "__transaction_state")
"""The topics of Kafka that exactly-once writes rest on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicFacts:
    """One existing topic as the brokers describe it."""

    partitions: int
    # the fewest replicas of any partition
    copies: int
    # key -> effective value, defaults of the brokers included; empty when the user may not read it
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicProblem:
    """One thing that is wrong with a topic, and what to run."""

    text: str
    # a shell command, or a sentence when no single command repairs it
    remedy: str
    # workers refuse to start; otherwise they warn
    is_fatal: bool = True

    def __str__(self) -> str:
        return f"{self.text}\n    {self.remedy}"


async def check_topics(config: ClientConfig, specs: Sequence[TopicSpec]) -> Sequence[TopicProblem]:
    """Compare the topics with their specs; raises BrokerError."""
    async with AdminClient(config) as admin:
        topics = await admin.describe_topics([*(spec.name for spec in specs), *_INTERNAL_TOPICS])
        configs = await topic_configs(admin, [topic["topic"] for topic in topics if not topic["error_code"]])
    facts = {
        topic["topic"]: TopicFacts(
            partitions=len(topic["partitions"]),
            copies=min(len(partition["replicas"]) for partition in topic["partitions"]),
            config=configs.get(topic["topic"], {}),
        )
        for topic in topics
        if not topic["error_code"]
    }
    denied = [topic["topic"] for topic in topics if topic["error_code"] == TopicAuthorizationFailedError.errno]
    return topic_problems(
        specs,
        facts,
        denied=[name for name in denied if name not in _INTERNAL_TOPICS],
        options=tool_options(config),
    )


def topic_problems(
    specs: Sequence[TopicSpec], facts: Mapping[str, TopicFacts], *, denied: Sequence[str] = (), options: str
) -> Sequence[TopicProblem]:
    """Compare topics with their specs.

    `facts` has the topics that exist, Kafka's internal ones among them when they may be described; `denied` are the
    topics that the user may not describe. `options` are those of Kafka's tools, such as "--bootstrap-server b:1".
    """
    problems = [
        TopicProblem(
            text=f"topic {name}: the user may not describe it",
            remedy="vqmon topics acls     # prints the ACLs that are missing",
        )
        for name in denied
    ]
    problems += [
        TopicProblem(text=f"topic {spec.name} ({spec.description}) does not exist", remedy="vqmon topics create")
        for spec in specs
        if spec.name not in facts and spec.name not in denied
    ]
    existing = [spec for spec in specs if spec.name in facts]
    problems += _partition_problems(existing, facts, options)
    for spec in existing:
        problems += _config_problems(spec, facts[spec.name], options)
        problems += _copies_problems(spec.name, facts[spec.name], spec.replication_factor)
    copies = max((spec.replication_factor for spec in specs), default=1)
    for name in _INTERNAL_TOPICS:
        if name in facts:
            problems += _copies_problems(name, facts[name], copies)
    return problems


def _partition_problems(
    existing: Sequence[TopicSpec], facts: Mapping[str, TopicFacts], options: str
) -> list[TopicProblem]:
    shared_counts = {spec.name: facts[spec.name].partitions for spec in existing}
    problems = []
    if len(set(shared_counts.values())) > 1:
        largest = max(shared_counts.values())
        commands = [
            f"kafka-topics.sh {options} --alter --topic {name} --partitions {largest}"
            for name, count in shared_counts.items()
            if count < largest
        ]
        counts = ", ".join(f"{name} {count}" for name, count in shared_counts.items())
        text = f"these topics must have the same number of partitions, but: {counts}"
        # Workers read the partitions that all have, and wait for the others.
        problems.append(TopicProblem(text=text, remedy="\n    ".join(commands), is_fatal=False))
    return problems


def _config_problems(spec: TopicSpec, facts: TopicFacts, options: str) -> list[TopicProblem]:
    """Check what must be as specified, and what must be at least so large."""
    if not facts.config:
        return [
            TopicProblem(
                text=f"topic {spec.name}: the user may not read its configuration",
                remedy="vqmon topics acls     # prints the ACLs that are missing",
                is_fatal=False,
            )
        ]

    def problem(key: str, value: str, reason: str, *, is_fatal: bool) -> TopicProblem:
        return TopicProblem(
            text=f"topic {spec.name} ({spec.description}) has {key}={facts.config.get(key, '')}, {reason}",
            remedy=f"kafka-configs.sh {options} --alter --entity-type topics --entity-name {spec.name} "
            f"--add-config {key}={value}",
            is_fatal=is_fatal,
        )

    problems = [
        problem(key, value, f"it must be {value}", is_fatal=True)
        for key, value in spec.required_config.items()
        if facts.config.get(key, "") != value
    ]
    for key, (least, reason) in spec.least_config.items():
        actual = int(facts.config.get(key) or least)
        if actual < least and not (actual == _UNLIMITED and key.startswith("retention.")):
            problems.append(problem(key, str(least), f"below {least}: {reason}", is_fatal=False))
    if facts.config.get("unclean.leader.election.enable") == "true":
        reason = "a broker that was behind can become leader: committed records are lost"
        problems.append(problem("unclean.leader.election.enable", "false", reason, is_fatal=False))
    insync = int(facts.config.get("min.insync.replicas") or 1)
    if insync > 1 and insync >= facts.copies:
        reason = f"with {facts.copies} copies nothing can be written while one broker is away"
        problems.append(problem("min.insync.replicas", str(max(1, facts.copies - 1)), reason, is_fatal=False))
    return problems


def _copies_problems(name: str, facts: TopicFacts, wanted: int) -> list[TopicProblem]:
    if facts.copies >= wanted:
        return []
    return [
        TopicProblem(
            text=f"topic {name} has {facts.copies} copies of each partition, kafka.copies is {wanted}",
            remedy="raise it with kafka-reassign-partitions.sh, or set kafka.copies to what you want",
            is_fatal=False,
        )
    ]
