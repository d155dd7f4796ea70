"""The fields of group conditions, and the groups that labels make."""

import pytest

from vqmon.core.alerts.conditions.group import Group


def test_labels_make_the_groups() -> None:
    by_site = Group(of="series", by=("site", "encoder"))
    assert by_site.group_of({"encoder": "a", "site": "b", "team": "c"}) == "site=b,encoder=a"
    assert by_site.group_of({"encoder": "a"}) is None
    assert Group(of="series").group_of({}) == ""


def test_a_group_of_all_series_blames_the_scorer() -> None:
    assert Group(of="series").alert_cause == "scorer"
    assert Group(of="series", by=("encoder",)).alert_cause == ""
    assert Group(of="series", cause="source").alert_cause == "source"


@pytest.mark.parametrize(
    "change", [{"quantile": 1.0}, {"min_series": 1}, {"bucket_seconds": 0.5}, {"wait_seconds": -1}]
)
def test_a_field_out_of_its_limits_is_named(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        Group(of="series", **change)
