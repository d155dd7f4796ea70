"""The answer in plain words: which verdict the numbers allow, why, and what to do next."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vqmon.core.experiments.analysis.human_answer import clusters_until_decided
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
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictInputs:
    """Everything that a verdict on one arm is made from."""

    experiment: Experiment
    arm: str
    effects: tuple[Effect, ...]
    guardrails: tuple[GuardrailResult, ...] = ()
    looks: tuple[SignalDifference, ...] = ()
    checks: tuple[HealthCheck, ...] = ()
    people: VoteTally | None = None


def decide_verdict(case: VerdictInputs) -> Verdict:
    """The verdict; a check that failed comes before everything, a human look before every winner."""
    blocked = [check for check in case.checks if not check.is_good and check.weight == "blocks"]
    if blocked:
        return Verdict(
            kind="undecided",
            sentence=f"Undecided: the data cannot be trusted ({', '.join(check.name for check in blocked)}).",
            reasons=tuple(f"{check.name}: {check.text}" for check in blocked),
            next_step=_sentence(blocked[0].remedy),
        )
    verdict = _of_scorers(case)
    doubts = _doubts(case, verdict.kind)
    if doubts:
        return _asked(case, verdict, doubts)
    return _people_object(case, _guarded(case, verdict))


def classify_interval(interval: ConfidenceInterval, *, delta_min: float, margin: float) -> VerdictKind:
    """What one interval allows; a winner only when it leaves 0 and the mean is worth something."""
    if interval.low > 0 and interval.mean >= delta_min:
        return "better"
    if interval.high < 0 and -interval.mean >= delta_min:
        return "worse"
    if -margin < interval.low and interval.high < margin:
        return "equivalent"
    return "not worse" if interval.low > -margin else "undecided"


def _of_scorers(case: VerdictInputs) -> Verdict:
    """By the scorers alone: one that sees a winner is enough, as their levels are shared (Holm)."""
    read = [(effect, effect.reading) for effect in case.effects if effect.reading is not None]
    if not read:
        return _nothing_yet(case)
    it = case.experiment
    kinds = [
        classify_interval(_safe(effect, reading), delta_min=it.delta_min, margin=it.margin) for effect, reading in read
    ]
    for winner in ("better", "worse"):
        if winner in kinds:
            effect, reading = read[kinds.index(winner)]
            is_specific = len(case.effects) > 1 and kinds.count(winner) == 1
            note = f" Only {effect.scorer} sees it: metric-specific." if is_specific else ""
            return Verdict(
                kind=winner,
                sentence=f"{case.arm} is {winner} than {it.control}: {_points(reading)}.{note}",
                reasons=tuple(_reason(one, interval) for one, interval in read),
                next_step=_next_of(winner, case),
                is_metric_specific=is_specific,
            )
    order: tuple[VerdictKind, ...] = ("undecided", "not worse", "equivalent")
    kind = next(one for one in order if one in kinds)
    _, reading = read[kinds.index(kind)]
    return Verdict(
        kind=kind,
        sentence=_without_winner(kind, case, reading),
        reasons=tuple(_reason(one, interval) for one, interval in read),
        next_step=_next_of(kind, case),
    )


def _safe(effect: Effect, reading: ConfidenceInterval) -> ConfidenceInterval:
    """What both the reading and its correction for skew allow."""
    other = effect.corrected or reading
    return replace(reading, low=min(reading.low, other.low), high=max(reading.high, other.high))


def _nothing_yet(case: VerdictInputs) -> Verdict:
    it = case.experiment
    have = max((effect.clusters for effect in case.effects), default=0)
    need = it.planned_clusters if it.is_fixed_horizon else MIN_SEQUENTIAL_CLUSTERS
    if not have:
        text = f"no segment of {case.arm} and {it.control} can be compared yet"
        step = f"See that both arms are scored and told by the label {it.label!r} or by their names."
        return Verdict(kind="undecided", sentence=f"Undecided: {text}.", next_step=step)
    how = "it is read once, when all are complete" if it.is_fixed_horizon else "before that no reading is safe"
    return Verdict(
        kind="undecided",
        sentence=f"Undecided: {have} of {need} clusters are there.",
        reasons=(f"the first reading is at {need} clusters; {how}",),
        next_step=f"Wait for {max(1, need - have)} more.",
    )


def _without_winner(kind: VerdictKind, case: VerdictInputs, reading: ConfidenceInterval) -> str:
    arm, it = case.arm, case.experiment
    if kind == "equivalent":
        return f"{arm} and {it.control} are equivalent: {_points(reading)}, within ±{it.margin:g}."
    if kind == "not worse":
        small = " The gain is smaller than what is worth anything." if reading.low > 0 else ""
        return f"{arm} is not worse than {it.control}: {_points(reading)}; a loss of {it.margin:g} is excluded.{small}"
    side = "includes 0" if reading.low <= 0 <= reading.high else "includes differences too small to matter"
    return f"Undecided between {arm} and {it.control}: {_points(reading)}; the interval {side}."


def _next_of(kind: VerdictKind, case: VerdictInputs) -> str:
    it = case.experiment
    have = max((effect.clusters for effect in case.effects), default=0)
    if kind == "better":
        return f"Take {case.arm}, if what it costs is worth it."
    if kind == "worse":
        return f"Keep {it.control}; the worst pairs show why."
    if kind == "equivalent":
        return "Take the cheaper one."
    if kind == "not worse":
        return f"Take {case.arm} if it is cheaper; for a winner, wait for more clusters."
    if have < it.planned_clusters:
        return f"Wait: {have} of {it.planned_clusters} planned clusters are there."
    return "The planned clusters are there: stop, or plan a larger experiment with `vqmon plan`."


def _doubts(case: VerdictInputs, kind: VerdictKind) -> tuple[str, ...]:
    """Why a person must look before anything is decided."""
    if kind == "undecided":
        return ()
    found = [
        f"{look.signal} differs by {look.difference:+.3f} (limit {look.limit:g}): scorers are easily fooled by that"
        for look in case.looks
        if look.exceeds_limit
    ]
    found += [f"{check.name}: {check.text}" for check in case.checks if not check.is_good and check.weight == "look"]
    found += _disagreement(case.effects)
    found += [
        f"guardrail {rail.name} is broken: {rail.difference:+.3g} (margin {rail.margin:g})"
        for rail in case.guardrails
        if rail.state == "broken" and rail.difference is not None and kind != "worse"
    ]
    return tuple(found)


def _disagreement(effects: Sequence[Effect]) -> list[str]:
    """One scorer is sure of a sign and another points the other way."""
    read = [(effect.scorer, effect.reading) for effect in effects if effect.reading is not None]
    found = []
    for scorer, reading in read:
        sign = (reading.low > 0) - (reading.high < 0)
        others = [other for other, its in read if sign and its.mean * sign < 0]
        found += [f"the scorers disagree: {scorer} says {_points(reading)}, {other} the opposite" for other in others]
    return found


def _asked(case: VerdictInputs, verdict: Verdict, doubts: tuple[str, ...]) -> Verdict:
    """A person must look; when people have looked and are sure, that settles it."""
    control, people = case.experiment.control, case.people
    if people is not None and people.says:
        kinds: dict[str, VerdictKind] = {"arm": "better", "control": "worse", "no difference": "equivalent"}
        kind = kinds[people.says]
        words = {"better": f"better than {control}", "worse": f"worse than {control}"}
        return Verdict(
            kind=kind,
            sentence=f"{case.arm} is {words.get(kind, f'as good as {control}')}: people say so ({_people(people)}).",
            reasons=(*doubts, *verdict.reasons),
            next_step=_next_of(kind, case),
            is_settled_by_people=True,
        )
    more = clusters_until_decided(people, alpha=case.experiment.alpha)
    seen = f" So far: {_people(people)}." if people else ""
    return Verdict(
        kind="needs human look",
        sentence=f"Needs a human look: the scorers would say {verdict.kind}, but {doubts[0]}.",
        reasons=(*doubts, *verdict.reasons),
        next_step=f"Do the blind review of at least {more} more clusters, one pair each.{seen}",
        is_metric_specific=verdict.is_metric_specific,
    )


def _guarded(case: VerdictInputs, verdict: Verdict) -> Verdict:
    """A winner is taken only when every guardrail is shown to hold."""
    still = [rail for rail in case.guardrails if rail.state == "open"]
    if verdict.kind not in ("better", "not worse", "equivalent") or not still:
        return verdict
    names = ", ".join(rail.name for rail in still)
    return replace(
        verdict,
        kind="undecided",
        sentence=f"Undecided: the score says {verdict.kind}, but {names} is not shown to hold yet.",
        reasons=(*verdict.reasons, *(_rail(rail) for rail in still)),
        next_step="Wait for more clusters, or give the guardrail a margin that can be shown.",
    )


def _people_object(case: VerdictInputs, verdict: Verdict) -> Verdict:
    """People who are sure of the opposite are never overruled by a number."""
    people = case.people
    opposite: dict[str, Literal["arm", "control"]] = {"better": "control", "worse": "arm"}
    if people is None or not people.says:
        return verdict
    if people.says != opposite.get(verdict.kind):
        return replace(verdict, reasons=(*verdict.reasons, f"people: {_people(people)}"))
    return replace(
        verdict,
        kind="needs human look",
        sentence=f"Needs a human look: the scorers say {verdict.kind}, people say the opposite ({_people(people)}).",
        next_step="Look at the pairs together: what do the scorers not see?",
    )


def _points(interval: ConfidenceInterval) -> str:
    return f"{interval.mean:+.2f} points ({interval.low:+.2f} to {interval.high:+.2f})"


def _reason(effect: Effect, reading: ConfidenceInterval) -> str:
    text = f"{effect.scorer}: {_points(reading)}, {reading.kind} {reading.level:.1%}, {effect.clusters} clusters"
    safe = _safe(effect, reading)
    if (safe.low <= 0 <= safe.high) == (reading.low <= 0 <= reading.high):
        return text
    return f"{text}; but a few contents decide: corrected for that, {safe.low:+.2f} to {safe.high:+.2f}"


def _rail(rail: GuardrailResult) -> str:
    seen = "nothing measured" if rail.bound is None else f"could be as far as {rail.bound:+.3g}"
    return f"guardrail {rail.name}: {seen} (margin {rail.margin:g})"


def _people(people: VoteTally) -> str:
    return (
        f"{people.clusters_for_arm} clusters for, {people.clusters_for_control} against, {people.clusters_tied} tied, "
        f"p {people.p:.2g}"
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""
