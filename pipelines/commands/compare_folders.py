"""`vqmon compare a/ b/`: compares two folders of encodes of the same sources with the statistics of an experiment."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipelines.service.wiring import SCORE_MAX_SAMPLES, as_url, fetch_policy, open_observer, utc_now
from vqmon.core.experiments.analysis.analysis import ExperimentAnalysis
from vqmon.core.experiments.definition import Arm, Experiment
from vqmon.core.experiments.results import ArmResult, Comparison
from vqmon.core.scores import reference_subject
from vqmon.core.types import Outcome, QualityEvent, Rendition, Segment
from vqmon.errors import SettingsError
from vqmon.flow import iterate, map_in_order
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.plurals import plural
from vqmon.settings.load import Settings
from vqmon.web.pages.report import FramesOfPairs, PairFrame, pair_frames
from vqmon.web.pages.scores import ScoredFile

_SEED = 1
_MIN_PAIRS = 2
_MIN_CONTENTS = 6
"""With fewer, not even a sign-flip test of contents that all agree reaches p = 0.05."""

_MAX_LISTED = 5


_LARGEST_LOSS_MARGINS = 8
"""Of a measure, in margins, as of scorers: 10 of 1.25 points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureCriterion:
    """The measure of `scoring.measures` that decides, and the largest loss, in its unit, that does not matter."""

    measure: str
    margin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderPairs:
    """The files of two folders that show the same source, and those without a partner."""

    control: Path
    treatment: Path
    # (name of the source, file of the control, file of the treatment)
    pairs: Sequence[tuple[str, Path, Path]]
    unpaired: Sequence[Path]

    def remark(self) -> str:
        """What was left out, in one sentence; empty when nothing was."""
        if not self.unpaired:
            return ""
        listed = ", ".join(str(path) for path in self.unpaired[:_MAX_LISTED])
        more = f" and {len(self.unpaired) - _MAX_LISTED} more" if len(self.unpaired) > _MAX_LISTED else ""
        return f"without a partner of the same name, left out: {listed}{more}"


def pair_folders(control: Path, treatment: Path) -> FolderPairs:
    """Pair files by name, whatever their suffix; raises SettingsError for one folder twice or fewer than two pairs.

    Two files of one folder that differ only in their suffix are paired only by their whole names.
    """
    first, second = _files(control), _files(treatment)
    if control.samefile(treatment):
        raise SettingsError(f"{control} and {treatment} are one folder; name two folders of encodes to compare")
    whole = sorted(first.keys() & second.keys())
    pairs = [(name, first[name], second[name]) for name in whole]
    first_stems, second_stems = _by_stem(first, whole), _by_stem(second, whole)
    stems = sorted(first_stems.keys() & second_stems.keys())
    pairs += [(stem, first_stems[stem], second_stems[stem]) for stem in stems]
    used = {path for _, *paths in pairs for path in paths}
    unpaired = [path for path in (*first.values(), *second.values()) if path not in used]
    if len(pairs) < _MIN_PAIRS:
        raise SettingsError(
            f"{plural(len(pairs), 'pair')} of files with the same name in {control} and {treatment}; a comparison "
            f"needs at least {_MIN_PAIRS}, a verdict {_MIN_CONTENTS}: name the encodes of one source alike, for "
            "example a/film.mp4 and b/film.mkv"
        )
    return FolderPairs(control=control, treatment=treatment, pairs=pairs, unpaired=unpaired)


def _files(folder: Path) -> dict[str, Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be read as a folder of encodes: {error.strerror}") from error
    return {path.name: path for path in paths if path.is_file() and not path.name.startswith(".")}


def _by_stem(files: dict[str, Path], without: Sequence[str]) -> dict[str, Path]:
    """The files by stem, without those whose stem is not unique."""
    rest = [path for name, path in files.items() if name not in without]
    stems = [path.stem for path in rest]
    return {path.stem: path for path in rest if stems.count(path.stem) == 1}


async def compare_folders(
    settings: Settings,
    folders: FolderPairs,
    *,
    criterion: MeasureCriterion | None = None,
    on_outcome: Callable[[], None] = lambda: None,
    located_frames: int = 0,
) -> tuple[Comparison, FramesOfPairs]:
    """Score both folders and compare them: each source is a cluster of one pair; also gives the pairs' worst moments.

    The first two scorers decide, or the `criterion`. For `located_frames` see `Observer`.
    """
    starts_at = utc_now()
    files = {as_url(str(path)): path for _, *paths in folders.pairs for path in paths}
    segments = [
        Segment(rendition=Rendition(stream_id=name, name=arm), sequence=0, url=as_url(str(path)), starts_at=starts_at)
        for name, *paths in folders.pairs
        for arm, path in zip(("a", "b"), paths, strict=True)
    ]
    analysis = ExperimentAnalysis(_experiment(settings, folders, criterion))
    policy = fetch_policy(settings, named=[str(folders.control), str(folders.treatment)])

    frames = _FramesOfFiles()

    async def finish(ready: Sequence[tuple[Segment, ScoredFile]]) -> None:
        for _, scored in ready:
            analysis.add(scored.outcome)
            frames.add(scored)
            on_outcome()

    async with (
        Fetcher(policy) as fetcher,
        open_observer(settings, fetcher=fetcher, max_samples=SCORE_MAX_SAMPLES) as opened,
    ):
        observer = replace(opened, located_frames=located_frames)

        async def observe(segment: Segment) -> ScoredFile:
            observation = await observer.observe(segment)
            outcome = _with_bitrate(observation.outcome, files[segment.url])
            return ScoredFile(outcome=outcome, thumbnails=observation.thumbnails)

        await map_in_order(iterate(segments), observe, finish, running=asyncio.Semaphore(settings.in_flight))
    comparison = analysis.finish(rng=np.random.default_rng(_SEED))
    # files have no place on a timeline
    answers = tuple(_with_few_contents(answer, len(folders.pairs)) for answer in comparison.answers)
    return replace(comparison, begins_at=None, ends_at=None, answers=answers), frames.by_pair


class _FramesOfFiles:
    """The worst moment of each pair; files come as control, then treatment, and only these two are in memory."""

    def __init__(self) -> None:
        self.by_pair: dict[str, tuple[PairFrame, PairFrame]] = {}
        self._control: ScoredFile | None = None

    def add(self, scored: ScoredFile) -> None:
        """Add the next file."""
        if self._control is None:
            self._control = scored
            return
        if (both := pair_frames(self._control, scored)) is not None:
            self.by_pair[f"{self._control.outcome.id}:{scored.outcome.id}"] = both
        self._control = None


def _with_bitrate(outcome: Outcome, file: Path) -> Outcome:
    """The outcome with the bitrate of its whole file, sound included; a still picture has none."""
    if not isinstance(outcome, QualityEvent) or outcome.media.is_still or outcome.media.duration_seconds <= 0:
        return outcome
    seconds = outcome.media.duration_seconds
    rendition = replace(outcome.segment.rendition, bitrate_kbps=file.stat().st_size * 8e-3 / seconds)
    return replace(outcome, segment=replace(outcome.segment, rendition=rendition, duration_seconds=seconds))


def _with_few_contents(answer: ArmResult, contents: int) -> ArmResult:
    """An undecided verdict on a few contents says that they are too few, how many are needed, and why."""
    is_blocked = any(not check.is_good and check.weight == "blocks" for check in answer.checks)
    if contents >= _MIN_CONTENTS or answer.verdict.kind != "undecided" or is_blocked:
        return answer
    chance = 2 / 2**contents
    reason = (
        f"{plural(contents, 'content')} of the at least {_MIN_CONTENTS} that a verdict needs: by chance alone, "
        f"all {contents} differ in one direction in {chance:.0%} of cases"
    )
    verdict = replace(
        answer.verdict,
        reasons=(reason, *answer.verdict.reasons),
        next_step=f"Add encodes of {plural(_MIN_CONTENTS - contents, 'other source')} or more to both folders.",
    )
    return replace(answer, verdict=verdict)


def _experiment(settings: Settings, folders: FolderPairs, criterion: MeasureCriterion | None) -> Experiment:
    first, second = folders.control.resolve(), folders.treatment.resolve()
    names = (first.name, second.name) if first.name != second.name else (str(folders.control), str(folders.treatment))
    experiment = Experiment(
        name=f"{names[1]} against {names[0]}",
        arms=(Arm(name=names[0], rendition="a"), Arm(name=names[1], rendition="b")),
        control=names[0],
        scorers=tuple(settings.scoring.scorers[:2]),
        planned_clusters=len(folders.pairs),
        segments_per_cluster=1,
        tolerance_seconds=0.0,
    )
    if criterion is None:
        return experiment
    return replace(
        experiment,
        scorers=(reference_subject(criterion.measure),),
        margin=criterion.margin,
        largest_loss=min(100.0, _LARGEST_LOSS_MARGINS * criterion.margin),
    )
