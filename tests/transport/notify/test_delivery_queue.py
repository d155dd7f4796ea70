"""One target: what it is told when, how failures are waited out, and what is let go."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from tests.transport.wire.test_cloudevents import ALERT
from vqmon.core.alerts.notifications import Notice
from vqmon.core.types import Alert
from vqmon.errors import DeliveryError
from vqmon.telemetry.metrics import Meters
from vqmon.testing import MemoryAlertmanager, MemoryWebhook
from vqmon.transport.notify.alertmanager import Alertmanager
from vqmon.transport.notify.delivery_queue import Clock, Desk
from vqmon.transport.notify.labels import Naming
from vqmon.transport.notify.webhook import Webhook

START = datetime(2026, 11, 20, 20, 1, tzinfo=UTC)
BUSY = DeliveryError("busy", "status 503")


class Bench:
    """A desk, its target, and a clock that is set by hand."""

    def __init__(self, kind: str, *, keep_seconds: float = 1000.0) -> None:
        self.seconds = 0.0
        self.reader = InMemoryMetricReader()
        self.manager = MemoryAlertmanager(lambda: self.now)
        self.hook = MemoryWebhook()
        naming = Naming(labels={"site": "oslo"})
        targets = {
            "alertmanager": Alertmanager("http://am", post=self.manager, naming=naming, resend_seconds=60.0),
            "webhook": Webhook("chat", "https://x", post=self.hook, keys=(), source="t"),
        }
        self.desk = Desk(
            targets[kind],
            clock=Clock(now=lambda: self.now, seconds=lambda: self.seconds, chance=lambda: 1.0),
            meters=Meters(self.reader),
            resend_seconds=60.0,
            keep_seconds=keep_seconds,
        )
        self.notices: dict[str, Notice] = {}

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def put(self, alert: Alert) -> None:
        known = self.notices.get(alert.id)
        self.notices[alert.id] = (
            replace(known, alert=alert, changed_at=self.now)
            if known
            else Notice(alert=alert, opened=alert, queued_at=self.now, changed_at=self.now)
        )

    async def say(self, held: Sequence[str] = ()) -> list[str]:
        """One round; what was said."""
        said = await self.desk.say(list(self.notices.values()), held)
        for alert_id, word in said.items():
            self.notices[alert_id] = replace(self.notices[alert_id], told={self.desk.target.name: word})
        return list(said.values())

    def measured(self, name: str) -> float:
        """The newest value of a metric, over all its labels."""
        data = self.reader.get_metrics_data()
        found = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics if m.name == name]
        return sum(point.value for metric in found for point in metric.data.data_points)


def over(alert: Alert = ALERT) -> Alert:
    return replace(alert, state="resolved", resolved_at=alert.opened_at + timedelta(seconds=40))


async def test_alertmanager_hears_again_and_again_until_five_minutes_after_the_end() -> None:
    """Every 60 s, with an end four times as far away; the end is said once at once and then again."""
    bench = Bench("alertmanager")
    bench.put(ALERT)
    assert await bench.say() == ["open"]
    sent = bench.manager.posts[0][0]
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
    bench.seconds = 59
    assert await bench.say() == []
    bench.seconds = 60
    assert await bench.say() == ["open"]
    assert bench.manager.posts[1][0]["labels"] == sent["labels"]
    bench.seconds = 70
    bench.put(over())
    assert await bench.say() == ["resolved"]
    assert bench.manager.posts[2][0]["endsAt"] == "2026-11-20T20:02:10.000Z"
    assert bench.manager.active == []
    for seconds in range(71, 400):
        bench.seconds = seconds
        await bench.say()
    assert len(bench.manager.posts) == 2 + 5
    assert bench.desk.is_done_with(ALERT.id)


async def test_a_daemon_that_is_gone_lets_its_alerts_end() -> None:
    """Not sent again, an alert is over after four resend times, without any word."""
    bench = Bench("alertmanager")
    bench.put(ALERT)
    await bench.say()
    bench.seconds = 239
    assert len(bench.manager.active) == 1
    bench.seconds = 241
    assert bench.manager.active == []


async def test_media_from_the_future_does_not_begin_after_its_end() -> None:
    """Dates of the media are not trusted to be today's."""
    bench = Bench("alertmanager")
    ahead = timedelta(days=9)
    future = replace(ALERT, began_at=ALERT.began_at + ahead, opened_at=ALERT.opened_at + ahead)
    bench.put(future)
    assert await bench.say() == ["open"]
    bench.put(replace(over(future)))
    assert await bench.say() == ["resolved"]
    assert bench.manager.active == []


async def test_one_bad_alert_does_not_hold_up_the_others() -> None:
    """A refused batch is halved until the bad one stands alone; that one is tried again ever more seldom."""
    bench = Bench("alertmanager")
    for number in range(9):
        bench.put(replace(ALERT, id=f"{number}" * 32, series=f"news-1/{number}/lite", rendition=str(number)))
    bench.manager.refuses = lambda labels: labels["rendition"] == "4"
    assert len(await bench.say()) == 8
    assert len(bench.manager.active) == 8
    assert bench.measured("vqmon.notify.waiting") == 1
    tries = 0
    for seconds in range(1, 40):
        bench.seconds = seconds
        before = bench.measured("vqmon.notify.failed")
        await bench.say()
        tries += bench.measured("vqmon.notify.failed") > before
    assert tries == 5


async def test_a_target_that_is_down_is_left_alone_ever_longer_and_then_told_all() -> None:
    """1, 2, 4 ... s up to a minute; what it asks for goes before that; nothing is lost meanwhile."""
    bench = Bench("alertmanager")
    bench.manager.fault = BUSY
    bench.put(ALERT)
    tries = []
    for seconds in range(200):
        bench.seconds = seconds
        before = bench.measured("vqmon.notify.failed") if tries else 0
        await bench.say()
        if bench.measured("vqmon.notify.failed") > before:
            tries.append(seconds)
    assert tries == [0, 1, 3, 7, 15, 31, 63, 123, 183]
    assert bench.measured("vqmon.notify.oldest") == 199
    bench.manager.fault = DeliveryError("busy", "status 429", retry_after_seconds=500.0)
    bench.seconds = 300
    await bench.say()
    bench.manager.fault = None
    bench.seconds = 799
    assert await bench.say() == []
    bench.seconds = 800
    assert await bench.say() == ["open"]
    assert bench.measured("vqmon.notify.waiting") == 0


async def test_a_webhook_hears_of_both_changes_in_order_also_when_all_is_over() -> None:
    """The end never comes before the beginning, and nothing comes twice."""
    bench = Bench("webhook")
    bench.hook.fault = BUSY
    bench.put(ALERT)
    await bench.say()
    bench.put(over())
    bench.hook.fault = None
    bench.seconds = 10
    assert [await bench.say(), await bench.say(), await bench.say()] == [["open"], ["resolved"], []]
    assert bench.hook.ids == [f"{ALERT.id}.open", f"{ALERT.id}.resolved"]
    assert bench.desk.is_done_with(ALERT.id)


async def test_a_webhook_that_is_gone_is_left_alone() -> None:
    """410 means: never again; it is measured, and nothing piles up."""
    bench = Bench("webhook")
    bench.hook.fault = DeliveryError("gone", "status 410")
    bench.put(ALERT)
    await bench.say()
    bench.hook.fault = None
    bench.put(over())
    bench.seconds = 4000
    assert await bench.say() == []
    assert bench.hook.messages == []
    assert bench.measured("vqmon.notify.gone") == 1
    assert bench.desk.is_done_with(ALERT.id)


@pytest.mark.parametrize(("kind", "given_up"), [("webhook", 1), ("alertmanager", 0)])
async def test_what_cannot_be_told_for_days_is_let_go(kind: str, given_up: int) -> None:
    """A change grows old; an alert that is open does not."""
    bench = Bench(kind, keep_seconds=100.0)
    bench.hook.fault = bench.manager.fault = BUSY
    bench.put(ALERT)
    for seconds in range(0, 200, 10):
        bench.seconds = seconds
        await bench.say()
    assert bench.measured("vqmon.notify.given_up") == given_up
    bench.hook.fault = bench.manager.fault = None
    bench.seconds = 400
    assert await bench.say() == ["open"] * (1 - given_up)


async def test_what_is_kept_back_is_told_when_it_still_holds_afterwards() -> None:
    """What ended meanwhile is never spoken of; what was told before goes on."""
    bench = Bench("alertmanager")
    other = replace(ALERT, id="b" * 32, series="news-1/720p/lite", rendition="720p")
    bench.put(ALERT)
    bench.put(other)
    assert await bench.say(held=[ALERT.id]) == ["open"]
    bench.seconds = 60
    assert await bench.say(held=[ALERT.id, other.id]) == ["open"]
    bench.seconds = 70
    assert bench.measured("vqmon.notify.waiting") == 0
    assert await bench.say() == ["open"]
    bench.put(over())
    assert await bench.say(held=[ALERT.id]) == ["resolved"]
    third = replace(ALERT, id="c" * 32, series="news-1/360p/lite", rendition="360p")
    bench.put(third)
    await bench.say(held=[third.id])
    bench.put(over(third))
    assert await bench.say(held=[third.id]) == []
    assert bench.desk.is_done_with(third.id)
