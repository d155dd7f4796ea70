"""Scores rated files by the same path as segments: fetch, decode, views, ONNX, reference measures; with a cache."""

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
from pipelines.service.wiring import (
    SCORE_MAX_SAMPLES,
    as_url,
    fetch_policy,
    open_observer,
    open_picture_decoder,
    settings_for_score,
    utc_now,
)
from vqmon.core.scores import REFERENCE_PREFIX
from vqmon.core.types import SIGNALS, QualityEvent, Reference, Rendition, Score, Segment, SegmentFailure
from vqmon.errors import SegmentError, SettingsError
from vqmon.flow import iterate, map_in_order
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.reference.measures.offered import ALONE_MEASURES, REFERENCE_MEASURES
from vqmon.settings.load import Settings
from vqmon.settings.scoring import ScoringSettings

_SIGNAL_PREFIX = "signal:"
_SCORE = TypeAdapter(Score)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileResult:
    """What was observed of one rated file."""

    # by the scorer's id
    scores: Mapping[str, Score] = field(default_factory=dict)
    # mean over the frames, 0..1
    signals: Mapping[str, float] = field(default_factory=dict)
    # measure -> value with the sign that makes higher better
    references: Mapping[str, float] = field(default_factory=dict)
    # why there are no scores; empty when there are
    reason: str = ""
    # why there are no values of reference measures
    unscored_reference: str = ""
    # scorer's id -> why it has no score
    scorer_failures: Mapping[str, str] = field(default_factory=dict)

    def prediction(self, name: str) -> float | None:
        """The 0..100 score of a scorer, 1 - mean of `signal:NAME`, or a reference measure; higher is better.

        None where there is none.
        """
        if name.startswith(_SIGNAL_PREFIX):
            mean = self.signals.get(name.removeprefix(_SIGNAL_PREFIX))
            return None if mean is None else 1 - mean
        if name in self.references:
            return self.references[name]
        score = self.scores.get(name)
        return None if score is None else score.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """The results of rated files, in their order, and the names under which predictions are found."""

    names: Sequence[str]
    results: Sequence[FileResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictors:
    """What is compared with human scores."""

    # as `vqmon score --scorer` takes them
    scorers: Sequence[str]
    # `signal:NAME`
    signals: Sequence[str]
    # names of reference measures, of learned ones perhaps with a version
    measures: Sequence[str]
    # names of measures of the file alone
    alone: Sequence[str] = ()


def split_predictors(names: Sequence[str]) -> Predictors:
    """Tell scorers from `signal:NAME` and from measures, which may be written `reference:NAME`.

    Learned measures must be. Raises SettingsError for an unknown signal.
    """
    names = list(dict.fromkeys(names))
    signals = [name for name in names if name.startswith(_SIGNAL_PREFIX)]
    for signal in signals:
        if signal.removeprefix(_SIGNAL_PREFIX) not in SIGNALS:
            known = ", ".join(_SIGNAL_PREFIX + name for name in SIGNALS)
            raise SettingsError(f"unknown signal {signal!r}; known: {known}")
    known_measures = {*REFERENCE_MEASURES, *ALONE_MEASURES}
    measures = [name for name in names if name.startswith(REFERENCE_PREFIX) or name in known_measures]
    scorers = [name for name in names if name not in signals and name not in measures]
    plain = list(dict.fromkeys(name.removeprefix(REFERENCE_PREFIX) for name in measures))
    return Predictors(
        scorers=scorers,
        signals=signals,
        measures=[name for name in plain if name not in ALONE_MEASURES],
        alone=[name for name in plain if name in ALONE_MEASURES],
    )


def settings_for_evaluation(settings: Settings, predictors: Predictors) -> Settings:
    """The settings with these predictors and nothing that costs more.

    Without a scorer among them the default scorer runs, because a segment needs one.
    """
    settings = settings_for_score(settings, scorers=predictors.scorers or ScoringSettings().scorers)
    chosen = {"references": tuple(predictors.measures), "measures": tuple(predictors.alone)}
    changes = {"heavy": (), "shadows": (), **chosen}
    scoring = settings.scoring.model_copy(update=changes)
    decode = settings.decode.model_copy(update={"heat_maps": False})
    return settings.model_copy(update={"scoring": scoring, "decode": decode})


async def predict(
    settings: Settings,
    rated: Sequence[RatedFile],
    predictors: Predictors,
    *,
    cache: Path | None = None,
    on_result: Callable[[FileResult], None] = lambda result: None,
) -> Predictions:
    """Score every file by the settings for these predictors; files whose results are in the cache are not decoded.

    A file that cannot be scored has a reason instead. The cache is written after each file, so that a run that was
    stopped continues where it stopped. Raises SettingsError when there are measures and no file has a reference.
    """
    measures = [name.partition("@")[0] for name in predictors.measures]
    if measures and not any(item.reference for item in rated):
        raise SettingsError(
            f"{', '.join(measures)}: compares each file with its reference, and the data name none; add a column "
            "`reference`"
        )
    async with (
        _open_fetcher(settings, rated) as fetcher,
        open_observer(settings, fetcher=fetcher, max_samples=SCORE_MAX_SAMPLES) as observer,
    ):
        names = [scorer.id for scorer in observer.judged] if predictors.scorers else []
        with _open_cache(cache, _conditions(settings, observer)) as stored:
            wanted = [*measures, *predictors.alone]
            results: list[FileResult | None] = [stored.find(item, names, wanted) for item in rated]
            for result in results:
                if result is not None:
                    on_result(result)
            todo = [index for index, result in enumerate(results) if result is None]

            async def observe(index: int) -> FileResult:
                return _file_result(await observer.observe(_segment(rated[index], with_reference=bool(measures))))

            async def finish(ready: Sequence[tuple[int, FileResult]]) -> None:
                for index, result in ready:
                    results[index] = result
                    stored.add(rated[index], result)
                    on_result(result)

            await map_in_order(iterate(todo), observe, finish, running=asyncio.Semaphore(settings.in_flight))
    return Predictions(
        names=[*names, *predictors.signals, *wanted], results=[result for result in results if result is not None]
    )


async def thumbnails(settings: Settings, rated: Sequence[RatedFile]) -> list[bytes | None]:
    """A JPEG of the middle frame of each file; None of a file that cannot be decoded."""
    width_px = settings.decode.thumbnail_width
    async with (
        _open_fetcher(settings, rated) as fetcher,
        open_picture_decoder(settings, width_px=width_px, max_samples=SCORE_MAX_SAMPLES) as decode,
    ):
        pictures: list[bytes | None] = []
        for item in rated:
            try:
                frames = await decode(await fetcher.fetch(_segment(item)))
            except SegmentError:
                frames = []
            pictures.append(frames[len(frames) // 2][1] if frames else None)
        return pictures


def _open_fetcher(settings: Settings, rated: Sequence[RatedFile]) -> Fetcher:
    """A fetcher that may read the folders of the files and of their references."""
    paths = [path for item in rated for path in (item.path, item.reference) if path is not None]
    return Fetcher(fetch_policy(settings, named=list(dict.fromkeys(str(path.parent) for path in paths))))


def default_cache_file(environment: Mapping[str, str]) -> Path:
    """Where scores are kept between runs: $XDG_CACHE_HOME/vqmon/scores.jsonl."""
    folder = environment.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(folder) / "vqmon" / "scores.jsonl"


def _segment(item: RatedFile, *, with_reference: bool = False) -> Segment:
    has_reference = with_reference and item.reference is not None
    return Segment(
        rendition=Rendition(stream_id=item.path.name, name="file"),
        sequence=0,
        url=as_url(str(item.path)),
        starts_at=utc_now(),
        prompt=item.prompt,
        reference=Reference(url=as_url(str(item.reference))) if has_reference else None,
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
        references={score.measure: score.level for score in event.references},
        unscored_reference=_why_unscored(event),
        scorer_failures={failure.scorer: f"{failure.reason}: {failure.detail}" for failure in event.scorer_failures},
    )


def _why_unscored(event: QualityEvent) -> str:
    if event.unscored_reference:
        return f"{event.unscored_reference}: {event.unscored_reference_detail}"
    is_compared = any(score.is_compared for score in event.references)
    return "" if is_compared else "no reference: the data name none for it"


def _conditions(settings: Settings, observer: Observer) -> str:
    """Identifies everything but the file that a score depends on."""
    identities = [scorer.identity for scorer in observer.judged]
    facts = {
        "scorers": sorted(
            f"{each.scorer} {each.sha256} {each.preprocessing} {each.calibration_version}" for each in identities
        ),
        "decode": [settings.decode.sampling, settings.decode.fps, settings.decode.hdr],
        "references": [settings.scoring.reference_canvas, settings.scoring.reference_kernel],
        "learned": sorted(str(measure.identity) for measure in observer.cascade.learned_measures),
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
                    references=record["references"],
                )
            except (ValueError, KeyError, TypeError, AttributeError, ValidationError):
                continue

    def find(self, item: RatedFile, scorers: Sequence[str], measures: Sequence[str]) -> FileResult | None:
        result = self._results.get(self._key(item))
        if result is None or not set(scorers) <= set(result.scores):
            return None
        return result if set(measures) <= set(result.references) else None

    def add(self, item: RatedFile, result: FileResult) -> None:
        if self._sink is None or result.reason:
            return
        scores = {name: _SCORE.dump_python(score, mode="json") for name, score in result.scores.items()}
        record = {
            "key": self._key(item),
            "scores": scores,
            "signals": dict(result.signals),
            "references": dict(result.references),
        }
        self._sink.write(json.dumps(record) + "\n")
        self._sink.flush()

    def _key(self, item: RatedFile) -> str:
        """Changes when the file or its reference is written again."""
        facts = (*_file_facts(item.path), *_file_facts(item.reference), item.prompt, self._conditions)
        return sha256("\n".join(str(fact) for fact in facts).encode(errors="surrogateescape")).hexdigest()


def _file_facts(path: Path | None) -> tuple[object, ...]:
    """Path, size and modification time; nothing for a file that does not exist."""
    if path is None or not path.is_file():
        return ()
    status = path.stat()
    return os.path.realpath(path), status.st_size, status.st_mtime_ns


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
