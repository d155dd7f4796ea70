"""The answer of an experiment as one HTML file that loads nothing: to be mailed, kept, and read in ten years."""

from collections.abc import Iterator
from datetime import datetime

from markupsafe import Markup

from vqmon.core.experiments.results import ArmResult, Comparison, ConfidenceInterval, Effect
from vqmon.web.charts.experiments import distribution_plot, forest, interval_plot, interval_sentence, scorers_in
from vqmon.web.pages.experiments import RAILS, SHAPES, all_checks, settings_of
from vqmon.web.site import STATIC, open_templates

PAIRS_SHOWN = 6
"""Of the worst and of the best each."""


def report(comparison: Comparison, *, title: str, now: datetime) -> str:
    """The whole answer as HTML with its style inside."""
    scorers = scorers_in(comparison.arms)
    page = open_templates(title).get_template("report.html")
    return page.render(
        it=comparison.experiment,
        comparison=comparison,
        now=now,
        css=Markup((STATIC / "vqmon.css").read_text(encoding="utf-8")),
        shapes=SHAPES,
        rails=RAILS,
        answers=[_answer(comparison, told) for told in comparison.answers],
        distribution=distribution_plot(comparison.arms, scorers[0]) if scorers else None,
        checks=all_checks(comparison.checks, *(told.checks for told in comparison.answers)),
        settings=settings_of(comparison.experiment),
    )


def _answer(comparison: Comparison, told: ArmResult) -> dict[str, object]:
    it, names = comparison.experiment, (told.arm, told.control)
    return {
        "told": told,
        "parts": [
            {
                "effect": effect,
                "intervals": list(_intervals(effect)),
                "facts": list(_facts(effect)),
                "interval": interval_plot(effect, it, names),
                "words": interval_sentence(effect, it, names),
                "forest": forest(effect),
            }
            for effect in told.effects
        ],
        "pairs": [*told.pairs_with_role("worst")[:PAIRS_SHOWN], *told.pairs_with_role("best")[:PAIRS_SHOWN]],
    }


def _intervals(effect: Effect) -> Iterator[tuple[str, ConfidenceInterval]]:
    for name, interval in (
        ("at any time", effect.anytime),
        ("corrected for a few contents that stand out", effect.corrected),
        ("one look at the end (t)", effect.final),
        ("each segment counts once", effect.weighted),
        ("with covariates", effect.adjusted),
        ("bootstrap over contents", effect.bootstrap),
    ):
        if interval is not None:
            read = " — this is what the verdict reads" if interval is effect.reading else ""
            yield f"{name}, {interval.level:.1%}{read}", interval


def _facts(effect: Effect) -> Iterator[tuple[str, str]]:
    yield "Contents", f"{effect.clusters}, {effect.segments:,} segments"
    for name, value in (
        ("p at any look", effect.p_anytime),
        ("p by t", effect.p_t),
        ("p by flipping signs", effect.p_sign_flip),
        ("p by ranks (Wilcoxon)", effect.p_wilcoxon),
    ):
        if value is not None:
            yield name, f"{value:.3g}"
    if effect.win_rate is not None:
        yield "Ahead in", f"{effect.win_rate:.0%} of contents ({effect.win_low:.0%} to {effect.win_high:.0%})"
