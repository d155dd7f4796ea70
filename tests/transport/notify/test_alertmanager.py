"""Requests to Alertmanager: the whole body, and batches that contain a refused alert."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.factories import START
from tests.transport.wire.test_cloudevents import ALERT
from vqmon.core.alerts.reactions.notifications import QueuedAlert
from vqmon.core.types import Alert, CompanionShift, LevelShift
from vqmon.errors import DeliveryError
from vqmon.testing import MemoryWebhook
from vqmon.transport.notify.alertmanager import Alertmanager
from vqmon.transport.notify.labels import LabelConfig
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


def body(alert: Alert, config: LabelConfig) -> object:
    target = Alertmanager("http://am", client=MemoryWebhook(), label_config=config, resend_seconds=60.0)
    notice = QueuedAlert(alert=alert, opened=alert, queued_at=NOW, changed_at=NOW)
    return json.loads(target.body([Notification(queued=notice, state="open")], now=NOW))


def test_the_body_of_an_open_alert() -> None:
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


def notifications(count: int) -> list[Notification]:
    alerts = [replace(ALERT, id=f"{number:032}", rendition=f"r{number}") for number in range(count)]
    return [
        Notification(queued=QueuedAlert(alert=alert, opened=alert, queued_at=NOW, changed_at=NOW), state="open")
        for alert in alerts
    ]


class RefusingHttpClient:
    """Refuses bodies that contain a text; fails altogether with `error`."""

    def __init__(self, text: str = "", error: DeliveryError | None = None) -> None:
        self.sizes: list[int] = []
        self.headers: Mapping[str, str] = {}
        self._text = text
        self._error = error

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        self.sizes.append(len(json.loads(body)))
        self.headers = headers
        if self._error:
            raise self._error
        if self._text and self._text in body.decode():
            raise DeliveryError("refused", "status 400")


def receiver(client: RefusingHttpClient, token: str = "") -> Alertmanager:
    return Alertmanager("http://am/", client=client, label_config=LabelConfig(), resend_seconds=60.0, token=token)


async def test_a_batch_with_a_refused_alert_is_halved_until_that_alert_is_alone() -> None:
    """All others are taken."""
    client = RefusingHttpClient('"rendition": "r5"')
    answers = await receiver(client).notify(notifications(8), now=NOW)
    assert [alert_id for alert_id, error in answers.items() if error] == [f"{5:032}"]
    assert client.sizes == [8, 4, 4, 2, 1, 1, 2]


async def test_a_batch_has_at_most_64_alerts() -> None:
    """Each request stays small."""
    client = RefusingHttpClient()
    await receiver(client).notify(notifications(130), now=NOW)
    assert client.sizes == [64, 64, 2]


async def test_a_replica_that_is_away_raises() -> None:
    """Nothing is known of the alerts then."""
    with pytest.raises(DeliveryError):
        await receiver(RefusingHttpClient(error=DeliveryError("busy", "status 503"))).notify(notifications(2), now=NOW)


async def test_a_token_is_sent_as_a_bearer_token() -> None:
    """Without one there is no such header."""
    client = RefusingHttpClient()
    await receiver(client, token="t0ken").notify(notifications(1), now=NOW)
    assert client.headers["Authorization"] == "Bearer t0ken"
    await receiver(client).notify(notifications(1), now=NOW)
    assert "Authorization" not in client.headers
