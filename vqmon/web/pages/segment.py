"""The page of a segment: its scores and signals frame by frame, or why it is unscored."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from vqmon.core.scores import PROMOTION_REASONS, PROMOTION_SKIP_REASONS, UNSCORED_REFERENCE
from vqmon.core.types import (
    SIGNALS,
    SUBTITLE_PROBLEMS,
    UNMEASURED_AUDIO,
    Alert,
    AudioFacts,
    MediaFacts,
    Outcome,
    Provenance,
    QualityEvent,
    ReferenceScore,
    Score,
    ScorerFailure,
    Segment,
    SegmentFailure,
    SubtitleFacts,
)
from vqmon.errors import REASONS
from vqmon.plurals import plural
from vqmon.web.model.explanations import REMEDIES_BY_REASON, STAGE_ACTIONS, reason_sentence
from vqmon.web.model.heat_maps import MapChoice, MapLayer, map_choices, map_layers, timeline
from vqmon.web.site import Site
from vqmon.web.urls import EVENT_ID_PATTERN, stream_path

_Facts = list[tuple[str, str]]
"""Label and value."""

_PICTURE_WIDTH = 416
_SHOWN_GAP_SECONDS = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class _FrameRow:
    """One frame: a value per scorer, the same clipped to 0..100 for the bar, and a value per signal shown."""

    time_seconds: float
    picture_url: str | None
    values: Sequence[float]
    shares: Sequence[float]
    # of the reference measures; None without a partner in the reference
    references: Sequence[float | None]
    signals: Sequence[float]
    is_worst: bool
    layers: Sequence[MapLayer]


def segment_page(site: Site, request: Request) -> Response:
    """Answer `/segments/{event_id}`."""
    outcome = requested_outcome(site, request)
    previous, following = site.history.neighbours(outcome.id)
    event = outcome if isinstance(outcome, QualityEvent) else None
    seconds = (event.media.duration_seconds if event else 0) or outcome.segment.duration_seconds
    return site.render_page(
        "segment.html",
        request,
        outcome=outcome,
        segment=outcome.segment,
        seconds=seconds,
        stream_url=stream_path(outcome.segment.rendition.stream_id),
        previous=previous,
        next=following,
        failure=_failure(outcome) if isinstance(outcome, SegmentFailure) else None,
        alerts=_alerts_during(site, outcome.segment),
        sections=[{"title": title, "facts": facts} for title, facts in _fact_sections(outcome)],
        **(_frames(event, picture_count=len(site.history.thumbnails(outcome.id))) if event else {}),
    )


def requested_outcome(site: Site, request: Request) -> Outcome:
    """The outcome that the path names; raises 404."""
    event_id = request.path_params["event_id"]
    outcome = site.history.outcome(event_id) if EVENT_ID_PATTERN.fullmatch(event_id) else None
    if outcome is None:
        raise HTTPException(404, "There is no such segment, or the history no longer holds it.")
    return outcome


def _alerts_during(site: Site, segment: Segment) -> list[Alert]:
    """Alerts of this rendition whose condition held at some time during the segment."""
    rendition = segment.rendition
    return [
        alert
        for alert in site.history.alerts(stream_id=rendition.stream_id)
        if alert.rendition == rendition.name
        and alert.began_at <= segment.ends_at
        and (alert.resolved_at is None or alert.resolved_at >= segment.starts_at)
    ]


# ---- frames


def _frames(event: QualityEvent, *, picture_count: int) -> dict[str, Any]:
    shown = [name for name in SIGNALS if name in event.signals and event.signals[name].max > 0]
    ratio = event.media.height / event.media.width if event.media.width else 9 / 16
    choices = map_choices(event.heat_maps)
    frames = [_frame(event, index, shown, picture_count, choices) for index in range(len(event.times_seconds))]
    return {
        "scores": event.scores,
        "scorer_failures": [_failure_text(failure) for failure in event.scorer_failures],
        "frames": frames,
        "maps": choices,
        "moments": timeline(event, choices),
        "references": event.references,
        "signal_names": shown,
        "signal_meanings": SIGNALS,
        "quiet_signals": ", ".join(name.replace("_", " ") for name in event.signals if name not in shown),
        "picture_height": round(_PICTURE_WIDTH * ratio),
    }


def _frame(
    event: QualityEvent, index: int, shown: Sequence[str], picture_count: int, choices: Sequence[MapChoice]
) -> _FrameRow:
    values = [score.frame_values[index] for score in event.scores if index < len(score.frame_values)]
    first_scorer = event.scores[0].frame_values if event.scores else ()
    return _FrameRow(
        time_seconds=event.times_seconds[index],
        picture_url=f"/segments/{event.id}/frames/{index}.jpg" if index < picture_count else None,
        values=values,
        shares=[min(100.0, max(0.0, value)) for value in values],
        references=[reference.frame_values[index] for reference in event.references],
        signals=[event.signals[name].frame_values[index] for name in shown],
        layers=map_layers(event.heat_maps, index, choices),
        is_worst=len(first_scorer) > 1 and index < len(first_scorer) and first_scorer.index(min(first_scorer)) == index,
    )


# ---- failures


def _failure(failure: SegmentFailure) -> dict[str, object]:
    stages = list(STAGE_ACTIONS)
    failed = stages.index(failure.stage)
    results = ["done" if index < failed else "not reached" for index in range(len(stages))]
    results[failed] = failure.reason.replace("_", " ")
    return {
        "meaning": reason_sentence(failure.reason),
        "action": STAGE_ACTIONS[failure.stage],
        "detail": "" if failure.detail == REASONS[failure.reason] else failure.detail,
        "remedies": REMEDIES_BY_REASON[failure.reason],
        "stages": [
            {"name": stage, "result": results[index], "is_failed": index == failed}
            for index, stage in enumerate(stages)
        ],
    }


# ---- facts


def _fact_sections(outcome: Outcome) -> Iterator[tuple[str, _Facts]]:
    if isinstance(outcome, QualityEvent):
        yield "Media", _media_facts(outcome.media)
        if outcome.audio is not None:
            yield "Sound", _audio_facts(outcome.audio)
        elif outcome.unmeasured_audio:
            yield "Sound", [("Not measured", UNMEASURED_AUDIO[outcome.unmeasured_audio])]
        if outcome.subtitles:
            yield "Subtitles", [(each.name, _subtitle_text(each)) for each in outcome.subtitles]
    yield "Segment", _segment_facts(outcome)
    if isinstance(outcome, QualityEvent):
        if facts := _scorer_facts(outcome):
            yield "Scorers in detail", facts
        if facts := _reference_facts(outcome):
            yield "Against the reference", facts
        if facts := [_measure_fact(score) for score in outcome.references if not score.is_compared]:
            yield "Measures of the segment alone", facts
        yield "Provenance", _provenance_facts(outcome.provenance)


def _media_facts(media: MediaFacts) -> _Facts:
    facts = [
        *_picture_facts(media),
        ("Codec", f"{media.codec} in {media.container}"),
        ("Pixel format", media.pixel_format),
        ("Colour", f"{media.colour}, transfer {media.transfer}"),
    ]
    if media.rotation_degrees:
        facts.append(("Rotation", f"{media.rotation_degrees}°, turned upright before scoring"))
    if media.is_interlaced:
        facts.append(("Scan", "interlaced, deinterlaced before scoring"))
    if media.has_captions:
        facts.append(("Captions", "CEA-608 or CEA-708 in the pictures"))
    if media.tone_mapping:
        facts.append(("Tone mapping", media.tone_mapping))
    return facts + [("Note", note) for note in media.notes]


def _subtitle_text(subtitles: SubtitleFacts) -> str:
    if subtitles.problem:
        return f"{subtitles.problem}: {subtitles.detail or SUBTITLE_PROBLEMS[subtitles.problem]}"
    return plural(subtitles.cues, "cue") if subtitles.cues else "no cue"


def _audio_facts(audio: AudioFacts) -> _Facts:
    channels = {1: "mono", 2: "stereo"}.get(audio.channels, f"{audio.channels} channels")
    facts = [
        ("Track", f"{audio.codec}, {audio.sample_rate_hz / 1000:g} kHz, {channels}, {audio.duration_seconds:.2f} s"),
        ("Loudness", _level(audio.loudness_lufs, "LUFS, integrated over the segment")),
        ("Loudest moment", _level(audio.momentary_max_lufs, "LUFS")),
        ("True peak", _level(audio.true_peak_dbtp, "dBTP")),
        ("Silent", f"{audio.silent_share:.0%} of the time"),
        ("Clipped", f"{audio.clipped_share:.2%} of the samples"),
    ]
    if audio.lost_channels:
        facts.append(("Lost channel", "one channel of two is silent"))
    elif audio.phase_correlation is not None:
        facts.append(("Phase", f"{audio.phase_correlation:+.2f}{', mono in stereo' if audio.is_mono else ''}"))
    if audio.offset_seconds is not None and audio.end_offset_seconds is not None:
        facts.append(
            ("Against the pictures", f"begins {audio.offset_seconds:+.3f} s, ends {audio.end_offset_seconds:+.3f} s")
        )
    if abs(audio.gap_seconds) >= _SHOWN_GAP_SECONDS:
        facts.append(("Gaps", f"{audio.gap_seconds:+.3f} s between timestamps and samples"))
    return facts


def _level(value: float | None, unit: str) -> str:
    return "none" if value is None else f"{value:.1f} {unit}"


def _picture_facts(media: MediaFacts) -> _Facts:
    size = f"{media.width}×{media.height}"
    if media.is_still:
        return [("Picture", f"{size}, a still picture")]
    return [
        ("Picture", f"{size}, {media.fps:.2f} fps, {plural(media.frame_count, 'frame')}"),
        ("Length", f"{media.duration_seconds:.2f} s"),
    ]


def _segment_facts(outcome: Outcome) -> _Facts:
    segment = outcome.segment
    delay = max(timedelta(), outcome.observed_at - segment.ends_at).total_seconds()
    facts = [
        ("Rendition", segment.rendition.name),
        ("Sequence number", str(segment.sequence)),
        ("URL", segment.url.split("?")[0]),
        ("Announced length", f"{segment.duration_seconds:.2f} s" if segment.duration_seconds else "unknown"),
        ("Delay", f"observed {delay:.1f} s after the segment ended"),
        ("Event id", outcome.id),
    ]
    if isinstance(outcome, QualityEvent) and outcome.served_url:
        facts.append(("Served from", outcome.served_url))
    facts += [("Prompt", segment.prompt)] if segment.prompt else []
    return facts + _label_facts(segment.all_labels)


def _label_facts(labels: Mapping[str, str]) -> _Facts:
    return [(name, value) for name, value in sorted(labels.items())]


def _failure_text(failure: ScorerFailure) -> tuple[str, str, str]:
    """Scorer, meaning of the reason, and detail of a scorer that gave no score."""
    name = f"{failure.scorer}, shadow" if failure.tier == "shadow" else failure.scorer
    return name, REASONS[failure.reason], failure.detail if failure.detail != REASONS[failure.reason] else ""


def _scorer_facts(event: QualityEvent) -> _Facts:
    """What scorers report beside their scores: level probabilities, disagreement, shadow scores, promotion."""
    facts: _Facts = []
    if event.disagreement is not None:
        facts.append(("Disagreement", f"{event.disagreement:.1f} points between the highest and the lowest score"))
    for score in event.scores:
        if score.levels:
            levels = ", ".join(f"{name} {share:.0%}" for name, share in score.levels.items())
            entropy = "" if score.entropy is None else f"; entropy {score.entropy:.2f}"
            facts.append((score.scorer, levels + entropy))
    facts += [(score.scorer, text) for score in event.scores if (text := _population_text(score))]
    facts += [(f"{score.scorer}, shadow", f"{score.value:.1f}, never alerts") for score in event.shadow_scores]
    if event.promotion is not None and event.promotion.undecided_without:
        facts.append(("Heavy scorers", f"not decided by the score, as {event.promotion.undecided_without} failed"))
    if event.promotion is not None and event.promotion.reasons:
        reasons = "; ".join(PROMOTION_REASONS[reason] for reason in event.promotion.reasons)
        left_out = event.promotion.left_out
        facts.append(
            ("Heavy scorers", f"{reasons}. Not run: {PROMOTION_SKIP_REASONS[left_out]}." if left_out else f"{reasons}.")
        )
    return facts


def _reference_facts(event: QualityEvent) -> _Facts:
    """Values of the reference measures and how the frames were paired, or why there are none."""
    if event.unscored_reference:
        meaning = UNSCORED_REFERENCE[event.unscored_reference]
        return [("Not compared", meaning), ("Reason", event.unscored_reference_detail)]
    facts = [_measure_fact(score) for score in event.references if score.is_compared]
    if (pairing := event.reference_pairing) is not None:
        offset = f"offset {pairing.offset_seconds:+.3f} s, confidence {pairing.confidence:.2f}"
        facts.append(("Pairing", f"{plural(pairing.paired_frames, 'frame')}, {offset}"))
        facts.append(("Canvas", pairing.canvas))
        areas = (("Picture", pairing.segment_area), ("Reference picture", pairing.reference_area))
        facts += [(name, area) for name, area in areas if area]
    if event.segment.reference is not None:
        facts.append(("Reference", event.segment.reference.url.split("?")[0]))
    return facts


def _measure_fact(score: ReferenceScore) -> tuple[str, str]:
    extreme = "lowest" if score.higher_is_better is None else "worst"
    return score.measure, f"{score.value:.4g} {score.unit}; {extreme} frame {score.worst:.4g}".replace(" ;", ";")


def _population_text(score: Score) -> str:
    """What a score means among other pictures: its percentile and the interval of the mean human score."""
    parts = []
    if score.percentile is not None:
        parts.append(f"better than {score.percentile:.0f} % of the scorer's reference population")
    if score.interval is not None:
        low, high, coverage = score.interval.low, score.interval.high, score.interval.coverage
        parts.append(f"mean human score between {low:.0f} and {high:.0f} with {coverage:.0%} probability")
    return "; ".join(parts)


def _provenance_facts(provenance: Provenance) -> _Facts:
    facts: _Facts = [("Sampling", provenance.sampling)]
    for scorer in provenance.scorers:
        facts.append((scorer.scorer, f"sha256 {scorer.sha256[:16]}…, {scorer.device}, {scorer.licence}"))
        facts.append(("Preprocessing", f"{scorer.preprocessing}, calibration {scorer.calibration_version}"))
    return facts + [(name, version) for name, version in sorted(provenance.versions.items())]
