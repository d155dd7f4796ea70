"""Topic specs, the ACLs that each command needs, and requests while a broker is down."""

import pytest
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError

from vqmon.errors import BrokerError
from vqmon.transport.kafka import topics
from vqmon.transport.kafka.connection import ClientConfig
from vqmon.transport.kafka.records import TopicNames
from vqmon.transport.kafka.topics import AclRule, AdminClient, TopicSpec, required_acls, topic_specs

NAMES = TopicNames.from_prefix("vqmon", "g")
SPECS = topic_specs(NAMES, partitions=6, replication_factor=3, max_message_bytes=1000)
COUNTS = {spec.name: spec.partitions for spec in SPECS}


def spec(name: str) -> TopicSpec:
    return next(spec for spec in SPECS if spec.name == name)


def test_states_are_compacted_and_outputs_are_not() -> None:
    """A compacted output would lose outcomes."""
    compacted = {spec.name for spec in SPECS if spec.required_config["cleanup.policy"] == "compact"}
    assert compacted == {NAMES.state, NAMES.gathered_state}


def test_a_rejected_record_fits_whatever_the_input_topic_took() -> None:
    """Twice the bytes, and room for headers."""
    assert spec(NAMES.segments).initial_config["max.message.bytes"] == "1000"
    assert int(spec(NAMES.rejected).initial_config["max.message.bytes"]) > 2000


@pytest.mark.parametrize(("replication_factor", "min_insync_replicas"), [(1, "1"), (2, "1"), (3, "2")])
def test_one_replica_may_be_missing_unless_there_is_only_one(replication_factor: int, min_insync_replicas: str) -> None:
    """`min.insync.replicas` is one below the replication factor, and at least 1."""
    specs = topic_specs(NAMES, partitions=1, replication_factor=replication_factor, max_message_bytes=1000)
    assert {spec.initial_config["min.insync.replicas"] for spec in specs} == {min_insync_replicas}


def test_acls_allow_a_worker_its_topics_groups_and_transactional_ids() -> None:
    """It may not create topics, nor write what it reads."""
    acls = required_acls(NAMES, "g")["vqmon run"]
    operations_by_topic = {rule.name: rule.operations for rule in acls if rule.resource == "topic"}
    assert set(operations_by_topic) == set(COUNTS)
    assert operations_by_topic[NAMES.segments] == ("READ", "DESCRIBE_CONFIGS")
    assert all("CREATE" not in operations for operations in operations_by_topic.values())
    assert [(rule.name, rule.is_prefix) for rule in acls if rule.resource != "topic"] == [
        ("g", False),
        ("g.gathered", False),
        ("g.", True),
    ]


def test_an_acl_is_a_command_of_kafkas_tool() -> None:
    """Ready to be pasted."""
    rule = AclRule(resource="transactional-id", name="g.", operations=("WRITE", "DESCRIBE"), is_prefix=True)
    assert rule.command("User:vqmon", "--bootstrap-server b:1") == (
        "kafka-acls.sh --bootstrap-server b:1 --add --allow-principal User:vqmon "
        "--operation WRITE --operation DESCRIBE --transactional-id g. --resource-pattern-type prefixed"
    )


class Brokers:
    """An aiokafka client that asks a random broker; those that are down do not answer."""

    def __init__(self, *answers: Exception | str) -> None:
        self.answers = list(answers)

    def get_random_node(self) -> int:
        return 0

    async def send(self, node_id: int, request: object) -> str:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
async def admin_client(monkeypatch: pytest.MonkeyPatch) -> AdminClient:
    """A client that is not connected."""
    monkeypatch.setattr(topics, "_NEXT_BROKER_SECONDS", 0.0)
    return AdminClient(ClientConfig(bootstrap=("127.0.0.1:1",)))


async def test_a_broker_that_is_down_is_passed_over(admin_client: AdminClient) -> None:
    """The next one is asked, as all of them know the topics."""
    admin_client._client._client = Brokers(NodeNotReadyError("down"), KafkaConnectionError("down"), "topics")
    assert await admin_client._client._send_request(object()) == "topics"


async def test_errors_of_a_request_are_translated(admin_client: AdminClient) -> None:
    """Whoever asks about topics sees BrokerError, and can wait for the brokers."""
    with pytest.raises(BrokerError, match="NodeNotReadyError"):
        await admin_client.__aexit__(None, NodeNotReadyError("down"), None)
