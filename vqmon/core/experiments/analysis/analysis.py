"""From outcomes in the order of their starts to a Comparison: one pass, memory by clusters."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np

from vqmon.core.experiments.analysis.effects import estimate_effect, evaluate_guardrail, significance_levels
from vqmon.core.experiments.analysis.health_checks import (
    check_crossover_sessions,
    check_duplicate_segments,
    check_missing_pairs,
    check_mixed_blocks,
    check_sample_ratio,
    check_versions,
    run_aa_test,
)
from vqmon.core.experiments.analysis.human_answer import tally_votes
from vqmon.core.experiments.analysis.trajectory import ArmAndScorer, EffectTrajectory, Estimates
from vqmon.core.experiments.analysis.verdicts import VerdictInputs, decide_verdict
from vqmon.core.experiments.data.arm_totals import ArmTotals, points_per_extra
from vqmon.core.experiments.data.contrasts import Contrast, PairedContrast, UnpairedContrast
from vqmon.core.experiments.data.metrics import ExperimentMetrics, is_about_segment, is_in_period
from vqmon.core.experiments.data.pairs import MissingPairs, PairMatcher
from vqmon.core.experiments.data.sessions import UnpairedTotals
from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.human_review import Vote
from vqmon.core.experiments.results import ArmResult, ArmSummary, Comparison, HealthCheck, SignalDifference
from vqmon.core.experiments.stats.sequential import MeanDifference
from vqmon.core.types import Outcome


class ExperimentAnalysis:
    """Takes outcomes in the order in which their segments start; gives the answer when asked at the end."""

    def __init__(self, experiment: Experiment) -> None:
        self._it = experiment
        self._measures = ExperimentMetrics(experiment)
        self._counts = ArmTotals(experiment)
        self._course = EffectTrajectory(experiment=experiment)
        self._pairs = PairMatcher(experiment, self._measures) if experiment.design == "paired" else None
        self._traffic = None if self._pairs else UnpairedTotals(experiment, self._measures)
        self._readings: dict[str, Contrast] = {arm.name: self._reading(arm.name) for arm in experiment.treatments}
        self._begins_at: datetime | None = None
        self._ends_at: datetime | None = None
        self._taken = 0

    def add(self, outcome: Outcome) -> None:
        """One outcome more; those of no arm, and from outside the experiment's time, count for nothing."""
        starts_at = outcome.segment.starts_at
        arm = self._it.arm_of(outcome) if is_in_period(self._it, starts_at) and is_about_segment(outcome) else None
        if arm is None:
            return
        self._course.advance_to(starts_at, self._samples)
        self._begins_at = self._begins_at or starts_at
        self._ends_at = starts_at
        self._taken += 1
        self._counts.add(arm, outcome)
        if self._pairs is not None:
            self._pairs.add(arm, outcome)
        elif self._traffic is not None:
            self._traffic.add(arm, outcome)

    def finish(self, *, votes: Sequence[Vote] = (), rng: np.random.Generator) -> Comparison:
        """The answer; `rng` draws the bootstrap and the signs of the A/A check. Call it once."""
        if self._pairs is not None:
            self._pairs.finish()
        if self._ends_at is not None:
            self._course.finish(self._ends_at, self._samples())
        summaries = tuple(self._counts.summary(arm.name) for arm in self._it.arms)
        shared = tuple(self._shared_checks())
        levels = significance_levels(self._it, self._samples())
        by_name = {summary.arm: summary for summary in summaries}
        return Comparison(
            experiment=self._it,
            begins_at=self._begins_at,
            ends_at=self._ends_at,
            outcomes=self._taken,
            arms=summaries,
            checks=shared,
            answers=tuple(
                self._answer(arm.name, levels, shared, by_name, votes=votes, rng=rng) for arm in self._it.treatments
            ),
        )

    def _answer(
        self,
        arm: str,
        levels: Mapping[ArmAndScorer, float],
        shared: Sequence[HealthCheck],
        summaries: Mapping[str, ArmSummary],
        *,
        votes: Sequence[Vote],
        rng: np.random.Generator,
    ) -> ArmResult:
        it, readings = self._it, self._readings[arm]
        names = self._counts.scorer_names()
        effects = tuple(
            estimate_effect(
                it, readings, self._course, which=(arm, scorer), name=names[scorer], alpha=levels[arm, scorer], rng=rng
            )
            for scorer in it.scorers
        )
        pairs = self._pairs.arms[arm] if self._pairs is not None else None
        shown = pairs.examples.shown() if pairs else ()
        review = [pair for pair in shown if pair.role == "review"]
        case = VerdictInputs(
            experiment=it,
            arm=arm,
            effects=effects,
            guardrails=tuple(evaluate_guardrail(it, rail, readings.sample(rail.of)) for rail in it.guardrails),
            looks=tuple(self._looks(readings)),
            checks=tuple(self._arm_checks(arm, rng)),
            people=tally_votes(votes, review, arm=arm, control=it.control, alpha=it.alpha),
        )
        return ArmResult(
            arm=arm,
            control=it.control,
            verdict=decide_verdict(replace(case, checks=(*shared, *case.checks))),
            effects=effects,
            guardrails=case.guardrails,
            looks=case.looks,
            checks=case.checks,
            pairs=shown,
            people=case.people,
            **({} if pairs is None else _missing(pairs.missing, arm, it.control)),
            **self._gains(readings, summaries[arm], summaries[it.control]),
        )

    def _gains(self, readings: Contrast, arm: ArmSummary, control: ArmSummary) -> dict[str, Any]:
        sample = readings.sample(self._measures.scorers[0])
        gain = None if sample is None else sample.mean
        return {
            "points_per_extra_mbps": points_per_extra(gain, _mbps(arm), _mbps(control)),
            "points_per_extra_gpu_second": points_per_extra(
                gain, arm.gpu_seconds_per_second, control.gpu_seconds_per_second
            ),
        }

    def _samples(self) -> Estimates:
        return {
            (arm, scorer): self._sample(readings, f"score:{scorer}")
            for arm, readings in self._readings.items()
            for scorer in self._it.scorers
        }

    def _sample(self, readings: Contrast, key: str) -> MeanDifference | None:
        adjusted = readings.adjusted(key)
        return adjusted[0] if adjusted else readings.sample(key)

    def _reading(self, arm: str) -> Contrast:
        if self._pairs is not None:
            return PairedContrast(self._it, self._measures, self._pairs.arms[arm])
        assert self._traffic is not None
        return UnpairedContrast(self._it, self._measures, self._traffic, arm)

    def _looks(self, readings: Contrast) -> Iterator[SignalDifference]:
        for signal, limit in self._it.look_limits.items():
            sample = readings.sample(f"signal:{signal}")
            if sample is not None and math.isfinite(sample.mean):
                yield SignalDifference(
                    signal=signal, control_mean=sample.control_mean, arm_mean=sample.arm_mean, limit=limit
                )

    def _shared_checks(self) -> Iterator[HealthCheck]:
        yield check_versions(self._counts.versions)
        if self._pairs is not None:
            taken = sum(int(pairs.table.segment_counts().sum()) for pairs in self._pairs.arms.values())
            yield check_duplicate_segments(self._pairs.doubled, of=taken)
        if self._traffic is not None:
            yield check_sample_ratio(self._traffic.sessions, self._traffic.shares, most=self._traffic.max_log_e_value())
            if self._it.design == "switchback":
                yield check_mixed_blocks(*self._traffic.mixed_block_counts())
            else:
                yield check_crossover_sessions(*self._traffic.crossover_counts())

    def _arm_checks(self, arm: str, rng: np.random.Generator) -> Iterator[HealthCheck]:
        if self._pairs is None:
            return
        pairs, control = self._pairs.arms[arm], self._it.control
        yield check_missing_pairs(
            arm,
            control,
            pairs=self._readings[arm].segments(self._measures.scorers[0]),
            in_arm=pairs.missing[arm].count,
            in_control=pairs.missing[control].count,
            waiting=pairs.waiting[arm].count + pairs.waiting[control].count,
        )
        differences = self._readings[arm].differences(self._measures.scorers[0])
        if differences is not None and (check := run_aa_test(differences, alpha=self._it.alpha, rng=rng)):
            yield check


def _missing(missing: Mapping[str, MissingPairs], arm: str, control: str) -> dict[str, Any]:
    newest = [one for side in missing.values() for one in side.newest]
    return {
        "missing": tuple(sorted(newest, key=lambda one: one.starts_at)),
        "missing_in_arm": missing[arm].count,
        "missing_in_control": missing[control].count,
    }


def _mbps(summary: ArmSummary) -> float | None:
    return None if summary.bitrate_kbps is None else summary.bitrate_kbps / 1000
