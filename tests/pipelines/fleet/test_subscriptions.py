"""Which topics a worker subscribes to, and the groups, transactional ids and state topics that belong to each."""

import asyncio
import json
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from pipelines.fleet import subscriptions
from pipelines.fleet.group_rules import GatheredRecord, GroupPartitionJudge
from pipelines.fleet.judging.judge import PartitionJudge
from pipelines.fleet.subscriptions import Subscriptions, producer_identity
from tests.acceptance.kafka.observers import observe_at_once
from vqmon.core.alerts.rules import AlertRule
from vqmon.errors import BrokerError, SettingsError
from vqmon.settings.rules_file import parse_rules
from vqmon.settings.sections import KafkaSettings
from vqmon.telemetry.metrics import Meters
from vqmon.transport.kafka import Record

KAFKA = KafkaSettings(prefix="v", group="g", max_waiting=8, commit_seconds=0.5, when_lost="go_on")
DROP = """
[rules.drop]
kind = "regression"
severity = "ticket"
scorer = "lite"
"""
GROUP = """
[rules.both]
kind = "group"
severity = "page"
of = "drop"
min_series = 2
"""
SEGMENTS = "v.segments.v1"


def subscriptions_of(
    rules: Sequence[AlertRule], kafka: KafkaSettings = KAFKA, *, meters: Meters | None = None
) -> Subscriptions:
    return Subscriptions(
        kafka,
        SimpleNamespace(),  # type: ignore[arg-type]
        producer_identity(KAFKA, max_rejected_bytes=1000),
        rules=rules,
        meters=meters or Meters(),
        on_publish=lambda outcomes, alerts: None,
        process_id="worker",
    )


def gathered_topic() -> str:
    return producer_identity(KAFKA, max_rejected_bytes=1000).names.gathered


def test_workers_identify_themselves_by_deployment_and_group() -> None:
    """The limits are those of the settings and of the rejected topic."""
    identity = producer_identity(KAFKA, max_rejected_bytes=1000)
    assert (identity.source, identity.group, identity.names.segments) == ("vqmon:v/g", "g", SEGMENTS)
    assert (identity.max_message_bytes, identity.max_rejected_bytes) == (1_000_000, 1000)


def test_counters_are_zero_before_their_first_event() -> None:
    """Or Prometheus misses the first increase, and with it the alert."""
    reader = InMemoryMetricReader()
    subscriptions_of(parse_rules("", origin="rules"), meters=Meters(reader))
    metrics = json.loads(reader.get_metrics_data().to_json())["resource_metrics"][0]["scope_metrics"][0]["metrics"]
    series = {
        (metric["name"], *point["attributes"].values()): point["value"]
        for metric in metrics
        for point in metric["data"]["data_points"]
    }
    assert series == {
        ("vqmon.kafka.rebalance",): 0,
        ("vqmon.kafka.rejected",): 0,
        ("vqmon.kafka.broken",): 0,
        ("vqmon.kafka.membership_lost", "fenced"): 0,
        ("vqmon.kafka.membership_lost", "lost"): 0,
    }


@pytest.mark.parametrize(("rules", "topic_count"), [("", 1), (DROP, 1), (DROP + GROUP, 2)])
def test_gathered_outcomes_are_subscribed_to_only_for_rules_over_all_streams(rules: str, topic_count: int) -> None:
    """Every other rule is judged partition by partition."""
    contexts = subscriptions_of(parse_rules(rules) if rules else ()).contexts(observe_at_once)
    assert list(contexts) == [SEGMENTS, gathered_topic()][:topic_count]


def test_each_topic_has_a_judge_of_its_own() -> None:
    """And the segments topic the queue length of the settings."""
    contexts = subscriptions_of(parse_rules(DROP + GROUP)).contexts(observe_at_once)
    segments, gathered = contexts[SEGMENTS], contexts[gathered_topic()]
    assert isinstance(segments.open_judge(0, {}), PartitionJudge)
    assert isinstance(gathered.open_judge(0, {}), GroupPartitionJudge)
    assert (segments.max_waiting, segments.gather_seconds, segments.when_lost) == (8, 0.5, "go_on")
    assert gathered.max_waiting == subscriptions.MAX_WAITING


async def test_what_cannot_be_read_stops_a_partition_or_is_left_out() -> None:
    """As `kafka.when_unreadable` says, for stored states and for gathered records."""
    rules = parse_rules(DROP + GROUP)
    record, stored = Record(0, 7, None, b"?", (), 0), {"floor|x": b"{}"}
    for topic in (SEGMENTS, gathered_topic()):
        with pytest.raises(SettingsError, match=r"floor\|x"):
            subscriptions_of(rules).contexts(observe_at_once)[topic].open_judge(0, stored)
    with pytest.raises(SettingsError, match="record 7 of partition 0"):
        await subscriptions_of(rules).contexts(observe_at_once)[gathered_topic()].observe(record)
    lenient = KAFKA.model_copy(update={"when_unreadable": "go_on"})
    contexts = subscriptions_of(rules, lenient).contexts(observe_at_once)
    for topic in (SEGMENTS, gathered_topic()):
        contexts[topic].open_judge(0, stored)
    assert await contexts[gathered_topic()].observe(record) == GatheredRecord(record=record, values=())


def test_transactional_ids_name_group_topic_and_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that whoever takes a partition over fences its last owner; offsets belong to the group of the topic."""
    opened: list[dict[str, object]] = []
    monkeypatch.setattr(subscriptions, "TransactionalProducer", lambda connection, **options: opened.append(options))
    contexts = subscriptions_of(parse_rules(DROP + GROUP)).contexts(observe_at_once)
    contexts[SEGMENTS].open_writer(3)
    contexts[gathered_topic()].open_writer(0)
    assert [(entry["transactional_id"], entry["group"], entry["topic"], entry["partition"]) for entry in opened] == [
        (f"g.{SEGMENTS}.3", "g", SEGMENTS, 3),
        (f"g.{gathered_topic()}.0", "g.gathered", gathered_topic(), 0),
    ]


async def test_each_topic_has_a_state_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    """From which the alert states of a partition are restored, also over interruptions."""
    reads: list[tuple[str, int]] = []

    class StandInChangelog:
        def __init__(self, connection: object, topic: str, partition: int) -> None:
            self.source = (topic, partition)

        async def read(self, *, report: Callable[[float], None]) -> dict[str, bytes]:
            reads.append(self.source)
            read_by.append(self)
            if len(reads) == 1:
                raise BrokerError("away")
            return {"key": b"value"}

    read_by: list[StandInChangelog] = []
    monkeypatch.setattr(subscriptions, "Changelog", StandInChangelog)
    names = producer_identity(KAFKA, max_rejected_bytes=1000).names
    contexts = subscriptions_of(parse_rules(DROP + GROUP)).contexts(observe_at_once)
    with pytest.raises(BrokerError):
        await contexts[SEGMENTS].read_state(3, print)
    assert await contexts[SEGMENTS].read_state(3, print) == {"key": b"value"}
    await contexts[SEGMENTS].read_state(3, print)
    await contexts[names.gathered].read_state(0, print)
    assert reads == [(names.state, 3)] * 3 + [(names.gathered_state, 0)]
    # A read that was interrupted goes on; one that is complete is not repeated from memory.
    assert read_by[0] is read_by[1] is not read_by[2]


@pytest.mark.parametrize("is_gathered", [False, True])
async def test_a_member_joins_the_group_of_its_topic(is_gathered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the times of the settings; the monitor knows the topic of the membership."""
    topic = gathered_topic() if is_gathered else SEGMENTS
    opened: list[dict[str, object]] = []
    joined: list[tuple[str, object]] = []
    member = SimpleNamespace(assigned="assigned", revoked="revoked")

    async def run_member(context: object, open_group: object, **options: object) -> None:
        assert options["revoke_seconds"] == KAFKA.revoke_seconds
        open_group(member)  # type: ignore[operator]
        options["on_join"](member)  # type: ignore[operator]

    monkeypatch.setattr(subscriptions, "run_member", run_member)
    monkeypatch.setattr(subscriptions, "GroupConsumer", lambda connection, **options: opened.append(options))
    await subscriptions_of(()).run_member(
        topic,
        SimpleNamespace(),  # type: ignore[arg-type]
        stop=asyncio.Event(),
        on_join=lambda name, one: joined.append((name, one)),
    )
    assert opened == [
        {
            "topic": topic,
            "group": "g.gathered" if is_gathered else "g",
            "session_seconds": KAFKA.session_seconds,
            "rebalance_seconds": KAFKA.rebalance_seconds,
            "assigned": "assigned",
            "revoked": "revoked",
        }
    ]
    assert joined == [(topic, member)]
