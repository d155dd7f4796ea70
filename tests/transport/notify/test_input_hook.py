"""Delivery of decisions: signed, retried until they expire, the newest of a stream only."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.core.alerts.reactions.test_input_switching import Inputs
from vqmon.core.alerts.reactions.input_switching import DecisionRecord, InputDecision
from vqmon.errors import DeliveryError
from vqmon.telemetry.metrics import Meters
from vqmon.testing import MemoryWebhook
from vqmon.transport.notify.delivery_queue import Clock
from vqmon.transport.notify.input_hook import InputHook
from vqmon.transport.notify.webhook import verify_signature
from vqmon.transport.wire import cloudevents

KEY = bytes(range(32))
BUSY = DeliveryError("busy", "status 503")


def decision(**changes: object) -> InputDecision:
    inputs = Inputs()
    inputs.play(30, 30)
    return replace(inputs.decisions[0], **changes)  # type: ignore[arg-type]


SWITCH = decision()


class Harness:
    """A hook whose clock stands still but for `seconds`."""

    def __init__(self, client: "HangingClient | None" = None) -> None:
        self.client = MemoryWebhook()
        self.seconds = 0.0
        self.records: list[DecisionRecord] = []
        self.hook = InputHook(
            "matrix",
            "https://switcher.example.org/hook",
            client=client or self.client,
            keys=[KEY],
            source="vqmon",
            clock=Clock(
                now=lambda: SWITCH.decided_at + timedelta(seconds=self.seconds),
                monotonic_seconds=lambda: self.seconds,
                random_fraction=lambda: 1.0,
            ),
            meters=Meters(),
            record=self.records.append,
        )

    async def round(self) -> list[str]:
        """Deliver what is due once; returns the results since the last round."""
        before = len(self.records)
        self.hook.stop()
        await self.hook.run()
        return [record.delivery for record in self.records[before:]]


async def test_a_decision_is_signed_and_delivered_once() -> None:
    """As a CloudEvent, with its id as the key of idempotency."""
    harness = Harness()
    harness.hook.put(SWITCH)
    assert await harness.round() == ["delivered"]
    assert await harness.round() == []
    ((body, headers),) = harness.client.messages
    verify_signature(body, headers, keys=[KEY], now_seconds=SWITCH.decided_at.timestamp())
    assert (headers["webhook-id"], headers["Idempotency-Key"]) == (SWITCH.id, f'"{SWITCH.id}"')
    assert cloudevents.parse_decision(body) == SWITCH
    assert [record.delivery for record in harness.records] == ["waiting", "delivered"]


async def test_retries_end_when_the_decision_expires() -> None:
    """After 0.5, 1, 2, 4, 8 and 8 s, and never after its 30 s."""
    harness = Harness()
    harness.client.fault = BUSY
    harness.hook.put(SWITCH)
    results = []
    while not results and harness.seconds < 60:
        results = await harness.round()
        harness.seconds += 0.5
    assert (results, harness.records[-1].attempts) == (["expired"], 7)
    assert "503" in harness.records[-1].error
    assert harness.seconds < 31
    late = Harness()
    late.seconds = 31.0
    late.hook.put(SWITCH)
    assert await late.round() == ["expired"]
    assert late.client.messages == []


async def test_a_receiver_that_asks_for_no_delay_is_not_flooded() -> None:
    """`Retry-After: 0` shortens no delay."""
    harness = Harness()
    harness.client.fault = DeliveryError("busy", "status 503", retry_after_seconds=0.0)
    harness.hook.put(SWITCH)
    for _ in range(3):
        assert await harness.round() == []
    harness.client.fault = None
    harness.seconds = 0.5
    assert await harness.round() == ["delivered"]
    assert harness.records[-1].attempts == 2


@pytest.mark.parametrize("reason", ["refused", "gone"])
async def test_what_is_refused_is_not_sent_again(reason: str) -> None:
    """The receiver will not change its mind within seconds."""
    harness = Harness()
    harness.client.fault = DeliveryError(reason, "status 400")
    harness.hook.put(SWITCH)
    assert await harness.round() == ["refused"]
    assert await harness.round() == []


async def test_a_newer_decision_takes_the_place_of_an_undelivered_one() -> None:
    """Of the same stream; the older one must not arrive after it."""
    harness = Harness()
    harness.client.fault = BUSY
    harness.hook.put(SWITCH)
    other = decision(id="c" * 32, stream_id="news-2")
    harness.hook.put(other)
    assert await harness.round() == []
    back = decision(id="b" * 32, kind="return", input="primary")
    harness.client.fault = None
    harness.seconds = 10.0
    harness.hook.put(back)
    assert (harness.records[-2].decision, harness.records[-2].delivery) == (SWITCH, "superseded")
    assert await harness.round() == ["delivered", "delivered"]
    assert sorted(harness.client.ids) == ["b" * 32, "c" * 32]


async def test_a_hold_ends_no_change_that_is_undelivered() -> None:
    """It changes nothing, so that receivers may ignore it; a newer hold or change ends it."""
    harness = Harness()
    harness.client.fault = BUSY
    harness.hook.put(SWITCH)
    assert await harness.round() == []
    for id in ("d" * 32, "e" * 32):
        harness.hook.put(decision(id=id, kind="hold", reason="minimum_hold"))
    harness.client.fault = None
    harness.seconds = 10.0
    assert await harness.round() == ["delivered", "delivered"]
    assert harness.client.ids == [SWITCH.id, "e" * 32]
    harness.hook.put(decision(id="a" * 32, kind="hold", reason="cool_down"))
    harness.hook.put(decision(id="b" * 32, kind="return", input="primary"))
    assert await harness.round() == ["delivered"]
    assert harness.client.ids[-1] == "b" * 32


async def test_a_dry_run_sends_nothing() -> None:
    """It is recorded."""
    harness = Harness()
    harness.hook.put(decision(is_dry_run=True))
    await harness.round()
    assert (harness.client.messages, [record.delivery for record in harness.records]) == ([], ["dry_run"])


class HangingClient:
    """Takes a request and answers when the gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        # a request has come, and the second
        self.first, self.second = asyncio.Event(), asyncio.Event()
        self.sent: list[str] = []

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        self.sent.append(headers["webhook-id"])
        (self.second if self.first.is_set() else self.first).set()
        await self.gate.wait()


async def test_a_hook_that_hangs_holds_nobody_up() -> None:
    """`put` returns at once, and a newer decision is delivered when the request has ended."""
    client = HangingClient()
    harness = Harness(client)
    harness.hook.put(SWITCH)
    task = asyncio.ensure_future(harness.hook.run())
    await client.first.wait()
    harness.hook.put(decision(id="b" * 32, kind="return", input="primary"))
    client.gate.set()
    await client.second.wait()
    harness.hook.stop()
    await task
    assert client.sent == [SWITCH.id, "b" * 32]
    results = {record.decision.id: record.delivery for record in harness.records}
    assert results == {SWITCH.id: "delivered", "b" * 32: "delivered"}
