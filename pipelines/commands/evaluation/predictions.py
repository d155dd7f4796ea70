"""Scores rated files by the same path as segments: fetch, decode, views, ONNX; with a cache that survives the run."""

import asyncio
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import IO

from pydantic import TypeAdapter, ValidationError

from pipelines.commands.evaluation.datasets import RatedFile
from pipelines.observe.observer import Observation, Observer
from pipelines.service.wiring import SCORE_MAX_SAMPLES, as_url, fetch_policy, open_observer, utc_now
from vqmon.core.types import SIGNALS, QualityEvent, Rendition, Score, Segment, SegmentFailure
from vqmon.errors import SettingsError
from vqmon.flow import iterate, map_in_order
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.settings.load import Settings

_SIGNAL_PREFIX = "signal:"
_SCORE = TypeAdapter(Score)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileResult:
    """What was observed of one rated file."""

    # by the scorer's id
    scores: Mapping[str, Score] = field(default_factory=dict)
    # mean over the frames, 0..1
    signals: Mapping[str, float] = field(default_factory=dict)
    # why there are no scores; empty when there are
    reason: str = ""

    def prediction(self, name: str) -> float | None:
        """The 0..100 score of a scorer, or 1 - mean of `signal:NAME`; higher is better; None where there is none."""
        if name.startswith(_SIGNAL_PREFIX):
            mean = self.signals.get(name.removeprefix(_SIGNAL_PREFIX))
            return None if mean is None else 1 - mean
        score = self.scores.get(name)
        return None if score is None else score.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """The results of rated files, in their order, and the names under which predictions are found."""

    names: Sequence[str]
    results: Sequence[FileResult]


def split_signals(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The scorers, and the `signal:NAME` entries; raises SettingsError for an unknown signal."""
    signals = [name for name in names if name.startswith(_SIGNAL_PREFIX)]
    for signal in signals:
        if signal.removeprefix(_SIGNAL_PREFIX) not in SIGNALS:
            known = ", ".join(_SIGNAL_PREFIX + name for name in SIGNALS)
            raise SettingsError(f"unknown signal {signal!r}; known: {known}")
    return [name for name in names if name not in signals], signals


async def predict(
    settings: Settings,
    rated: Sequence[RatedFile],
    *,
    signals: Sequence[str] = (),
    cache: Path | None = None,
    on_result: Callable[[FileResult], None] = lambda result: None,
) -> Predictions:
    """Score every file by `scoring.scorers` of the settings; files whose scores are in the cache are not decoded.

    A file that cannot be scored has a reason instead. The cache is written after each file, so that a run that was
    stopped continues where it stopped.
    """
    folders = list(dict.fromkeys(str(item.path.parent) for item in rated))
    async with (
        Fetcher(fetch_policy(settings, named=folders)) as fetcher,
        open_observer(settings, fetcher=fetcher, max_samples=SCORE_MAX_SAMPLES) as observer,
    ):
        names = [scorer.id for scorer in observer.judged]
        with _open_cache(cache, _conditions(settings, observer)) as stored:
            results: list[FileResult | None] = [stored.find(item, names) for item in rated]
            for result in results:
                if result is not None:
                    on_result(result)
            todo = [index for index, result in enumerate(results) if result is None]

            async def observe(index: int) -> FileResult:
                return _file_result(await observer.observe(_segment(rated[index])))

            async def finish(ready: Sequence[tuple[int, FileResult]]) -> None:
                for index, result in ready:
                    results[index] = result
                    stored.add(rated[index], result)
                    on_result(result)

            await map_in_order(iterate(todo), observe, finish, running=asyncio.Semaphore(settings.in_flight))
    return Predictions(names=[*names, *signals], results=[result for result in results if result is not None])


async def thumbnails(settings: Settings, rated: Sequence[RatedFile]) -> list[bytes | None]:
    """A JPEG of the middle frame of each file; None of a file that cannot be decoded."""
    if not rated:
        return []
    folders = list(dict.fromkeys(str(item.path.parent) for item in rated))
    async with (
        Fetcher(fetch_policy(settings, named=folders)) as fetcher,
        open_observer(settings, fetcher=fetcher, max_samples=SCORE_MAX_SAMPLES) as observer,
    ):
        pictures: list[bytes | None] = []
        for item in rated:
            frames = (await observer.observe(_segment(item))).thumbnails
            pictures.append(frames[len(frames) // 2][1] if frames else None)
        return pictures


def default_cache_file(environment: Mapping[str, str]) -> Path:
    """Where scores are kept between runs: $XDG_CACHE_HOME/vqmon/scores.jsonl."""
    folder = environment.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(folder) / "vqmon" / "scores.jsonl"


def _segment(item: RatedFile) -> Segment:
    return Segment(
        rendition=Rendition(stream_id=item.path.name, name="file"),
        sequence=0,
        url=as_url(str(item.path)),
        starts_at=utc_now(),
        prompt=item.prompt,
    )


def _file_result(observation: Observation) -> FileResult:
    outcome = observation.outcome
    if isinstance(outcome, SegmentFailure):
        return FileResult(reason=f"{outcome.reason}: {outcome.detail}")
    return _event_result(outcome)


def _event_result(event: QualityEvent) -> FileResult:
    return FileResult(
        scores={score.scorer: score for score in event.scores},
        signals={name: signal.mean for name, signal in event.signals.items()},
    )


def _conditions(settings: Settings, observer: Observer) -> str:
    """Identifies everything but the file that a score depends on."""
    identities = [scorer.identity for scorer in observer.judged]
    facts = {
        "scorers": sorted(
            f"{each.scorer} {each.sha256} {each.preprocessing} {each.calibration_version}" for each in identities
        ),
        "decode": [settings.decode.sampling, settings.decode.fps, settings.decode.hdr],
        "versions": dict(observer.versions),
    }
    return json.dumps(facts, sort_keys=True, default=str)


class _Cache:
    """Results by file and conditions, in a file of JSON lines; a line that is cut off or foreign is ignored."""

    def __init__(self, conditions: str, lines: Iterator[str], sink: IO[str] | None) -> None:
        self._conditions, self._sink = conditions, sink
        self._results: dict[str, FileResult] = {}
        for line in lines:
            try:
                record = json.loads(line)
                self._results[record["key"]] = FileResult(
                    scores={name: _SCORE.validate_python(score) for name, score in record["scores"].items()},
                    signals=record["signals"],
                )
            except (ValueError, KeyError, TypeError, AttributeError, ValidationError):
                continue

    def find(self, item: RatedFile, scorers: Sequence[str]) -> FileResult | None:
        result = self._results.get(self._key(item))
        return result if result is not None and set(scorers) <= set(result.scores) else None

    def add(self, item: RatedFile, result: FileResult) -> None:
        if self._sink is None or result.reason:
            return
        scores = {name: _SCORE.dump_python(score, mode="json") for name, score in result.scores.items()}
        record = {"key": self._key(item), "scores": scores, "signals": dict(result.signals)}
        self._sink.write(json.dumps(record) + "\n")
        self._sink.flush()

    def _key(self, item: RatedFile) -> str:
        """Changes when the file is written again."""
        status = item.path.stat()
        facts = (os.path.realpath(item.path), status.st_size, status.st_mtime_ns, item.prompt, self._conditions)
        return sha256("\n".join(str(fact) for fact in facts).encode(errors="surrogateescape")).hexdigest()


@contextmanager
def _open_cache(file: Path | None, conditions: str) -> Iterator[_Cache]:
    """Raises SettingsError when the file cannot be written."""
    if file is None:
        yield _Cache(conditions, iter(()), None)
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a+", encoding="utf-8") as opened:
            opened.seek(0)
            yield _Cache(conditions, opened, opened)
    except OSError as error:
        problem = f"the cache of scores cannot be written: {error.strerror}"
        raise SettingsError(f"{file}: {problem}; name another file with --cache") from error
