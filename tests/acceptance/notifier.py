"""A daemon in small that opens and resolves alerts and tells of them, to be killed at any moment, and what it left."""

import asyncio
import json
import os
import random
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.service.delivery.notifications import open_notifier
from pipelines.service.history_thread import open_history_thread
from tests.transport.wire.test_cloudevents import ALERT
from vqmon.core.types import Alert, alert_id
from vqmon.settings.load import Settings
from vqmon.telemetry.metrics import Meters
from vqmon.transport.history.history import History, open_history

TICK_SECONDS = 0.03
RESEND_SECONDS = 60.0
"""An open alert expires after some of these, however slow the machine is between two starts."""


def settings_for(alertmanagers: Sequence[str], hook: str) -> Settings:
    webhooks = {"hook": {"url": hook}}
    notify = {"alertmanagers": alertmanagers, "webhooks": webhooks, "resend_seconds": RESEND_SECONDS}
    return Settings(notify=notify)  # type: ignore[arg-type]


def work(path: Path, settings: Settings, ready: int, *, people: str, is_last: bool) -> None:
    """Open an alert every tick and resolve those of which the receiver at `people` has been told.

    The last one opens none and ends when all are told.
    """
    asyncio.run(_work(path, settings, ready, people=people, is_last=is_last))


async def _work(path: Path, settings: Settings, ready: int, *, people: str, is_last: bool) -> None:
    with open_history_thread(path, mode="write") as thread:
        history = thread.history
        async with open_notifier(settings, thread, meters=Meters()) as notifier:
            assert notifier is not None
            number = len(history.queries.alerts(limit=100_000))
            while not is_last or history.queries.alerts(open_only=True, limit=1):
                alerts = _due(history, await asyncio.to_thread(_firing, people)) + (
                    [] if is_last else [_opened(number)]
                )
                number += 1
                publish = partial(history.publish, [], alerts=alerts, queued_at=datetime.now(UTC))
                await thread.run(publish)
                notifier.on_publish([], alerts)
                os.write(ready, b".")
                await asyncio.sleep(TICK_SECONDS)
            # What is over is said again for five minutes: the last word is enough here.
            while any(  # noqa: ASYNC110 - other processes send no event
                sorted(notice.notified_states.values()) != ["resolved"] * 2 for notice in history.outbox.queued_alerts()
            ):
                await asyncio.sleep(TICK_SECONDS)


def _opened(number: int) -> Alert:
    now = datetime.now(UTC)
    series = f"live/{number}/lite"
    return replace(
        ALERT,
        id=alert_id("low-score", series, now),
        series=series,
        stream_id="live",
        rendition=str(number),
        began_at=now,
        opened_at=now,
    )


def _firing(people: str) -> set[str]:
    """The alerts that people have been told of."""
    with urllib.request.urlopen(people, timeout=60) as answer:
        return set(json.load(answer))


def _due(history: History, firing: Collection[str]) -> list[Alert]:
    now = datetime.now(UTC)
    over = [alert for alert in history.queries.alerts(open_only=True, limit=1000) if alert.id in firing]
    return [replace(alert, state="resolved", resolved_at=now) for alert in over]


def kill_often(path: Path, settings: Settings, *, people: str, kills: int, seed: int) -> None:
    """Start it again and again, kill it at random moments, and let it finish at last."""
    chance = random.Random(seed)
    for number in range(kills + 1):
        heard, ready = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                work(path, settings, ready, people=people, is_last=number == kills)
                os._exit(0)
            finally:
                os._exit(1)
        os.close(ready)
        if number < kills:
            assert os.read(heard, 1) == b"."
            time.sleep(chance.random() * 0.25)
            os.kill(child, signal.SIGKILL)
        else:
            while os.read(heard, 1000):
                pass
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.close(heard)
        assert code == (-signal.SIGKILL if number < kills else 0)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What receivers heard, held against the history."""

    alerts: int
    # transitions that a webhook never heard of, and how often it heard one again
    lost: int
    repeated: int
    # an end before its beginning
    disordered: int
    # alerts that people were never told of behind Alertmanager, and those they were told of twice
    unnoticed: int
    doubled: int
    never_ended: int


def hold_against(path: Path, ids: Sequence[str], notifications: Sequence[dict[str, Any]]) -> Found:
    """`ids` came to the webhook, `notifications` from Alertmanager to people."""
    with open_history(path, "read") as history:
        alerts = history.queries.alerts(limit=100_000)
    wanted = {f"{alert.id}.{state}" for alert in alerts for state in ("open", "resolved")}
    heard = Counter(ids)
    first = {id: position for position, id in reversed(list(enumerate(ids)))}
    fired: Counter[str] = Counter()
    ended: set[str] = set()
    for notification in notifications:
        for posted_alert in notification["alerts"]:
            alert = posted_alert["annotations"]["alert_id"]
            if posted_alert["status"] == "firing":
                fired[alert] += 1
            else:
                ended.add(alert)
    alert_ids = [alert.id for alert in alerts]
    return Found(
        alerts=len(alerts),
        lost=len(wanted - set(heard)),
        repeated=sum(count - 1 for count in heard.values()),
        disordered=sum(first.get(f"{id}.resolved", 0) < first.get(f"{id}.open", 0) for id in alert_ids),
        unnoticed=sum(not fired[id] for id in alert_ids),
        doubled=sum(fired[id] > 1 for id in alert_ids),
        never_ended=sum(id not in ended for id in alert_ids),
    )
