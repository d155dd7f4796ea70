"""What Alertmanager is sent, to the letter."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from tests.factories import START
from tests.transport.wire.test_cloudevents import ALERT
from vqmon.core.alerts.notifications import QueuedAlert
from vqmon.core.types import Alert, CompanionShift, LevelShift
from vqmon.testing import MemoryWebhook
from vqmon.transport.notify.alertmanager import Alertmanager
from vqmon.transport.notify.labels import LABEL_NAME, LabelConfig, alert_annotations, alert_labels
from vqmon.transport.notify.receiver import Notification

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
words = st.text(max_size=12)


def body(alert: Alert, config: LabelConfig) -> object:
    target = Alertmanager("http://am", post=MemoryWebhook(), label_config=config, resend_seconds=60.0)
    notice = QueuedAlert(alert=alert, opened=alert, queued_at=NOW, changed_at=NOW)
    return json.loads(target.body([Notification(queued=notice, state="open")], now=NOW))


def test_the_whole_alert_as_it_is_posted() -> None:
    """Facts that stay are labels, numbers and times are annotations, and the link leads to its page."""
    config = LabelConfig(labels={"site": "oslo"}, copied=("team", "none"), public_url="https://vqmon.example.org/")
    assert body(FULL, config) == [
        {
            "labels": {
                "service": "vqmon",
                "team": "sr",
                "site": "oslo",
                "alertname": "VqmonQualityDrop",
                "severity": "page",
                "stream": "news-1",
                "rendition": "1080p",
                "rule": "quality-drop",
                "scorer": "lite",
                "cause": "encoder",
            },
            "annotations": {
                "summary": "news-1 1080p: lite@1 23.4 below 40 for 12 s",
                "reading": "lite@1 23.4 below 40",
                "value": "23.4",
                "threshold": "40",
                "began_at": "2026-11-20T20:00:00+00:00",
                "alert_id": "a" * 32,
                "moved": "blockiness 0.12 -> 0.41; blur 0.2 -> 0.3",
                "changed_at": "2026-11-20T20:00:00+00:00",
                "change": "71.25 -> 63.35 (-9.7 to -6.1, 95 %)",
                "drop": "-7.9",
            },
            "startsAt": "2026-11-20T20:00:00.000Z",
            "endsAt": "2026-11-20T20:05:00.000Z",
            "generatorURL": f"https://vqmon.example.org/alerts/{'a' * 32}",
        }
    ]


def test_labels_stay_while_numbers_change() -> None:
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
    assert alert_annotations(later) != alert_annotations(FULL)


def test_a_series_of_a_signal_says_so() -> None:
    """A signal is no scorer."""
    black = replace(ALERT, rule="black", series="news-1/1080p/black")
    assert alert_labels(black, LabelConfig())["signal"] == "black"
    assert "scorer" not in alert_labels(black, LabelConfig())


@given(stream=words, rendition=words, rule=words, copied=words, value=words)
def test_any_names_give_labels_that_are_taken(stream: str, rendition: str, rule: str, copied: str, value: str) -> None:
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
