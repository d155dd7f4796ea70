"""The definition of an experiment: what it refuses, which arm an outcome belongs to, and how units are assigned."""

from tests import factories
from vqmon.core.experiments.definition import Arm, assign_arm


def test_a_segment_belongs_to_the_first_arm_whose_label_and_patterns_match() -> None:
    """A segment's label goes over its rendition's; patterns must all fit; the first arm that fits has it."""
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
    """The same unit falls into the same arm, by shares; another experiment shuffles anew."""
    experiment = factories.experiment(arms=(Arm(name="v1", label="v1", share=3), Arm(name="v2", label="v2")))
    arms = [assign_arm(experiment, f"session-{number}") for number in range(4000)]

    assert arms == [assign_arm(experiment, f"session-{number}") for number in range(4000)]
    assert 2850 < arms.count("v1") < 3150
    other = [
        assign_arm(factories.experiment(name="other", arms=experiment.arms), f"session-{number}")
        for number in range(4000)
    ]
    assert 0.58 < sum(a == b for a, b in zip(arms, other, strict=True)) / 4000 < 0.67
