"""Prints the results and the plan of an experiment to a terminal."""

from collections.abc import Iterator

from vqmon.core.experiments.results import (
    ArmResult,
    ArmSummary,
    Comparison,
    ConfidenceInterval,
    Effect,
    HealthCheck,
    interval_decimals,
)
from vqmon.core.experiments.stats.power import MAX_CLUSTERS, PowerAssumptions, SampleSizePlan
from vqmon.plurals import plural
from vqmon.terminal import Table, escape

_VERDICT_COLOURS = {
    "better": "green",
    "worse": "red",
    "not worse": "green",
    "equivalent": "cyan",
    "undecided": "yellow",
    "needs human look": "magenta",
}
_MAX_CLUSTER_ROWS = 12


def comparison_lines(comparison: Comparison) -> Iterator[str | Table]:
    """Verdicts first, then the numbers behind them, with markup."""
    if question := comparison.experiment.question:
        yield f"[bold]{escape(question)}[/bold]"
    if comparison.begins_at is not None and comparison.ends_at is not None:
        span = f"{comparison.begins_at:%Y-%m-%d %H:%M} to {comparison.ends_at:%Y-%m-%d %H:%M} UTC"
        yield f"[dim]{plural(comparison.outcomes, 'outcome')}, {span} on the media timeline[/dim]"
    for result in comparison.answers:
        yield from _answer_lines(result)
    yield _arms(comparison)
    checks = [*comparison.checks, *(check for result in comparison.answers for check in result.checks)]
    yield from (_check_line(check) for check in checks)


def _answer_lines(result: ArmResult) -> Iterator[str | Table]:
    verdict = result.verdict
    colour = _VERDICT_COLOURS[verdict.kind]
    yield ""
    yield f"[bold {colour}]{escape(verdict.sentence)}[/bold {colour}]"
    for reason in verdict.reasons:
        yield f"  · {escape(reason)}"
    if verdict.next_step:
        yield f"  → {escape(verdict.next_step)}"
    for effect in result.effects:
        if effect.p_t is not None:
            yield _effect(effect)
    if result.guardrails:
        yield _guardrails(result)
    if result.looks:
        yield _misleading_signals(result)
    if result.people is not None:
        people = result.people
        sides = f"{plural(people.clusters_for_arm, 'cluster')} for {result.arm}, "
        sides += f"{people.clusters_for_control} for {result.control}"
        votes = f"{plural(people.votes, 'vote')} by {people.voters}"
        yield escape(f"people: {votes}; {sides}, {people.clusters_tied} tied, p {people.p:.2g}")
    if result.effects and result.effects[0].by_cluster:
        yield _clusters(result.effects[0])


def _effect(effect: Effect) -> Table:
    table = _table("by " + effect.scorer, "mean", "low", "high", "")
    # the reading may equal two of them
    has_mark = False
    for name, interval in (
        ("all looks together", None if effect.reading in (effect.anytime, effect.final) else effect.reading),
        ("any-time", effect.anytime),
        ("with skew and rare losses", effect.corrected),
        ("final (t)", effect.final),
        ("weighted by segments", effect.weighted),
        ("with covariates", effect.adjusted),
        ("bootstrap", effect.bootstrap),
    ):
        if interval is not None:
            is_read = interval == effect.reading and not has_mark
            has_mark |= is_read
            table.add_row(name, *_numbers(interval), "← read" if is_read else "")
    tests = [
        f"{name} {value:.2g}"
        for name, value in (
            ("any-time", effect.p_anytime),
            ("t", effect.p_t),
            ("sign-flip", effect.p_sign_flip),
            ("Wilcoxon", effect.p_wilcoxon),
        )
        if value is not None
    ]
    table.add_row("p", "", "", "", ", ".join(tests))
    if effect.win_rate is not None:
        text = f"{effect.win_rate:.0%} of clusters ({effect.win_low:.0%} to {effect.win_high:.0%})"
        table.add_row("ahead in", "", "", "", text)
    return table


def _clusters(effect: Effect) -> Table:
    table = _table("cluster", "segments", "difference", "low", "high")
    lines = effect.by_cluster
    shown = (
        lines
        if len(lines) <= _MAX_CLUSTER_ROWS
        else (*lines[: _MAX_CLUSTER_ROWS // 2], *lines[-_MAX_CLUSTER_ROWS // 2 :])
    )
    for line in shown:
        numbers = [f"{line.difference:+.2f}"]
        if line.low is not None and line.high is not None:
            decimals = interval_decimals(line.low, line.high)
            numbers = [f"{value:+.{decimals}f}" for value in (line.difference, line.low, line.high)]
        table.add_row(escape(line.cluster), str(line.segments), *numbers)
    if len(shown) < len(lines):
        table.caption = f"the worst and the best of {effect.clusters}; --html and --json hold more"
    return table


def _guardrails(result: ArmResult) -> Table:
    table = _table("must hold", "control", "arm", "difference", "limit", "state")
    for rail in result.guardrails:
        values = [_short(value) for value in (rail.control_mean, rail.arm_mean, rail.difference)]
        table.add_row(escape(rail.name), *values, f"{rail.margin:g}", rail.state)
    return table


def _misleading_signals(result: ArmResult) -> Table:
    """The signals that raise scores without raising quality: where they differ, people must look at the pictures."""
    table = _table("signals that mislead scorers", "control", "arm", "difference", "allowed", "state")
    for look in result.looks:
        state = "[magenta]differs: look at the pictures[/magenta]" if look.exceeds_limit else "similar"
        values = [_short(value) for value in (look.control_mean, look.arm_mean, look.difference)]
        table.add_row(look.signal.replace("_", " "), *values, f"{look.limit:g}", state)
    return table


def _arms(comparison: Comparison) -> Table:
    table = _table(
        "arm", "mean", "scored", "unscored", "Mbit/s", "points per Mbit/s", "GPU-s per s", "points per GPU-s"
    )
    for arm in comparison.arms:
        mean = next(iter(arm.mean.values()), None)
        mbps = None if arm.bitrate_kbps is None else arm.bitrate_kbps / 1000
        costs = [_short(value) for value in (mbps, arm.points_per_mbps, arm.gpu_seconds_per_second)]
        table.add_row(
            f"{escape(arm.arm)} [dim]{arm.role}[/dim]",
            "–" if mean is None else f"{mean:.1f}",
            *(str(arm.scored), _unscored(arm), *costs, _short(arm.points_per_gpu_second)),
        )
    return table


def _unscored(arm: ArmSummary) -> str:
    lost = (f"[dim]{count} without {escape(scorer)}[/dim]" for scorer, count in arm.lost_scores.items())
    return "\n".join([str(arm.unscored), *lost])


def plan_lines(assumed: PowerAssumptions, plan: SampleSizePlan) -> Iterator[str]:
    """How many clusters an experiment needs, with markup."""
    m = assumed.segments_per_cluster
    yield (
        f"To detect {assumed.difference:g} points with {plan.power:.0%} power at alpha {assumed.alpha:g}"
        + (f" for each of {assumed.hypotheses} hypotheses" if assumed.hypotheses > 1 else "")
        + ":"
    )
    for count, how in (
        (plan.clusters_anytime, "when you look at any time (planned_clusters)"),
        (plan.clusters_final, "when you look once, at the end"),
    ):
        text = "more than a million" if count >= MAX_CLUSTERS else f"{count:,}"
        yield f"  [bold]{text}[/bold] clusters of {plural(m, 'segment')} {how}: {plural(count * m, 'segment')}"
    yield (
        f"[dim]A cluster's mean has s.d. {plan.cluster_sd:.2f}; the design effect is {plan.design_effect:.1f}: "
        "segments of one cluster are correlated.[/dim]"
    )
    if plan.pilot_inflation > 1:
        yield (
            f"[dim]{assumed.pilot_clusters} clusters of the pilot know this deviation only roughly: the plan takes "
            f"{plan.pilot_inflation:.2f} times it, so that plans from such pilots have this power on average.[/dim]"
        )
    if assumed.blocks_per_cluster > 1:
        yield (
            f"[dim]Neighbouring blocks are correlated: {assumed.blocks_per_cluster:.1f} are worth an independent one, "
            "which the numbers of clusters include.[/dim]"
        )


def _check_line(check: HealthCheck) -> str:
    mark = "[green]✓[/green]" if check.is_good else "[red]✗[/red]"
    remedy = f" → {escape(check.remedy)}" if check.remedy else ""
    return f"{mark} {check.name}: {escape(check.text)}{remedy}"


def _numbers(interval: ConfidenceInterval) -> tuple[str, str, str]:
    decimals = interval_decimals(interval.low, interval.high)
    return f"{interval.mean:+.{decimals}f}", f"{interval.low:+.{decimals}f}", f"{interval.high:+.{decimals}f}"


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _table(first: str, *columns: str) -> Table:
    table = Table()
    table.add_column(escape(first), folds=True)
    for name in columns:
        table.add_column(name, justify="left" if name in ("", "state") else "right")
    return table
