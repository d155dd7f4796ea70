"""What becomes of the scores of `vqmon score`: a CSV, an HTML report, the history, and a gate for CI."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipelines.observe.observer import Observation
from pipelines.service.wiring import utc_now
from vqmon.core.alerts.annotations import StreamEnd, stream_end
from vqmon.core.types import Outcome, QualityEvent
from vqmon.errors import SettingsError, WireError
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import open_history
from vqmon.transport.wire import cloudevents
from vqmon.web.pages.scores import ScoredFile, render_scores
from vqmon.whole_files import write_whole_file


def gate_failures(
    outcomes: Sequence[Outcome], *, minimum: float | None, golden: Sequence[Outcome], tolerance: float
) -> list[str]:
    """Why a build must not pass, one line each: scores below `minimum`, or more than `tolerance` below `golden`.

    Outcomes are compared with the golden outcome of the same stream, rendition and sequence number. A golden score that
    is missing now is a failure too; a new one is not.
    """
    return [
        *(_below_minimum(outcomes, minimum) if minimum is not None else ()),
        *_below_golden(outcomes, golden, tolerance=tolerance),
    ]


def is_incomplete(outcome: Outcome) -> bool:
    """Whether a segment lacks the score of a scorer, or the comparison with its reference."""
    if not isinstance(outcome, QualityEvent):
        return True
    return bool(outcome.unscored_reference or outcome.scorer_failures)


def _below_minimum(outcomes: Sequence[Outcome], minimum: float) -> Iterator[str]:
    for outcome in outcomes:
        for score in outcome.scores if isinstance(outcome, QualityEvent) else ():
            if score.value < minimum:
                yield f"{_name(outcome)}: {score.scorer} {score.value:.1f} is below {minimum:g}"


def _below_golden(outcomes: Sequence[Outcome], golden: Sequence[Outcome], *, tolerance: float) -> Iterator[str]:
    current = {_name(outcome): outcome for outcome in outcomes}
    for expected in golden:
        if not isinstance(expected, QualityEvent):
            continue
        outcome = current.get(_name(expected))
        for score in expected.scores:
            now = outcome.score_of(score.scorer) if isinstance(outcome, QualityEvent) else None
            if now is None:
                yield f"{_name(expected)}: no score by {score.scorer}; golden {score.value:.1f}"
            elif now.value < score.value - tolerance:
                fall = score.value - now.value
                yield f"{_name(expected)}: {score.scorer} {now.value:.1f} is {fall:.1f} below golden {score.value:.1f}"


def read_golden(file: Path) -> list[Outcome]:
    """The outcomes in a file that `vqmon score --json` printed; raises SettingsError with the line."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot be read: {error}") from error
    outcomes = []
    for number, line in enumerate(lines, start=1):
        try:
            outcomes += [cloudevents.parse_outcome(line)] if line.strip() else []
        except WireError as error:
            raise SettingsError(
                f"{file}, line {number}: {error}; write the file with `vqmon score --json FILES > {file.name}`"
            ) from error
    if not outcomes:
        raise SettingsError(f"{file}: holds no scores; write it with `vqmon score --json FILES > {file.name}`")
    return outcomes


def publish_scores(observations: Sequence[Observation], location: HistoryLocation) -> None:
    """Write outcomes and thumbnails to a history, where the web pages show them as ended; raises StoreError."""
    thumbnails = {seen.outcome.id: seen.thumbnails for seen in observations if seen.thumbnails}
    with open_history(location, "write") as history:
        outcomes = [seen.outcome for seen in observations]
        history.publish(outcomes, ends=_ends_of(outcomes), thumbnails=thumbnails)


def _ends_of(outcomes: Sequence[Outcome]) -> list[StreamEnd]:
    """The end of each rendition: what is scored once has no further segments."""
    newest = {outcome.segment.rendition.key: outcome for outcome in outcomes}
    return [
        stream_end(
            outcome.segment.rendition.stream_id,
            outcome.segment.rendition.name,
            outcome.segment.ends_at,
            announced_at=outcome.observed_at,
        )
        for outcome in newest.values()
    ]


def write_score_report(observations: Sequence[Observation], file: Path, *, title: str) -> None:
    """Write one HTML file with a row and a picture per segment; raises SettingsError."""
    scored = [ScoredFile(outcome=seen.outcome, thumbnails=seen.thumbnails) for seen in observations]
    write_whole_file(file, render_scores(scored, title=title, now=utc_now()))


def _name(outcome: Outcome) -> str:
    segment = outcome.segment
    return f"{segment.rendition.key} #{segment.sequence}"
