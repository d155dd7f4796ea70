"""Alerts to one replica of Prometheus Alertmanager, by its API v2."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from vqmon.core.alerts.notifications import Form
from vqmon.errors import DeliveryError
from vqmon.transport.notify.http import Post
from vqmon.transport.notify.labels import Naming, annotations_of, labels_of, link_of
from vqmon.transport.notify.receiver import Step

MOST_AT_ONCE = 64
EXPIRES_AFTER_RESENDS = 4
"""An alert that is not sent again ends by itself after so many resend times: what Prometheus does too."""


class Alertmanager:
    """One replica; a cluster is as many targets as it has replicas, since each must hear everything."""

    form: Form = "state"
    max_backoff_seconds = 60.0

    def __init__(self, url: str, *, post: Post, naming: Naming, resend_seconds: float, token: str = "") -> None:
        self.name = url.rstrip("/")
        self._post = post
        self._naming = naming
        self._resend_seconds = resend_seconds
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})

    async def tell(self, steps: Sequence[Step], *, now: datetime) -> Mapping[str, DeliveryError | None]:
        """Post in batches; one that is refused is halved until what spoils it stands alone."""
        told: dict[str, DeliveryError | None] = {step.notice.alert.id: None for step in steps}
        batches = [steps[start : start + MOST_AT_ONCE] for start in range(0, len(steps), MOST_AT_ONCE)]
        while batches:
            batch = batches.pop(0)
            try:
                await self._post(f"{self.name}/api/v2/alerts", self.body(batch, now=now), self._headers)
            except DeliveryError as error:
                if error.reason != "refused":
                    raise
                half = len(batch) // 2
                if half == 0:
                    told[batch[0].notice.alert.id] = error
                else:
                    batches[:0] = [batch[:half], batch[half:]]
        return told

    def body(self, steps: Sequence[Step], *, now: datetime) -> bytes:
        """The array of postable alerts."""
        return json.dumps([self._postable(step, now) for step in steps], ensure_ascii=False).encode()

    def _postable(self, step: Step, now: datetime) -> dict[str, Any]:
        notice = step.notice
        # Media may be dated in the future, and nothing may end before it began.
        starts_at = min(notice.opened.began_at, notice.queued_at)
        if step.word == "open":
            ends = now.timestamp() + EXPIRES_AFTER_RESENDS * self._resend_seconds
            ends_at = datetime.fromtimestamp(ends, UTC)
        else:
            ends_at = max(notice.changed_at, starts_at)
        link = link_of(notice.alert, self._naming)
        return {
            "labels": labels_of(notice.opened, self._naming),
            "annotations": annotations_of(notice.alert),
            "startsAt": _rfc3339(starts_at),
            "endsAt": _rfc3339(ends_at),
            **({"generatorURL": link} if link else {}),
        }


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
