"""One segment: what was seen in it frame by frame, or why nothing could be seen."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from vqmon.core.scores import PROMOTION_REASONS, PROMOTION_SKIP_REASONS
from vqmon.core.types import SIGNALS, MediaFacts, Outcome, Provenance, QualityEvent, Segment, SegmentFailure
from vqmon.errors import REASONS
from vqmon.web.addresses import EVENT_ID, stream_path
from vqmon.web.model.explanations import STAGES, WHAT_TO_DO, meaning
from vqmon.web.site import Site

Facts = list[tuple[str, str]]

PICTURE_WIDTH = 416


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRow:
    """One frame: a value per scorer, how far that is on 0..100, and a value per signal shown."""

    time: float
    picture_url: str | None
    values: Sequence[float]
    shares: Sequence[float]
    signals: Sequence[float]
    is_worst: bool


def segment(site: Site, request: Request) -> Response:
    """Answer `/segments/{event_id}`."""
    it = outcome_asked(site, request)
    previous, following = site.history.neighbours(it.id)
    event = it if isinstance(it, QualityEvent) else None
    seconds = (event.media.duration_seconds if event else 0) or it.segment.duration_seconds
    return site.page(
        "segment.html",
        request,
        outcome=it,
        segment=it.segment,
        seconds=seconds,
        stream_url=stream_path(it.segment.rendition.stream_id),
        previous=previous,
        next=following,
        failure=_failure(it) if isinstance(it, SegmentFailure) else None,
        alerts=_alerts(site, it),
        facts=[{"title": title, "facts": facts} for title, facts in _facts(it)],
        **(_frames(event, len(site.history.thumbnails(it.id))) if event else {}),
    )


def outcome_asked(site: Site, request: Request) -> Outcome:
    """The outcome that the path names; raises 404."""
    event_id = request.path_params["event_id"]
    it = site.history.outcome(event_id) if EVENT_ID.fullmatch(event_id) else None
    if it is None:
        raise HTTPException(404, "There is no such segment, or it is older than what the history keeps.")
    return it


def _alerts(site: Site, it: Outcome) -> list[object]:
    """Alerts of this rendition that held while the segment played."""
    rendition = it.segment.rendition
    return [
        alert
        for alert in site.history.alerts(stream_id=rendition.stream_id)
        if alert.rendition == rendition.name
        and alert.began_at <= it.segment.ends_at
        and (alert.resolved_at is None or alert.resolved_at >= it.segment.starts_at)
    ]


# ---- frames


def _frames(event: QualityEvent, picture_count: int) -> dict[str, Any]:
    shown = [name for name in SIGNALS if name in event.signals and event.signals[name].max > 0]
    frames = [_frame(event, number, shown, picture_count) for number in range(len(event.times_seconds))]
    ratio = event.media.height / event.media.width if event.media.width else 9 / 16
    return {
        "scores": event.scores,
        "frames": frames,
        "signal_names": shown,
        "signal_meanings": SIGNALS,
        "quiet_signals": ", ".join(name.replace("_", " ") for name in event.signals if name not in shown),
        "picture_height": round(PICTURE_WIDTH * ratio),
    }


def _frame(event: QualityEvent, number: int, shown: Sequence[str], picture_count: int) -> FrameRow:
    values = [score.frame_values[number] for score in event.scores if number < len(score.frame_values)]
    first = event.scores[0].frame_values if event.scores else ()
    return FrameRow(
        time=event.times_seconds[number],
        picture_url=f"/segments/{event.id}/frames/{number}.jpg" if number < picture_count else None,
        values=values,
        shares=[min(100.0, max(0.0, value)) for value in values],
        signals=[event.signals[name].frame_values[number] for name in shown],
        is_worst=len(first) > 1 and number < len(first) and first.index(min(first)) == number,
    )


# ---- failures


def _failure(it: SegmentFailure) -> dict[str, object]:
    stages = list(STAGES)
    reached = stages.index(it.stage)
    words = ["done" if number < reached else "not reached" for number in range(len(stages))]
    words[reached] = it.reason.replace("_", " ")
    return {
        "meaning": meaning(it.reason),
        "doing": STAGES[it.stage],
        "detail": "" if it.detail == REASONS[it.reason] else it.detail,
        "remedies": WHAT_TO_DO[it.reason],
        "steps": [
            {"name": stage, "word": words[number], "is_here": number == reached} for number, stage in enumerate(stages)
        ],
    }


# ---- facts


def _facts(it: Outcome) -> Iterator[tuple[str, Facts]]:
    if isinstance(it, QualityEvent):
        yield "Media", _media(it.media)
    yield "Segment", _segment(it.segment, it)
    if isinstance(it, QualityEvent):
        if judged := _judged(it):
            yield "Scorers among themselves", judged
        yield "Provenance", _provenance(it.provenance)


def _media(media: MediaFacts) -> Facts:
    facts = [
        ("Picture", f"{media.width}×{media.height}, {media.fps:.2f} fps, {media.frame_count} frames"),
        ("Length", f"{media.duration_seconds:.2f} s"),
        ("Codec", f"{media.codec} in {media.container}"),
        ("Pixels", media.pixel_format),
        ("Colour", f"{media.colour}, transfer {media.transfer}"),
    ]
    if media.rotation_degrees:
        facts.append(("Rotation", f"{media.rotation_degrees}°, turned upright before scoring"))
    if media.is_interlaced:
        facts.append(("Scan", "interlaced, deinterlaced before scoring"))
    if media.tone_mapping:
        facts.append(("Tone mapping", media.tone_mapping))
    return facts + [("Note", note) for note in media.notes]


def _segment(segment: Segment, it: Outcome) -> Facts:
    facts = [
        ("Rendition", segment.rendition.name),
        ("Sequence", str(segment.sequence)),
        ("Address", segment.url.split("?")[0]),
        ("Announced length", f"{segment.duration_seconds:.2f} s" if segment.duration_seconds else "unknown"),
        ("Delay", f"{max(timedelta(), it.observed_at - segment.ends_at).total_seconds():.1f} s after its last picture"),
        ("Event id", it.id),
    ]
    facts += [("Prompt", segment.prompt)] if segment.prompt else []
    return facts + _labels({**segment.rendition.labels, **segment.labels})


def _labels(labels: Mapping[str, str]) -> Facts:
    return [(name, value) for name, value in sorted(labels.items())]


def _judged(event: QualityEvent) -> Facts:
    """What scorers say beside their score: levels, how far they differ, trials, why a heavy one looked or did not."""
    facts: Facts = []
    if event.disagreement is not None:
        facts.append(("Disagreement", f"{event.disagreement:.1f} points between the highest and the lowest"))
    for score in event.scores:
        if score.levels:
            told = ", ".join(f"{name} {share:.0%}" for name, share in score.levels.items())
            sure = "" if score.entropy is None else f"; entropy {score.entropy:.2f}"
            facts.append((score.scorer, told + sure))
    facts += [(f"{score.scorer}, on trial", f"{score.value:.1f}, never alerts") for score in event.shadow_scores]
    if event.promotion is not None and event.promotion.reasons:
        why = "; ".join(PROMOTION_REASONS[reason] for reason in event.promotion.reasons)
        left_out = event.promotion.left_out
        facts.append(
            ("Heavy scorers", f"{why}. Did not look: {PROMOTION_SKIP_REASONS[left_out]}." if left_out else f"{why}.")
        )
    return facts


def _provenance(provenance: Provenance) -> Facts:
    facts: Facts = [("Sampling", provenance.sampling)]
    for scorer in provenance.scorers:
        facts.append((scorer.scorer, f"sha256 {scorer.sha256[:16]}…, {scorer.device}, {scorer.licence}"))
        facts.append(("Preprocessing", f"{scorer.preprocessing}, calibration {scorer.calibration_version}"))
    return facts + [(name, version) for name, version in sorted(provenance.versions.items())]
