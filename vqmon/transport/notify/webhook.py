"""The receiver webhook: alerts as CloudEvents, signed as Standard Webhooks (https://www.standardwebhooks.com)."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime

from vqmon.core.alerts.reactions.notifications import ReceiverKind
from vqmon.errors import DeliveryError, SettingsError
from vqmon.transport.notify.http import HttpClient
from vqmon.transport.notify.receiver import Notification
from vqmon.transport.wire import cloudevents

_PREFIX = "whsec_"
_MIN_SECRET_BYTES = 24
_MAX_SECRET_BYTES = 64
_TOLERANCE_SECONDS = 300
"""A message with a timestamp further away than this is refused, as it may be replayed."""


def parse_secret(text: str, *, origin: str) -> bytes:
    """Decode a key written as `whsec_` and base64; SettingsError names `origin` and never shows the secret."""
    try:
        key = base64.b64decode(text.strip().removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise SettingsError(f"{origin}: a webhook's secret is {_PREFIX} and base64") from None
    if not _MIN_SECRET_BYTES <= len(key) <= _MAX_SECRET_BYTES:
        raise SettingsError(f"{origin}: a webhook's secret has {_MIN_SECRET_BYTES} to {_MAX_SECRET_BYTES} random bytes")
    return key


def sign(body: bytes, *, id: str, at_seconds: int, key: bytes) -> str:
    """The signature of a message, `v1,` and base64 of HMAC-SHA256; `at_seconds` is the Unix time of sending."""
    signed = f"{id}.{at_seconds}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def signed_headers(body: bytes, *, id: str, keys: Sequence[bytes], now: datetime) -> dict[str, str]:
    """The headers of a CloudEvent that is sent now, with a signature per key; without keys it is not signed."""
    seconds = int(now.timestamp())
    headers = {"Content-Type": cloudevents.MEDIA_TYPE, "webhook-id": id, "webhook-timestamp": str(seconds)}
    if keys:
        headers["webhook-signature"] = " ".join(sign(body, id=id, at_seconds=seconds, key=key) for key in keys)
    return headers


def verify_signature(body: bytes, headers: Mapping[str, str], *, keys: Sequence[bytes], now_seconds: float) -> None:
    """Verify a message as a receiver does; raises DeliveryError("refused") with the problem.

    A receiver must also drop messages whose `webhook-id` it has already seen.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    id, timestamp = lowered.get("webhook-id", ""), lowered.get("webhook-timestamp", "")
    if not id or not (timestamp.isascii() and timestamp.isdigit()):
        raise DeliveryError("refused", "webhook-id or webhook-timestamp is missing")
    if abs(now_seconds - int(timestamp)) > _TOLERANCE_SECONDS:
        raise DeliveryError("refused", "the message is too old, or from the future")
    expected = [sign(body, id=id, at_seconds=int(timestamp), key=key) for key in keys]
    signatures = lowered.get("webhook-signature", "").split()
    # All pairs are compared, so that the time it takes reveals nothing.
    if not any([hmac.compare_digest(one.encode(), other.encode()) for one in expected for other in signatures]):
        raise DeliveryError("refused", "no signature matches")


class Webhook:
    """One URL that gets each opening and each resolution once, in this order; a retry has the same `webhook-id`."""

    kind: ReceiverKind = "changes"
    max_backoff_seconds = 3600.0

    def __init__(self, name: str, url: str, *, client: HttpClient, keys: Sequence[bytes], source: str) -> None:
        self.name = f"webhook {name}"
        self._url = url
        self._client = client
        # The new key first; during a rotation the receiver may know only the old one.
        self._keys = tuple(keys)
        self._source = source

    async def notify(
        self, notifications: Sequence[Notification], *, now: datetime
    ) -> Mapping[str, DeliveryError | None]:
        """Post until one is taken, so that it is recorded before the next; a refused one does not delay the others."""
        answers: dict[str, DeliveryError | None] = {}
        for notification in notifications:
            try:
                await self._client.post(self._url, *self.message(notification, now=now))
                return {**answers, notification.alert_id: None}
            except DeliveryError as error:
                if error.reason == "refused":
                    answers[notification.alert_id] = error
                elif answers:
                    # The next call begins with this notification and raises the error.
                    break
                else:
                    raise
        return answers

    def message(self, notification: Notification, *, now: datetime) -> tuple[bytes, dict[str, str]]:
        """The body and the headers."""
        queued, state = notification.queued, notification.state
        alert = queued.alert if state == "resolved" else queued.opened
        body = cloudevents.encode_alert(alert, source=self._source)
        return body, signed_headers(body, id=f"{alert.id}.{state}", keys=self._keys, now=now)
