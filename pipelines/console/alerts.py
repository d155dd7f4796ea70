"""Tables for the terminal: how well alert rules did on replay, and the settings proposed for them."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from pipelines.commands.tune import TunedRule
from vqmon.core.alerts.backtest.incidents import DetectionReport
from vqmon.core.alerts.backtest.tuning import POINTS_PER_MOS, Proposal

_MAX_ROWS = 20


def detection_table(rows: Sequence[tuple[str, DetectionReport, Mapping[str, DetectionReport]]]) -> Table:
    """A row per set of rules (name, report, reports by rule), followed by a row for each of its rules."""
    stream_days, incident_count = rows[0][1].stream_days, rows[0][1].incident_count
    title = f"{stream_days:.2f} stream-days, {incident_count} known incidents"
    table = Table(box=None, pad_edge=False, title=title)
    table.add_column("rules", overflow="fold")
    for name in ("alerts", "false", "per stream-day", "detected", "delay, median", "delay, p95", "flapping"):
        table.add_column(name, justify="right")
    for rule_set, report, by_rule in rows:
        table.add_row(f"[bold]{rule_set}[/bold]", *_report_cells(report))
        for rule, rule_report in by_rule.items():
            table.add_row(f"  {escape(rule)}", *_report_cells(rule_report))
    return table


def _report_cells(report: DetectionReport) -> Iterator[str]:
    # Without known incidents it is unknown which alerts are false.
    has_incidents = report.incident_count > 0
    yield str(report.alert_count)
    yield str(report.false_count) if has_incidents else "–"
    yield f"{report.false_per_stream_day:.3f}"
    yield f"{report.detected_count} of {report.incident_count}" if has_incidents else "–"
    yield _seconds(report.delay_quantile(0.5))
    yield _seconds(report.delay_quantile(0.95))
    yield str(report.flapping_count) if has_incidents else "–"


def tuning_tables(tuned: TunedRule) -> Iterator[RenderableType]:
    """The noise of the series, how soon drops will be detected, and what to write into the rules file."""
    proposal = tuned.proposal
    series = Table(box=None, pad_edge=False, title=f"rule {escape(tuned.rule.name)}: {len(proposal.noise)} series")
    series.add_column("series", overflow="fold")
    for name in ("segments", "baseline", "deviation", "correlation", "residual", "beyond 3"):
        series.add_column(name, justify="right")
    for noise in sorted(proposal.noise, key=lambda noise: -noise.deviation)[:_MAX_ROWS]:
        series.add_row(
            escape(noise.name),
            str(noise.count),
            f"{noise.level:.1f}",
            f"{noise.deviation:.2f}",
            f"{noise.autocorrelation:.2f}",
            f"{noise.residual_deviation:.2f}",
            f"{noise.clipped_share:.1%}",
        )
    yield series
    delays = Table(box=None, pad_edge=False, title="how soon a drop is detected in the median series, by theory")
    for name in ("drop, MOS", "points", "median", "p95"):
        delays.add_column(name, justify="right")
    for delay in tuned.delays:
        seconds = [
            None if segments is None else segments * proposal.segment_seconds
            for segments in (delay.median, delay.p95)
        ]  # fmt: skip
        mos = delay.drop_points / POINTS_PER_MOS
        delays.add_row(f"{mos:.1f}", f"{delay.drop_points:g}", *(_seconds(value) for value in seconds))
    yield delays
    yield _rate_sentence(proposal)
    yield escape(
        f"[rules.{tuned.rule.name}]\nk = {proposal.k:g}\nh = {proposal.h:g}\n"
        f"baseline_segments = {proposal.baseline_segments}"
    )


def _rate_sentence(proposal: Proposal) -> str:
    sentence = (
        f"These settings open {proposal.alarms_per_day:.3f} alerts per stream-day on the {proposal.stream_days:.1f} "
        f"stored stream-days; wanted are {proposal.wanted_alarms_per_day:g}."
    )
    if proposal.h > proposal.theoretical_h:
        sentence += (
            f" Theory alone gives h = {proposal.theoretical_h:g}: the scores move more than noise does, or there were "
            "incidents."
        )
    return sentence


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} s"
