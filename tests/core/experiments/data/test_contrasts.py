"""Contrasts: the plain, weighted and adjusted difference of an arm from the control."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests import factories
from vqmon.core.experiments.data.contrasts import PairedContrast, UnpairedContrast
from vqmon.core.experiments.data.metrics import ExperimentMetrics
from vqmon.core.experiments.data.pairs import PairMatcher
from vqmon.core.experiments.data.sessions import UnpairedTotals
from vqmon.core.experiments.definition import Arm, Experiment
from vqmon.core.types import Outcome, QualityEvent


def switchback_events(*, gain: float, blocks: int = 120, mixed: int = 0) -> Iterator[QualityEvent]:
    """Two live streams of very different quality whose encoder gets a random arm every ten minutes."""
    rng = np.random.default_rng(11)
    for stream, base in ((0, 40.0), (1, 75.0)):
        for block in range(blocks):
            arm = str(rng.choice(["v1", "v2"]))
            previous_arm = "v1" if arm == "v2" else "v2"
            block_offset = rng.normal(0, 1)
            for part in range(20):
                at = block * 600 + part * 30.0
                # The first segments of a block still come from the arm before.
                wash_in_loss = 10 if part == 0 else 0
                label = previous_arm if block < mixed and part == 10 else arm
                value = base + block_offset + gain * (arm == "v2") - wash_in_loss + rng.normal(0, 2)
                yield factories.arm_event(
                    stream=stream, arm=label, sequence=block * 20 + part, score=value, at_seconds=at
                )


def test_paired_covariates_adjust_only_with_their_mean_over_all_traffic() -> None:
    """The gain depends on the input's score: with its mean over all traffic given, the interval is a third as wide."""
    rng = np.random.default_rng(6)
    outcomes = []
    for stream in range(40):
        quality = rng.normal(50, 10)
        for number in range(5):
            outcomes.append(factories.arm_event(stream=stream, arm="in", sequence=number, score=quality))
            for arm, gain in (("v1", 0.0), ("v2", 1.0 + 0.2 * (quality - 50))):
                outcomes.append(
                    factories.arm_event(
                        stream=stream, arm=arm, sequence=number, score=quality + gain + rng.normal(0, 0.5)
                    )
                )
    arms = (*factories.experiment().arms, Arm(name="in", label="in"))
    experiment = factories.experiment(arms=arms, input_arm="in", covariates=("input_score",))
    plain = factories.first_result(factories.comparison(experiment=experiment, outcomes=outcomes)).effects[0]
    adjusted = factories.first_result(
        factories.comparison(experiment=replace(experiment, covariate_means={"input_score": 50.0}), outcomes=outcomes)
    ).effects[0]

    assert plain.adjusted is None
    assert plain.reading is not None
    assert adjusted.reading is not None
    assert adjusted.adjusted is not None
    assert (adjusted.reading.low, adjusted.reading.high) == pytest.approx(
        (adjusted.adjusted.low, adjusted.adjusted.high), abs=0.05
    )
    assert (adjusted.variance_saved or 0) > 0.9
    assert adjusted.reading.high - adjusted.reading.low < (plain.reading.high - plain.reading.low) / 3
    assert adjusted.reading.mean == pytest.approx(1.0, abs=0.15)
    assert [arm.role for arm in factories.comparison(experiment=experiment, outcomes=outcomes).arms] == [
        "control",
        "arm",
        "input",
    ]


def test_a_switchback_compares_blocks_within_streams() -> None:
    """The wash-in is left out, and the streams' difference of 35 points does not widen the interval."""
    experiment = factories.experiment(design="switchback", cluster="block", planned_clusters=200, wash_in_seconds=30.0)
    comparison = factories.comparison(experiment=experiment, outcomes=switchback_events(gain=1.5))
    effect = factories.first_result(comparison).effects[0]

    assert factories.first_result(comparison).verdict.kind == "better"
    assert effect.clusters == 240
    assert effect.segments == 240 * 17
    assert effect.reading is not None
    assert effect.reading.mean == pytest.approx(1.5, abs=0.5)
    mixed = factories.comparison(experiment=experiment, outcomes=switchback_events(gain=1.5, mixed=30))
    assert not factories.health_check(mixed, "mixed blocks").is_good
    assert factories.first_result(mixed).effects[0].clusters == 240 - 60


def paired_contrast(
    scores: Sequence[tuple[int, float, float]], *, experiment: Experiment | None = None, **labels: str
) -> PairedContrast:
    """The contrast of v2 with v1 in pairs (stream, control score, arm score), one after the other."""
    experiment = experiment or factories.experiment()
    metrics = ExperimentMetrics(experiment)
    matcher = PairMatcher(experiment, metrics)
    for sequence, (stream, *arm_scores) in enumerate(scores):
        for arm, score in zip(("v1", "v2"), arm_scores, strict=True):
            matcher.add(arm, factories.arm_event(arm=arm, stream=stream, sequence=sequence, score=score, **labels))
    matcher.finish()
    return PairedContrast(experiment, metrics, matcher.arms["v2"])


def unpaired_contrast(outcomes: Sequence[Outcome], *, experiment: Experiment) -> UnpairedContrast:
    metrics = ExperimentMetrics(experiment)
    totals = UnpairedTotals(experiment, metrics)
    for outcome in outcomes:
        totals.add(outcome.segment.rendition.name, outcome)
    return UnpairedContrast(experiment, metrics, totals, "v2")


KEY = "score:lite"
# film 0 has three pairs that gain 1 point, film 1 has one pair that gains 3
UNEQUAL_FILMS = [(0, 50.0, 51.0), (0, 50.0, 51.0), (0, 50.0, 51.0), (1, 60.0, 63.0)]
UNPAIRED = factories.experiment(design="unpaired", cluster="label:session")
SWITCHBACK = factories.experiment(design="switchback", cluster="block")


def test_each_cluster_counts_once_and_each_segment_counts_once_when_weighted() -> None:
    """Differences 1 (three pairs) and 3 (one pair): 2 by clusters, 1.5 by segments."""
    contrast = paired_contrast(UNEQUAL_FILMS)
    plain, weighted = contrast.difference(KEY), contrast.segment_weighted_difference(KEY)

    assert plain is not None
    assert weighted is not None
    assert (plain.n, plain.mean, plain.degrees_of_freedom) == (2, 2.0, 1)
    assert plain.sd == pytest.approx(math.sqrt(2))
    assert (plain.control_mean, plain.arm_mean) == (55.0, 57.0)
    assert (weighted.mean, weighted.sd) == (1.5, pytest.approx(math.sqrt(1.125)))
    assert contrast.segment_count(KEY) == 4
    assert list(contrast.cluster_differences(KEY)) == [1.0, 3.0]


def test_no_pairs_give_no_difference_and_no_rows() -> None:
    """Also one cluster gives no difference, but a row."""
    nothing, single = paired_contrast([]), paired_contrast([(0, 50.0, 51.0)])

    assert nothing.difference(KEY) is None
    assert nothing.segment_weighted_difference(KEY) is None
    assert (nothing.segment_count(KEY), nothing.forest_rows(KEY), nothing.slice_differences()) == (0, (), ())
    assert single.difference(KEY) is None
    assert [(row.cluster, row.difference) for row in single.forest_rows(KEY)] == [("film-000", 1.0)]


def test_equal_clusters_have_a_difference_without_variance() -> None:
    """No skewness and no standard error."""
    difference = paired_contrast([(stream, 50.0, 52.0) for stream in range(3)]).difference(KEY)

    assert difference is not None
    assert (difference.mean, difference.sd, difference.skewness, difference.standard_error) == (2.0, 0.0, 0.0, 0.0)


def test_a_fixed_horizon_counts_the_first_complete_clusters_only() -> None:
    """Two clusters of two pairs are planned: the third complete one and the incomplete one are left out."""
    experiment = factories.experiment(planned_clusters=2, segments_per_cluster=2)
    contrast = paired_contrast(
        [
            (0, 50.0, 90.0),
            *(
                (stream, 50.0, 50.0 + gain)
                for stream, gain in ((1, 1.0), (1, 3.0), (2, 4.0), (2, 4.0), (3, 9.0), (3, 9.0))
            ),
        ],
        experiment=experiment,
    )

    assert [(row.cluster, row.difference) for row in contrast.forest_rows(KEY)] == [
        ("film-001", 2.0),
        ("film-002", 4.0),
    ]
    assert contrast.segment_count(KEY) == 4


def test_forest_rows_are_sorted_worst_first_with_an_interval_from_three_pairs_on() -> None:
    """Differences 0, 1, 2 have no lag-1 correlation: the interval is that of t with 2 degrees of freedom."""
    rows = paired_contrast(
        [
            *((0, 50.0, 50.0 + gain) for gain in (0.0, 1.0, 2.0)),
            (1, 50.0, 47.0),
            *((2, 50.0, 52.0) for _ in range(3)),
            *((3, 50.0, 50.0 + gain) for gain in (8.0, 10.0)),
        ]
    ).forest_rows(KEY)

    assert [(row.cluster[-1], row.difference, row.segments) for row in rows] == [
        ("1", -3.0, 1),
        ("0", 1.0, 3),
        ("2", 2.0, 3),
        ("3", 9.0, 2),
    ]
    single, spread, constant, two = rows
    assert (single.low, single.high, single.sd) == (None, None, None)
    assert (spread.low, spread.high) == (pytest.approx(1 - 2.484138, abs=1e-5), pytest.approx(1 + 2.484138, abs=1e-5))
    assert spread.sd == pytest.approx(1.0)
    assert (constant.low, constant.high, constant.sd) == (None, None, 0.0)
    assert (two.low, two.sd) == (None, pytest.approx(math.sqrt(2)))


def test_a_forest_of_too_many_clusters_shows_both_ends() -> None:
    """Of 402 clusters the two in the middle are left out."""
    rows = paired_contrast([(stream, 0.0, stream / 8) for stream in range(402)]).forest_rows(KEY)

    assert [row.difference * 8 for row in rows] == [*range(200), *range(202, 402)]


def test_a_paired_difference_is_adjusted_only_when_every_cluster_has_every_covariate() -> None:
    """The gain is twice the label `si`: it is 6 at a mean of 3 over all traffic, and without any variance left."""
    experiment = factories.experiment(covariates=("label:si",), covariate_means={"label:si": 3.0})
    metrics = ExperimentMetrics(experiment)
    for missing_label in (False, True):
        matcher = PairMatcher(experiment, metrics)
        for stream in range(25):
            labels = {} if missing_label and stream == 24 else {"si": str(stream % 5)}
            for arm in ("v1", "v2"):
                score = 50.0 + 2 * (stream % 5) * (arm == "v2")
                matcher.add(arm, factories.arm_event(arm=arm, stream=stream, score=score, at_seconds=stream, **labels))
        matcher.finish()
        adjusted = PairedContrast(experiment, metrics, matcher.arms["v2"]).adjusted_difference(KEY)
        if missing_label:
            assert adjusted is None
        else:
            assert adjusted is not None
            assert (adjusted[0].mean, adjusted[1]) == (pytest.approx(6.0), pytest.approx(1.0))
            assert adjusted[0].arm_mean - adjusted[0].control_mean == pytest.approx(4.0)


def test_a_slice_has_an_interval_from_three_clusters_on() -> None:
    """Slices with fewer have a mean only; the largest slice comes first."""
    experiment = factories.experiment(slices=("label:genre",))
    metrics = ExperimentMetrics(experiment)
    matcher = PairMatcher(experiment, metrics)
    for stream in range(5):
        for arm in ("v1", "v2"):
            score = 50.0 + (stream + 1) * (arm == "v2")
            genre = "news" if stream < 3 else "film"
            matcher.add(arm, factories.arm_event(arm=arm, stream=stream, score=score, at_seconds=stream, genre=genre))
    matcher.finish()
    news, film = PairedContrast(experiment, metrics, matcher.arms["v2"]).slice_differences()

    assert (news.value, news.clusters, news.segments, news.mean) == ("news", 3, 3, 2.0)
    # mean 2, standard deviation 1, t at 97.5 % with 2 degrees of freedom is 4.302653
    assert (news.low, news.high) == (pytest.approx(-0.484138, abs=1e-5), pytest.approx(4.484138, abs=1e-5))
    assert news.p == news.q == pytest.approx(0.074180, abs=1e-5)
    assert (film.value, film.clusters, film.mean) == ("film", 2, 4.5)
    assert (film.low, film.high, film.p, film.q) == (None,) * 4


def session_outcomes(sessions: Sequence[tuple[str, Sequence[float]]]) -> list[Outcome]:
    """One session per entry, (arm, scores)."""
    return [
        factories.arm_event(arm=arm, stream="live", sequence=sequence, score=score, session=f"s{number}")
        for number, (arm, scores) in enumerate(sessions)
        for sequence, score in enumerate(scores)
    ]


def test_an_unpaired_difference_is_that_of_the_segment_means() -> None:
    """Sessions of two and one segments: 160 / 3 points against 70."""
    contrast = unpaired_contrast(
        session_outcomes([("v1", (50, 50)), ("v1", (60,)), ("v2", (70,)), ("v2", (70, 70))]), experiment=UNPAIRED
    )
    difference = contrast.difference(KEY)

    assert difference is not None
    assert (difference.n, difference.mean) == (4, pytest.approx(70 - 160 / 3))
    assert (difference.control_mean, difference.arm_mean) == (pytest.approx(160 / 3), 70.0)
    assert contrast.segment_count(KEY) == 6
    assert contrast.segment_weighted_difference(KEY) is None
    assert contrast.cluster_differences(KEY) is None
    assert contrast.adjusted_difference(KEY) is None
    assert (contrast.forest_rows(KEY), contrast.slice_differences()) == ((), ())


@pytest.mark.parametrize(
    "sessions",
    [
        [],
        [("v2", (50, 60)), ("v2", (50,))],
        [("v1", (50, 60)), ("v1", (50,))],
        [("v1", (50, 60)), ("v2", (50,)), ("v2", (50,))],
    ],
    ids=["no session", "no control", "no treatment", "one control session"],
)
def test_unpaired_arms_need_two_sessions_each(sessions: Sequence[tuple[str, Sequence[float]]]) -> None:
    """One session of an arm has no variance that could be estimated."""
    assert unpaired_contrast(session_outcomes(sessions), experiment=UNPAIRED).difference(KEY) is None


def block_outcomes(blocks: Sequence[tuple[str, str, float]]) -> list[Outcome]:
    """One block of ten minutes with one segment per entry, (stream, arm, score)."""
    return [
        factories.arm_event(arm=arm, stream=stream, sequence=number, score=score, at_seconds=600.0 * number + 60)
        for number, (stream, arm, score) in enumerate(blocks)
    ]


def test_a_switchback_difference_is_within_streams() -> None:
    """The streams differ by 30 points, the arms by 5 in both: the estimate has no variance."""
    contrast = unpaired_contrast(
        block_outcomes([("a", "v1", 40), ("a", "v2", 45), ("b", "v1", 70), ("b", "v2", 75)]), experiment=SWITCHBACK
    )
    difference = contrast.difference(KEY)

    assert difference is not None
    assert (difference.n, difference.degrees_of_freedom) == (4, 1)
    assert (difference.mean, difference.sd) == (pytest.approx(5.0), pytest.approx(0.0, abs=1e-9))
    assert (difference.control_mean, difference.arm_mean) == (55.0, 60.0)
    assert contrast.slice_differences() == ()


@pytest.mark.parametrize(
    "blocks",
    [
        [],
        [("a", "v2", 40), ("a", "v2", 45), ("a", "v2", 45)],
        [("a", "v1", 40), ("a", "v1", 40), ("b", "v2", 70), ("b", "v2", 70)],
        [("a", "v1", 40), ("a", "v2", 45)],
    ],
    ids=["no block", "no control", "no stream with both arms", "too few blocks"],
)
def test_a_switchback_needs_both_arms_in_one_stream(blocks: Sequence[tuple[str, str, float]]) -> None:
    """And two blocks more than streams."""
    assert unpaired_contrast(block_outcomes(blocks), experiment=SWITCHBACK).difference(KEY) is None
