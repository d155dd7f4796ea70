"""The commands of a fleet: the arguments that they pass on, what they print, and their exit codes."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pipelines.topics import publisher, recorder
from vqmon.cli.main import main
from vqmon.errors import BrokerError, StoreUnreachableError
from vqmon.settings.load import Settings


@pytest.fixture(autouse=True)
def _working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VQMON_CONFIG", raising=False)
    (tmp_path / "vqmon.toml").write_text('[history]\npath = "fleet.db"\n')
    level = logging.getLogger("vqmon").level
    yield
    logging.getLogger("vqmon").setLevel(level)


def run_command(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


class FakeCall:
    """An async function that records its arguments and returns or raises a given value."""

    def __init__(self, result: object = None) -> None:
        self.result = result
        self.settings: list[Settings] = []
        self.arguments: list[dict[str, Any]] = []
        self.addresses: list[Sequence[str]] = []

    async def __call__(self, settings: Settings, *addresses: Sequence[str], **arguments: Any) -> Any:
        self.settings.append(settings)
        self.addresses.extend(addresses)
        self.arguments.append(arguments)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ((12, 0), "12 segment messages published\n"),
        ((12, 3), "12 segment messages published, 3 playlist entries skipped\n"),
        ((0, 1), "0 segment messages published, 1 playlist entries skipped\n"),
    ],
)
def test_publish_counts_messages_and_skipped_entries(
    monkeypatch: pytest.MonkeyPatch, counts: tuple[int, int], line: str
) -> None:
    monkeypatch.setattr(publisher, "publish_segments", FakeCall(counts))
    result = run_command("publish", "a.ts", "--stream", "film")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", line)


def test_publish_passes_every_address_and_option_on(monkeypatch: pytest.MonkeyPatch) -> None:
    call = FakeCall((2, 0))
    monkeypatch.setattr(publisher, "publish_segments", call)
    options = ("--stream", "film", "--rendition", "720p", "--arm", "new", "--prompt", "A fox")
    assert run_command("publish", "b.ts", "a.ts", *options).exit_code == 0
    assert call.addresses == [("b.ts", "a.ts")]
    assert call.arguments == [{"stream_id": "film", "rendition": "720p", "arm": "new", "prompt": "A fox"}]


def test_publish_names_no_rendition_arm_or_prompt_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    call = FakeCall((1, 0))
    monkeypatch.setattr(publisher, "publish_segments", call)
    run_command("publish", "a.ts", "--stream", "film")
    assert call.arguments == [{"stream_id": "film", "rendition": "", "arm": "", "prompt": ""}]


@pytest.mark.parametrize("arguments", [("a.ts",), ("--stream", "film")])
def test_publish_needs_a_stream_and_an_address(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    call = FakeCall((1, 0))
    monkeypatch.setattr(publisher, "publish_segments", call)
    assert run_command("publish", *arguments).exit_code == 2
    assert call.settings == []


def test_record_writes_to_the_history_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    call = FakeCall()
    monkeypatch.setattr(recorder, "run", call)
    assert run_command("record").exit_code == 0
    assert Path(str(call.settings[0].history.location)).name == "fleet.db"
    assert call.arguments == [{"for_seconds": None}]


def test_record_writes_to_the_history_that_a_person_names(monkeypatch: pytest.MonkeyPatch) -> None:
    call = FakeCall()
    monkeypatch.setattr(recorder, "run", call)
    assert run_command("record", "--history", "other.db", "--for", "1.5").exit_code == 0
    assert call.settings[0].history.location == Path("other.db")
    assert call.arguments == [{"for_seconds": 1.5}]


def test_record_ends_with_code_4_when_the_history_is_gone_and_2_when_the_broker_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorder, "run", FakeCall(StoreUnreachableError("no answer")))
    assert run_command("record").exit_code == 4
    monkeypatch.setattr(recorder, "run", FakeCall(BrokerError("no answer")))
    assert run_command("record").exit_code == 2


def test_topics_create_prints_the_created_topics_one_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "create_missing_topics", FakeCall(["vqmon.segments.v1", "vqmon.quality.v1"]))
    assert run_command("topics", "create").stdout == "vqmon.segments.v1\nvqmon.quality.v1\n"


def test_topics_create_says_when_no_topic_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "create_missing_topics", FakeCall([]))
    result = run_command("topics", "create")
    assert (result.exit_code, result.stdout) == (0, "nothing to create\n")


def test_topics_check_fails_with_every_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "topic_problems", FakeCall(["a: is missing", "b: has 3 partitions"]))
    result = run_command("topics", "check")
    assert (result.exit_code, result.stdout) == (1, "a: is missing\nb: has 3 partitions\n")


def test_topics_check_succeeds_when_all_match(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "topic_problems", FakeCall([]))
    result = run_command("topics", "check")
    assert (result.exit_code, result.stdout) == (0, "all topics match the settings\n")


def test_topics_check_without_a_broker_is_no_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "topic_problems", FakeCall(BrokerError("broker:9092 does not answer")))
    result = run_command("topics", "check")
    assert result.exit_code == 2
    assert result.stdout == ""


def test_topics_acls_prints_a_command_per_resource_under_the_command_that_needs_it(tmp_path: Path) -> None:
    """Nothing is asked of the brokers."""
    file = tmp_path / "vqmon.toml"
    file.write_text('[source]\nkind = "kafka"\n[kafka]\nbootstrap = ["b:1"]\ngroup = "g"\n', encoding="utf-8")
    lines = run_command("--config", str(file), "topics", "acls", "--principal", "User:me").stdout.splitlines()
    assert next(line for line in lines if line.startswith("#")) == "# vqmon run"
    assert "--add --allow-principal User:me --operation READ --group g.gathered" in "\n".join(lines)
