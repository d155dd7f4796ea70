"""Answers of experiments for the pages: never waited for, kept, and begun anew when they are old."""

import os
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep

import pytest

from pipelines.experiments.background import BackgroundAnalyses, running_analyses
from pipelines.service.wiring import load_experiments
from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.human_review import Vote
from vqmon.core.experiments.results import Comparison
from vqmon.errors import StoreError
from vqmon.web.ports import ExperimentResult

NOW = datetime(2026, 11, 20, tzinfo=UTC)
TEXT = '[experiments.x]\ncontrol = "a"\n[experiments.x.arms.a]\n[experiments.x.arms.b]\n'
VOTE = Vote(pair_id="a:b", choice="tie", voter="v", at=NOW)


class Worker:
    """Compares when it is let to, and says how often."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.asked: list[tuple[str, int]] = []
        self.error: Exception | None = None

    def __call__(self, experiment: Experiment, votes: Sequence[Vote]) -> Comparison:
        assert self.may.wait(timeout=10)
        self.asked.append((experiment.name, len(votes)))
        if self.error:
            raise self.error
        return Comparison(
            experiment=experiment, begins_at=None, ends_at=None, outcomes=0, arms=(), checks=(), answers=()
        )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "experiments.toml"
    path.write_text(TEXT)
    return path


def answers(file: Path, worker: Worker, votes: list[Vote]) -> BackgroundAnalyses:
    return BackgroundAnalyses(
        load=lambda: load_experiments(file), path=file, compare=worker, votes=lambda name: votes, now=lambda: NOW
    )


def wait_for(answers: BackgroundAnalyses, is_there: Callable[[ExperimentResult], bool]) -> ExperimentResult:
    until = monotonic() + 10
    while monotonic() < until:
        result = answers.result("x")
        if is_there(result):
            return result
        sleep(0.01)
    raise AssertionError("it did not come")


def test_asking_never_waits(file: Path) -> None:
    """Until the answer is there, it is said that it is being worked out; then it is kept."""
    worker = Worker()
    with running_analyses(answers(file, worker, [])) as analyses:
        assert [experiment.name for experiment in analyses.experiments()] == ["x"]
        assert analyses.result("x") == ExperimentResult(is_running=True)
        assert analyses.result("none") == ExperimentResult()
        worker.may.set()
        result = wait_for(analyses, lambda answer: not answer.is_running)
        assert result.comparison is not None
        assert result.made_at == NOW
        assert analyses.result("x") == result
    assert worker.asked == [("x", 0)]


def test_a_vote_makes_an_answer_old(file: Path) -> None:
    """The old one is shown while the new one is worked out, which knows the vote."""
    worker, votes = Worker(), list[Vote]()
    worker.may.set()
    with running_analyses(answers(file, worker, votes)) as analyses:
        analyses.experiments()
        wait_for(analyses, lambda answer: answer.comparison is not None and not answer.is_running)
        worker.may.clear()
        votes.append(VOTE)
        shown = analyses.result("x")
        assert (shown.is_running, shown.comparison is not None) == (True, True)
        worker.may.set()
        wait_for(analyses, lambda answer: not answer.is_running)
    assert worker.asked == [("x", 0), ("x", 1)]


def test_a_failure_is_said(file: Path) -> None:
    """The thread goes on."""
    worker = Worker()
    worker.may.set()
    worker.error = StoreError("the disk is gone")
    with running_analyses(answers(file, worker, [])) as analyses:
        analyses.experiments()
        assert wait_for(analyses, lambda answer: bool(answer.problem)).problem == "the disk is gone"


def test_the_file_is_read_again_when_it_changes(file: Path) -> None:
    """A mistake in it is told beside what was known before."""
    analyses = answers(file, Worker(), [])
    assert len(analyses.experiments()) == 1
    file.write_text(TEXT.replace("control", "contrl"))
    os.utime(file, (1, 1))
    assert len(analyses.experiments()) == 1
    assert "contrl" in analyses.problem
    file.write_text(TEXT + TEXT.replace(".x", ".y"))
    os.utime(file, (2, 2))
    assert [experiment.name for experiment in analyses.experiments()] == ["x", "y"]
    assert analyses.problem == ""
