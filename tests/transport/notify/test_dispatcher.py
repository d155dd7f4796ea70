"""The dispatcher: each receiver at its own pace; and both kinds of receiver, in memory and real."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.receivers import alertmanager_at, receiving
from tests.transport.wire.test_cloudevents import ALERT
from vqmon.core.alerts.reactions.notifications import QueuedAlert
from vqmon.core.types import Alert
from vqmon.errors import DeliveryError
from vqmon.telemetry.metrics import Meters
from vqmon.testing import MemoryAlertmanager, MemoryOutbox, MemoryWebhook
from vqmon.transport.notify.alertmanager import Alertmanager
from vqmon.transport.notify.delivery_queue import Clock
from vqmon.transport.notify.dispatcher import Dispatcher
from vqmon.transport.notify.http import HttpClient, PooledHttpClient
from vqmon.transport.notify.labels import LabelConfig
from vqmon.transport.notify.receiver import Notification, Receiver
from vqmon.transport.notify.webhook import Webhook, verify_signature

CLOCK = Clock(now=lambda: datetime.now(UTC), monotonic_seconds=time.monotonic, random_fraction=lambda: 0.5)
OVER = replace(ALERT, state="resolved", resolved_at=ALERT.opened_at + timedelta(seconds=40))


def manager(url: str, client: HttpClient, *, resend_seconds: float = 60.0) -> Alertmanager:
    naming = LabelConfig(public_url="https://vqmon.example.org/", copied=("team",))
    return Alertmanager(url, client=client, label_config=naming, resend_seconds=resend_seconds)


@asynccontextmanager
async def dispatching(
    outbox: MemoryOutbox, targets: Sequence[Receiver], *, muted: Callable[[Collection[QueuedAlert]], Collection[str]]
) -> AsyncIterator[Dispatcher]:
    dispatcher = Dispatcher(outbox, targets, clock=CLOCK, muted=muted, meters=Meters())
    async with asyncio.TaskGroup() as group:
        group.create_task(dispatcher.run())
        yield dispatcher
        dispatcher.stop()


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - receivers have no events
            await asyncio.sleep(0.005)


async def test_alerts_that_are_not_in_the_history_yet_are_delivered_once() -> None:
    """They have no number there; when they get one, what was delivered is not delivered again."""

    class WaitingOutbox(MemoryOutbox):
        waiting: Sequence[QueuedAlert] = ()

        async def queued_alerts(self, *, after: int) -> Sequence[QueuedAlert]:
            waiting, self.waiting = self.waiting, ()
            return [*await super().queued_alerts(after=after), *waiting]

    def without_number(alert: Alert) -> QueuedAlert:
        return QueuedAlert(alert=alert, opened=alert, queued_at=CLOCK.now(), changed_at=CLOCK.now())

    hook, outbox = MemoryWebhook(), WaitingOutbox()
    stranger = replace(OVER, id="c" * 32, rule="other")
    outbox.waiting = [without_number(ALERT), without_number(stranger)]
    chat = Webhook("chat", "https://x", client=hook, keys=(), source="t")
    async with dispatching(outbox, [chat], muted=lambda queued: ()) as dispatcher:
        await until(lambda: len(hook.messages) == 1)
        outbox.add(ALERT, CLOCK.now())
        dispatcher.wake()
        await asyncio.sleep(0.05)
        outbox.waiting = [without_number(OVER)]
        dispatcher.wake()
        await until(lambda: len(hook.messages) == 2)
    assert len(hook.messages) == 2


async def test_a_receiver_that_hangs_or_is_down_delays_no_other() -> None:
    """One that is down and one that hangs hold up nobody; everything is marked, and taken out at the end."""
    good, down, hook, outbox = (
        MemoryAlertmanager(CLOCK.now),
        MemoryAlertmanager(CLOCK.now),
        MemoryWebhook(),
        MemoryOutbox(),
    )
    down.fault = DeliveryError("unreachable", "nobody there")

    class HangingClient:
        async def post(self, *_: Any) -> None:
            await asyncio.sleep(30)
            raise DeliveryError("timeout", "no answer")

    chat = Webhook("chat", "https://x", client=hook, keys=(), source="t")
    targets = [
        manager("http://hangs", HangingClient()),
        manager("http://down", down),
        manager("http://good", good),
        chat,
    ]
    async with asyncio.timeout(10):
        outbox.add(ALERT, CLOCK.now())
        dispatcher = Dispatcher(outbox, targets, clock=CLOCK, muted=lambda queued: (), meters=Meters())
        running = asyncio.get_running_loop().create_task(dispatcher.run())
        await until(lambda: len(good.active) == len(hook.messages) == 1)
        outbox.add(OVER, CLOCK.now())
        dispatcher.wake()
        await until(lambda: not good.active and len(hook.messages) == 2)
        assert outbox.alerts_by_id[ALERT.id].notified_states == {"http://good": "resolved", "webhook chat": "resolved"}
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_a_stop_delivers_what_is_still_due() -> None:
    """Also what comes into the outbox at the last moment, and both of its changes."""
    hook, outbox = MemoryWebhook(), MemoryOutbox()
    chat = Webhook("chat", "https://x", client=hook, keys=(), source="t")
    async with dispatching(outbox, [chat], muted=lambda queued: ()):
        await asyncio.sleep(0.05)
        outbox.add(ALERT, CLOCK.now())
        outbox.add(OVER, CLOCK.now())
    assert hook.ids == [f"{ALERT.id}.open", f"{ALERT.id}.resolved"]
    assert outbox.alerts_by_id == {}


async def test_after_a_restart_a_webhook_gets_no_change_twice_and_alertmanager_gets_what_is_open() -> None:
    """What was told is remembered: a webhook hears each change once, Alertmanager hears at once what is open."""
    outbox = MemoryOutbox()
    for is_first in (True, False):
        hook, am = MemoryWebhook(), MemoryAlertmanager(CLOCK.now)
        chat = Webhook("chat", "https://x", client=hook, keys=(), source="t")
        if is_first:
            outbox.add(ALERT, CLOCK.now())
        async with dispatching(outbox, [chat, manager("http://am", am)], muted=lambda queued: ()):
            await until(lambda am=am: am.active)
        assert len(hook.messages) == int(is_first)


def numbered(number: int, alert: Alert = ALERT) -> Notification:
    numbered_alert = replace(alert, id=f"{number:032}", rendition=f"r{number}", series=f"news-1/r{number}/lite")
    now = CLOCK.now()
    opened = replace(numbered_alert, state="open", resolved_at=None)
    notice = QueuedAlert(alert=numbered_alert, opened=opened, queued_at=now, changed_at=now)
    return Notification(queued=notice, state="open" if alert.state == "open" else "resolved")


@pytest.fixture(params=["made up", pytest.param("real", marks=pytest.mark.alertmanager)])
async def receiver(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[str, HttpClient, Callable[[], Any]]]:
    """An Alertmanager: its address, an HTTP client, and the labels that it holds as active."""
    if request.param == "made up":
        memory = MemoryAlertmanager(CLOCK.now)
        memory.refuses = lambda labels: len(labels["stream"]) > 900
        yield "http://made-up", memory, lambda: memory.active
        return
    with alertmanager_at(request.getfixturevalue("alertmanager"), tmp_path) as running:
        async with PooledHttpClient() as client:
            yield running.url, client, lambda: [alert["labels"] for alert in running.alerts()]


@pytest.fixture(params=["made up", "loopback"])
async def hook(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, HttpClient, Callable[[], Any]]]:
    """A webhook: its address, an HTTP client, and (body, headers) of what came."""
    if request.param == "made up":
        memory = MemoryWebhook()
        yield "http://made-up/hook", memory, lambda: memory.messages
        return
    with receiving() as receiver:
        async with PooledHttpClient() as client:
            yield f"{receiver.url}/hook", client, lambda: [(body, headers) for _, headers, body, _ in receiver.came]


async def test_a_webhook_can_verify_each_message(hook: tuple[str, HttpClient, Callable[[], Any]]) -> None:
    """One message per round, signed, with an id that is the same again."""
    url, client, came = hook
    target = Webhook("chat", url, client=client, keys=(b"k" * 32,), source="t")
    first, second = numbered(1), numbered(2)
    assert await target.notify([first, second], now=CLOCK.now()) == {first.alert_id: None}
    for _ in range(2):
        assert await target.notify([second], now=CLOCK.now()) == {second.alert_id: None}
    for body, headers in came():
        verify_signature(body, headers, keys=[b"k" * 32], now_seconds=time.time())
    ids = [headers["webhook-id"] for _, headers in came()]
    assert ids == [f"{1:032}.open", f"{2:032}.open", f"{2:032}.open"]


ReceiverFixture = tuple[str, HttpClient, Callable[[], list[dict[str, str]]]]


async def test_an_alert_is_active_until_it_is_resolved(receiver: ReceiverFixture) -> None:
    """Told twice it is one alert; the end ends it; the same labels may begin anew."""
    url, client, active = receiver
    target = manager(url, client)
    for _ in range(2):
        assert await target.notify([numbered(1), numbered(2)], now=CLOCK.now()) == {f"{n:032}": None for n in (1, 2)}
    assert sorted(labels["rendition"] for labels in active()) == ["r1", "r2"]
    await target.notify([numbered(1, OVER)], now=CLOCK.now())
    assert [labels["rendition"] for labels in active()] == ["r2"]
    await asyncio.sleep(0.01)
    await target.notify([numbered(1)], now=CLOCK.now())
    assert sorted(labels["rendition"] for labels in active()) == ["r1", "r2"]


async def test_an_alert_that_is_not_resent_expires(receiver: ReceiverFixture) -> None:
    """After four resend times."""
    url, client, active = receiver
    await manager(url, client, resend_seconds=0.3).notify([numbered(1)], now=CLOCK.now())
    assert len(active()) == 1
    await until(lambda: not active())


async def test_the_resolution_of_an_unknown_alert_is_taken(receiver: ReceiverFixture) -> None:
    """After a sudden end nobody knows whether it was told."""
    url, client, active = receiver
    assert await manager(url, client).notify([numbered(1, OVER)], now=CLOCK.now()) == {f"{1:032}": None}
    assert active() == []


async def test_any_stream_name_can_be_a_label(receiver: ReceiverFixture) -> None:
    """Labels and annotations hold what streams are called."""
    url, client, active = receiver
    odd = replace(
        ALERT, stream_id='t\u00f6r/"\u96ea"\n\x00\udcff', labels={"team": "a b"}, summary="{{ .x }} </script>"
    )
    odd = replace(odd, series=f"{odd.stream_id}/1080p/lite")
    now = CLOCK.now()
    notice = QueuedAlert(alert=odd, opened=odd, queued_at=now, changed_at=now)
    assert await manager(url, client).notify([Notification(queued=notice, state="open")], now=now) == {ALERT.id: None}
    (labels,) = active()
    assert labels["stream"] == 't\u00f6r/"\u96ea"\n\x00?'
    assert labels["team"] == "a b"


async def test_a_hundred_alerts_are_sent_in_batches(receiver: ReceiverFixture) -> None:
    """All of them arrive."""
    url, client, active = receiver
    await manager(url, client).notify([numbered(number) for number in range(100)], now=CLOCK.now())
    assert len(active()) == 100
