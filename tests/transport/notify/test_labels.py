"""Labels identify an alert whatever its names and numbers; annotations show its details."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.factories import START
from tests.transport.wire.test_cloudevents import ALERT
from vqmon.core.types import CompanionShift, LevelShift
from vqmon.transport.notify.labels import LABEL_NAME, LabelConfig, alert_annotations, alert_labels

NOW = datetime(2026, 11, 20, 20, 1, tzinfo=UTC)
FULL = replace(
    ALERT,
    rule="quality-drop",
    change=LevelShift(at=START, before=71.25, after=63.35, low=-9.7, high=-6.1),
    moved=(
        CompanionShift(name="blockiness", before=0.12, after=0.41),
        CompanionShift(name="blur", before=0.2, after=0.3),
    ),
    cause="encoder",
    labels={"team": "sr", "session": "never a label"},
)
texts = st.text(max_size=12)


def test_labels_do_not_depend_on_times_and_values() -> None:
    """The same rule on the same series has the same labels, whenever and however bad."""
    later = replace(
        FULL,
        id="b" * 32,
        began_at=FULL.began_at + timedelta(days=1),
        opened_at=FULL.opened_at + timedelta(days=1),
        summary="worse",
        evidence=replace(FULL.evidence, value=1.0),
        change=None,
        moved=(),
    )
    config = LabelConfig(copied=("team",))
    assert alert_labels(later, config) == alert_labels(FULL, config)
    assert alert_annotations(later, config) != alert_annotations(FULL, config)


def test_a_signal_has_the_label_signal() -> None:
    """A signal is no scorer."""
    black = replace(ALERT, rule="black", series="news-1/1080p/black")
    assert alert_labels(black, LabelConfig())["signal"] == "black"
    assert "scorer" not in alert_labels(black, LabelConfig())


@given(stream=texts, rendition=texts, rule=texts, copied=texts, value=texts)
def test_any_names_give_valid_labels(stream: str, rendition: str, rule: str, copied: str, value: str) -> None:
    """Names of labels are those that Prometheus knows, values are never empty, identity cannot be overwritten."""
    odd = replace(
        ALERT,
        stream_id=stream,
        rendition=rendition,
        rule=rule,
        series=f"{stream}/{rendition}/lite",
        labels={copied: value, "rule": "mine"},
    )
    labels = alert_labels(odd, LabelConfig(labels={"service": "tv"}, copied=(copied, "rule")))
    assert all(LABEL_NAME.fullmatch(name) for name in labels)
    assert all(labels.values())
    assert labels["service"] == "tv"
    assert labels.get("rule", "") == rule
    assert re.match("Vqmon", labels["alertname"])
