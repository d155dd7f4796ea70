"""`vqmon compare`, `vqmon plan` and `vqmon pictures` over a small history."""

import json
import logging
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests import factories
from vqmon.cli.main import main
from vqmon.transport.history.history import open_history

EXPERIMENTS = """
[experiments.trial]
question = "Is v2 better than v1?"
control = "v1"
scorers = ["lite"]
planned_clusters = 8
[experiments.trial.arms.v1]
label = "v1"
[experiments.trial.arms.v2]
label = "v2"
"""


@pytest.fixture(autouse=True)
def _working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VQMON_CONFIG", raising=False)
    (tmp_path / "vqmon.toml").write_text('[history]\npath = "vqmon.db"\n[experiments]\npath = "experiments.toml"\n')
    (tmp_path / "experiments.toml").write_text(EXPERIMENTS)
    level = logging.getLogger("vqmon").level
    yield
    logging.getLogger("vqmon").setLevel(level)


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """Eight streams of three segments in two arms; v2 is 8 points better."""
    events = list(factories.paired_events(streams=8, segments=3, gain=8.0))
    with open_history(tmp_path / "vqmon.db", "write") as opened_history:
        opened_history.publish(events)
    return tmp_path / "vqmon.db"


def run_command(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == status, result.output
    return result


@pytest.mark.usefixtures("history")
def test_compare_prints_the_verdict_and_the_json_holds_the_same() -> None:
    text = run_command("compare", "trial").stdout
    document = json.loads(run_command("compare", "trial", "--json").stdout)
    assert text.startswith("Is v2 better than v1?\n48 outcomes, ")
    assert document["outcomes"] == 48
    assert document["answers"][0]["verdict"]["sentence"] in text


def test_compare_reads_the_file_and_the_history_that_a_person_names(history: Path, tmp_path: Path) -> None:
    file = tmp_path / "others.toml"
    file.write_text(EXPERIMENTS.replace("trial", "other"))
    elsewhere = history.rename(tmp_path / "elsewhere.db")
    run_command("compare", "other", status=2)
    # a folder of this name is no matter: encodes are often named after their experiment
    (tmp_path / "other").mkdir()
    with chdir(tmp_path):
        result = run_command("compare", "other", "--file", str(file), "--history", str(elsewhere))
    assert "48 outcomes" in result.stdout


@pytest.mark.usefixtures("history")
def test_compare_writes_the_report_also_when_it_prints_json(tmp_path: Path) -> None:
    result = run_command("compare", "trial", "--json", "--html", str(tmp_path / "a[b].html"))
    assert json.loads(result.stdout)["outcomes"] == 48
    assert (tmp_path / "a[b].html").read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.usefixtures("history")
def test_compare_refuses_a_folder_as_report(tmp_path: Path) -> None:
    run_command("compare", "trial", "--html", str(tmp_path), status=2)


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("a", "b", "--history", "x.db"), "--file and --history are for an experiment"),
        (("a", "b", "--file", "x.toml"), "--file and --history are for an experiment"),
        (("trial", "--scorer", "lite"), "--scorer is for two folders"),
        (("a/",), "name a second one"),
        (("trial", "--html", "none/x.html"), "the folder none does not exist"),
    ],
)
def test_compare_refuses_options_without_effect(arguments: tuple[str, ...], remedy: str) -> None:
    """An option of the other kind of comparison, one folder alone, a report that could not be written."""
    assert remedy in " ".join(run_command("compare", *arguments, status=2).output.replace("\n", " ").split())


@pytest.mark.parametrize(
    "command", [("compare", "trail"), ("pictures", "trail"), ("plan", "trail", "--difference", "1")]
)
def test_an_unknown_experiment_names_the_nearest(command: tuple[str, ...], tmp_path: Path) -> None:
    assert "did you mean 'trial'" in CliRunner().invoke(main, command).output
    run_command(*command, status=2)
    assert not (tmp_path / "vqmon.db").exists()


@pytest.mark.parametrize(
    "command", [("compare", "trial"), ("pictures", "trial"), ("plan", "trial", "--difference", "1")]
)
def test_without_a_history_nothing_is_created(command: tuple[str, ...], tmp_path: Path) -> None:
    run_command(*command, status=2)
    assert not (tmp_path / "vqmon.db").exists()


def test_a_plan_without_a_pilot_uses_the_given_variance() -> None:
    text = run_command("plan", "--difference", "1.25", "--sd", "5").stdout
    assert "To detect 1.25 points with 80% power at alpha 0.05:" in text
    assert "67 clusters of 30 segments when you look at any time" in text


def test_a_plan_of_more_power_needs_more_clusters() -> None:
    text = run_command("plan", "--difference", "1.25", "--sd", "5", "--power", "0.95").stdout
    count = int(text.splitlines()[1].split()[0])
    assert "with 95% power" in text
    assert count > 67


def test_a_plan_of_uncorrelated_segments_has_no_design_effect() -> None:
    text = run_command("plan", "--difference", "2", "--sd", "5", "--icc", "0", "--segments", "4").stdout
    assert "clusters of 4 segments" in text
    assert "s.d. 2.50; the design effect is 1.0:" in text


@pytest.mark.usefixtures("history")
def test_a_pilot_gives_a_plan_its_segments_per_cluster() -> None:
    assert "clusters of 3 segments" in run_command("plan", "trial", "--difference", "1").stdout
    assert "clusters of 9 segments" in run_command("plan", "trial", "--difference", "1", "--segments", "9").stdout


def test_a_plan_needs_a_variance() -> None:
    assert "give --sd" in run_command("plan", "--difference", "1", status=2).stderr


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--difference", "0"),
        ("--difference", "1", "--sd", "-1"),
        ("--difference", "1", "--sd", "5", "--icc", "1.1"),
        ("--difference", "1", "--sd", "5", "--segments", "0"),
        ("--difference", "1", "--sd", "5", "--power", "0.5"),
        ("--difference", "1", "--sd", "5", "--power", "1"),
    ],
)
def test_a_plan_refuses_values_out_of_range(options: tuple[str, ...]) -> None:
    assert "Usage:" in run_command("plan", *options, status=2).stderr


def test_pictures_counts_pairs_whose_media_are_gone(tmp_path: Path) -> None:
    """Files outside fetch.file_roots cannot be decoded, and the history has no thumbnails."""
    events = [
        factories.event(
            segment=factories.segment(
                rendition=factories.arm_rendition(arm=arm), url=(tmp_path / f"{arm}.ts").as_uri()
            ),
            score=score,
        )
        for arm, score in (("v1", 60.0), ("v2", 70.0))
    ]
    with open_history(tmp_path / "vqmon.db", "write") as opened_history:
        opened_history.publish(events)
    result = run_command("pictures", "trial")
    summary = result.stderr.replace("\n", " ")
    assert "0 decoded, 0 copied from the history, 0 already stored, 2 without pictures" in summary
    assert "vqmon.db.reviews" in summary.replace(" ", "")
