"""Alerts to a webhook: CloudEvents, signed as Standard Webhooks (https://www.standardwebhooks.com) says."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime

from vqmon.core.alerts.notifications import Form
from vqmon.errors import DeliveryError, SettingsError
from vqmon.transport.notify.http import Post
from vqmon.transport.notify.receiver import Step
from vqmon.transport.wire import cloudevents

PREFIX = "whsec_"
MIN_SECRET_BYTES = 24
MAX_SECRET_BYTES = 64
TOLERANCE_SECONDS = 300
"""A message whose time is further away than this is refused: somebody may be sending an old one again."""


def secret_of(text: str, *, origin: str) -> bytes:
    """The key in `whsec_` and base64; SettingsError names `origin` and never shows the secret."""
    try:
        key = base64.b64decode(text.strip().removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise SettingsError(f"{origin}: a webhook's secret is {PREFIX} and base64") from None
    if not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        raise SettingsError(f"{origin}: a webhook's secret has {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} random bytes")
    return key


def signature(body: bytes, *, id: str, at_seconds: int, key: bytes) -> str:
    """One signature of version 1."""
    signed = f"{id}.{at_seconds}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def verify(body: bytes, headers: Mapping[str, str], *, keys: Sequence[bytes], now_seconds: float) -> None:
    """What a receiver does; DeliveryError("refused") says what is wrong. Drop ids that you have seen already."""
    given = {name.lower(): value for name, value in headers.items()}
    id, stamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if not id or not (stamp.isascii() and stamp.isdigit()):
        raise DeliveryError("refused", "webhook-id or webhook-timestamp is missing")
    if abs(now_seconds - int(stamp)) > TOLERANCE_SECONDS:
        raise DeliveryError("refused", "the message is too old, or from the future")
    wanted = [signature(body, id=id, at_seconds=int(stamp), key=key) for key in keys]
    found = given.get("webhook-signature", "").split()
    # Every pair is compared, so that the time it takes tells nothing.
    if not any([hmac.compare_digest(one.encode(), other.encode()) for one in wanted for other in found]):
        raise DeliveryError("refused", "no signature fits")


class Webhook:
    """One address that hears of each opening and each end once, in this order; the same again has the same id."""

    form: Form = "changes"
    max_backoff_seconds = 3600.0

    def __init__(self, name: str, url: str, *, post: Post, keys: Sequence[bytes], source: str) -> None:
        self.name = f"webhook {name}"
        self._url = url
        self._post = post
        # The new one first; while it is being changed the receiver may know only the old one.
        self._keys = tuple(keys)
        self._source = source

    async def tell(self, steps: Sequence[Step], *, now: datetime) -> Mapping[str, DeliveryError | None]:
        """Post until one is taken, so that it is remembered before the next; what is refused does not hold it up."""
        told: dict[str, DeliveryError | None] = {}
        for step in steps:
            alert_id = step.notice.alert.id
            try:
                await self._post(self._url, *self.message(step, now=now))
                return {**told, alert_id: None}
            except DeliveryError as error:
                if error.reason == "refused":
                    told[alert_id] = error
                elif told:
                    # It comes first the next time, and is raised then.
                    break
                else:
                    raise
        return told

    def message(self, step: Step, *, now: datetime) -> tuple[bytes, dict[str, str]]:
        """Body and headers."""
        alert = step.notice.alert if step.word == "resolved" else step.notice.opened
        body = cloudevents.encode_alert(alert, source=self._source)
        id, seconds = f"{alert.id}.{step.word}", int(now.timestamp())
        headers = {"Content-Type": cloudevents.MEDIA_TYPE, "webhook-id": id, "webhook-timestamp": str(seconds)}
        if self._keys:
            signatures = [signature(body, id=id, at_seconds=seconds, key=key) for key in self._keys]
            headers["webhook-signature"] = " ".join(signatures)
        return body, headers
