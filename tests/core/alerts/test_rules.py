"""Alert rules: which renditions they match, what they refuse, and the registry of conditions."""

import re
from dataclasses import replace

import pytest

from tests import factories
from tests.core.alerts.one_rule import alerts_of
from tests.core.alerts.quick_rules import QUICK, judged
from vqmon.core.alerts.conditions.floor import Floor
from vqmon.core.alerts.conditions.group import Group
from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.rules import CONDITIONS, AlertRule, Match
from vqmon.core.types import AD_BREAK_LABEL


def test_rules_look_where_they_match() -> None:
    """Globs of stream and rendition, and labels, choose the renditions."""
    matches = {
        Match(): True,
        Match(stream=("news-*",)): True,
        Match(stream=("sports", "news-?")): True,
        Match(stream=("News-1",)): False,
        Match(rendition=("720p",)): False,
        Match(labels={"team": "s*"}): True,
        Match(labels={"team": "other"}): False,
        Match(labels={"site": "*"}): False,
    }
    for match, fits in matches.items():
        rules = [replace(QUICK[0], match=match)]
        assert bool(judged(Judge(rules), [factories.event(sequence=n, score=20) for n in range(4)])) == fits


def test_every_kind_of_condition_is_registered_under_its_kind() -> None:
    assert sorted(CONDITIONS) == [
        "audio", "captions", "collapse", "floor", "group", "missing", "no_score", "reference", "regression", "signal",
        "subtitles",
    ]  # fmt: skip
    assert all(condition.kind == kind for kind, condition in CONDITIONS.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "name"),
        ({"name": "a|b"}, "a|b"),
        ({"severity": "urgent"}, "page, ticket"),
        ({"min_open_seconds": -1}, "0 or more"),
    ],
)
def test_a_rule_refuses_nonsense(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        replace(QUICK[0], **change)


def test_a_rule_may_ignore_ad_breaks() -> None:
    """Segments with the label; rules about groups leave that to their members."""
    low = Floor(scorer="lite", below=40, recover_above=45, for_seconds=4, recover_seconds=4)
    plain, in_break = (
        factories.event(sequence=k, score=10.0, labels=labels) for k, labels in ((0, {}), (1, {AD_BREAK_LABEL: "yes"}))
    )
    assert alerts_of(low, [in_break], mask_ad_breaks=True) == []
    assert len(alerts_of(low, [in_break])) == 1
    assert len(alerts_of(low, [plain], mask_ad_breaks=True)) == 1
    with pytest.raises(ValueError, match="mask_ad_breaks"):
        AlertRule(name="r", severity="page", condition=Group(of="low"), mask_ad_breaks=True)
