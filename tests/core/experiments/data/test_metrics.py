"""Metrics: values, attributes and clusters as an experiment names them."""

import math
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from tests import factories
from tests.factories import START
from vqmon.core.experiments.data.metrics import (
    ExperimentMetrics,
    cluster_of_segment,
    is_about_segment,
    is_in_period,
    numeric_attribute,
    scoring_versions,
    segment_bitrate_kbps,
    text_attribute,
)
from vqmon.core.experiments.definition import Guardrail
from vqmon.core.types import Outcome, ReferenceScore


def test_blocks_of_a_live_stream_are_clusters_with_gaps_between() -> None:
    """Blocks of ten minutes of one stream; the last minute of each is left out. Forty are needed for an interval."""
    outcomes = []
    rng = np.random.default_rng(3)
    for number in range(45 * 30):
        content = 60 + rng.normal(0, 3)
        for arm, gain in (("v1", 0.0), ("v2", 1.5)):
            outcomes.append(
                factories.arm_event(
                    stream=0,
                    arm=arm,
                    sequence=number,
                    score=content + gain + rng.normal(0, 0.5),
                    at_seconds=number * 20.0,
                )
            )
    comparison = factories.comparison(experiment=factories.experiment(cluster="block"), outcomes=outcomes)
    effect = factories.first_result(comparison).effects[0]

    assert factories.first_result(comparison).verdict.kind == "better"
    assert (effect.clusters, effect.segments) == (45, 45 * 27)
    assert len(effect.over_time) > 100
    bounded_points = [point for point in effect.over_time if point.low is not None]
    assert min(point.clusters for point in bounded_points) == 40
    assert [point.at for point in effect.over_time] == sorted(point.at for point in effect.over_time)
    assert (bounded_points[-1].low, bounded_points[-1].high) == (
        pytest.approx(effect.anytime.low if effect.anytime else None),
        pytest.approx(effect.anytime.high if effect.anytime else None),
    )


def value_of(key: str, outcome: Outcome) -> float:
    """The value of the metric in an experiment that has a guardrail on it."""
    guardrail = Guardrail(name="guardrail", of=key, margin=1.0)
    metrics = ExperimentMetrics(factories.experiment(guardrails=(guardrail,)))
    return float(metrics.values(outcome)[metrics.index[key]])


def test_metrics_are_scorers_then_guardrails_then_signals_each_once() -> None:
    """A guardrail on a watched signal adds no second column."""
    guardrails = (
        Guardrail(name="worst", of="p5:lite", margin=1.0, worse="lower"),
        Guardrail(name="flicker", of="signal:flicker", margin=0.1),
    )
    experiment = factories.experiment(
        scorers=("lite", "owl"), guardrails=guardrails, look_limits={"noise": 0.01, "flicker": 0.03}
    )
    metrics = ExperimentMetrics(experiment)

    assert metrics.keys == ("score:lite", "score:owl", "p5:lite", "signal:flicker", "signal:noise")
    assert metrics.scorers == ("score:lite", "score:owl")
    assert metrics.index["signal:noise"] == 4
    values = metrics.values(factories.arm_event(score=60, signals={"flicker": 0.5}))
    assert values.tolist()[2:] == [60.0, 0.5, 0.0]
    assert (values[0], math.isnan(values[1])) == (60.0, True)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("score:lite", 60.0),
        ("score:lite@1", 60.0),
        ("score:lite@2", math.nan),
        ("min:lite", 40.0),
        ("p5:lite", 41.0),
        ("signal:flicker", 0.25),
        ("unscored", 0.0),
        ("bitrate_kbps", 4000.0),
        ("label:latency", 1.5),
        ("label:arm", math.nan),
        ("label:absent", math.nan),
    ],
)
def test_each_metric_reads_its_value_of_a_scored_segment(key: str, expected: float) -> None:
    """A label that is not a number has none."""
    event = factories.event(
        score=[factories.score(value=60.0, frame_values=[40.0, 60.0, 80.0], p5=41.0)],
        rendition=factories.arm_rendition(latency="1.5"),
        signals={"flicker": 0.25},
    )
    assert value_of(key, event) == pytest.approx(expected, nan_ok=True)


def test_a_reference_measure_is_a_metric_on_its_own_scale() -> None:
    """A segment that has no reference has none."""
    reference = ReferenceScore(measure="psnr", value=38.5, frame_values=(38.5,) * 4, unit="dB", higher_is_better=True)

    assert value_of("reference:psnr", replace(factories.event(), references=(reference,))) == 38.5
    assert math.isnan(value_of("reference:psnr", factories.event()))


def test_a_failure_has_labels_but_neither_scores_nor_signals() -> None:
    """It counts as 1 in `unscored`."""
    failure = factories.arm_failure(latency="2")

    assert value_of("unscored", failure) == 1.0
    assert value_of("label:latency", failure) == 2.0
    assert all(math.isnan(value_of(key, failure)) for key in ("score:lite", "p5:lite", "signal:flicker"))


@pytest.mark.parametrize("text", ["inf", "nan", "-inf", "", "12 ms"])
def test_a_label_that_is_no_finite_number_is_unknown(text: str) -> None:
    """Such a value would spoil every mean."""
    assert math.isnan(numeric_attribute("label:latency", factories.segment(labels={"latency": text})))


def test_a_label_of_the_segment_goes_before_that_of_its_rendition() -> None:
    """As text and as a number; the other attributes are the rendition's."""
    segment = factories.segment(
        rendition=factories.rendition(name="720p", labels={"si": "1", "genre": "news"}), labels={"si": "2"}
    )

    assert numeric_attribute("label:si", segment) == 2.0
    assert [text_attribute(key, segment) for key in ("label:si", "label:genre", "label:absent")] == ["2", "news", ""]
    assert (numeric_attribute("height", segment), numeric_attribute("bitrate_kbps", segment)) == (720.0, 5000.0)
    assert [text_attribute(key, segment) for key in ("stream", "rendition", "height")] == ["news-1", "720p", "720"]


def test_bitrate_comes_from_bytes_and_duration_else_from_the_rendition() -> None:
    """500 000 bytes in 4 s are 1000 kbit/s; without a duration the declared bitrate counts."""
    with_bytes = factories.segment(labels={"bytes": "500000"})
    without_bitrate = factories.segment(rendition=factories.rendition(bitrate_kbps=None))

    assert segment_bitrate_kbps(with_bytes) == 1000.0
    assert segment_bitrate_kbps(replace(with_bytes, duration_seconds=0.0)) == 5000.0
    assert math.isnan(segment_bitrate_kbps(without_bitrate))


def test_a_cluster_is_the_stream_or_a_label_with_the_stream_instead_of_an_empty_label() -> None:
    """Sessions without the label are not thrown together across streams."""
    segment = factories.segment(labels={"title": "one film"})

    assert cluster_of_segment(factories.experiment(), segment) == "news-1"
    assert cluster_of_segment(factories.experiment(cluster="label:title"), segment) == "one film"
    assert cluster_of_segment(factories.experiment(cluster="label:title"), factories.segment()) == "news-1"


@pytest.mark.parametrize(
    ("at_seconds", "paired", "switchback"),
    [
        (0.0, "news-1 2026-11-20 20:00:00", None),
        (29.9, "news-1 2026-11-20 20:00:00", None),
        (30.0, "news-1 2026-11-20 20:00:00", "news-1 2026-11-20 20:00:00"),
        (539.9, "news-1 2026-11-20 20:00:00", "news-1 2026-11-20 20:00:00"),
        (540.0, None, None),
        (600.0, "news-1 2026-11-20 20:10:00", None),
        (-90.0, "news-1 2026-11-20 19:50:00", "news-1 2026-11-20 19:50:00"),
    ],
)
def test_blocks_leave_out_their_last_minute_and_switchbacks_also_the_wash_in(
    at_seconds: float, paired: str | None, switchback: str | None
) -> None:
    """Blocks of ten minutes that start at multiples of ten minutes."""
    segment = factories.segment(at_seconds=at_seconds)

    assert cluster_of_segment(factories.experiment(cluster="block"), segment) == paired
    experiment = factories.experiment(design="switchback", cluster="block")
    assert cluster_of_segment(experiment, segment) == switchback


def test_the_period_includes_since_and_excludes_until() -> None:
    """Without both, every moment is part of the experiment."""
    second = timedelta(seconds=1)
    experiment = factories.experiment(since=START, until=START + 2 * second)

    assert [is_in_period(experiment, START + n * second) for n in (-1, 0, 1, 2)] == [False, True, True, False]
    assert is_in_period(factories.experiment(), START)


def test_failures_that_stand_for_no_segment_are_not_about_one() -> None:
    """A stale playlist is no segment that one arm lacks."""
    assert is_about_segment(factories.event())
    assert is_about_segment(factories.failure(reason="timeout"))
    assert not is_about_segment(factories.failure(reason="stale"))
    assert not is_about_segment(factories.failure(reason="playlist"))


def test_scoring_versions_name_weights_sampling_and_the_decoders_libraries() -> None:
    """The version of vqmon itself and of the runtime are not part of what a score depends on."""
    assert scoring_versions(factories.event()) == {
        "lite": "lite@1 0123456789ab stretch 512x288 calibration 1",
        "sampling": "exact",
        "decoder": "av 18.1.0 libavcodec 62.11.100",
    }


def test_a_scorer_of_the_experiment_that_failed_is_a_loss() -> None:
    """Its metrics have no value and the segment counts as unscored; scorers outside the experiment do not matter."""
    event = factories.event(score=[factories.score(value=60, scorer="lite@1")])
    lost = replace(event, scorer_failures=(factories.scorer_failure(scorer="owl@1"),))
    metrics = ExperimentMetrics(
        factories.experiment(scorers=("lite", "owl"), guardrails=(Guardrail(name="lost", of="unscored", margin=0.1),))
    )
    plain = ExperimentMetrics(factories.experiment(guardrails=(Guardrail(name="lost", of="unscored", margin=0.1),)))

    assert [metrics.loss_reason(each) for each in (event, lost, factories.failure())] == ["", "timeout", "not_found"]
    assert plain.loss_reason(lost) == ""
    assert metrics.values(lost)[metrics.index["score:lite"]] == 60
    assert math.isnan(metrics.values(lost)[metrics.index["score:owl"]])
    assert (metrics.values(lost)[metrics.index["unscored"]], plain.values(lost)[plain.index["unscored"]]) == (1, 0)
