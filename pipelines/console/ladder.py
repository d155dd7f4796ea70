"""Prints a ladder to a terminal: the verdict on each scorer in words, then its evidence."""

from collections.abc import Iterator

from pipelines.commands.evaluation.ladder.measure import MeasuredLadder
from pipelines.console.evaluation import number_table
from vqmon.core.evaluation.ladder.analysis import LadderAnalysis
from vqmon.core.evaluation.ladder.curves import BdRate, CurveResult
from vqmon.core.evaluation.ladder.encodes import Subject
from vqmon.plurals import plural
from vqmon.terminal import Table, escape
from vqmon.web.pages.ladder import format_quality

_STYLES = {"no": "red", "yes": "green", "unclear": "yellow"}


def ladder_lines(measured: MeasuredLadder, analysis: LadderAnalysis) -> Iterator[str | Table]:
    """The verdicts first; with markup."""
    excerpt, ladder = measured.excerpt, measured.ladder
    yield (
        f"[dim]{escape(measured.clip.name)}: {excerpt.seconds:.1f} s from {excerpt.start_seconds:.1f} s on, "
        f"{excerpt.width}x{excerpt.height}; {plural(len(ladder.encodes), 'encode')}, "
        f"{plural(len(ladder.forms), 'altered form')}[/dim]"
    )
    for remark in measured.remarks:
        yield f"[yellow]{escape(remark)}[/yellow]"
    for verdict in analysis.verdicts:
        for statement in verdict.statements:
            style = _STYLES[statement.answer]
            yield f"[{style}]{escape(statement.text)}[/{style}]"
    yield ""
    yield _encode_table(analysis)
    yield ""
    yield _curve_table(analysis)
    if analysis.bd_rates:
        yield ""
        yield _bd_table(analysis)


def _encode_table(analysis: LadderAnalysis) -> Table:
    subjects = analysis.ladder.subjects
    table = number_table("encode", "kb/s", *(_heading(subject) for subject in subjects))
    for encode in analysis.ladder.encodes:
        values = [format_quality(encode.values[subject.name]) for subject in subjects]
        table.add_row(encode.name, f"{encode.rate_kbps:,.0f}", *values)
    for form in analysis.ladder.forms:
        table.add_row(form.name, "", *(format_quality(form.values[subject.name]) for subject in subjects))
    return table


def _curve_table(analysis: LadderAnalysis) -> Table:
    table = number_table("by rate, over all curves", "lowest rank correlation", "largest inversion", "")
    for subject in analysis.ladder.subjects:
        results = [result for result in analysis.curves if result.subject == subject.name]
        inversions = [result.inversion for result in results if result.inversion is not None]
        worst = max(inversions, key=lambda inversion: inversion.amount, default=None)
        table.add_row(
            escape(subject.name),
            _lowest_correlation(results),
            f"{format_quality(worst.amount)} {subject.unit}" if worst else "none",
            f"{worst.worse} above {worst.better}" if worst else "",
        )
    return table


def _lowest_correlation(results: list[CurveResult]) -> str:
    values = [result.rank_correlation for result in results if result.rank_correlation is not None]
    return f"{min(values):.2f}" if values else "–"


def _bd_table(analysis: LadderAnalysis) -> Table:
    sizes = list(dict.fromkeys(rate.lines for rate in analysis.bd_rates))
    table = number_table("BD-rate", *("hull of all sizes" if lines is None else f"{lines}p" for lines in sizes))
    rows: dict[tuple[str, str, str], dict[int | None, BdRate]] = {}
    for rate in analysis.bd_rates:
        rows.setdefault((rate.test, rate.anchor, rate.subject), {})[rate.lines] = rate
    for (test, anchor, subject), cells in rows.items():
        percents = [cells[lines].percent if lines in cells else None for lines in sizes]
        texts = ["–" if percent is None else f"{percent:+.1f} %" for percent in percents]
        table.add_row(f"{test} against {anchor} by {escape(subject)}", *texts)
    return table


def _heading(subject: Subject) -> str:
    arrow = "" if subject.higher_is_better else " ↓"
    return escape(subject.name) + arrow
