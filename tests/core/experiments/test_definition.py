"""The definition of an experiment: what it refuses, which arm an outcome belongs to, and how units are assigned."""

import math
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests import factories
from tests.factories import START
from vqmon.core.experiments.definition import Arm, Guardrail, assign_arm


def test_a_segment_belongs_to_the_first_arm_whose_label_and_patterns_match() -> None:
    """All patterns of an arm must match, and of two arms that match the first counts."""
    experiment = factories.experiment(
        arms=(Arm(name="old", label="v1"), Arm(name="new", rendition="v?", stream="film-00*")), control="old"
    )

    assert experiment.arm_of(factories.arm_event(stream=1, arm="v1", sequence=0, score=50)) == "old"
    assert experiment.arm_of(factories.arm_event(stream=1, arm="v2", sequence=0, score=50)) == "new"
    assert experiment.arm_of(factories.arm_event(stream=11, arm="v2", sequence=0, score=50)) is None
    assert experiment.arm_of(factories.arm_event(stream=1, arm="v10", sequence=0, score=50)) is None
    assert (
        factories.experiment(streams=("film-002",)).arm_of(
            factories.arm_event(stream=1, arm="v1", sequence=0, score=50)
        )
        is None
    )


def test_units_are_assigned_by_share_and_keep_their_arm() -> None:
    """A unit always gets the same arm, in proportion to the shares; another experiment assigns independently."""
    experiment = factories.experiment(arms=(Arm(name="v1", label="v1", share=3), Arm(name="v2", label="v2")))
    arms = [assign_arm(experiment, f"session-{number}") for number in range(4000)]

    assert arms == [assign_arm(experiment, f"session-{number}") for number in range(4000)]
    assert 2850 < arms.count("v1") < 3150
    other = [
        assign_arm(factories.experiment(name="other", arms=experiment.arms), f"session-{number}")
        for number in range(4000)
    ]
    assert 0.58 < sum(a == b for a, b in zip(arms, other, strict=True)) / 4000 < 0.67


def test_a_label_of_the_segment_goes_before_that_of_its_rendition() -> None:
    """So an encoder can change arm from segment to segment."""
    event = factories.arm_event(arm="v1")
    relabelled = replace(event, segment=replace(event.segment, labels={"arm": "v2"}))

    assert factories.experiment().arm_of(event) == "v1"
    assert factories.experiment().arm_of(relabelled) == "v2"
    assert factories.experiment().arm_of(factories.arm_failure(arm="v2")) == "v2"
    assert factories.experiment().arm_of(factories.event()) is None


def test_treatments_are_all_arms_but_the_control_and_the_input() -> None:
    """In the order of the definition, wherever the control stands."""
    arms = tuple(Arm(name=name, label=name) for name in ("v3", "v1", "in", "v2"))
    experiment = factories.experiment(arms=arms, input_arm="in")

    assert [arm.name for arm in experiment.treatments] == ["v3", "v2"]


@pytest.mark.parametrize(("planned", "is_fixed"), [(2, True), (19, True), (20, False), (40, False)])
def test_an_experiment_with_fewer_than_twenty_planned_clusters_has_a_fixed_horizon(
    planned: int, *, is_fixed: bool
) -> None:
    """From 20 on a confidence sequence is read."""
    assert factories.experiment(planned_clusters=planned).is_fixed_horizon is is_fixed


def test_the_input_arm_is_never_assigned() -> None:
    """Whatever its share; a share of almost everything is assigned almost always."""
    arms = (
        Arm(name="v1", label="v1", share=1e-9),
        Arm(name="v2", label="v2"),
        Arm(name="in", label="in", share=1e9),
    )
    experiment = factories.experiment(arms=arms, input_arm="in")

    assert {assign_arm(experiment, f"session-{number}") for number in range(500)} == {"v2"}


def test_assignment_of_a_unit_never_changes() -> None:
    """Routers elsewhere compute the same hash, so these assignments are part of the interface."""
    assert [assign_arm(factories.experiment(), f"session-{number}") for number in range(8)] == [
        "v2",
        "v1",
        "v1",
        "v1",
        "v1",
        "v2",
        "v2",
        "v2",
    ]
    assert assign_arm(factories.experiment(), "\ud800") in ("v1", "v2")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "an arm needs a name"),
        ({"name": "v1"}, "'v1': needs a label, or a stream or rendition pattern"),
        ({"name": "v1", "label": "v1", "share": 0.0}, "share must be more than 0, got 0"),
        ({"name": "v1", "label": "v1", "share": -1.0}, "share must be more than 0, got -1"),
        ({"name": "v1", "label": "v1", "share": math.inf}, "share must be more than 0, got inf"),
        ({"name": "v1", "label": "v1", "share": math.nan}, "share must be more than 0, got nan"),
    ],
)
def test_an_arm_needs_a_name_a_pattern_and_a_finite_share(fields: dict[str, Any], message: str) -> None:
    """Each pattern alone is enough."""
    with pytest.raises(ValueError, match=message):
        Arm(**fields)
    for pattern in ("label", "stream", "rendition"):
        Arm(name="v1", **{pattern: "v*"})


@pytest.mark.parametrize("of", ["score", "p5:", "unscored:lite", "bitrate_kbps:lite", "vmaf:lite", ""])
def test_a_guardrail_needs_a_metric_of_the_right_form(of: str) -> None:
    """`unscored` and `bitrate_kbps` take no name, all others need one."""
    with pytest.raises(ValueError, match="is none of score, p5, min, signal, label, bitrate_kbps, unscored"):
        Guardrail(name="rail", of=of, margin=1.0)


@pytest.mark.parametrize("margin", [0.0, -1.0, math.inf, math.nan])
def test_a_guardrail_needs_a_finite_positive_margin(margin: float) -> None:
    """With a margin of 0 it could never be shown to hold."""
    with pytest.raises(ValueError, match="margin must be more than 0"):
        Guardrail(name="rail", of="unscored", margin=margin)


FLICKER = Guardrail(name="flicker", of="signal:flicker", margin=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"control": "v9"}, "control 'v9' is none of the arms: v1, v2"),
        ({"arms": (Arm(name="v1", label="a"), Arm(name="v1", label="b"))}, "two arms have the same name"),
        ({"arms": (Arm(name="v1", label="v1"),)}, "nothing to compare"),
        ({"input_arm": "v2"}, "nothing to compare"),
        ({"input_arm": "v1"}, "input_arm 'v1' must be an arm and not the control"),
        ({"input_arm": "v9"}, "input_arm 'v9' must be an arm and not the control"),
        ({"scorers": ()}, "needs one or two different scorers, got none"),
        ({"scorers": ("lite", "lite")}, "needs one or two different scorers"),
        ({"scorers": ("lite", "owl", "c2s")}, "needs one or two different scorers"),
        ({"alpha": 0.0}, "alpha: 0 is not between"),
        ({"alpha": math.nan}, "alpha: nan is not between"),
        ({"planned_clusters": 1}, "planned_clusters: 1 is not between 2 and"),
        ({"margin": 0.0}, "margin: 0 is not between"),
        ({"delta_min": 101.0}, "delta_min: 101 is not between 0 and 100"),
        ({"gap_seconds": 600.0}, "together are not shorter than block_seconds"),
        ({"since": datetime(2026, 11, 1)}, "must be aware UTC"),  # noqa: DTZ001
        ({"until": datetime(2026, 11, 1, tzinfo=timezone(timedelta(hours=1)))}, "must be aware UTC"),
        ({"since": START, "until": START}, "since must be before until"),
        ({"same": ("label:",)}, "same: 'label:' is none of: stream, rendition, height, label:NAME"),
        ({"cluster": "rendition"}, "cluster: 'rendition' is none of: stream, block, label:NAME"),
        ({"slices": ("stream",)}, "slices: 'stream' is none of"),
        ({"covariate_means": {"height": 1.0}}, "covariate_means: 'height' is none of"),
        ({"look_limits": {"fliker": 0.1}}, "look_limits: 'fliker' is none of"),
        ({"covariates": ("input_score",)}, 'needs design = "paired" and input_arm'),
        ({"guardrails": (FLICKER, FLICKER)}, "two guardrails have the same name"),
        ({"design": "switchback"}, 'needs cluster = "block"'),
        ({"design": "switchback", "cluster": "block", "wash_in_seconds": 540.0}, "not shorter than block_seconds"),
    ],
)
def test_an_experiment_refuses_what_it_could_not_analyse(changes: dict[str, Any], message: str) -> None:
    """The message names the field and what was given."""
    with pytest.raises(ValueError, match=message):
        factories.experiment(**changes)


def test_the_wash_in_counts_against_the_block_only_in_a_switchback() -> None:
    """In other designs no wash-in is left out."""
    experiment = factories.experiment(cluster="block", wash_in_seconds=540.0)
    assert experiment.gap_seconds + experiment.wash_in_seconds == experiment.block_seconds
