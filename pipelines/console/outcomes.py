"""Outcomes, alerts and scorers as a person reads them in a terminal."""

from collections.abc import Sequence

from pipelines.observe.playlists.partial_verdicts import PartialVerdict
from vqmon.core.frames import UNMEASURED_AUDIO
from vqmon.core.scores import score_band
from vqmon.core.types import Alert, Outcome, QualityEvent, SegmentFailure, public_url
from vqmon.media.fetch.ssrf_policy import decode_url_path, printable
from vqmon.plurals import plural
from vqmon.scoring.manifests.composite_scorer import CompositeSpec
from vqmon.scoring.manifests.frame_scorer import ScorerSpec
from vqmon.scoring.manifests.level_scorer import LevelScorerSpec
from vqmon.scoring.manifests.reference_measure import ReferenceMeasureSpec
from vqmon.terminal import Table, escape

_BAND_COLOURS = {"very high": "green", "high": "green", "medium": "yellow", "low": "red", "very low": "red"}

_NOTABLE_SIGNAL = 0.5
"""A signal from here on is worth a word."""


def outcomes_table(outcomes: Sequence[Outcome]) -> Table:
    """One row per outcome."""
    table = Table()
    table.add_column("segment", folds=True)
    for name in ("score", "p5", "min"):
        table.add_column(name, justify="right")
    table.add_column("frames", justify="right")
    table.add_column("band / reason")
    table.add_column("picture", folds=True)
    for outcome in outcomes:
        name = _name(outcome)
        if isinstance(outcome, SegmentFailure):
            table.add_row(name, "–", "–", "–", "–", f"[red]unscored: {outcome.reason}[/red]", escape(outcome.detail))
            continue
        for score in outcome.scores:
            words = score_band(score.value)
            table.add_row(
                name,
                f"[bold]{score.value:.1f}[/bold]",
                f"{score.p5:.1f}",
                f"{score.min:.1f}",
                str(len(outcome.times_seconds) + score.additional_frames),
                f"[{_BAND_COLOURS[words]}]{words}[/{_BAND_COLOURS[words]}]"
                + (f" {score.scorer}" if len(outcome.scores) > 1 else ""),
                escape(_picture(outcome)),
            )
        for failure in outcome.scorer_failures:
            why = f"[red]no score: {failure.reason}[/red] {failure.scorer}"
            table.add_row(name, "–", "–", "–", "–", why, escape(failure.detail))
    return table


def outcome_line(outcome: Outcome) -> str:
    """One outcome in one line, with markup."""
    segment = outcome.segment
    place = f"{segment.starts_at:%H:%M:%S} {escape(segment.rendition.key):24} #{segment.sequence:<6}"
    if isinstance(outcome, SegmentFailure):
        if outcome.reason == "playlist":
            # it is about no segment; the time in the path makes its id its own
            address = escape(public_url(segment.url).split(";at=")[0])
            place = f"{segment.starts_at:%H:%M:%S} {escape(segment.rendition.key):24} {address}"
        return f"{place} [red]unscored: {outcome.reason}[/red] {escape(outcome.detail)}"
    scores = "  ".join(f"[{_BAND_COLOURS[score_band(s.value)]}]{s.scorer} {s.value:5.1f}[/]" for s in outcome.scores)
    scores += "".join(f"  [red]{failure.scorer} {failure.reason}[/red]" for failure in outcome.scorer_failures)
    notable = ", ".join(_notable(outcome))
    frames = len(outcome.times_seconds) + max((score.additional_frames for score in outcome.scores), default=0)
    return f"{place} {scores}  {plural(frames, 'frame')}" + (f"  [yellow]{notable}[/yellow]" if notable else "")


def partial_line(verdict: PartialVerdict) -> str:
    """One verdict on a segment that is being made in one line, with markup."""
    place = f"{verdict.starts_at:%H:%M:%S} {escape(verdict.rendition.key):24} #{verdict.sequence:<6}"
    span = f"{verdict.from_seconds:.1f} to {verdict.to_seconds:.1f} s of it"
    if verdict.score is None:
        return f"[dim]{place} {span} [/dim] [red]unscored: {verdict.unscored}[/red]"
    return f"[dim]{place} {span}  {verdict.score.scorer} {verdict.score.value:5.1f}[/dim]"


def alert_line(alert: Alert) -> str:
    """One alert in one line, with markup."""
    about = escape(f"{alert.rule} {alert.series}: {alert.summary}")
    if alert.state == "open":
        return f"[bold red]ALERT[/bold red] {alert.severity} {about}"
    return f"[bold green]RESOLVED[/bold green] {about}"


def rule_change_table(before: Sequence[Alert], after: Sequence[Alert] | None) -> Table:
    """Alerts of the old and the new rules side by side; None = there are no new rules."""
    title = f"{plural(len(before), 'alert')} with the old rules"
    table = Table(title=title if after is None else f"{title}, {len(after)} with the new")
    for name in ("rules", "rule", "series", "began", "opened", "resolved"):
        table.add_column(name, folds=True)
    rows = [("old" if after is None else "both" if a in after else "old only", a) for a in before]
    rows += [("new only", a) for a in after or () if a not in before]
    for which, alert in sorted(rows, key=lambda row: (row[1].opened_at, row[1].series)):
        ended = f"{alert.resolved_at:%Y-%m-%d %H:%M:%S}" if alert.resolved_at else "open"
        table.add_row(
            which,
            escape(alert.rule),
            escape(alert.series),
            f"{alert.began_at:%Y-%m-%d %H:%M:%S}",
            f"{alert.opened_at:%Y-%m-%d %H:%M:%S}",
            ended,
        )
    return table


def scorers_table(
    specs: Sequence[ScorerSpec | LevelScorerSpec | CompositeSpec | ReferenceMeasureSpec], *, used: Sequence[str]
) -> Table:
    """One row per scorer, or reference measure, and one per task of a scorer that can be asked several things."""
    table = Table()
    for name in ("scorer", "used", "view", "licence", "commercial use", "description"):
        table.add_column(name, folds=True)
    newest = {spec.name: max(other.version for other in specs if other.name == spec.name) for spec in specs}
    for spec in specs:
        picture = _view_text(spec)
        allowed = {True: "yes", False: "no", None: "not stated"}[spec.licence.commercial]
        tasks = [task.name for task in spec.tasks] if isinstance(spec, LevelScorerSpec) else []
        for name in [f"{spec.name}.{task}" for task in tasks] or [spec.name]:
            full = f"{name}@{spec.version}"
            known = {full} | ({spec.id} if name in (spec.name, f"{spec.name}.{tasks[0]}" if tasks else "") else set())
            if spec.version == newest[spec.name]:
                known |= {scorer_id.partition("@")[0] for scorer_id in known}
            is_used = "✓" if known & set(used) else ""
            table.add_row(full, is_used, picture, escape(spec.licence.name), allowed, escape(spec.description))
    return table


def _view_text(spec: ScorerSpec | LevelScorerSpec | CompositeSpec | ReferenceMeasureSpec) -> str:
    if isinstance(spec, ReferenceMeasureSpec):
        return f"with a reference, {spec.preprocessing_id}"
    sources = spec.sources if isinstance(spec, CompositeSpec) else (spec,)
    views = dict.fromkeys(source.input.view for source in sources)
    return ", ".join(f"{view.kind} {view.width}x{view.height}" for view in views)


def _name(outcome: Outcome) -> str:
    segment = outcome.segment
    last = printable(decode_url_path(segment.url.split("?")[0].rstrip("/").rsplit("/", 1)[-1]))
    if segment.rendition.stream_id == last:
        return escape(last)
    return escape(f"{segment.rendition.key} #{segment.sequence} {last}")


def _picture(event: QualityEvent) -> str:
    media = event.media
    length = "still" if media.is_still else f"{media.duration_seconds:.1f} s"
    facts = [f"{media.codec} {media.width}x{media.height} {length}"]
    if media.tone_mapping:
        facts.append(f"HDR by {media.tone_mapping}")
    return ", ".join([*facts, *_notable(event), *_references(event), *_sound(event)])


def _sound(event: QualityEvent) -> list[str]:
    """Loudness and silence, or why they were not measured; nothing when that was not asked for."""
    audio = event.audio
    if audio is None:
        return [f"sound: {UNMEASURED_AUDIO[event.unmeasured_audio]}"] if event.unmeasured_audio else []
    if audio.loudness_lufs is None:
        # nothing is louder than -70 LUFS, or it lasts less than 0.4 s
        return ["sound silent" if audio.silent_share == 1 else "sound too quiet or too short for a loudness"]
    return [
        f"sound {audio.loudness_lufs:.1f} LUFS",
        *([f"silent {audio.silent_share:.0%}"] if audio.silent_share else []),
    ]


def _references(event: QualityEvent) -> list[str]:
    unscored = f"reference unscored: {event.unscored_reference}: {event.unscored_reference_detail}"
    values = [
        f"{score.measure} {score.value:.4g}{f' {score.unit}' if score.unit else ''}" for score in event.references
    ]
    return [unscored, *values] if event.unscored_reference else values


def _notable(event: QualityEvent) -> list[str]:
    return [
        f"{name} {value.mean:.2f}" for name, value in sorted(event.signals.items()) if value.mean >= _NOTABLE_SIGNAL
    ]
