"""Prints the evaluation of scorers to a terminal."""

from collections.abc import Iterator

from pipelines.commands.evaluation.evaluate import EvaluatedData
from vqmon.core.evaluation.results import STATISTICS, Estimate, ScorerResult
from vqmon.terminal import Table, escape
from vqmon.web.pages.evaluation import comparison_sentence

_HEADINGS = {"srcc": "SRCC", "plcc": "PLCC", "krcc": "KRCC", "rmse": "RMSE", "pairwise_accuracy": "pairs right"}
_MAX_GROUPS = 40
_MAX_OUTLIERS = 5


def evaluation_lines(evaluated: EvaluatedData) -> Iterator[str | Table]:
    """Statistics of all items first, then comparisons, groups and outliers; with markup."""
    evaluation = evaluated.evaluation
    unit = f"{evaluation.resampled_contents} contents" if evaluation.resampled_contents else "items"
    counts = f"{evaluation.items} items; 95 % intervals from {evaluation.draws} resamples of {unit}"
    yield f"[dim]{escape(evaluated.data.layout)}: {counts}[/dim]"
    for remark in evaluated.remarks():
        yield f"[yellow]{escape(remark)}[/yellow]"
    yield _statistics_table(evaluation.scorers)
    for pair in evaluation.comparisons:
        yield escape(comparison_sentence(pair))
    for result in evaluation.scorers:
        if result.by_group:
            yield ""
            yield _group_table(result)
        yield ""
        yield _outlier_table(result)


def _statistics_table(results: tuple[ScorerResult, ...]) -> Table:
    table = number_table("scorer", *(_HEADINGS[name] for name in STATISTICS), "outliers")
    for result in results:
        cells = [_cell(result.statistics[name]) for name in STATISTICS]
        table.add_row(escape(result.scorer), *cells, f"{100 * result.outlier_share:.1f} %")
    return table


def _group_table(result: ScorerResult) -> Table:
    table = number_table(f"{escape(result.scorer)} by group", "items", *(_HEADINGS[name] for name in STATISTICS))
    if result.within_groups is not None:
        within = result.within_groups
        cells = [_cell(within.statistics[name]) for name in STATISTICS]
        table.add_row("[bold]within groups: mean[/bold]", f"{within.groups} groups", *cells)
    for group in result.by_group[:_MAX_GROUPS]:
        cells = [_cell(group.statistics[name]) for name in STATISTICS]
        table.add_row(escape(group.group or "(no group)"), str(group.items), *cells)
    if len(result.by_group) > _MAX_GROUPS:
        table.add_row(f"... {len(result.by_group) - _MAX_GROUPS} more in --json and --html", "")
    return table


def _outlier_table(result: ScorerResult) -> Table:
    table = number_table(f"{escape(result.scorer)}: worst disagreements", "people", "scorer", "mapped", "residual", "σ")
    for outlier in result.outliers[:_MAX_OUTLIERS]:
        numbers = (outlier.score, outlier.prediction, outlier.mapped)
        table.add_row(
            escape(outlier.item),
            *(f"{number:.3g}" for number in numbers),
            f"{outlier.residual:+.3g}",
            f"{outlier.deviations:+.1f}",
        )
    return table


def number_table(first: str, *others: str) -> Table:
    """A table without rows: a column of names, which may wrap, and columns of numbers."""
    table = Table()
    table.add_column(first, folds=True)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _cell(estimate: Estimate) -> str:
    if estimate.value is None:
        return "–"
    value = f"[bold]{estimate.value:.3f}[/bold]"
    return value if estimate.low is None else f"{value} [dim]{estimate.low:.3f}..{estimate.high:.3f}[/dim]"
