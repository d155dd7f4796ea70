"""Every `--json` option of the command prints JSON and nothing else on its standard output."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NoReturn

import click
import pytest
from click.testing import CliRunner

from pipelines.commands import score
from pipelines.commands.evaluation import predictions
from pipelines.observe.observer import Observation
from pipelines.topics import tail
from tests import factories
from vqmon.cli.console import EXIT_UNSCORED
from vqmon.cli.main import main
from vqmon.transport.history.history import open_history
from vqmon.transport.wire import cloudevents

EXPERIMENTS = """
[experiments.trial]
control = "v1"
arms = {v1 = {}, v2 = {}}
"""


def run_command(*arguments: str | Path, exit_code: int = 0) -> str:
    """What the command prints on its standard output."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result.stdout


def parse_json(text: str) -> Any:
    """The value in strict JSON, which has neither NaN nor Infinity."""

    def refuse(constant: str) -> NoReturn:
        pytest.fail(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def commands_with_json_option(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[str]:
    """The commands that have the option, as a person types them."""
    if any("--json" in parameter.opts for parameter in command.params):
        yield " ".join(path)
    if isinstance(command, click.Group):
        for name, subcommand in command.commands.items():
            yield from commands_with_json_option(subcommand, (*path, name))


def test_every_json_option_is_tested_here() -> None:
    """A command that gets the option needs a test in this file."""
    assert set(commands_with_json_option(main)) == {"compare", "evaluate", "ladder", "score", "tail"}


@pytest.mark.parametrize(("streams", "verdict"), [(20, "better"), (1, "undecided"), (0, "undecided")])
def test_compare_prints_one_json_object(tmp_path: Path, streams: int, verdict: str) -> None:
    """Also with a single cluster, and with no outcome at all."""
    file, database = tmp_path / "experiments.toml", tmp_path / "history.db"
    file.write_text(EXPERIMENTS, encoding="utf-8")
    with open_history(database, "write") as history:
        history.publish(list(factories.paired_events(streams=streams, segments=2, gain=5)))
    comparison = parse_json(run_command("compare", "trial", "--file", file, "--history", database, "--json"))

    assert comparison["experiment"]["name"] == "trial"
    assert comparison["outcomes"] == 4 * streams
    (result,) = comparison["answers"]
    assert (result["arm"], result["control"]) == ("v2", "v1")
    assert result["verdict"]["kind"] == verdict
    assert result["effects"][0]["clusters"] == streams


def test_score_prints_one_cloud_event_per_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scored or not; a segment without a score shows in the exit code too."""
    outcomes = [factories.event(sequence=0), factories.failure(sequence=1, reason="timeout")]

    async def score_media(*_: object, **__: object) -> list[Observation]:
        return [Observation(outcome=outcome) for outcome in outcomes]

    monkeypatch.setattr(score, "score_media", score_media)
    lines = run_command("score", "--json", "clip.mp4", exit_code=EXIT_UNSCORED).splitlines()
    events = [parse_json(line) for line in lines]

    assert [event["id"] for event in events] == [outcome.id for outcome in outcomes]
    assert {event["specversion"] for event in events} == {"1.0"}
    assert events[0]["data"]["scores"][0]["value"] == 70.0
    assert events[1]["data"]["reason"] == "timeout"


def test_tail_prints_one_cloud_event_per_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is on the topic, outcomes and alerts alike."""
    outcome, alert = factories.failure(), factories.alert()
    documents = [
        cloudevents.encode_outcome(outcome, source="test").decode(),
        cloudevents.encode_alert(alert, source="test").decode(),
    ]

    async def follow_fleet(*_: object, **__: object) -> AsyncIterator[tail.Verdict]:
        for value, document in zip((outcome, alert), documents, strict=True):
            yield tail.Verdict(value=value, document=document)

    monkeypatch.setattr(tail, "follow_fleet", follow_fleet)
    lines = run_command("tail", "--json").splitlines()
    assert lines == documents
    assert [parse_json(line)["type"] for line in lines] == [cloudevents.UNSCORED, cloudevents.ALERT_OPENED]


def test_evaluate_prints_one_json_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a statistic is not defined: predictions that do not vary."""
    (tmp_path / "scores.csv").write_text("path,score\n" + "".join(f"{n}.ts,{n}\n" for n in range(12)))
    for number in range(12):
        (tmp_path / f"{number}.ts").write_bytes(b"media")

    async def predict(*_: object, **__: object) -> predictions.Predictions:
        score = factories.score(value=50.0)
        results = [predictions.FileResult(scores={score.scorer: score})] * 12
        return predictions.Predictions(names=[score.scorer], results=results)

    monkeypatch.setattr(predictions, "predict", predict)
    document = parse_json(run_command("evaluate", "lite", "--data", tmp_path / "scores.csv", "--json"))
    assert document["evaluation"]["scorers"][0]["statistics"]["srcc"]["value"] is None
    assert len(document["items"]) == 12
