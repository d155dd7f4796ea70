"""Makes and measures a ladder: encodes in processes of their own, then the path of every segment, with a reference."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from pipelines.commands.evaluation.ladder.plan import LadderOptions, LadderPlan, plan_ladder
from pipelines.commands.evaluation.ladder.work_folder import StoredEncode, WorkFolder
from pipelines.observe.observer import Observer
from pipelines.service.wiring import SCORE_MAX_SAMPLES, as_url, fetch_policy, open_observer, utc_now
from vqmon.core.evaluation.ladder.encodes import AlteredForm, Encode, Ladder, Subject
from vqmon.core.types import QualityEvent, Reference, Rendition, Segment
from vqmon.errors import DecodeError, SettingsError
from vqmon.flow import iterate, map_in_order
from vqmon.media.encode.codecs import EncodeSettings
from vqmon.media.encode.process import Excerpt, cut_excerpt, encode_excerpt
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.media.reference.libvmaf.measures import LIBVMAF_MEASURES
from vqmon.media.reference.measures.offered import ALONE_MEASURES, REFERENCE_MEASURES
from vqmon.settings.load import Settings
from vqmon.settings.scoring import ScoringSettings

_SAMPLED_FPS = 2.0
_ENCODE_DEADLINE_SECONDS = 1800.0
_MAX_MEDIA_BYTES = 256_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredLadder:
    """A ladder with all its values, and how it was made."""

    clip: Path
    excerpt: Excerpt
    ladder: Ladder
    # at which both sides were compared; "" without reference measures
    canvas: str
    # sentences about what is left out
    remarks: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderStep:
    """Progress: an encode was made and measured, or was measured by an earlier run; `total` counts all of them."""

    name: str
    total: int
    is_stored: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """One encode and its event, or why there is none."""

    encode: StoredEncode | None = None
    event: QualityEvent | None = None
    problem: str = ""


def settings_for_ladder(settings: Settings, *, measures: Sequence[str] = ()) -> Settings:
    """The settings with the measures that a person chose, for short clips of which every half second is sampled.

    Raises SettingsError for an unknown measure.
    """
    chosen = _split_measures(settings, list(dict.fromkeys(measures))) if measures else {}
    try:
        # validated, as measures may be built in or installed
        scoring = ScoringSettings.model_validate({**dict(settings.scoring), "heavy": (), "shadows": (), **chosen})
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise SettingsError(message.removeprefix("references: ").removeprefix("measures: ")) from error
    decode = {"fps": max(_SAMPLED_FPS, settings.decode.fps), "thumbnail_width": 0}
    return settings.model_copy(
        update={
            "scoring": scoring,
            "decode": settings.decode.model_copy(update=decode),
            "fetch": settings.fetch.model_copy(update={"max_bytes": max(settings.fetch.max_bytes, _MAX_MEDIA_BYTES)}),
        }
    )


def _split_measures(settings: Settings, names: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """Measures with a reference, of which all encodes have one; alone, those that only exist so, or need no program."""
    offered = set(REFERENCE_MEASURES) if settings.scoring.ffmpeg else set(REFERENCE_MEASURES) - set(LIBVMAF_MEASURES)
    alone = [name for name in names if name in ALONE_MEASURES and name not in offered]
    return {"references": tuple(name for name in names if name not in alone), "measures": tuple(alone)}


async def measure_ladder(
    settings: Settings,
    clip: Path,
    options: LadderOptions,
    *,
    folder: Path,
    on_step: Callable[[LadderStep], None] = lambda step: None,
) -> MeasuredLadder:
    """Encode and measure an excerpt of a clip; what is in the work folder is not done once more.

    Raises SettingsError for a clip that cannot be read or a ladder that cannot be measured.
    """
    work = WorkFolder(folder, clip=clip, seconds=options.seconds, start_seconds=options.start_seconds)
    excerpt = await _excerpt(work, clip, options)
    plan = plan_ladder(options, clip_lines=excerpt.height)
    measured: dict[EncodeSettings, _Measured] = {}
    async with (
        Fetcher(fetch_policy(settings, named=[str(folder)])) as fetcher,
        open_observer(settings, fetcher=fetcher, max_samples=SCORE_MAX_SAMPLES) as observer,
    ):
        conditions = _conditions(settings, observer)

        async def measure(each: EncodeSettings) -> tuple[_Measured, bool]:
            encode, event = work.find_encode(each), work.find_event(each, conditions)
            if encode is not None and event is not None:
                return _Measured(encode=encode, event=event), True
            result = await _measure(work, observer, each, excerpt=excerpt)
            if result.event is not None:
                work.add_event(each, conditions, result.event)
            return result, False

        async def finish(ready: Sequence[tuple[EncodeSettings, tuple[_Measured, bool]]]) -> None:
            for each, (result, is_stored) in ready:
                measured[each] = result
                on_step(LadderStep(name=_describe(each), total=len(plan.all_settings), is_stored=is_stored))

        running = asyncio.Semaphore(settings.decode_workers)
        await map_in_order(iterate(list(dict.fromkeys(plan.all_settings))), measure, finish, running=running)
    return _assemble(clip, excerpt, plan, measured)


async def _excerpt(work: WorkFolder, clip: Path, options: LadderOptions) -> Excerpt:
    if (stored := work.find_excerpt()) is not None:
        return stored
    try:
        excerpt = await cut_excerpt(
            clip,
            seconds=options.seconds,
            start_seconds=options.start_seconds,
            deadline_seconds=_ENCODE_DEADLINE_SECONDS,
        )
    except DecodeError as error:
        raise SettingsError(f"{clip}: no ladder can be made of it: {error}") from error
    work.add_excerpt(excerpt)
    return excerpt


async def _measure(work: WorkFolder, observer: Observer, settings: EncodeSettings, *, excerpt: Excerpt) -> _Measured:
    stored = work.find_encode(settings)
    if stored is None:
        try:
            encoded = await encode_excerpt(
                work.excerpt_file,
                settings,
                fps=excerpt.fps,
                deadline_seconds=_ENCODE_DEADLINE_SECONDS,
            )
        except DecodeError as error:
            return _Measured(problem=f"cannot be encoded ({error})")
        stored = work.add_encode(settings, encoded)
    observed = await observer.observe(
        Segment(
            rendition=Rendition(stream_id="ladder", name=stored.file.stem, height=settings.lines),
            sequence=0,
            url=as_url(str(stored.file)),
            starts_at=utc_now(),
            reference=Reference(url=as_url(str(work.excerpt_file))),
        )
    )
    outcome = observed.outcome
    if not isinstance(outcome, QualityEvent):
        return _Measured(encode=stored, problem=f"cannot be scored ({outcome.reason}: {outcome.detail})")
    return _Measured(encode=stored, event=outcome)


def _conditions(settings: Settings, observer: Observer) -> str:
    """Identifies everything but the encode that its values depend on."""
    identities = [scorer.identity for scorer in observer.judged]
    identities += [measure.identity for measure in observer.cascade.learned_measures]
    scoring = settings.scoring
    facts = {
        "scorers": [
            f"{each.scorer} {each.sha256} {each.preprocessing} {each.calibration_version}" for each in identities
        ],
        "display": [scoring.display_lines, scoring.display_distance_heights],
        "references": [*scoring.references, scoring.reference_canvas, scoring.reference_kernel],
        "measures": list(scoring.measures),
        "decode": [settings.decode.sampling, settings.decode.fps, settings.decode.hdr],
        "versions": dict(observer.versions),
    }
    return json.dumps(facts, sort_keys=True, default=str)


def _assemble(
    clip: Path, excerpt: Excerpt, plan: LadderPlan, measured: Mapping[EncodeSettings, _Measured]
) -> MeasuredLadder:
    """The ladder of what has all values; raises SettingsError when nothing has."""
    events, remarks = _usable_events(measured)
    if not any(each in events for each in plan.encodes):
        raise SettingsError(f"{clip}: no encode could be measured. {remarks[0]}")
    subjects, missing = _subjects(list(events.values()))
    if missing:
        remarks.append(f"Left out, as some encodes have no value of them: {', '.join(missing)}.")
    ladder = Ladder(
        subjects=subjects,
        encodes=[
            Encode(
                codec=each.codec,
                lines=each.lines,
                setting=each.setting,
                rate_kbps=round(stored.rate_kbps, 2),
                values=_values(events[each]),
            )
            for each in plan.encodes
            if each in events and (stored := measured[each].encode) is not None
        ],
        forms=[
            AlteredForm(kind=form.kind, amount=form.amount, values=_values(events[form.settings]))
            for form in plan.forms
            if form.settings in events
        ],
    )
    pairing = next(iter(events.values())).reference_pairing
    return MeasuredLadder(
        clip=clip, excerpt=excerpt, ladder=ladder, canvas=pairing.canvas if pairing else "", remarks=remarks
    )


def _usable_events(
    measured: Mapping[EncodeSettings, _Measured],
) -> tuple[dict[EncodeSettings, QualityEvent], list[str]]:
    """The events that can be compared with each other, and remarks about what is left out.

    An event that could not be compared with the clip is left out, unless none could.
    """
    events = {each: result.event for each, result in measured.items() if result.event is not None}
    remarks = [f"Left out: {_describe(each)} {result.problem}." for each, result in measured.items() if result.problem]
    unpaired = [each for each, event in events.items() if not any(score.is_compared for score in event.references)]
    if unpaired and len(unpaired) == len(events):
        reason = events[unpaired[0]].unscored_reference_detail or "none is chosen"
        remarks.append(f"There are no reference measures ({reason}): only rates and noise can be judged.")
        return events, remarks
    for each in unpaired:
        detail = events.pop(each).unscored_reference_detail
        remarks.append(f"Left out: {_describe(each)} has no reference measures ({detail}).")
    return events, remarks


def _subjects(events: Sequence[QualityEvent]) -> tuple[list[Subject], list[str]]:
    """The scorers and measures of quality that all events have, and the names of those that only some have."""
    subjects = {score.scorer: Subject(name=score.scorer, is_scorer=True) for event in events for score in event.scores}
    for each in (each for event in events for each in event.references):
        if each.higher_is_better is not None:
            subjects[each.measure] = Subject(
                name=each.measure, is_scorer=False, higher_is_better=each.higher_is_better, unit=each.unit
            )
    in_all = set.intersection(*(set(_values(event)) for event in events))
    return (
        [subject for name, subject in subjects.items() if name in in_all],
        [name for name in subjects if name not in in_all],
    )


def _values(event: QualityEvent) -> dict[str, float]:
    return {
        **{score.scorer: score.value for score in event.scores},
        **{each.measure: each.value for each in event.references},
    }


def _describe(settings: EncodeSettings) -> str:
    altered = " soft" * bool(settings.soft_lines) + f" sharpened by {settings.sharpen:g}" * bool(settings.sharpen)
    altered += f" with noise {settings.noise}" * bool(settings.noise)
    return f"{settings.codec} {settings.lines}p {settings.setting}{altered}"
