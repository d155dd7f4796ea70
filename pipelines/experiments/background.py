"""Answers of experiments for the pages: worked out one by one in a process of their own, then kept for a while."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from pipelines.experiments.compare import compare_arms
from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.human_review import Vote
from vqmon.core.experiments.results import Comparison
from vqmon.errors import StoreError, VqmonError
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import open_history
from vqmon.web.ports import ExperimentResult

logger = logging.getLogger(__name__)

MIN_CACHE_SECONDS = 60.0
"""An answer is given again for so long, or for ten times as long as it took, whichever is longer."""

NICENESS = 10
"""By how much the work yields to everything else."""

CompareFunction = Callable[[Experiment, Sequence[Vote]], Comparison]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    answer: ExperimentResult
    votes: int
    # on the monotonic clock; until then it is fresh
    until: float


class BackgroundAnalyses:
    """What `vqmon.web.ports.Answers` asks for; safe to ask from several threads, none of which ever waits."""

    def __init__(
        self,
        *,
        load: Callable[[], Sequence[Experiment]],
        path: Path | None,
        compare: CompareFunction,
        votes: Callable[[str], Sequence[Vote]],
        now: Callable[[], datetime],
    ) -> None:
        self._load, self._path = load, path
        self._compare, self._votes, self._now = compare, votes, now
        self._read_at: float | None = None
        self._known: dict[str, Experiment] = {}
        self._kept: dict[str, _Kept] = {}
        # names in the order in which they were asked for
        self._wanted: dict[str, None] = {}
        self._changed = threading.Condition()
        self._is_closed = False
        self.problem = ""

    def experiments(self) -> Sequence[Experiment]:
        """As the file says now; as it said before while it cannot be read."""
        with self._changed:
            written_at = self._path.stat().st_mtime if self._path and self._path.is_file() else 0.0
            if written_at != self._read_at:
                self._read_at = written_at
                self._read()
            return tuple(self._known.values())

    def _read(self) -> None:
        try:
            found = {it.name: it for it in self._load()}
        except VqmonError as error:
            self.problem = str(error)
            return
        self.problem = ""
        self._kept = {name: it for name, it in self._kept.items() if self._known.get(name) == found.get(name)}
        self._known = found

    def result(self, name: str) -> ExperimentResult:
        """The newest answer; a newer one is begun when this one is old or people have voted since."""
        votes = len(self._votes(name))
        with self._changed:
            kept = self._kept.get(name)
            is_fresh = kept is not None and time.monotonic() < kept.until and kept.votes == votes
            if not is_fresh and name in self._known:
                self._wanted.setdefault(name)
                self._changed.notify()
            found = kept.answer if kept else ExperimentResult()
            return ExperimentResult(
                comparison=found.comparison,
                made_at=found.made_at,
                is_running=name in self._wanted,
                problem=found.problem,
            )

    # ---- the thread

    def work(self) -> None:
        """Work out what is asked for until `close`."""
        while (name := self._next()) is not None:
            try:
                self._work_out(name)
            finally:
                with self._changed:
                    self._wanted.pop(name, None)

    def _next(self) -> str | None:
        with self._changed:
            self._changed.wait_for(lambda: self._wanted or self._is_closed)
            return None if self._is_closed else next(iter(self._wanted))

    def _work_out(self, name: str) -> None:
        experiment = self._known.get(name)
        if experiment is None:
            return
        began, votes = time.monotonic(), self._votes(name)
        try:
            answer = ExperimentResult(comparison=self._compare(experiment, votes), made_at=self._now())
        except VqmonError as error:
            logger.warning("experiment %s: %s", name, error)
            answer = ExperimentResult(made_at=self._now(), problem=str(error))
        ended = time.monotonic()
        until = ended + max(MIN_CACHE_SECONDS, 10 * (ended - began))
        with self._changed:
            self._kept[name] = _Kept(answer=answer, votes=len(votes), until=until)

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


def compare_in_subprocess(place: HistoryLocation, experiment: Experiment, votes: Sequence[Vote]) -> Comparison:
    """The same as `compare`, in a process of its own at low priority: the pages stay as quick as ever.

    Raises what it raised, or StoreError when the process died.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_apart, args=(theirs, place, experiment, votes), name="compare", daemon=True)
    process.start()
    theirs.close()
    try:
        found = ours.recv()
    except EOFError:
        process.join()
        raise StoreError(f"the work on {experiment.name} ended by itself (exit code {process.exitcode})") from None
    process.join()
    if isinstance(found, Exception):
        raise found
    assert isinstance(found, Comparison)
    return found


def _apart(answer: Connection, place: HistoryLocation, experiment: Experiment, votes: Sequence[Vote]) -> None:
    os.nice(NICENESS)
    # Ctrl-C at a terminal reaches this process, too; the pages end it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with open_history(place, mode="read") as history:
            answer.send(compare_arms(history, experiment, votes=votes))
    except VqmonError as error:
        answer.send(error)


@contextmanager
def running_analyses(answers: BackgroundAnalyses) -> Iterator[BackgroundAnalyses]:
    """Run the thread; an answer that is being worked out when this ends is let go."""
    thread = threading.Thread(target=answers.work, name="answers", daemon=True)
    thread.start()
    try:
        yield answers
    finally:
        answers.close()
        thread.join(timeout=1.0)
