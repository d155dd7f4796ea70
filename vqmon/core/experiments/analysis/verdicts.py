"""Decides the verdict on an arm: which conclusion the numbers allow, why, and what to do next."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vqmon.core.experiments.analysis.vote_tally import clusters_until_decided
from vqmon.core.experiments.definition import MIN_SEQUENTIAL_CLUSTERS, Experiment
from vqmon.core.experiments.human_review import VoteTally
from vqmon.core.experiments.results import (
    ConfidenceInterval,
    Effect,
    GuardrailResult,
    HealthCheck,
    SignalDifference,
    Verdict,
    VerdictKind,
    interval_decimals,
)
from vqmon.core.experiments.stats.sequential import MIN_ARM_SESSIONS, MIN_DEPENDENT_CLUSTERS
from vqmon.core.scores import REFERENCE_PREFIX
from vqmon.plurals import plural

_STATED_CHECKS = ("spread", "concentration")
"""Checks whose text is the answer: the arms are the same, or one content makes the difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictInputs:
    """Everything that the verdict on one arm depends on."""

    experiment: Experiment
    arm: str
    effects: tuple[Effect, ...]
    guardrails: tuple[GuardrailResult, ...] = ()
    signals: tuple[SignalDifference, ...] = ()
    checks: tuple[HealthCheck, ...] = ()
    votes: VoteTally | None = None


def decide_verdict(inputs: VerdictInputs) -> Verdict:
    """The verdict: a failed health check comes before everything, a human look before every conclusion."""
    failed = [check for check in inputs.checks if not check.is_good and check.weight == "blocks"]
    if failed:
        return Verdict(
            kind="undecided",
            sentence=_blocked_sentence(failed),
            reasons=tuple(f"{check.name}: {check.text}" for check in failed),
            next_step=_as_sentence(failed[0].remedy),
        )
    verdict = _verdict_of_scorers(inputs)
    doubts = _doubts(inputs, verdict.kind)
    if doubts:
        return _verdict_with_doubts(inputs, verdict, doubts)
    return _apply_votes(inputs, _apply_guardrails(inputs, verdict))


def _blocked_sentence(failed: Sequence[HealthCheck]) -> str:
    """The text of a check that says what there is instead of a difference; else the names of the checks."""
    stated = next((check for check in failed if check.name in _STATED_CHECKS), None)
    if stated is not None:
        return f"Undecided: {stated.text}."
    return f"Undecided: the data cannot be trusted ({', '.join(check.name for check in failed)})."


def classify_interval(interval: ConfidenceInterval, *, delta_min: float, margin: float) -> VerdictKind:
    """The conclusion that an interval allows; a winner needs an interval without 0 and a mean of at least delta_min."""
    if interval.low > 0 and interval.mean >= delta_min:
        return "better"
    if interval.high < 0 and -interval.mean >= delta_min:
        return "worse"
    if -margin < interval.low and interval.high < margin:
        return "equivalent"
    return "not worse" if interval.low > -margin else "undecided"


def _verdict_of_scorers(inputs: VerdictInputs) -> Verdict:
    """The verdict by the scorers alone: one that sees a winner is enough, because they share alpha (Holm)."""
    readings = _readings(inputs.effects)
    if not readings:
        return _verdict_without_reading(inputs)
    experiment = inputs.experiment
    kinds = [
        classify_interval(
            _conservative_interval(effect, interval), delta_min=experiment.delta_min, margin=experiment.margin
        )
        for effect, interval in readings
    ]
    reasons = tuple(_reason(effect, interval, largest_loss=experiment.largest_loss) for effect, interval in readings)
    for winner in ("better", "worse"):
        if winner in kinds:
            effect, interval = readings[kinds.index(winner)]
            is_specific = len(inputs.effects) > 1 and kinds.count(winner) == 1
            note = f" Only {effect.scorer} finds this: metric-specific." if is_specific else ""
            return Verdict(
                kind=winner,
                sentence=f"{inputs.arm} is {winner} than {experiment.control}: {_points(effect, interval)}.{note}",
                reasons=reasons,
                next_step=_next_step(winner, inputs),
                is_metric_specific=is_specific,
            )
    weakest_first: tuple[VerdictKind, ...] = ("undecided", "not worse", "equivalent")
    kind = next(candidate for candidate in weakest_first if candidate in kinds)
    effect, interval = readings[kinds.index(kind)]
    return Verdict(
        kind=kind,
        sentence=_sentence_without_winner(kind, inputs, _points(effect, interval), interval),
        reasons=reasons,
        next_step=_next_step(kind, inputs),
    )


def _readings(effects: Sequence[Effect]) -> list[tuple[Effect, ConfidenceInterval]]:
    """The effects with enough clusters, each with the interval that decides."""
    return [(effect, effect.reading) for effect in effects if effect.reading is not None]


def _conservative_interval(effect: Effect, interval: ConfidenceInterval) -> ConfidenceInterval:
    """The smallest interval that contains both the interval and its correction for skewness."""
    corrected = effect.corrected or interval
    return replace(interval, low=min(interval.low, corrected.low), high=max(interval.high, corrected.high))


def _verdict_without_reading(inputs: VerdictInputs) -> Verdict:
    experiment = inputs.experiment
    clusters = max((effect.clusters for effect in inputs.effects), default=0)
    needed = experiment.planned_clusters if experiment.is_fixed_horizon else MIN_SEQUENTIAL_CLUSTERS
    if not clusters:
        return Verdict(
            kind="undecided",
            sentence=f"Undecided: no segment of {inputs.arm} and {experiment.control} can be compared yet.",
            next_step=f"Check that both arms are scored, and that the label {experiment.label!r} or the patterns of "
            "the experiment tell them apart.",
        )
    reason, next_step = _waiting_for(inputs, clusters=clusters, needed=needed)
    return Verdict(
        kind="undecided",
        sentence=f"Undecided: {min(clusters, needed)} of {needed} clusters are complete."
        if clusters < needed
        else f"Undecided: not yet, with {plural(clusters, 'cluster')}.",
        reasons=(reason,),
        next_step=next_step,
    )


def _waiting_for(inputs: VerdictInputs, *, clusters: int, needed: int) -> tuple[str, str]:
    """Why there is no interval yet, and what to do."""
    experiment = inputs.experiment
    effect = max(inputs.effects, key=lambda effect: effect.clusters)
    if effect.smaller_arm is not None and effect.smaller_arm < MIN_ARM_SESSIONS and clusters >= needed:
        return (
            f"the smaller arm has {effect.smaller_arm} sessions; each arm needs {MIN_ARM_SESSIONS}",
            "Wait for more sessions."
            if not experiment.is_fixed_horizon
            else f"Plan at least {2 * MIN_ARM_SESSIONS} sessions in both arms together (planned_clusters).",
        )
    if effect.effective_clusters is not None and clusters >= needed:
        return (
            f"neighbouring blocks are correlated: {clusters} blocks are worth {effect.effective_clusters:.0f} "
            f"independent ones. An interval needs {MIN_SEQUENTIAL_CLUSTERS} of these, and {MIN_DEPENDENT_CLUSTERS} "
            "blocks to measure the correlation",
            "Wait for more blocks, or make the programme the cluster (a label).",
        )
    if experiment.is_fixed_horizon and clusters >= needed:
        return (
            "the experiment is analysed once, when it is complete; its clusters may still change",
            "Wait for `until`. Without it, an experiment with fewer than "
            f"{MIN_SEQUENTIAL_CLUSTERS} planned clusters needs segments_per_cluster.",
        )
    if experiment.is_fixed_horizon:
        why = "the experiment is analysed once, when all clusters are complete"
    else:
        why = "with fewer, the confidence sequence is not reliable"
    return f"the first interval needs {needed} clusters; {why}", f"Wait for {max(1, needed - clusters)} more."


def _sentence_without_winner(
    kind: VerdictKind, inputs: VerdictInputs, points: str, interval: ConfidenceInterval
) -> str:
    arm, control, margin = inputs.arm, inputs.experiment.control, inputs.experiment.margin
    if kind == "equivalent":
        return f"{arm} and {control} are equivalent: {points}, within ±{margin:g}."
    if kind == "not worse":
        note = " The gain is smaller than delta_min." if interval.low > 0 else ""
        return f"{arm} is not worse than {control}: {points}; a loss of {margin:g} is excluded.{note}"
    contains = "0" if interval.low <= 0 <= interval.high else "differences too small to matter"
    return f"Undecided between {arm} and {control}: {points}; the interval includes {contains}."


def _next_step(kind: VerdictKind, inputs: VerdictInputs) -> str:
    planned = inputs.experiment.planned_clusters
    clusters = max((effect.clusters for effect in inputs.effects), default=0)
    if kind == "better":
        return f"Take {inputs.arm}, if it is worth its cost."
    if kind == "worse":
        return f"Keep {inputs.experiment.control}; the worst pairs show why."
    if kind == "equivalent":
        return "Take the cheaper one."
    if kind == "not worse":
        return f"Take {inputs.arm} if it is cheaper; for a winner, wait for more clusters."
    if clusters < planned:
        return f"Wait: {clusters} of {planned} planned clusters are complete."
    return "All planned clusters are complete: stop, or plan a larger experiment with `vqmon plan`."


def _doubts(inputs: VerdictInputs, kind: VerdictKind) -> tuple[str, ...]:
    """Why a person must look before anything is concluded."""
    if kind == "undecided":
        return ()
    doubts = [
        f"{signal.signal} differs by {signal.difference:+.3f} (limit {signal.limit:g}), which is known to fool scorers"
        for signal in inputs.signals
        if signal.exceeds_limit
    ]
    doubts += [f"{check.name}: {check.text}" for check in inputs.checks if not check.is_good and check.weight == "look"]
    doubts += _disagreements(inputs.effects)
    doubts += [
        f"guardrail {guardrail.name} is broken: {guardrail.difference:+.3g} (margin {guardrail.margin:g})"
        for guardrail in inputs.guardrails
        if guardrail.state == "broken" and guardrail.difference is not None and kind != "worse"
    ]
    return tuple(doubts)


def _disagreements(effects: Sequence[Effect]) -> list[str]:
    """Scorers whose interval excludes 0 while the mean of another scorer has the opposite sign."""
    readings = _readings(effects)
    disagreements = []
    for effect, interval in readings:
        sign = (interval.low > 0) - (interval.high < 0)
        disagreements += [
            f"the scorers disagree: {effect.scorer} says {_points(effect, interval)}, {other.scorer} the opposite"
            for other, other_interval in readings
            if sign and other_interval.mean * sign < 0
        ]
    return disagreements


def _verdict_with_doubts(inputs: VerdictInputs, verdict: Verdict, doubts: tuple[str, ...]) -> Verdict:
    """A person must look; votes that decide settle the doubts."""
    control, tally = inputs.experiment.control, inputs.votes
    if tally is not None and tally.says:
        kinds: dict[str, VerdictKind] = {"arm": "better", "control": "worse", "no difference": "equivalent"}
        kind = kinds[tally.says]
        claims = {"better": f"better than {control}", "worse": f"worse than {control}"}
        claim = claims.get(kind, f"as good as {control}")
        return Verdict(
            kind=kind,
            sentence=f"{inputs.arm} is {claim}, by people's votes ({_votes_text(tally)}).",
            reasons=(*doubts, *verdict.reasons),
            next_step=_next_step(kind, inputs),
            is_settled_by_people=True,
        )
    more = clusters_until_decided(tally, alpha=inputs.experiment.alpha)
    so_far = f" So far: {_votes_text(tally)}." if tally else ""
    return Verdict(
        kind="needs human look",
        sentence=f"Needs a human look: by the scorers the arm is {verdict.kind}, but {doubts[0]}.",
        reasons=(*doubts, *verdict.reasons),
        next_step=f"Do the blind review of at least {more} more clusters, one pair each.{so_far}",
        is_metric_specific=verdict.is_metric_specific,
    )


def _apply_guardrails(inputs: VerdictInputs, verdict: Verdict) -> Verdict:
    """Nothing that favours the arm is concluded until every guardrail is shown to hold."""
    open_guardrails = [guardrail for guardrail in inputs.guardrails if guardrail.state == "open"]
    if verdict.kind not in ("better", "not worse", "equivalent") or not open_guardrails:
        return verdict
    names = ", ".join(guardrail.name for guardrail in open_guardrails)
    return replace(
        verdict,
        kind="undecided",
        sentence=f"Undecided: by the scorers the arm is {verdict.kind}, but {names} is not shown to hold yet.",
        reasons=(*verdict.reasons, *(_guardrail_reason(guardrail) for guardrail in open_guardrails)),
        next_step="Wait for more clusters, or give the guardrail a margin that can be shown to hold.",
    )


def _apply_votes(inputs: VerdictInputs, verdict: Verdict) -> Verdict:
    """Votes that decide for the opposite of a verdict are never overruled by scorers."""
    tally = inputs.votes
    opposite: dict[str, Literal["arm", "control"]] = {"better": "control", "worse": "arm"}
    if tally is None or not tally.says:
        return verdict
    if tally.says != opposite.get(verdict.kind):
        return replace(verdict, reasons=(*verdict.reasons, f"people: {_votes_text(tally)}"))
    return replace(
        verdict,
        kind="needs human look",
        sentence=f"Needs a human look: by the scorers the arm is {verdict.kind}, people say the opposite "
        f"({_votes_text(tally)}).",
        next_step="Look at the pairs together, and find what the scorers do not see.",
    )


def _points(effect: Effect, interval: ConfidenceInterval) -> str:
    """A difference in points of 0..100, or in the unit of a reference measure."""
    if effect.scorer.startswith(REFERENCE_PREFIX):
        return f"{interval.mean:+.4g} by {effect.scorer} ({interval.low:+.4g} to {interval.high:+.4g})"
    # An interval is never shown as a single number.
    decimals = interval_decimals(interval.low, interval.high)
    low, high = f"{interval.low:+.{decimals}f}", f"{interval.high:+.{decimals}f}"
    return f"{interval.mean:+.{decimals}f} points ({low} to {high})"


def _reason(effect: Effect, interval: ConfidenceInterval, *, largest_loss: float) -> str:
    text = f"{effect.scorer}: {_points(effect, interval)}, {interval.kind} {interval.level:.1%}, "
    text += plural(effect.clusters, "cluster")
    conservative = _conservative_interval(effect, interval)
    if (conservative.low <= 0 <= conservative.high) == (interval.low <= 0 <= interval.high):
        return text
    return (
        f"{text}; but a few clusters decide this: corrected for skewness and for rare losses of up to "
        f"{largest_loss:g} points, {conservative.low:+.2f} to {conservative.high:+.2f}"
    )


def _guardrail_reason(guardrail: GuardrailResult) -> str:
    if guardrail.bound is None:
        return f"guardrail {guardrail.name}: too few clusters to test it (margin {guardrail.margin:g})"
    return f"guardrail {guardrail.name}: the bound is {guardrail.bound:+.3g} (margin {guardrail.margin:g})"


def _votes_text(tally: VoteTally) -> str:
    return (
        f"{plural(tally.clusters_for_arm, 'cluster')} for, {tally.clusters_for_control} against, "
        f"{tally.clusters_tied} tied, p {tally.p:.2g}"
    )


def _as_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""
