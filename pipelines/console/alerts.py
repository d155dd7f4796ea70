"""What rules were worth, and what is proposed for them, as a person reads it in a terminal."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from pipelines.commands.tune import Tuned
from vqmon.core.alerts.backtest.incidents import Appraisal
from vqmon.core.alerts.backtest.tuning import POINTS_PER_MOS

LARGEST_TABLE = 20


def appraisal_table(rows: Sequence[tuple[str, Appraisal, Mapping[str, Appraisal]]]) -> Table:
    """One row per set of rules, then one per rule of it."""
    days = rows[0][1].stream_days
    known = rows[0][1].incidents
    table = Table(box=None, pad_edge=False, title=f"{days:.2f} stream-days, {known} known incidents")
    table.add_column("rules", overflow="fold")
    for name in ("alerts", "for nothing", "per stream-day", "found", "delay, median", "delay, p95", "flapped"):
        table.add_column(name, justify="right")
    for which, all_, by_rule in rows:
        for name, it in ((f"[bold]{which}[/bold]", all_), *((f"  {escape(rule)}", it) for rule, it in by_rule.items())):
            # Without known incidents nothing can be said of what was found.
            found = f"{it.found} of {it.incidents}" if known else "–"
            table.add_row(
                name,
                str(it.alerts),
                str(it.false) if known else "–",
                f"{it.false_per_stream_day:.3f}",
                found,
                _seconds(it.delay(0.5)),
                _seconds(it.delay(0.95)),
                str(it.flapped) if known else "–",
            )
    return table


def tuning_tables(tuned: Tuned) -> Iterator[RenderableType]:
    """The noise of the series, how soon drops will be seen, and what to write into the rules file."""
    proposal = tuned.proposal
    series = Table(box=None, pad_edge=False, title=f"rule {escape(tuned.rule.name)}: {len(proposal.noise)} series")
    series.add_column("series", overflow="fold")
    for name in ("segments", "usual", "deviation", "correlation", "residual", "beyond 3"):
        series.add_column(name, justify="right")
    for it in sorted(proposal.noise, key=lambda one: -one.deviation)[:LARGEST_TABLE]:
        series.add_row(
            escape(it.name),
            str(it.count),
            f"{it.level:.1f}",
            f"{it.deviation:.2f}",
            f"{it.memory:.2f}",
            f"{it.residual:.2f}",
            f"{it.tail:.1%}",
        )
    yield series
    soon = Table(box=None, pad_edge=False, title="how soon the middle series sees a drop, by the tables")
    for name in ("drop, MOS", "points", "median", "p95"):
        soon.add_column(name, justify="right")
    for one in tuned.expected:
        seconds = [None if it is None else it * proposal.segment_seconds for it in (one.median, one.p95)]
        soon.add_row(f"{one.points / POINTS_PER_MOS:.1f}", f"{one.points:g}", *(_seconds(it) for it in seconds))
    yield soon
    words = (
        f"{proposal.alarms:.3f} alerts per stream-day with these settings in {proposal.stream_days:.1f} stream-days as "
        f"they were; wanted {proposal.wanted:g}."
    )
    if proposal.h > proposal.h_by_tables:
        words += (
            f" The tables alone would give h = {proposal.h_by_tables:g}: the scores move more than noise does, or "
            "there were incidents."
        )
    yield words
    yield escape(
        f"[rules.{tuned.rule.name}]\nk = {proposal.k:g}\nh = {proposal.h:g}\n"
        f"baseline_segments = {proposal.baseline_segments}"
    )


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} s"
