"""Analyses experiments for the pages: one at a time, in a process of its own, and caches the results."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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

_MIN_CACHE_SECONDS = 60.0
"""A result is cached for this long, or for ten times as long as its analysis took, whichever is longer."""

_CACHE_FACTOR = 10
_JOIN_SECONDS = 1.0

_NICENESS = 10
"""Niceness of the analysis process (see nice(1))."""

CompareFunction = Callable[[Experiment, Sequence[Vote]], Comparison]


@dataclass(frozen=True, slots=True, kw_only=True)
class _CachedResult:
    result: ExperimentResult
    # votes that it includes
    votes: int
    # on the monotonic clock
    expires_at_seconds: float


class BackgroundAnalyses:
    """The `vqmon.web.ports.ExperimentResults` of the pages: analyses in a background thread, and caches the results.

    `experiments` and `result` may be called from several threads, and never wait for an analysis.
    """

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
        self._file_modified_at: float | None = None
        self._experiments: dict[str, Experiment] = {}
        self._cache: dict[str, _CachedResult] = {}
        # a queue without duplicates: names in the order in which they were requested
        self._queue: dict[str, None] = {}
        self._condition = threading.Condition()
        self._is_closed = False
        self.problem = ""

    def experiments(self) -> Sequence[Experiment]:
        """The experiments in the file; while it cannot be read, those of the last time, and `problem` says why."""
        with self._condition:
            modified_at = self._path.stat().st_mtime if self._path and self._path.is_file() else 0.0
            if modified_at != self._file_modified_at:
                self._file_modified_at = modified_at
                self._reload()
            return tuple(self._experiments.values())

    def _reload(self) -> None:
        try:
            experiments = {experiment.name: experiment for experiment in self._load()}
        except VqmonError as error:
            self.problem = str(error)
            return
        self.problem = ""
        self._cache = {
            name: cached for name, cached in self._cache.items() if self._experiments.get(name) == experiments.get(name)
        }
        self._experiments = experiments

    def result(self, name: str) -> ExperimentResult:
        """The cached result; a new analysis is queued when it has expired, or when people have voted since."""
        votes = len(self._votes(name))
        with self._condition:
            cached = self._cache.get(name)
            is_fresh = cached is not None and time.monotonic() < cached.expires_at_seconds and cached.votes == votes
            if not is_fresh and name in self._experiments:
                self._queue.setdefault(name)
                self._condition.notify()
            return replace(cached.result if cached else ExperimentResult(), is_running=name in self._queue)

    def run(self) -> None:
        """Analyse queued experiments one by one until `close`; runs in a thread of its own."""
        while (name := self._next_queued()) is not None:
            try:
                self._analyse(name)
            finally:
                with self._condition:
                    self._queue.pop(name, None)

    def _next_queued(self) -> str | None:
        with self._condition:
            self._condition.wait_for(lambda: self._queue or self._is_closed)
            return None if self._is_closed else next(iter(self._queue))

    def _analyse(self, name: str) -> None:
        experiment = self._experiments.get(name)
        if experiment is None:
            return
        began_at_seconds, votes = time.monotonic(), self._votes(name)
        try:
            result = ExperimentResult(comparison=self._compare(experiment, votes), made_at=self._now())
        except VqmonError as error:
            logger.warning("experiment %s: %s", name, error)
            result = ExperimentResult(made_at=self._now(), problem=str(error))
        ended_at_seconds = time.monotonic()
        lifetime_seconds = max(_MIN_CACHE_SECONDS, _CACHE_FACTOR * (ended_at_seconds - began_at_seconds))
        with self._condition:
            self._cache[name] = _CachedResult(
                result=result, votes=len(votes), expires_at_seconds=ended_at_seconds + lifetime_seconds
            )

    def close(self) -> None:
        """Make `run` return after the current analysis."""
        with self._condition:
            self._is_closed = True
            self._condition.notify_all()


def compare_in_subprocess(location: HistoryLocation, experiment: Experiment, votes: Sequence[Vote]) -> Comparison:
    """Run `compare_arms` in a process of its own at low priority, so that the pages stay responsive.

    Raises what `compare_arms` raises, or StoreError when the process dies.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_send_comparison, args=(sender, location, experiment, votes), name="compare", daemon=True
    )
    process.start()
    sender.close()
    try:
        reply = receiver.recv()
    except EOFError:
        process.join()
        raise StoreError(f"the analysis of {experiment.name} died (exit code {process.exitcode})") from None
    process.join()
    if isinstance(reply, Exception):
        raise reply
    assert isinstance(reply, Comparison)
    return reply


def _send_comparison(
    sender: Connection, location: HistoryLocation, experiment: Experiment, votes: Sequence[Vote]
) -> None:
    os.nice(_NICENESS)
    # Ctrl-C in a terminal reaches this process too, but it is the parent that ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with open_history(location, mode="read") as history:
            sender.send(compare_arms(history, experiment, votes=votes))
    except VqmonError as error:
        sender.send(error)


@contextmanager
def running_analyses(analyses: BackgroundAnalyses) -> Iterator[BackgroundAnalyses]:
    """Run the background thread; an analysis that is running at the end is abandoned."""
    thread = threading.Thread(target=analyses.run, name="analyses", daemon=True)
    thread.start()
    try:
        yield analyses
    finally:
        analyses.close()
        thread.join(timeout=_JOIN_SECONDS)
