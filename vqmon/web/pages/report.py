"""The result of an experiment as one self-contained HTML file, to be mailed or archived."""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from markupsafe import Markup

from vqmon.core.experiments.human_review import PairExample
from vqmon.core.experiments.results import ArmResult, Comparison, ConfidenceInterval, Effect
from vqmon.core.types import HeatMap, QualityEvent
from vqmon.plurals import plural
from vqmon.web.charts.experiments import (
    distribution_plot,
    effect_decimals,
    forest_plot,
    interval_plot,
    interval_sentence,
    scorers_with_histograms,
)
from vqmon.web.model.heat_maps import MapChoice, map_choices, map_layers, worst_frame
from vqmon.web.pages.experiments import GUARDRAIL_CLASSES, VERDICT_CLASSES, experiment_settings, sort_checks
from vqmon.web.pages.scores import ScoredFile
from vqmon.web.site import STATIC, open_templates

_MAX_PAIRS = 6
"""At most this many of the worst pairs and as many of the best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFrame:
    """One side of a pair at the moment that is shown, with the heat maps of this frame alone."""

    time_seconds: float
    jpeg: bytes
    heat_maps: Sequence[HeatMap]


FramesOfPairs = Mapping[str, tuple[PairFrame, PairFrame]]
"""Id of a pair -> the same moment in control and arm."""


def pair_frames(control: ScoredFile, arm: ScoredFile) -> tuple[PairFrame, PairFrame] | None:
    """The worst frame of the side that scores less, and the nearest one of the other.

    None when a picture is missing. The sides may be sampled at other moments: where only key pictures are, for example.
    """
    sides = [(item.outcome, item.thumbnails) for item in (control, arm)]
    events = [outcome for outcome, _ in sides if isinstance(outcome, QualityEvent) and outcome.scores]
    if len(events) < 2:
        return None
    worse = min(events, key=lambda event: event.scores[0].value)
    moment = worse.times_seconds[worst_frame(worse)]
    frames = []
    for event, (_, thumbnails) in zip(events, sides, strict=True):
        index = min(range(len(event.times_seconds)), key=lambda index: abs(event.times_seconds[index] - moment))
        if index >= len(thumbnails):
            return None
        time, jpeg = thumbnails[index]
        heat_maps = event.heat_maps_at([event.times_seconds[index]])
        frames.append(PairFrame(time_seconds=time, jpeg=jpeg, heat_maps=heat_maps))
    return frames[0], frames[1]


def shown_pairs(comparison: Comparison) -> list[PairExample]:
    """The pairs of which a report shows frames."""
    return [pair for arm_result in comparison.answers for pair in _extreme_pairs(arm_result)]


def render_report(
    comparison: Comparison, *, title: str, now: datetime, frames: FramesOfPairs = MappingProxyType({})
) -> str:
    """The whole result as HTML that loads nothing: style sheet, charts and frames are part of it."""
    maps = map_choices(heat_map for pair in frames.values() for frame in pair for heat_map in frame.heat_maps)
    scorers = scorers_with_histograms(comparison.arms)
    template = open_templates(title).get_template("report.html")
    return template.render(
        experiment=comparison.experiment,
        comparison=comparison,
        now=now,
        css=Markup((STATIC / "vqmon.css").read_text(encoding="utf-8")),
        verdict_classes=VERDICT_CLASSES,
        guardrail_classes=GUARDRAIL_CLASSES,
        arms=[
            _arm_section(comparison, arm_result) | {"frames": list(_pair_pictures(arm_result, frames, maps))}
            for arm_result in comparison.answers
        ],
        maps=maps,
        distribution=distribution_plot(comparison.arms, scorers[0]) if scorers else None,
        checks=sort_checks(comparison.checks, *(arm_result.checks for arm_result in comparison.answers)),
        settings=experiment_settings(comparison.experiment),
    )


def _arm_section(comparison: Comparison, arm_result: ArmResult) -> dict[str, object]:
    experiment, names = comparison.experiment, {"arm": arm_result.arm, "control": arm_result.control}
    return {
        "answer": arm_result,
        "effects": [
            {
                "effect": effect,
                "decimals": effect_decimals(effect),
                "intervals": list(_intervals(effect)),
                "facts": list(_facts(effect)),
                "interval": interval_plot(effect, experiment, **names),
                "sentence": interval_sentence(effect, experiment, **names),
                "forest": forest_plot(effect),
            }
            for effect in arm_result.effects
        ],
        "pairs": _extreme_pairs(arm_result),
    }


def _pair_pictures(
    arm_result: ArmResult, frames: FramesOfPairs, maps: Sequence[MapChoice]
) -> Iterator[dict[str, object]]:
    """The frames of the extreme pairs as data URLs, with the layers of their heat maps."""
    for pair in _extreme_pairs(arm_result):
        if pair.id in frames:
            names = (arm_result.control, arm_result.arm)
            scores = (pair.control_score, pair.arm_score)
            yield {
                "pair": pair,
                "sides": [
                    {
                        "name": name,
                        "score": score,
                        "time_seconds": frame.time_seconds,
                        "picture": f"data:image/jpeg;base64,{b64encode(frame.jpeg).decode()}",
                        "layers": map_layers(frame.heat_maps, 0, maps),
                    }
                    for name, score, frame in zip(names, scores, frames[pair.id], strict=True)
                ],
            }


def _extreme_pairs(arm_result: ArmResult) -> list[PairExample]:
    """The worst and the best pairs, no pair twice: of a few pairs, half are the worst and half the best."""
    worst, best = arm_result.pairs_with_role("worst"), arm_result.pairs_with_role("best")
    distinct = len({pair.id for pair in (*worst, *best)})
    shown = worst[: min(_MAX_PAIRS, (distinct + 1) // 2)]
    shown_ids = {pair.id for pair in shown}
    return [*shown, *[pair for pair in best if pair.id not in shown_ids][: min(_MAX_PAIRS, distinct // 2)]]


def _intervals(effect: Effect) -> Iterator[tuple[str, ConfidenceInterval]]:
    # the reading may equal two of them
    has_mark = False
    for name, interval in (
        ("all looks together", None if effect.reading in (effect.anytime, effect.final) else effect.reading),
        ("any-time", effect.anytime),
        ("with skew and rare losses", effect.corrected),
        ("once, at the end (t)", effect.final),
        ("every segment weighs the same", effect.weighted),
        ("adjusted for covariates", effect.adjusted),
        ("bootstrap over contents", effect.bootstrap),
    ):
        if interval is not None:
            is_read = interval == effect.reading and not has_mark
            has_mark |= is_read
            note = ", used for the verdict" if is_read else ""
            yield f"{name}, {interval.level:.1%}{note}", interval


def _facts(effect: Effect) -> Iterator[tuple[str, str]]:
    yield "Contents", f"{effect.clusters}, {plural(effect.segments, 'segment')}"
    for name, value in (
        ("p, any-time", effect.p_anytime),
        ("p, t test", effect.p_t),
        ("p, sign flips", effect.p_sign_flip),
        ("p, Wilcoxon signed-rank", effect.p_wilcoxon),
    ):
        if value is not None:
            yield name, f"{value:.3g}"
    if effect.win_rate is not None:
        yield "Ahead in", f"{effect.win_rate:.0%} of contents ({effect.win_low:.0%} to {effect.win_high:.0%})"
