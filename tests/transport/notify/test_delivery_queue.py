"""The delivery queue of one receiver: what it is sent when, how it backs off, and what it gives up."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from tests.transport.wire.test_cloudevents import ALERT
from vqmon.core.alerts.reactions.notifications import QueuedAlert
from vqmon.core.types import Alert
from vqmon.errors import DeliveryError
from vqmon.telemetry.metrics import Meters
from vqmon.testing import MemoryAlertmanager, MemoryWebhook
from vqmon.transport.notify.alertmanager import Alertmanager
from vqmon.transport.notify.delivery_queue import Clock, DeliveryQueue
from vqmon.transport.notify.labels import LabelConfig
from vqmon.transport.notify.webhook import Webhook

START = datetime(2026, 11, 20, 20, 1, tzinfo=UTC)
BUSY = DeliveryError("busy", "status 503")


class Harness:
    """A delivery queue, its receiver, and a clock that is set by hand."""

    def __init__(self, kind: str, *, keep_seconds: float = 1000.0) -> None:
        self.seconds = 0.0
        self.reader = InMemoryMetricReader()
        self.manager = MemoryAlertmanager(lambda: self.now)
        self.hook = MemoryWebhook()
        naming = LabelConfig(labels={"site": "oslo"})
        receivers = {
            "alertmanager": Alertmanager("http://am", client=self.manager, label_config=naming, resend_seconds=60.0),
            "webhook": Webhook("chat", "https://x", client=self.hook, keys=(), source="t"),
        }
        self.queue = DeliveryQueue(
            receivers[kind],
            clock=Clock(now=lambda: self.now, monotonic_seconds=lambda: self.seconds, random_fraction=lambda: 1.0),
            meters=Meters(self.reader),
            resend_seconds=60.0,
            keep_seconds=keep_seconds,
        )
        self.queued: dict[str, QueuedAlert] = {}

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def add(self, alert: Alert) -> None:
        earlier = self.queued.get(alert.id)
        self.queued[alert.id] = (
            replace(earlier, alert=alert, changed_at=self.now)
            if earlier
            else QueuedAlert(alert=alert, opened=alert, queued_at=self.now, changed_at=self.now)
        )

    async def deliver(self, muted: Sequence[str] = ()) -> list[str]:
        """One round; returns the states that were delivered."""
        delivered = await self.queue.deliver_due(list(self.queued.values()), muted_ids=muted)
        for alert_id, state in delivered.items():
            self.queued[alert_id] = replace(self.queued[alert_id], notified_states={self.queue.receiver.name: state})
        return list(delivered.values())

    def metric(self, name: str) -> float:
        """The newest value of a metric, over all its labels."""
        data = self.reader.get_metrics_data()
        metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics if m.name == name]
        return sum(point.value for metric in metrics for point in metric.data.data_points)


def over(alert: Alert = ALERT) -> Alert:
    return replace(alert, state="resolved", resolved_at=alert.opened_at + timedelta(seconds=40))


async def test_alertmanager_gets_an_alert_every_minute_until_five_minutes_after_it_is_resolved() -> None:
    """Every 60 s, with an end four times as far away; the end is said once at once and then again."""
    harness = Harness("alertmanager")
    harness.add(ALERT)
    assert await harness.deliver() == ["open"]
    sent = harness.manager.posts[0][0]
    assert sent["startsAt"] == "2026-11-20T20:00:00.000Z"
    assert sent["endsAt"] == "2026-11-20T20:05:00.000Z"
    assert sent["labels"] == {
        "service": "vqmon",
        "site": "oslo",
        "alertname": "VqmonLowScore",
        "severity": "page",
        "stream": "news-1",
        "rendition": "1080p",
        "rule": "low-score",
        "scorer": "lite",
    }
    harness.seconds = 59
    assert await harness.deliver() == []
    harness.seconds = 60
    assert await harness.deliver() == ["open"]
    assert harness.manager.posts[1][0]["labels"] == sent["labels"]
    harness.seconds = 70
    harness.add(over())
    assert await harness.deliver() == ["resolved"]
    assert harness.manager.posts[2][0]["endsAt"] == "2026-11-20T20:02:10.000Z"
    assert harness.manager.active == []
    for seconds in range(71, 400):
        harness.seconds = seconds
        await harness.deliver()
    assert len(harness.manager.posts) == 2 + 5
    assert harness.queue.is_finished(ALERT.id)


async def test_an_alert_that_is_not_resent_expires() -> None:
    """Not sent again, an alert is over after four resend times, without any word."""
    harness = Harness("alertmanager")
    harness.add(ALERT)
    await harness.deliver()
    harness.seconds = 239
    assert len(harness.manager.active) == 1
    harness.seconds = 241
    assert harness.manager.active == []


async def test_an_alert_dated_in_the_future_does_not_start_after_its_end() -> None:
    """Dates of the media are not trusted to be today's."""
    harness = Harness("alertmanager")
    ahead = timedelta(days=9)
    future = replace(ALERT, began_at=ALERT.began_at + ahead, opened_at=ALERT.opened_at + ahead)
    harness.add(future)
    assert await harness.deliver() == ["open"]
    harness.add(replace(over(future)))
    assert await harness.deliver() == ["resolved"]
    assert harness.manager.active == []


async def test_a_refused_alert_does_not_delay_the_others() -> None:
    """A refused batch is halved until the bad one stands alone; that one is tried again ever more seldom."""
    harness = Harness("alertmanager")
    for number in range(9):
        harness.add(replace(ALERT, id=f"{number}" * 32, series=f"news-1/{number}/lite", rendition=str(number)))
    harness.manager.refuses = lambda labels: labels["rendition"] == "4"
    assert len(await harness.deliver()) == 8
    assert len(harness.manager.active) == 8
    assert harness.metric("vqmon.notify.waiting") == 1
    tries = 0
    for seconds in range(1, 40):
        harness.seconds = seconds
        before = harness.metric("vqmon.notify.failed")
        await harness.deliver()
        tries += harness.metric("vqmon.notify.failed") > before
    assert tries == 5


async def test_a_receiver_that_is_down_is_retried_with_backoff_and_then_gets_everything() -> None:
    """1, 2, 4 ... s up to a minute; what it asks for goes before that; nothing is lost meanwhile."""
    harness = Harness("alertmanager")
    harness.manager.fault = BUSY
    harness.add(ALERT)
    tries = []
    for seconds in range(200):
        harness.seconds = seconds
        before = harness.metric("vqmon.notify.failed") if tries else 0
        await harness.deliver()
        if harness.metric("vqmon.notify.failed") > before:
            tries.append(seconds)
    assert tries == [0, 1, 3, 7, 15, 31, 63, 123, 183]
    assert harness.metric("vqmon.notify.oldest") == 199
    harness.manager.fault = DeliveryError("busy", "status 429", retry_after_seconds=500.0)
    harness.seconds = 300
    await harness.deliver()
    harness.manager.fault = None
    harness.seconds = 799
    assert await harness.deliver() == []
    harness.seconds = 800
    assert await harness.deliver() == ["open"]
    assert harness.metric("vqmon.notify.waiting") == 0


async def test_a_receiver_that_asks_for_no_delay_is_not_flooded() -> None:
    """`Retry-After: 0` shortens no delay: 1, 2, 4 s as without it."""
    harness = Harness("alertmanager")
    harness.add(ALERT)
    harness.manager.fault = DeliveryError("busy", "status 503", retry_after_seconds=0.0)
    for seconds in (0, 0.5, 1, 1.5, 2.5, 3):
        harness.seconds = seconds
        await harness.deliver()
    assert harness.metric("vqmon.notify.failed") == 3


async def test_a_webhook_gets_the_opening_before_the_resolution_even_when_both_are_late() -> None:
    """The end never comes before the beginning, and nothing comes twice."""
    harness = Harness("webhook")
    harness.hook.fault = BUSY
    harness.add(ALERT)
    await harness.deliver()
    harness.add(over())
    harness.hook.fault = None
    harness.seconds = 10
    assert [await harness.deliver(), await harness.deliver(), await harness.deliver()] == [["open"], ["resolved"], []]
    assert harness.hook.ids == [f"{ALERT.id}.open", f"{ALERT.id}.resolved"]
    assert harness.queue.is_finished(ALERT.id)


async def test_a_webhook_that_answers_410_is_never_called_again() -> None:
    """410 means: never again; it is measured, and nothing piles up."""
    harness = Harness("webhook")
    harness.hook.fault = DeliveryError("gone", "status 410")
    harness.add(ALERT)
    await harness.deliver()
    harness.hook.fault = None
    harness.add(over())
    harness.seconds = 4000
    assert await harness.deliver() == []
    assert harness.hook.messages == []
    assert harness.metric("vqmon.notify.gone") == 1
    assert harness.queue.is_finished(ALERT.id)


@pytest.mark.parametrize(("kind", "given_up"), [("webhook", 1), ("alertmanager", 0)])
async def test_old_notifications_are_given_up_but_not_an_open_alert_of_alertmanager(kind: str, given_up: int) -> None:
    """A change grows old; an alert that is open does not."""
    harness = Harness(kind, keep_seconds=100.0)
    harness.hook.fault = harness.manager.fault = BUSY
    harness.add(ALERT)
    for seconds in range(0, 200, 10):
        harness.seconds = seconds
        await harness.deliver()
    assert harness.metric("vqmon.notify.given_up") == given_up
    harness.hook.fault = harness.manager.fault = None
    harness.seconds = 400
    assert await harness.deliver() == ["open"] * (1 - given_up)


async def test_a_muted_alert_is_sent_if_it_is_still_open_afterwards() -> None:
    """What ended meanwhile is never spoken of; what was told before goes on."""
    harness = Harness("alertmanager")
    other = replace(ALERT, id="b" * 32, series="news-1/720p/lite", rendition="720p")
    harness.add(ALERT)
    harness.add(other)
    assert await harness.deliver(muted=[ALERT.id]) == ["open"]
    harness.seconds = 60
    assert await harness.deliver(muted=[ALERT.id, other.id]) == ["open"]
    harness.seconds = 70
    assert harness.metric("vqmon.notify.waiting") == 0
    assert await harness.deliver() == ["open"]
    harness.add(over())
    assert await harness.deliver(muted=[ALERT.id]) == ["resolved"]
    third = replace(ALERT, id="c" * 32, series="news-1/360p/lite", rendition="360p")
    harness.add(third)
    await harness.deliver(muted=[third.id])
    harness.add(over(third))
    assert await harness.deliver(muted=[third.id]) == []
    assert harness.queue.is_finished(third.id)
