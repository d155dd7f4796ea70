"""The experiments file: what it may say, and what it is told when it is wrong."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from vqmon.core.experiments.definition import Arm, Experiment
from vqmon.errors import SettingsError
from vqmon.settings.experiments_file import find_experiment, parse_experiments

SHIPPED = Path(__file__).parents[2] / "config" / "experiments.toml"

GOOD = """
[experiments.sr]
control = "v1"
since = 2026-11-01
until = 2026-11-20T12:00:00+01:00
same = "label:title"
planned_clusters = 30
alpha = 0.1
[experiments.sr.arms.v1]
[experiments.sr.arms.v2]
rendition = "*-v2"
[experiments.sr.guardrails.worst]
of = "p5:lite"
margin = 2
"""


def test_the_shipped_file_shows_every_key_and_holds_when_uncommented() -> None:
    """As shipped there is no experiment; without its comment marks it is one, with every key that exists."""
    text = SHIPPED.read_text(encoding="utf-8")
    begin = text.index("# [experiments.")
    lines = [line.removeprefix("#").removeprefix(" ") for line in text[begin:].splitlines()]
    (shown,) = parse_experiments("\n".join(lines))

    assert parse_experiments(text) == ()
    assert shown.name == "sr-v2"
    fields = set(Experiment.__dataclass_fields__) - {"name", "arms", "guardrails"}
    assert {line.split(" = ")[0].strip() for line in lines if " = " in line} >= fields
    plain = Experiment(name="sr-v2", arms=shown.arms, control="sr-v1")
    for key in ("scorers", "design", "label", "streams", "same", "tolerance_seconds", "cluster", "block_seconds",
                "gap_seconds", "wash_in_seconds", "planned_clusters", "segments_per_cluster", "alpha", "margin",
                "look_limits", "input_arm"):  # fmt: skip
        assert getattr(shown, key) == getattr(plain, key), key


def test_what_is_written_is_what_is_read() -> None:
    """Days and zones become UTC, one text becomes a list, an arm is told by its own name unless it says otherwise."""
    (experiment,) = parse_experiments(GOOD)

    assert (experiment.since, experiment.until) == (
        datetime(2026, 11, 1, tzinfo=UTC),
        datetime(2026, 11, 20, 11, tzinfo=UTC),
    )
    assert experiment.same == ("label:title",)
    assert experiment.arms == (Arm(name="v1", label="v1"), Arm(name="v2", rendition="*-v2"))
    assert [(rail.worse, rail.margin) for rail in experiment.guardrails] == [("lower", 2.0)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("alpha = 0.1", "alhpa = 0.1", "e.toml: experiment 'sr': unknown key 'alhpa'; did you mean 'alpha'?"),
        ("alpha = 0.1", 'alpha = "0.1"', "experiment 'sr': alpha: must be a number, got '0.1'"),
        ("alpha = 0.1", "alpha = 0.9", "alpha: 0.9 is not between 1e-06 and 0.5"),
        ("planned_clusters = 30", "planned_clusters = 3.5", "planned_clusters: must be a whole number, got 3.5"),
        ("alpha = 0.1", "alpha = nan", "experiment 'sr': alpha: nan is not a number that can be used"),
        ("margin = 2", 'margin = "2"', "guardrail 'worst': margin: must be a number, got '2'"),
        ('rendition = "*-v2"', "share = 0", "arm 'v2': share must be more than 0, got 0"),
        ("[experiments.sr.arms.v1]", "[experiments.sr.arms]\nv1 = 3", "arm 'v1': must be a table, got 3"),
        ("alpha = 0.1", 'design = "piared"', "design: 'piared'; did you mean 'paired'?"),
        ("alpha = 0.1", 'design = "switchback"', 'needs cluster = "block"'),
        ('control = "v1"', 'control = "v3"', "control 'v3' is none of the arms: v1, v2"),
        ('control = "v1"', "", "control: is missing"),
        ("since = 2026-11-01", 'since = "yesterday"', "since: must be a moment, like 2026-11-20T20:00:00Z"),
        ("since = 2026-11-01", "since = 2026-12-01", "since must be before until"),
        ('same = "label:title"', 'same = "tilte"', "same: 'tilte' is none of: stream, rendition, height, label:NAME"),
        ('same = "label:title"', 'covariates = ["input_score"]', "needs design"),
        ('rendition = "*-v2"', 'redition = "*-v2"', "arm 'v2': unknown key 'redition'; did you mean 'rendition'?"),
        ('of = "p5:lite"', 'of = "p6:lite"', "guardrail 'worst': of 'p6:lite' is none of"),
        ('of = "p5:lite"', 'of = "signal:fliker"', "no signal 'fliker'"),
        ("margin = 2", "", "guardrail 'worst': margin: is missing"),
        ("[experiments.sr]", "[experiment.sr]", "unknown key 'experiment'; did you mean 'experiments'?"),
        ("[experiments.sr]", "[experiments.sr", "Expected ']'"),
        ("[experiments.sr.arms.v2]\nrendition = \"*-v2\"", "", "at least one arm more"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(old: str, new: str, message: str) -> None:
    """File, experiment, part and key, and the nearest valid one."""
    with pytest.raises(SettingsError) as caught:
        parse_experiments(GOOD.replace(old, new, 1), origin="e.toml")

    assert message in str(caught.value)
    assert str(caught.value).startswith("e.toml")


def test_the_mistakes_of_all_experiments_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_experiments("[experiments.a]\ncontroll = 1\nalpa = 2\n[experiments.b]\nmargn = 3\n")
    assert [line.partition(";")[0] for line in str(caught.value).splitlines()] == [
        "experiments.toml: experiment 'a': unknown key 'controll'",
        "experiments.toml: experiment 'a': unknown key 'alpa'",
        "experiments.toml: experiment 'b': unknown key 'margn'",
    ]


def test_an_unknown_experiment_is_told_the_nearest() -> None:
    """By name."""
    with pytest.raises(SettingsError, match="no experiment 'sr2'; did you mean 'sr'"):
        find_experiment(parse_experiments(GOOD), "sr2")


def test_a_reference_measure_is_the_only_scorer_and_has_a_margin_in_its_unit() -> None:
    """The default margin is points of 0..100."""
    text = """
    [experiments.sr]
    control = "old"
    scorers = "reference:psnr"
    margin = 0.2
    largest_loss = 3.0
    arms.old = {}
    arms.new = {}
    """
    (experiment,) = parse_experiments(text)
    assert experiment.scorers == ("reference:psnr",)
    for old, new, message in (
        ("margin = 0.2", "", "margin: is missing; state the largest loss of reference:psnr"),
        ("largest_loss = 3.0", "", "largest_loss: is missing; state the largest loss of reference:psnr"),
        ('"reference:psnr"', '"reference:psmr"', "'reference:psmr'; did you mean 'reference:psnr'"),
        ('"reference:psnr"', '["lite", "reference:psnr"]', "a reference measure must be the only one"),
    ):
        with pytest.raises(SettingsError, match=message):
            parse_experiments(text.replace(old, new))
