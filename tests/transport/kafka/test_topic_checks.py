"""What is wrong with topics, and the command that repairs it."""

from dataclasses import replace

import pytest

from tests.transport.kafka.test_topics import NAMES, SPECS
from vqmon.transport.kafka.topic_checks import TopicFacts, TopicProblem, topic_problems

OPTIONS = "--bootstrap-server b:1"
GOOD = {
    spec.name: TopicFacts(
        partitions=spec.partitions,
        copies=3,
        config={
            **{key: str(least) for key, (least, _) in spec.least_config.items()},
            **spec.initial_config,
            **spec.required_config,
        },
    )
    for spec in SPECS
}


def problems_of(facts: dict[str, TopicFacts], *, denied: tuple[str, ...] = ()) -> list[TopicProblem]:
    return list(topic_problems(SPECS, facts, denied=denied, options=OPTIONS))


def with_config(name: str, **config: str) -> dict[str, TopicFacts]:
    """Good topics, one of which has other values; `_` stands for a dot."""
    changes = {key.replace("_", "."): value for key, value in config.items()}
    return GOOD | {name: replace(GOOD[name], config={**GOOD[name].config, **changes})}


def alter(name: str, change: str) -> str:
    return f"kafka-configs.sh {OPTIONS} --alter --entity-type topics --entity-name {name} --add-config {change}"


def test_topics_as_specified_have_no_problems() -> None:
    """Also with more of what may be more, without a limit to the retention, and with another number of partitions."""
    assert problems_of(GOOD) == []
    assert problems_of(with_config(NAMES.quality, retention_ms="-1", max_message_bytes="9000000")) == []
    assert problems_of({name: replace(facts, partitions=12) for name, facts in GOOD.items()}) == []


def test_a_missing_topic_is_not_one_that_may_not_be_described() -> None:
    """The remedy of the one is no remedy of the other."""
    facts = {name: fact for name, fact in GOOD.items() if name not in (NAMES.alerts, NAMES.quality)}
    denied, missing = problems_of(facts, denied=(NAMES.quality,))
    assert denied.text == f"topic {NAMES.quality}: the user may not describe it"
    assert denied.remedy.startswith("vqmon topics acls")
    assert missing.text == f"topic {NAMES.alerts} (alerts that open or resolve) does not exist"
    assert missing.remedy == "vqmon topics create"


def test_topics_with_fewer_partitions_get_as_many_as_the_others() -> None:
    """Outputs and states must stay beside their input partition."""
    facts = GOOD | {NAMES.quality: replace(GOOD[NAMES.quality], partitions=7)}
    facts[NAMES.segments] = replace(facts[NAMES.segments], partitions=7)
    (problem,) = problems_of(facts)
    assert "vqmon.segments.v1 7, vqmon.quality.v1 7, vqmon.control.v1 6" in problem.text
    assert not problem.is_fatal
    for name, line in zip((NAMES.control, NAMES.alerts), problem.remedy.splitlines(), strict=False):
        assert line.strip() == f"kafka-topics.sh {OPTIONS} --alter --topic {name} --partitions 7"


@pytest.mark.parametrize(
    ("name", "config", "text", "change", "is_fatal"),
    [
        (NAMES.state, {"cleanup_policy": "delete"}, "it must be compact", "cleanup.policy=compact", True),
        (NAMES.quality, {"max_message_bytes": "1000"}, "stop its partition", "max.message.bytes=67536", False),
        (NAMES.segments, {"retention_ms": "3600000"}, "away for a day", "retention.ms=86400000", False),
        (NAMES.alerts, {"min_insync_replicas": "1"}, "undo commits", "min.insync.replicas=2", False),
        (NAMES.alerts, {"min_insync_replicas": "3"}, "one broker is away", "min.insync.replicas=2", False),
        (
            NAMES.alerts,
            {"unclean_leader_election_enable": "true"},
            "committed records are lost",
            "unclean.leader.election.enable=false",
            False,
        ),
    ],
)
def test_each_config_is_named_with_the_command_that_sets_it(
    name: str, config: dict[str, str], text: str, change: str, is_fatal: bool
) -> None:
    """Workers refuse to start only with what they cannot work with."""
    (problem,) = problems_of(with_config(name, **config))
    key, value = next(iter(config.items()))
    assert problem.text.startswith(f"topic {name} (")
    assert f"has {key.replace('_', '.')}={value}" in problem.text
    assert text in problem.text
    assert (problem.remedy, problem.is_fatal) == (alter(name, change), is_fatal)


def test_few_copies_are_a_problem_of_kafkas_own_topics_too() -> None:
    """A transaction is no safer than the log of transactions."""
    facts = GOOD | {
        NAMES.state: replace(
            GOOD[NAMES.state], copies=2, config={**GOOD[NAMES.state].config, "min.insync.replicas": "2"}
        ),
        "__transaction_state": TopicFacts(partitions=50, copies=1),
    }
    texts = [problem.text for problem in problems_of(facts)]
    assert texts[1:] == [
        f"topic {NAMES.state} has 2 copies of each partition, kafka.copies is 3",
        "topic __transaction_state has 1 copies of each partition, kafka.copies is 3",
    ]
    assert "one broker is away" in texts[0]


def test_a_configuration_that_may_not_be_read_is_said() -> None:
    """Rather than taken for good."""
    (problem,) = problems_of(GOOD | {NAMES.alerts: replace(GOOD[NAMES.alerts], config={})})
    assert "may not read its configuration" in problem.text
    assert not problem.is_fatal
