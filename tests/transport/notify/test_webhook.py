"""Webhooks: signed as the standard says, refused when they are not, in order and with the same ids again."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.transport.wire.test_cloudevents import ALERT
from vqmon.core.alerts.reactions.notifications import QueuedAlert
from vqmon.errors import DeliveryError, SettingsError
from vqmon.testing import MemoryWebhook
from vqmon.transport.notify.receiver import Notification
from vqmon.transport.notify.webhook import Webhook, parse_secret, sign, verify_signature
from vqmon.transport.wire import cloudevents

NOW = datetime(2026, 11, 20, 20, 1, tzinfo=UTC)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = parse_secret(SECRET, origin="test")
OTHER = bytes(range(32))
OVER = replace(ALERT, state="resolved", resolved_at=ALERT.opened_at + timedelta(seconds=40))

# The vector that the libraries of Standard Webhooks share.
VECTOR_BODY = b'{"test": 2432232314}'
VECTOR = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}


def step(word, alert=ALERT) -> Notification:
    notice = QueuedAlert(alert=alert, opened=ALERT, queued_at=NOW, changed_at=NOW)
    return Notification(queued=notice, state=word)


def hook(client, *keys: bytes) -> Webhook:
    return Webhook("chat", "https://example.org/hook", client=client, keys=keys, source="vqmon://test")


def test_the_published_vector_passes() -> None:
    """Our signature is theirs, and we accept it."""
    made = sign(VECTOR_BODY, id=VECTOR["webhook-id"], at_seconds=1614265330, key=KEY)
    assert made == VECTOR["webhook-signature"]
    verify_signature(VECTOR_BODY, VECTOR, keys=[KEY], now_seconds=1614265330)


@pytest.mark.parametrize(
    ("change", "seconds", "message"),
    [
        ({}, 1614265330 + 301, "too old"),
        ({}, 1614265330 - 301, "too old"),
        ({"webhook-id": "msg_other"}, 1614265330, "no signature"),
        ({"webhook-timestamp": "1614265331"}, 1614265330, "no signature"),
        ({"webhook-timestamp": "soon"}, 1614265330, "missing"),
        ({"webhook-id": ""}, 1614265330, "missing"),
        ({"webhook-signature": ""}, 1614265330, "no signature"),
        ({"webhook-signature": "v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}, 1614265330, "no signature"),
    ],
)
def test_what_is_old_or_altered_is_refused(change: dict[str, str], seconds: int, message: str) -> None:
    """Five minutes either way, and every signed part counts."""
    with pytest.raises(DeliveryError, match=message):
        verify_signature(VECTOR_BODY, VECTOR | change, keys=[KEY], now_seconds=seconds)
    with pytest.raises(DeliveryError, match="no signature"):
        verify_signature(VECTOR_BODY + b" ", VECTOR, keys=[KEY], now_seconds=1614265330)


async def test_messages_are_cloudevents_with_ids_of_their_own() -> None:
    """An opening, told late, says what it was then; the end says what it became; each verifies."""
    client = MemoryWebhook()
    for each in (step("open", OVER), step("resolved", OVER)):
        assert await hook(client, KEY).notify([each], now=NOW) == {ALERT.id: None}
    assert client.ids == [f"{ALERT.id}.open", f"{ALERT.id}.resolved"]
    for (body, headers), alert in zip(client.messages, (ALERT, OVER), strict=True):
        verify_signature(body, headers, keys=[KEY], now_seconds=NOW.timestamp())
        assert headers["Content-Type"] == "application/cloudevents+json"
        assert cloudevents.parse_alert(body) == alert
        assert json.loads(body)["id"] == headers["webhook-id"]
        assert len(body) < 20_000


async def test_while_a_key_is_changed_both_sign() -> None:
    """A receiver that knows either of them accepts."""
    client = MemoryWebhook()
    await hook(client, OTHER, KEY).notify([step("open")], now=NOW)
    body, headers = client.messages[0]
    assert headers["webhook-signature"].count("v1,") == 2
    for key in (KEY, OTHER):
        verify_signature(body, headers, keys=[key], now_seconds=NOW.timestamp())


async def test_without_a_key_nothing_is_signed() -> None:
    """A receiver that asks for no signature gets none."""
    client = MemoryWebhook()
    await hook(client).notify([step("open")], now=NOW)
    assert "webhook-signature" not in client.messages[0][1]


@pytest.mark.parametrize("text", ["whsec_", "whsec_!!", "whsec_" + base64.b64encode(b"short").decode(), "x" * 200])
def test_a_weak_or_broken_secret_is_refused_without_being_shown(text: str) -> None:
    """24 to 64 bytes in base64."""
    with pytest.raises(SettingsError, match="chat: a webhook's secret") as caught:
        parse_secret(text, origin="chat")
    assert text not in str(caught.value) or text == "whsec_"
