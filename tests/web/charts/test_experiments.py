"""The charts of an experiment."""

from dataclasses import replace

from tests.web import experiment_results
from tests.web.stored_history import StoredHistory
from vqmon.web.charts.experiments import downsample_interval, forest_plot, interval_plot


def test_charts_show_the_numbers_of_the_result(history: StoredHistory) -> None:
    """The forest has a line per content in order, its mean last; the interval is drawn where it is read."""
    answer = experiment_results.comparison(history.seeded).answers[0]
    effect = answer.effects[0]
    drawn, trees = (
        interval_plot(effect, experiment_results.EXPERIMENT, arm="sr-v2", control="sr-v1"),
        forest_plot(effect),
    )
    assert drawn is not None
    assert trees is not None
    assert trees.total is not None

    assert [row.cluster.cluster for row in trees.rows] == [
        cluster_difference.cluster for cluster_difference in effect.by_cluster
    ]
    assert trees.zero_x < trees.total.low_x < trees.total.x < trees.total.high_x
    assert {line.css_class for line in drawn.reference_lines} == {"zero", "margin", "aim"}
    assert drawn.shapes[0].path.count("L") == 2 * sum(point.low is not None for point in effect.over_time) - 1
    assert downsample_interval(effect.over_time * 40)[-1] is effect.over_time[-1]


def test_a_single_moment_has_no_chart_over_time(history: StoredHistory) -> None:
    """As of two folders of files, which are compared once."""
    effect = experiment_results.comparison(history.seeded).answers[0].effects[0]
    once = replace(effect, over_time=effect.over_time[-1:])
    assert interval_plot(once, experiment_results.EXPERIMENT, arm="sr-v2", control="sr-v1") is None
