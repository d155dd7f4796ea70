"""How large an experiment must be, with the spread taken from what a history holds or from what a person says."""

from dataclasses import dataclass

from vqmon.core.experiments.results import Comparison
from vqmon.core.experiments.stats.distributions import t_quantile
from vqmon.core.experiments.stats.power import PowerAssumptions
from vqmon.errors import SettingsError

MIN_PILOT_CLUSTERS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotVariance:
    """How paired differences spread: of one segment, and how much of that is common to a cluster."""

    sd: float
    icc: float
    segments_per_cluster: int
    clusters: int


def estimate_pilot_variance(comparison: Comparison) -> PilotVariance:
    """The spread in a pilot of pairs: within clusters and between them; SettingsError when it is too small."""
    effect = next(
        (it.effects[0] for it in comparison.answers if len(it.effects[0].by_cluster) >= MIN_PILOT_CLUSTERS), None
    )
    if effect is None:
        raise SettingsError(
            f"{comparison.experiment.name}: fewer than {MIN_PILOT_CLUSTERS} clusters of pairs are there to plan with; "
            "give --sd and --icc"
        )
    lines = [line for line in effect.by_cluster if line.sd is not None]
    degrees = sum(line.segments - 1 for line in lines)
    if effect.final is None or degrees < MIN_PILOT_CLUSTERS:
        raise SettingsError(f"{comparison.experiment.name}: clusters with one segment each; give --sd and --icc")
    inside = sum((line.segments - 1) * (line.sd or 0.0) ** 2 for line in lines) / degrees
    # The t interval's own standard deviation of cluster means, of which segments explain a part.
    t = t_quantile((1 + effect.final.level) / 2, effect.clusters - 1)
    of_means = effect.clusters * ((effect.final.high - effect.final.low) / 2 / t) ** 2
    typical = effect.segments / effect.clusters
    shared = max(0.0, of_means - inside / typical)
    total = inside + shared
    return PilotVariance(
        sd=total**0.5,
        icc=shared / total if total > 0 else 0.0,
        segments_per_cluster=max(1, round(typical)),
        clusters=effect.clusters,
    )


def power_assumptions(
    comparison: Comparison | None, *, difference: float, sd: float | None, icc: float | None, segments: int | None
) -> PowerAssumptions:
    """What a plan rests on: what a person says goes over what the pilot shows."""
    pilot = estimate_pilot_variance(comparison) if comparison is not None and None in (sd, icc, segments) else None
    if pilot is None and sd is None:
        raise SettingsError("a plan needs a spread: name an experiment that has run (a pilot), or give --sd")
    it = comparison.experiment if comparison is not None else None
    default_icc, default_segments = (pilot.icc, pilot.segments_per_cluster) if pilot else (0.3, 30)
    return PowerAssumptions(
        difference=difference,
        sd=sd if sd is not None else pilot.sd if pilot else 0.0,
        icc=icc if icc is not None else default_icc,
        segments_per_cluster=segments or default_segments,
        alpha=it.alpha if it else 0.05,
        hypotheses=len(it.treatments) * len(it.scorers) if it else 1,
        guardrails=len(it.guardrails) if it else 0,
    )
