"""The receiver Prometheus Alertmanager: alerts to one replica by its API v2."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from vqmon.core.alerts.reactions.notifications import ReceiverKind
from vqmon.errors import DeliveryError
from vqmon.transport.notify.http import HttpClient
from vqmon.transport.notify.labels import LabelConfig, alert_annotations, alert_labels, alert_url
from vqmon.transport.notify.receiver import Notification

_MAX_BATCH_ALERTS = 64
_EXPIRY_RESENDS = 4
"""An open alert that is not sent again expires after so many resend intervals, as with Prometheus."""


class Alertmanager:
    """One replica; a cluster needs one receiver per replica, as each must get every alert."""

    kind: ReceiverKind = "state"
    max_backoff_seconds = 60.0

    def __init__(
        self, url: str, *, client: HttpClient, label_config: LabelConfig, resend_seconds: float, token: str = ""
    ) -> None:
        self.name = url.rstrip("/")
        self._client = client
        self._label_config = label_config
        self._resend_seconds = resend_seconds
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})

    async def notify(
        self, notifications: Sequence[Notification], *, now: datetime
    ) -> Mapping[str, DeliveryError | None]:
        """Post in batches; a refused batch is halved until the alert that spoils it is alone."""
        answers: dict[str, DeliveryError | None] = {notification.alert_id: None for notification in notifications}
        batches = [
            notifications[start : start + _MAX_BATCH_ALERTS]
            for start in range(0, len(notifications), _MAX_BATCH_ALERTS)
        ]
        while batches:
            batch = batches.pop(0)
            try:
                await self._client.post(f"{self.name}/api/v2/alerts", self.body(batch, now=now), self._headers)
            except DeliveryError as error:
                if error.reason != "refused":
                    raise
                half = len(batch) // 2
                if half == 0:
                    answers[batch[0].alert_id] = error
                else:
                    batches[:0] = [batch[:half], batch[half:]]
        return answers

    def body(self, notifications: Sequence[Notification], *, now: datetime) -> bytes:
        """The JSON array of `postableAlert`."""
        alerts = [self._postable_alert(notification, now) for notification in notifications]
        return json.dumps(alerts, ensure_ascii=False).encode()

    def _postable_alert(self, notification: Notification, now: datetime) -> dict[str, Any]:
        queued = notification.queued
        # Media may be dated in the future, but no alert may end before it starts.
        starts_at = min(queued.opened.began_at, queued.queued_at)
        if notification.state == "open":
            ends_at = datetime.fromtimestamp(now.timestamp() + _EXPIRY_RESENDS * self._resend_seconds, UTC)
        else:
            ends_at = max(queued.changed_at, starts_at)
        url = alert_url(queued.alert, self._label_config)
        return {
            "labels": alert_labels(queued.opened, self._label_config),
            "annotations": alert_annotations(queued.alert, self._label_config),
            "startsAt": _rfc3339(starts_at),
            "endsAt": _rfc3339(ends_at),
            **({"generatorURL": url} if url else {}),
        }


def _rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
