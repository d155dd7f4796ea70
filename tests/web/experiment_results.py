"""An experiment with its answer, made over the seeded fleet; the same every time."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tests.web import seed
from vqmon.core.experiments.definition import Arm, Experiment, Guardrail
from vqmon.core.experiments.human_review import MissingPair, PairExample, VoteTally
from vqmon.core.experiments.results import (
    HISTOGRAM_BINS,
    ArmResult,
    ArmSummary,
    ClusterDifference,
    Comparison,
    ConfidenceInterval,
    ConfidenceSequencePoint,
    Effect,
    GuardrailResult,
    HealthCheck,
    SignalDifference,
    SliceDifference,
    Verdict,
)
from vqmon.core.types import QualityEvent
from vqmon.web.ports import ExperimentResult

EXPERIMENT = Experiment(
    name="sr v2/night",
    question="Is the new upscaler better than the one in use, at the same bitrate?",
    arms=(
        Arm(name="sr-v1", rendition="480p"),
        Arm(name="sr-v2", rendition="1080p"),
        Arm(name="sr-v2-fast", label="fast"),
    ),
    control="sr-v1",
    scorers=("lite", "q-align"),
    planned_clusters=40,
    delta_min=0.5,
    guardrails=(Guardrail(name="steady", of="signal:flicker", margin=0.02),),
)
OTHER = Experiment(
    name="ladder", arms=(Arm(name="a", label="a"), Arm(name="b", label="b")), control="a", design="unpaired"
)


def comparison(seeded: seed.Seeded) -> Comparison:
    """Better by lite, undecided for the fast arm."""
    chance = random.Random(7)
    pairs = _pairs(seeded)
    return Comparison(
        experiment=EXPERIMENT,
        begins_at=seed.NOW - timedelta(days=6),
        ends_at=seed.NOW,
        outcomes=48_211,
        arms=(
            _arm("sr-v1", "control", 66, chance, mbps=4.1, gpu=0.11),
            _arm("sr-v2", "arm", 70, chance, mbps=4.15, gpu=0.19),
            _arm("sr-v2-fast", "arm", 66.4, chance, mbps=4.0, gpu=0.08),
        ),
        checks=(
            HealthCheck(
                name="versions",
                is_good=True,
                weight="look",
                text=f"One scorer, one decoder: {seed.SCORER}, libav 62.28.102.",
            ),
        ),
        answers=(_better(pairs, chance), _undecided(chance)),
    )


def _better(pairs: Sequence[PairExample], chance: random.Random) -> ArmResult:
    return ArmResult(
        arm="sr-v2",
        control="sr-v1",
        verdict=Verdict(
            kind="better",
            sentence="sr-v2 is better than sr-v1: +1.94 points (1.10 to 2.78).",
            reasons=("The any-time 95 % interval lies above 0.", "All guardrails hold."),
            next_step="Roll out sr-v2; keep `sr-v1` for a week.",
        ),
        effects=(_effect(seed.SCORER, 1.94, 0.84, 34, chance), _effect("q-align@1", 1.2, 0.9, 34, chance)),
        guardrails=(
            GuardrailResult(
                name="steady",
                of="signal:flicker",
                margin=0.02,
                worse="higher",
                state="held",
                control_mean=0.011,
                arm_mean=0.013,
                difference=0.002,
                bound=0.0041,
            ),
            GuardrailResult(
                name="worst moments",
                of="p5:lite",
                margin=2.0,
                worse="lower",
                state="open",
                control_mean=51.2,
                arm_mean=50.9,
                difference=None,
                bound=None,
            ),
        ),
        looks=(
            SignalDifference(signal="over_sharpness", control_mean=0.012, arm_mean=0.021, limit=0.03),
            SignalDifference(signal="noise", control_mean=0.01, arm_mean=0.052, limit=0.03),
        ),
        checks=(
            HealthCheck(
                name="missing pairs",
                is_good=False,
                weight="notes",
                text="14 segments have no score in sr-v2, 3 none in sr-v1 (p 0.01).",
                remedy="Look at the packager of `sr-v2`.",
                p=0.01,
            ),
        ),
        pairs=tuple(pairs),
        missing=(
            MissingPair(
                cluster="kids",
                starts_at=seed.NOW - timedelta(minutes=3),
                missing="sr-v2",
                event_id=pairs[0].control_event_id,
                reason="not_found",
            ),
        ),
        missing_in_arm=14,
        missing_in_control=3,
        people=VoteTally(
            votes=24,
            voters=3,
            left_out=0,
            clusters_for_arm=6,
            clusters_for_control=1,
            clusters_tied=1,
            p=0.125,
            share=0.857,
            low=0.487,
            high=0.974,
            says="",
        ),
        points_per_extra_mbps=38.8,
        points_per_extra_gpu_second=24.2,
    )


def _undecided(chance: random.Random) -> ArmResult:
    verdict = Verdict(
        kind="undecided",
        sentence="sr-v2-fast and sr-v1 cannot be told apart yet: +0.21 points (−0.62 to 1.04).",
        next_step="Go on: about 30 contents more would settle it.",
    )
    return ArmResult(
        arm="sr-v2-fast", control="sr-v1", verdict=verdict, effects=(_effect(seed.SCORER, 0.21, 0.83, 26, chance),)
    )


def _effect(scorer: str, mean: float, half: float, clusters: int, chance: random.Random) -> Effect:
    over_time = tuple(_point(number, clusters, mean, half, chance) for number in range(1, clusters + 1))
    last = over_time[-1]
    low, high = mean - half, mean + half
    now = ConfidenceInterval(mean=mean, low=low, high=high, level=0.95, kind="any-time")
    return Effect(
        scorer=scorer,
        clusters=clusters,
        segments=clusters * 30,
        reading=now,
        anytime=now,
        e_value=812.0 if low > 0 else 0.7,
        p_anytime=0.0012,
        win_rate=0.76,
        win_low=0.6,
        win_high=0.88,
        over_time=(*over_time[:-1], replace(last, mean=mean, low=low, high=high)),
        by_cluster=tuple(sorted(_clusters(clusters, mean, chance), key=lambda cluster: cluster.difference)),
        slices=(
            SliceDifference(
                slice="label:genre",
                value="sports",
                clusters=12,
                segments=360,
                mean=2.9,
                low=1.4,
                high=4.4,
                p=0.001,
                q=0.003,
            ),
            SliceDifference(
                slice="label:genre",
                value="news",
                clusters=2,
                segments=60,
                mean=0.4,
                low=None,
                high=None,
                p=None,
                q=None,
            ),
        ),
    )


def _point(number: int, clusters: int, mean: float, half: float, chance: random.Random) -> ConfidenceSequencePoint:
    at = seed.NOW - timedelta(days=6) * (1 - number / clusters)
    middle = mean + chance.gauss(0, 1.2) / number**0.7
    wide = half * (clusters / number) ** 0.55
    is_read = number >= 20
    return ConfidenceSequencePoint(
        at=at,
        clusters=number,
        mean=middle,
        low=middle - wide if is_read else None,
        high=middle + wide if is_read else None,
    )


def _clusters(count: int, mean: float, chance: random.Random) -> list[ClusterDifference]:
    differences = []
    for number in range(count):
        difference, wide = chance.gauss(mean, 2.2), chance.uniform(0.6, 1.8)
        differences.append(
            ClusterDifference(
                cluster=seed.NAMES[number] if number < len(seed.NAMES) else f"title-{number:02d}",
                segments=30,
                control_mean=66.0,
                arm_mean=66.0 + difference,
                difference=difference,
                low=difference - wide,
                high=difference + wide,
            )
        )
    return differences


def _arm(name: str, role: str, level: float, chance: random.Random, *, mbps: float, gpu: float) -> ArmSummary:
    counts = [0] * HISTOGRAM_BINS
    for _ in range(3000):
        counts[min(49, max(0, int(chance.gauss(level, 8) / 2)))] += 1
    return ArmSummary(
        arm=name,
        role=role,  # type: ignore[arg-type]
        scored=3000,
        unscored=14,
        clusters=34,
        mean={seed.SCORER: level},
        histogram={seed.SCORER: counts},
        bitrate_kbps=1000 * mbps,
        gpu_seconds_per_second=gpu,
        points_per_mbps=level / mbps,
        points_per_gpu_second=level / gpu,
    )


def _pairs(seeded: seed.Seeded) -> list[PairExample]:
    """The newest moments of the seeded streams, 480p held against 1080p."""
    by_moment: dict[tuple[str, datetime], dict[str, QualityEvent]] = {}
    for outcome in seeded.outcomes:
        if isinstance(outcome, QualityEvent) and outcome.id in seeded.thumbnails:
            place = outcome.segment.rendition.stream_id, outcome.segment.starts_at
            by_moment.setdefault(place, {})[outcome.segment.rendition.name] = outcome
    whole = [(place, sides) for place, sides in sorted(by_moment.items()) if len(sides) == 2]
    first = {place[0]: (place, sides) for place, sides in whole}
    reviewed = [_pair("review", place, sides) for place, sides in first.values()]
    ranked = sorted((_pair("worst", place, sides) for place, sides in whole), key=lambda pair: pair.difference)
    return [*ranked[:6], *(replace(pair, role="best") for pair in ranked[:-7:-1]), *reviewed]


def _pair(role: str, place: tuple[str, datetime], sides: dict[str, QualityEvent]) -> PairExample:
    control, arm = sides["480p"], sides["1080p"]
    return PairExample(
        id=f"{control.id}:{arm.id}",
        role=role,  # type: ignore[arg-type]
        cluster=place[0],
        starts_at=place[1],
        control_event_id=control.id,
        arm_event_id=arm.id,
        control_key=control.segment.rendition.key,
        arm_key=arm.segment.rendition.key,
        control_score=control.scores[0].value,
        arm_score=arm.scores[0].value,
    )


@dataclass
class FixedResults:
    """A result that is there at once, unless `is_running` says that it is still being computed."""

    comparison: Comparison
    problem: str = ""
    is_running: bool = False

    def experiments(self) -> Sequence[Experiment]:
        return (self.comparison.experiment, OTHER)

    def result(self, name: str) -> ExperimentResult:
        if name != self.comparison.experiment.name or self.is_running:
            return ExperimentResult(is_running=True)
        return ExperimentResult(comparison=self.comparison, made_at=seed.NOW - timedelta(seconds=40))
