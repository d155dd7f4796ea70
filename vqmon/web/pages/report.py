"""The result of an experiment as one self-contained HTML file, to be mailed or archived."""

from collections.abc import Iterator
from datetime import datetime

from markupsafe import Markup

from vqmon.core.experiments.human_review import PairExample
from vqmon.core.experiments.results import ArmResult, Comparison, ConfidenceInterval, Effect
from vqmon.plurals import plural
from vqmon.web.charts.experiments import (
    distribution_plot,
    effect_decimals,
    forest_plot,
    interval_plot,
    interval_sentence,
    scorers_with_histograms,
)
from vqmon.web.pages.experiments import GUARDRAIL_CLASSES, VERDICT_CLASSES, experiment_settings, sort_checks
from vqmon.web.site import STATIC, open_templates

_MAX_PAIRS = 6
"""At most this many of the worst pairs and as many of the best."""


def render_report(comparison: Comparison, *, title: str, now: datetime) -> str:
    """The whole result as HTML that loads nothing: style sheet and charts are part of it."""
    scorers = scorers_with_histograms(comparison.arms)
    template = open_templates(title).get_template("report.html")
    return template.render(
        experiment=comparison.experiment,
        comparison=comparison,
        now=now,
        css=Markup((STATIC / "vqmon.css").read_text(encoding="utf-8")),
        verdict_classes=VERDICT_CLASSES,
        guardrail_classes=GUARDRAIL_CLASSES,
        arms=[_arm_section(comparison, arm_result) for arm_result in comparison.answers],
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
