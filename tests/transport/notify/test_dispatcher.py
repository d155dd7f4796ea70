"""The deliverer at work: each target at its own pace, both kinds of receiver, real and made up."""

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
from vqmon.core.alerts.notifications import Notice
from vqmon.core.types import Alert
from vqmon.errors import DeliveryError
from vqmon.telemetry.metrics import Meters
from vqmon.testing import MemoryAlertmanager, MemoryOutbox, MemoryWebhook
from vqmon.transport.notify.alertmanager import Alertmanager
from vqmon.transport.notify.delivery_queue import Clock
from vqmon.transport.notify.dispatcher import Deliverer
from vqmon.transport.notify.http import HttpPoster, Post
from vqmon.transport.notify.labels import Naming
from vqmon.transport.notify.receiver import Step, Target
from vqmon.transport.notify.webhook import Webhook, verify

CLOCK = Clock(now=lambda: datetime.now(UTC), seconds=time.monotonic, chance=lambda: 0.5)
OVER = replace(ALERT, state="resolved", resolved_at=ALERT.opened_at + timedelta(seconds=40))


def manager(url: str, post: Post, *, resend_seconds: float = 60.0) -> Alertmanager:
    naming = Naming(public_url="https://vqmon.example.org/", carried=("team",))
    return Alertmanager(url, post=post, naming=naming, resend_seconds=resend_seconds)


@asynccontextmanager
async def delivering(
    outbox: MemoryOutbox, targets: Sequence[Target], *, held: Callable[[Collection[Notice]], Collection[str]]
) -> AsyncIterator[Deliverer]:
    deliverer = Deliverer(outbox, targets, clock=CLOCK, held=held, meters=Meters())
    async with asyncio.TaskGroup() as group:
        group.create_task(deliverer.run())
        yield deliverer
        deliverer.stop()


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - receivers have no events
            await asyncio.sleep(0.005)


async def test_each_target_is_told_at_its_own_pace() -> None:
    """One that is down and one that hangs hold up nobody; everything is marked, and taken out at the end."""
    good, down, hook, outbox = (
        MemoryAlertmanager(CLOCK.now),
        MemoryAlertmanager(CLOCK.now),
        MemoryWebhook(),
        MemoryOutbox(),
    )
    down.fault = DeliveryError("unreachable", "nobody there")

    async def hang(*_: Any) -> None:
        await asyncio.sleep(30)
        raise DeliveryError("timeout", "no answer")

    chat = Webhook("chat", "https://x", post=hook, keys=(), source="t")
    targets = [manager("http://hangs", hang), manager("http://down", down), manager("http://good", good), chat]
    async with asyncio.timeout(10):
        outbox.put(ALERT, CLOCK.now())
        deliverer = Deliverer(outbox, targets, clock=CLOCK, held=lambda notices: (), meters=Meters())
        running = asyncio.get_running_loop().create_task(deliverer.run())
        await until(lambda: len(good.active) == len(hook.messages) == 1)
        outbox.put(OVER, CLOCK.now())
        deliverer.wake()
        await until(lambda: not good.active and len(hook.messages) == 2)
        assert outbox.kept[ALERT.id].told == {"http://good": "resolved", "webhook chat": "resolved"}
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_the_stop_says_what_is_left_to_say() -> None:
    """Also what comes into the outbox at the last moment, and both of its changes."""
    hook, outbox = MemoryWebhook(), MemoryOutbox()
    chat = Webhook("chat", "https://x", post=hook, keys=(), source="t")
    async with delivering(outbox, [chat], held=lambda notices: ()):
        await asyncio.sleep(0.05)
        outbox.put(ALERT, CLOCK.now())
        outbox.put(OVER, CLOCK.now())
    assert hook.ids == [f"{ALERT.id}.open", f"{ALERT.id}.resolved"]
    assert outbox.kept == {}


async def test_a_restart_says_what_was_not_said_and_repeats_no_change() -> None:
    """What was told is remembered: a webhook hears each change once, Alertmanager hears at once what is open."""
    outbox = MemoryOutbox()
    for is_first in (True, False):
        hook, am = MemoryWebhook(), MemoryAlertmanager(CLOCK.now)
        chat = Webhook("chat", "https://x", post=hook, keys=(), source="t")
        if is_first:
            outbox.put(ALERT, CLOCK.now())
        async with delivering(outbox, [chat, manager("http://am", am)], held=lambda notices: ()):
            await until(lambda am=am: am.active)
        assert len(hook.messages) == int(is_first)


def numbered(number: int, alert: Alert = ALERT) -> Step:
    it = replace(alert, id=f"{number:032}", rendition=f"r{number}", series=f"news-1/r{number}/lite")
    now = CLOCK.now()
    opened = replace(it, state="open", resolved_at=None)
    notice = Notice(alert=it, opened=opened, queued_at=now, changed_at=now)
    return Step(notice=notice, word="open" if alert.state == "open" else "resolved")


@pytest.fixture(params=["made up", pytest.param("real", marks=pytest.mark.alertmanager)])
async def receiver(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[str, Post, Callable[[], Any]]]:
    """An Alertmanager: its address, how to post to it, and the labels that it holds as active."""
    if request.param == "made up":
        memory = MemoryAlertmanager(CLOCK.now)
        memory.refuses = lambda labels: len(labels["stream"]) > 900
        yield "http://made-up", memory, lambda: memory.active
        return
    with alertmanager_at(request.getfixturevalue("alertmanager"), tmp_path) as running:
        async with HttpPoster() as post:
            yield running.url, post, lambda: [alert["labels"] for alert in running.alerts()]


@pytest.fixture(params=["made up", "loopback"])
async def hook(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, Post, Callable[[], Any]]]:
    """A webhook: its address, how to post to it, and (body, headers) of what came."""
    if request.param == "made up":
        memory = MemoryWebhook()
        yield "http://made-up/hook", memory, lambda: memory.messages
        return
    with receiving() as receiver:
        async with HttpPoster() as post:
            yield f"{receiver.url}/hook", post, lambda: [(body, headers) for _, headers, body, _ in receiver.came]


async def test_a_webhook_gets_what_it_can_verify(hook: tuple[str, Post, Callable[[], Any]]) -> None:
    """One message per round, signed, with an id that is the same again."""
    url, post, came = hook
    target = Webhook("chat", url, post=post, keys=(b"k" * 32,), source="t")
    first, second = numbered(1), numbered(2)
    assert await target.tell([first, second], now=CLOCK.now()) == {first.notice.alert.id: None}
    for _ in range(2):
        assert await target.tell([second], now=CLOCK.now()) == {second.notice.alert.id: None}
    for body, headers in came():
        verify(body, headers, keys=[b"k" * 32], now_seconds=time.time())
    ids = [headers["webhook-id"] for _, headers in came()]
    assert ids == [f"{1:032}.open", f"{2:032}.open", f"{2:032}.open"]


Receiver = tuple[str, Post, Callable[[], list[dict[str, str]]]]


async def test_what_is_told_holds_until_it_is_over(receiver: Receiver) -> None:
    """Told twice it is one alert; the end ends it; the same labels may begin anew."""
    url, post, active = receiver
    target = manager(url, post)
    for _ in range(2):
        assert await target.tell([numbered(1), numbered(2)], now=CLOCK.now()) == {f"{n:032}": None for n in (1, 2)}
    assert sorted(labels["rendition"] for labels in active()) == ["r1", "r2"]
    await target.tell([numbered(1, OVER)], now=CLOCK.now())
    assert [labels["rendition"] for labels in active()] == ["r2"]
    await asyncio.sleep(0.01)
    await target.tell([numbered(1)], now=CLOCK.now())
    assert sorted(labels["rendition"] for labels in active()) == ["r1", "r2"]


async def test_what_is_not_told_again_ends_by_itself(receiver: Receiver) -> None:
    """After four resend times."""
    url, post, active = receiver
    await manager(url, post, resend_seconds=0.3).tell([numbered(1)], now=CLOCK.now())
    assert len(active()) == 1
    await until(lambda: not active())


async def test_an_end_of_what_was_never_told_is_taken(receiver: Receiver) -> None:
    """After a sudden end nobody knows whether it was told."""
    url, post, active = receiver
    assert await manager(url, post).tell([numbered(1, OVER)], now=CLOCK.now()) == {f"{1:032}": None}
    assert active() == []


async def test_any_name_can_be_told(receiver: Receiver) -> None:
    """Labels and annotations hold what streams are called."""
    url, post, active = receiver
    odd = replace(
        ALERT, stream_id='t\u00f6r/"\u96ea"\n\x00\udcff', labels={"team": "a b"}, summary="{{ .x }} </script>"
    )
    odd = replace(odd, series=f"{odd.stream_id}/1080p/lite")
    now = CLOCK.now()
    notice = Notice(alert=odd, opened=odd, queued_at=now, changed_at=now)
    assert await manager(url, post).tell([Step(notice=notice, word="open")], now=now) == {ALERT.id: None}
    (labels,) = active()
    assert labels["stream"] == 't\u00f6r/"\u96ea"\n\x00?'
    assert labels["team"] == "a b"


async def test_a_hundred_alerts_are_told_in_batches(receiver: Receiver) -> None:
    """All of them arrive."""
    url, post, active = receiver
    await manager(url, post).tell([numbered(number) for number in range(100)], now=CLOCK.now())
    assert len(active()) == 100
