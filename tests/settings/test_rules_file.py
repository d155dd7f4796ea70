"""Reading the rules file: what rules become, and how each mistake is reported."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.factories import START
from vqmon.core.alerts.rules import CONDITIONS, Match
from vqmon.errors import SettingsError
from vqmon.settings.rules_file import parse_rules

DEFAULT_FILE = Path(__file__).parents[2] / "config" / "rules.toml"
DEFAULTS = parse_rules(DEFAULT_FILE.read_text())


def test_the_rules_that_come_with_vqmon() -> None:
    """They are of every kind but collapse, which is not enabled, some page and some wait, and their scorer exists."""
    kinds = {"audio", "floor", "signal", "no_score", "missing", "regression", "group", "subtitles"}
    assert {rule.condition.kind for rule in DEFAULTS} == kinds
    assert {rule.severity for rule in DEFAULTS} == {"page", "ticket"}
    assert parse_rules(DEFAULT_FILE.read_text(), scorers=["lite@1"]) == DEFAULTS


def test_the_head_of_the_rules_file_names_every_kind() -> None:
    """In the file that people copy their rules from."""
    (line,) = (line for line in DEFAULT_FILE.read_text().splitlines() if line.startswith("#   kind "))
    listed = line.removeprefix("#   kind").replace(" or ", ", ").split(", ")
    assert {kind.strip() for kind in listed} == set(CONDITIONS)


FLOOR = '[rules.low]\nkind = "floor"\nscorer = "lite"\nbelow = 40\nrecover_above = 45\n'
DROP = '[rules.drop]\nkind = "regression"\nscorer = "lite"\n'
MASK = FLOOR + '[masks.m]\ndaily_from = "02:00"\ndaily_until = 03:00:00\n'


@pytest.mark.parametrize(
    ("text", "expected_parts"),
    [
        ("[rules.low\n", ["my.toml", "line 1"]),
        ("[rule.low]\n", ["my.toml", "'rule'", "did you mean 'rules'?"]),
        ("rules = 3\n", ["my.toml: rules", "tables"]),
        ("[rules]\nlow = 3\n", ["rule 'low'", "table"]),
        ("[rules.low]\n", ["rule 'low': kind", "floor"]),
        ('[rules.low]\nkind = "flor"\n', ["rule 'low': kind", "did you mean 'floor'?"]),
        (FLOOR + "belw = 3\n", ["my.toml: rule 'low'", "'belw'", "did you mean 'below'?"]),
        (FLOOR.replace("below = 40\n", ""), ["rule 'low': below", "missing"]),
        (FLOOR.replace("40", '"40"'), ["rule 'low': below", "'40'", "number"]),
        (FLOOR.replace("40", "true"), ["rule 'low': below", "True"]),
        (FLOOR.replace("40", "nan"), ["rule 'low': below", "nan"]),
        (FLOOR.replace("40", "140"), ["rule 'low'", "below", "0..100"]),
        (FLOOR.replace("45", "35"), ["rule 'low'", "recover_above", "40..100"]),
        (FLOOR + 'statistic = "median"\n', ["statistic", "'median'", "p5"]),
        (FLOOR + 'severity = "urgent"\n', ["severity", "'urgent'", "page, ticket"]),
        (FLOOR + 'enabled = "no"\n', ["rule 'low': enabled", "true or false"]),
        (FLOOR + 'match = { streem = "x" }\n', ["rule 'low': match", "'streem'", "did you mean 'stream'?"]),
        (FLOOR + "match = { stream = 3 }\n", ["rule 'low': match.stream", "3"]),
        (
            '[rules.low]\nkind = "reference"\nmeasure = "pnsr"\nworse_than = 30\n',
            ["rule 'low': measure", "'pnsr'", "did you mean 'psnr'?"],
        ),
        (FLOOR.replace('"lite"', '"light"'), ["rule 'low': scorer", "'light'", "did you mean 'lite'?"]),
        ('[rules.b]\nkind = "signal"\nsignal = "blak"\nabove = 0.5\n', ["rule 'b'", "signal", "'blak'", "black"]),
        ('[rules.b]\nkind = "signal"\nsignal = "black"\nabove = 5\n', ["rule 'b'", "above", "0..1"]),
        (
            '[rules.b]\nkind = "signal"\nsignal = "freeze"\nabove = 0.5\nunless = { dark = 1 }\n',
            ["rule 'b'", "unless", "'dark'"],
        ),
        ('[rules.m]\nkind = "missing"\ncount = 3\nof = 2\n', ["rule 'm'", "count", "1..2"]),
        ('[rules.m]\nkind = "missing"\ncount = 1.5\nof = 2\n', ["rule 'm': count", "1.5", "whole number"]),
        (
            '[rules.m]\nkind = "missing"\ncount = 1\nof = 2\nreasons = ["lost"]\n',
            ["rule 'm'", "reasons", "'lost'", "timeout"],
        ),
        (DROP.replace("lite", "light"), ["rule 'drop': scorer", "did you mean 'lite'?"]),
        (DROP.replace("lite", "niqe"), ["rule 'drop': scorer", "did you mean 'reference:niqe'?"]),
        (DROP + 'mode = "guarantee"\n', ["rule 'drop'", "mode", "no such key any more", "false_alarm_days"]),
        (DROP + 'cause = "network"\n', ["rule 'drop'", "cause", "packaging"]),
        (DROP + "k = 0.5\n", ["rule 'drop'", "k: there is no such key any more"]),
        (DROP + "block_seconds = 3\n", ["rule 'drop'", "block_seconds: must be 30..86400"]),
        (DROP + "baseline = 3\n", ["rule 'drop'", "'baseline'", "did you mean"]),
        (DROP + '[rules.g]\nkind = "group"\nof = "drip"\n', ["rule 'g': of", "did you mean 'drop'?"]),
        ('[rules.g]\nkind = "group"\nof = "x"\nquantile = 2\n', ["rule 'g'", "quantile", "0.1..0.95"]),
        (FLOOR + "[masks.m]\n", ["mask 'm'", "either from and until"]),
        (FLOOR + "[masks.m]\nform = 1\n", ["mask 'm'", "did you mean 'from'?"]),
        (FLOOR + "[masks.m]\nfrom = 2026-01-01\nuntil = 2026-01-02\n", ["mask 'm': from", "zone"]),
        (FLOOR + '[masks.m]\ndaily_from = "2 pm"\ndaily_until = "3 pm"\n', ["mask 'm': daily_from", "02:30"]),
        (MASK + 'excuses = ["lou"]\n', ["mask 'm': excuses", "did you mean 'low'?"]),
        (MASK + "stream = 3\n", ["mask 'm': stream", "3"]),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_file_rule_key_and_remedy(text: str, expected_parts: list[str]) -> None:
    """Every mistake is refused with what a person needs to mend it."""
    with pytest.raises(SettingsError) as refused:
        parse_rules(text, origin="my.toml", scorers=["lite@1"])
    for word in ["my.toml", *expected_parts]:
        assert word in str(refused.value)


def test_the_mistakes_of_all_tables_are_named_at_once() -> None:
    """A wrong kind hides no other key, a misspelled key is not missing too, and a wrong rule may be named."""
    text = (
        'rule = 1\n[rules.a]\nkind = "floor"\nbelw = 3\nfor_second = 4\nscorer = "light"\n'
        '[rules.b]\nkind = "flor"\nscorer = "lite"\nbelow = 140\nrecover_above = "x"\nseverity = "pages"\n'
        '[rules.c]\nkind = "what"\nmin_open_seconds = "1"\nmatch = { streem = 1, labels = 3 }\n'
        '[rules.d]\nkind = "group"\nof = "c"\n[rules.e]\nkind = "group"\nof = "x"\n'
        '[masks.m]\nexcuses = ["b", "c", "z"]\nform = 3\ndaily_from = "2 pm"\n'
    )
    with pytest.raises(SettingsError) as caught:
        parse_rules(text, scorers=["lite@1"])
    lines = [line.removeprefix("rules.toml: ").removeprefix("rule ") for line in str(caught.value).splitlines()]
    assert [line.partition(";")[0] for line in lines] == [
        "unknown key 'rule'",
        "'a': unknown key 'belw'",
        "'a': unknown key 'for_second'",
        "'a': recover_above: is missing",
        "'a': scorer: 'light'",
        "'b': kind: 'flor'",
        "'b': recover_above: 'x' is not a number",
        "'b': severity: unknown 'pages'",
        "'c': kind: 'what'",
        "'c': match: unknown key 'streem'",
        "'c': match.labels: 3 is not a table",
        "'c': min_open_seconds: '1' is not a number",
        "'e': of: no regression rule 'x'",
        "mask 'm': unknown key 'form'",
        "mask 'm': excuses: no rule, kind of rule or signal 'z'",
        """mask 'm': daily_from: must be a time of day (UTC), like "02:30", got '2 pm'""",
    ]


def test_a_rule_can_be_left_out_and_globs_written_as_text_or_list() -> None:
    """`enabled = false` leaves a rule out; one glob needs no list."""
    assert parse_rules(FLOOR + "enabled = false\n") == ()
    (rule,) = parse_rules(FLOOR + 'match = { stream = "news-*", rendition = ["a", "b"], labels = { team = "sr" } }\n')
    assert rule.match == Match(stream=("news-*",), rendition=("a", "b"), labels={"team": "sr"})
    assert parse_rules("") == ()


def test_the_noise_of_a_scorer_is_the_default_of_regression_rules() -> None:
    """The noisiest scorer that a rule is about counts; pairs and groups follow; what the file states stays."""
    tables = {
        "drop": 'kind = "regression"\nscorer = "lite*"',
        "pair": 'kind = "regression"\nscorer = "lite"\nagainst = "ladder"',
        "stated": 'kind = "regression"\nscorer = "lite"\ndelta_min = 3',
        "psnr": 'kind = "regression"\nscorer = "reference:psnr"',
        "all": 'kind = "group"\nof = "pair"',
        "stated-all": 'kind = "group"\nof = "pair"\ndelta_min = 5',
    }
    text = "".join(f"[rules.{name}]\n{table}\n" for name, table in tables.items())
    rules = parse_rules(text, noise={"lite@2": 2.0, "lite_fast@2": 3.0, "other@1": 8.0})
    smallest = {rule.name: rule.condition.parameters.delta_min for rule in rules}  # type: ignore[attr-defined]
    assert smallest == {"drop": 3.5, "pair": 3.3, "stated": 3.0, "psnr": 2.5, "all": 3.3, "stated-all": 5.0}
    (quiet,) = parse_rules(DROP, noise={"lite@2": 0.01})
    assert quiet.condition.parameters.delta_min == 1.0  # type: ignore[attr-defined]


def test_a_mask_goes_to_the_rules_that_it_excuses() -> None:
    """By name, by kind and by signal; once or daily, in UTC."""
    text = (
        FLOOR + DROP + '[rules.dark]\nkind = "signal"\nsignal = "black"\nabove = 0.9\n'
        '[masks.m]\nexcuses = ["black", "low"]\nstream = "news-*"\ndaily_from = "02:00"\ndaily_until = 03:00:00\n'
        '[masks.n]\nexcuses = "regression"\nfrom = 2026-11-20T21:00:00+01:00\nuntil = 2026-11-20T21:00:00Z\n'
    )
    masks = {rule.name: [mask.name for mask in rule.masks] for rule in parse_rules(text)}
    assert masks == {"low": ["m"], "drop": ["n"], "dark": ["m"]}
    (mask,) = parse_rules(text)[1].masks
    assert (mask.begins_at, mask.ends_at) == (START, START + timedelta(hours=1))
