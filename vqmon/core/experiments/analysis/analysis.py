"""Analyses an experiment in one pass over its outcomes; memory grows with the clusters, not with the segments."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np

from vqmon.core.experiments.analysis.content_checks import (
    check_dependence,
    check_long_sessions,
    check_lost_content,
    check_repeated_content,
    check_ruling_cluster,
    check_ruling_unit,
    check_spread,
)
from vqmon.core.experiments.analysis.effects import (
    clusters_needed,
    estimate_effect,
    evaluate_guardrail,
    significance_levels,
)
from vqmon.core.experiments.analysis.health_checks import (
    check_crossover_sessions,
    check_duplicate_segments,
    check_missing_pairs,
    check_mixed_blocks,
    check_pairing,
    check_versions,
    run_aa_test,
)
from vqmon.core.experiments.analysis.trajectory import ArmAndScorer, EffectTrajectory, Estimates
from vqmon.core.experiments.analysis.verdicts import VerdictInputs, decide_verdict
from vqmon.core.experiments.analysis.vote_tally import tally_votes
from vqmon.core.experiments.data.arm_totals import ArmTotals, points_per_extra
from vqmon.core.experiments.data.contrasts import Contrast, PairedContrast, UnpairedContrast
from vqmon.core.experiments.data.losses import loss_evidence
from vqmon.core.experiments.data.metrics import ExperimentMetrics, is_about_segment, is_in_period, main_metric
from vqmon.core.experiments.data.pairs import MissingPairs, PairMatcher
from vqmon.core.experiments.data.sessions import UnpairedTotals
from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.human_review import Vote
from vqmon.core.experiments.results import ArmResult, ArmSummary, Comparison, Effect, HealthCheck, SignalDifference
from vqmon.core.experiments.stats.estimators import MAX_SESSION_MEDIANS
from vqmon.core.experiments.stats.sample_ratio_mismatch import check_sample_ratio, check_silent_arms
from vqmon.core.experiments.stats.sequential import MeanDifference
from vqmon.core.types import Outcome


class ExperimentAnalysis:
    """Accumulates outcomes, which must be added in the order in which their segments start, and compares the arms."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._metrics = ExperimentMetrics(experiment)
        self._totals = ArmTotals(experiment)
        self._trajectory = EffectTrajectory(experiment=experiment)
        self._pairs = PairMatcher(experiment, self._metrics) if experiment.design == "paired" else None
        self._unpaired = None if self._pairs else UnpairedTotals(experiment, self._metrics)
        self._contrasts: dict[str, Contrast] = {arm.name: self._contrast(arm.name) for arm in experiment.treatments}
        self._begins_at: datetime | None = None
        self._ends_at: datetime | None = None
        self._media_ends_at: datetime | None = None
        self._outcomes = 0

    def add(self, outcome: Outcome) -> None:
        """Add an outcome; it is ignored when it belongs to no arm or lies outside the experiment's period."""
        starts_at = outcome.segment.starts_at
        is_part = is_in_period(self._experiment, starts_at) and is_about_segment(outcome)
        arm = self._experiment.arm_of(outcome) if is_part else None
        if arm is None:
            return
        self._trajectory.advance_to(starts_at, self._estimates)
        self._begins_at = self._begins_at or starts_at
        self._ends_at = starts_at
        self._media_ends_at = max(self._media_ends_at or starts_at, outcome.segment.ends_at)
        self._outcomes += 1
        self._totals.add(arm, outcome)
        if self._pairs is not None:
            self._pairs.add(arm, outcome)
        elif self._unpaired is not None:
            self._unpaired.add(arm, outcome)

    def finish(self, *, votes: Sequence[Vote] = (), rng: np.random.Generator) -> Comparison:
        """Compare the arms; call it once. `rng` draws the bootstrap and the signs of the A/A test."""
        if self._pairs is not None:
            self._pairs.finish()
        if self._ends_at is not None:
            self._trajectory.finish(self._ends_at, self._estimates())
        summaries = {arm.name: self._totals.summary(arm.name) for arm in self._experiment.arms}
        checks = tuple(self._experiment_checks())
        levels = significance_levels(
            self._experiment,
            self._estimates(),
            needed=self._clusters_needed(),
            max_e_values=self._trajectory.max_e_values,
        )
        return Comparison(
            experiment=self._experiment,
            begins_at=self._begins_at,
            ends_at=self._ends_at,
            outcomes=self._outcomes,
            arms=tuple(summaries.values()),
            checks=checks,
            answers=tuple(
                self._arm_result(arm.name, levels, checks, summaries, votes=votes, rng=rng)
                for arm in self._experiment.treatments
            ),
        )

    def _arm_result(
        self,
        arm: str,
        levels: Mapping[ArmAndScorer, float],
        experiment_checks: Sequence[HealthCheck],
        summaries: Mapping[str, ArmSummary],
        *,
        votes: Sequence[Vote],
        rng: np.random.Generator,
    ) -> ArmResult:
        experiment, contrast = self._experiment, self._contrasts[arm]
        effects = self._effects(arm, levels, rng)
        pairs = self._pairs.arms[arm] if self._pairs is not None else None
        examples = pairs.examples.selected() if pairs else ()
        review = [pair for pair in examples if pair.role == "review"]
        inputs = VerdictInputs(
            experiment=experiment,
            arm=arm,
            effects=effects,
            guardrails=tuple(
                evaluate_guardrail(
                    experiment, guardrail, contrast.difference(guardrail.of), needed=self._clusters_needed()
                )
                for guardrail in experiment.guardrails
            ),
            signals=tuple(self._signal_differences(contrast)),
            checks=tuple(self._arm_checks(arm, effects, rng)),
            votes=tally_votes(votes, review, arm=arm, control=experiment.control, alpha=experiment.alpha),
        )
        return ArmResult(
            arm=arm,
            control=experiment.control,
            verdict=decide_verdict(replace(inputs, checks=(*experiment_checks, *inputs.checks))),
            effects=effects,
            guardrails=inputs.guardrails,
            looks=inputs.signals,
            checks=inputs.checks,
            pairs=examples,
            people=inputs.votes,
            **({} if pairs is None else _missing_fields(pairs.missing, arm, experiment.control)),
            **self._cost_fields(contrast, summaries[arm], summaries[experiment.control]),
        )

    def _effects(self, arm: str, levels: Mapping[ArmAndScorer, float], rng: np.random.Generator) -> tuple[Effect, ...]:
        names = self._totals.scorer_names()
        return tuple(
            estimate_effect(
                self._experiment,
                self._contrasts[arm],
                self._trajectory,
                hypothesis=(arm, scorer),
                scorer_name=names[scorer],
                alpha=levels[arm, scorer],
                needed=self._clusters_needed(),
                rng=rng,
            )
            for scorer in self._experiment.scorers
        )

    def _clusters_needed(self) -> float:
        return clusters_needed(self._experiment, ends_at=self._media_ends_at)

    def _cost_fields(self, contrast: Contrast, arm: ArmSummary, control: ArmSummary) -> dict[str, Any]:
        estimate = contrast.difference(self._metrics.scorers[0])
        gain = None if estimate is None else estimate.mean
        return {
            "points_per_extra_mbps": points_per_extra(gain, arm_cost=_mbps(arm), control_cost=_mbps(control)),
            "points_per_extra_gpu_second": points_per_extra(
                gain, arm_cost=arm.gpu_seconds_per_second, control_cost=control.gpu_seconds_per_second
            ),
        }

    def _estimates(self) -> Estimates:
        return {
            (arm, scorer): _primary_estimate(contrast, main_metric(scorer))
            for arm, contrast in self._contrasts.items()
            for scorer in self._experiment.scorers
        }

    def _contrast(self, arm: str) -> Contrast:
        if self._pairs is not None:
            return PairedContrast(self._experiment, self._metrics, self._pairs.arms[arm])
        assert self._unpaired is not None
        return UnpairedContrast(self._experiment, self._metrics, self._unpaired, arm)

    def _signal_differences(self, contrast: Contrast) -> Iterator[SignalDifference]:
        for signal, limit in self._experiment.look_limits.items():
            estimate = contrast.difference(f"signal:{signal}")
            if estimate is not None and math.isfinite(estimate.mean):
                yield SignalDifference(
                    signal=signal, control_mean=estimate.control_mean, arm_mean=estimate.arm_mean, limit=limit
                )

    def _experiment_checks(self) -> Iterator[HealthCheck]:
        yield check_versions(self._totals.versions)
        if self._pairs is not None:
            pairs = sum(int(arm.table.segment_counts().sum()) for arm in self._pairs.arms.values())
            yield check_duplicate_segments(self._pairs.duplicates, pairs=pairs)
        if self._unpaired is not None:
            yield check_sample_ratio(
                self._unpaired.sessions,
                self._unpaired.planned_counts(),
                max_log_e_value=self._unpaired.max_log_e_value(),
            )
            yield check_silent_arms(
                self._unpaired.run_log_p_values, self._unpaired.runs, sessions=self._unpaired.sessions.total()
            )
            if self._experiment.design == "switchback":
                mixed, blocks = self._unpaired.mixed_block_counts()
                yield check_mixed_blocks(mixed, blocks=blocks)
            else:
                crossovers, sessions = self._unpaired.crossover_counts()
                yield check_crossover_sessions(crossovers, sessions=sessions)

    def _arm_checks(self, arm: str, effects: Sequence[Effect], rng: np.random.Generator) -> Iterator[HealthCheck]:
        contrast, first_score = self._contrasts[arm], self._metrics.scorers[0]
        estimate = contrast.difference(first_score)
        if self._pairs is not None:
            yield from self._pair_checks(arm, self._pairs)
        if estimate is not None:
            yield check_spread(estimate)
            if (check := check_dependence(estimate)) is not None:
                yield check
        ruling = self._ruling_unit_check(arm, effects)
        if ruling is not None:
            yield ruling
        differences = contrast.cluster_differences(first_score)
        if differences is not None:
            names = [row.cluster for row in contrast.forest_rows(first_score)]
            values = np.array([row.difference for row in contrast.forest_rows(first_score)])
            for check in (
                None if ruling else check_ruling_cluster(values, names),
                run_aa_test(differences, alpha=self._experiment.alpha, rng=rng),
            ):
                if check is not None:
                    yield check
        elif (check := self._session_check(arm)) is not None:
            yield check

    def _pair_checks(self, arm: str, matcher: PairMatcher) -> Iterator[HealthCheck]:
        pairs = matcher.arms[arm]
        control, contrast, keys = self._experiment.control, self._contrasts[arm], len(self._metrics.keys)
        count = contrast.segment_count(self._metrics.scorers[0])
        hindrance = matcher.pairing.hindrance(
            arm, control, same=self._experiment.same, tolerance_seconds=self._experiment.tolerance_seconds
        )
        if (check := check_pairing(hindrance)) is not None:
            yield check
        yield check_missing_pairs(
            arm,
            control,
            pairs=count,
            missing_in_arm=pairs.missing[arm].count,
            missing_in_control=pairs.missing[control].count,
            pending=pairs.pending[arm].count + pairs.pending[control].count,
            silent=pairs.silent,
        )
        yield check_lost_content(loss_evidence(pairs, arm=arm, control=control, metrics=keys), pairs=count)
        table = pairs.table
        yield check_repeated_content(np.column_stack([table.counts(0), table.means(keys), table.means(2 * keys)]))

    def _ruling_unit_check(self, arm: str, effects: Sequence[Effect]) -> HealthCheck | None:
        totals = self._pairs.arms[arm].units if self._pairs is not None else None
        totals = totals or (self._unpaired.units if self._unpaired is not None else None)
        for scorer, effect in enumerate(effects):
            if totals is not None and effect.reading is not None:
                units = totals.units(self._experiment.control, arm, scorer=scorer)
                check = check_ruling_unit(units, effect.reading, margin=self._experiment.margin)
                if check is not None:
                    return check
        return None

    def _session_check(self, arm: str) -> HealthCheck | None:
        if self._unpaired is None or self._experiment.design == "switchback":
            return None
        counts = [self._unpaired.tables[name].counts(0) for name in (self._experiment.control, arm)]
        return check_long_sessions([part[part > 0] for part in counts], limit_medians=MAX_SESSION_MEDIANS)


def _primary_estimate(contrast: Contrast, key: str) -> MeanDifference | None:
    """The adjusted difference where there is one, else the plain one."""
    adjusted = contrast.adjusted_difference(key)
    return adjusted[0] if adjusted else contrast.difference(key)


def _missing_fields(missing: Mapping[str, MissingPairs], arm: str, control: str) -> dict[str, Any]:
    newest = [pair for pairs in missing.values() for pair in pairs.newest]
    return {
        "missing": tuple(sorted(newest, key=lambda pair: pair.starts_at)),
        "missing_in_arm": missing[arm].count,
        "missing_in_control": missing[control].count,
    }


def _mbps(summary: ArmSummary) -> float | None:
    return None if summary.bitrate_kbps is None else summary.bitrate_kbps / 1000
