"""How soon Alertmanager is told, and what 200 sudden ends lose or double.

`python -m bench.serving.notify [--kills 200] [--alerts 200] [--open 1000]`. Needs Debian's `prometheus-alertmanager`.
The time runs from before the transaction that stores an alert until a real Alertmanager has taken it, beside a replica
that never answers and many alerts that are open already.
"""

import argparse
import asyncio
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pipelines.service.delivery.notifications import HistoryOutbox
from pipelines.service.history_thread import open_history_thread
from tests.acceptance.notifier import hold_against, kill_often, settings_for
from tests.receivers import alertmanager_at, receiving, wait_until
from tests.transport.wire.test_cloudevents import ALERT
from vqmon.core.types import Alert
from vqmon.telemetry.metrics import Meters
from vqmon.transport.notify.alertmanager import Alertmanager
from vqmon.transport.notify.delivery_queue import Clock
from vqmon.transport.notify.dispatcher import Dispatcher
from vqmon.transport.notify.http import PooledHttpClient
from vqmon.transport.notify.labels import LabelConfig

AIM_SECONDS = 2.0
CLOCK = Clock(now=lambda: datetime.now(UTC), monotonic_seconds=time.monotonic, random_fraction=lambda: 0.5)


def numbered(number: int) -> Alert:
    now = datetime.now(UTC)
    series = f"live/{number}/lite"
    return replace(
        ALERT, id=f"{number:032x}", series=series, stream_id="live", rendition=str(number), began_at=now, opened_at=now
    )


async def first_posts(program: str, folder: Path, *, alerts: int, already: int) -> tuple[list[float], float]:
    """Seconds from each decision to its first post, and processor seconds of all of it."""
    taken: dict[str, float] = {}
    with (
        alertmanager_at(program, folder / "am") as running,
        socket.create_server(("127.0.0.1", 0)) as silent,
        open_history_thread(folder / "first.db", mode="write") as thread,
    ):
        async with PooledHttpClient() as pooled_client:

            class TimingClient:
                async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> None:
                    await pooled_client.post(url, body, headers)
                    for alert in set(body.decode().split('"alert_id": "')[1:]):
                        taken.setdefault(alert[:32], time.monotonic())

            named = partial(Alertmanager, client=TimingClient(), label_config=LabelConfig(), resend_seconds=60.0)
            targets = [named(running.url), named(f"http://127.0.0.1:{silent.getsockname()[1]}")]
            outbox = HistoryOutbox(thread)
            deliverer = Dispatcher(outbox, targets, clock=CLOCK, muted=lambda queued: (), meters=Meters())
            working = asyncio.get_running_loop().create_task(deliverer.run())
            before = [numbered(number) for number in range(already)]
            await thread.run(partial(thread.history.publish, [], alerts=before, queued_at=datetime.now(UTC)))
            deliverer.wake()
            while len(taken) < already:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            seconds, began_cpu = [], time.process_time()
            for number in range(already, already + alerts):
                alert, decided = numbered(number), time.monotonic()
                await thread.run(partial(thread.history.publish, [], alerts=[alert], queued_at=datetime.now(UTC)))
                deliverer.wake()
                while alert.id not in taken:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                seconds.append(taken[alert.id] - decided)
            spent = time.process_time() - began_cpu
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
    return seconds, spent


def kills(program: str, folder: Path, count: int) -> bool:
    """Kill a notifier often; prints what was lost or doubled, True when nothing was."""
    path = folder / "kills.db"
    began = time.monotonic()
    with (
        receiving() as people,
        alertmanager_at(program, folder / "kills", hook=people.url, wait="0s", by="...") as replica,
        receiving() as hook,
    ):
        kill_often(path, settings_for([replica.url], hook.url), people=people.url, kills=count, seed=11)
        ids = [headers["webhook-id"] for _, headers, _, _ in hook.came]
        wait_until(lambda: hold_against(path, ids, people.notifications).never_ended == 0, seconds=60)
        result = hold_against(path, ids, people.notifications)
    print(
        f"{count} kills in {time.monotonic() - began:.0f} s, {result.alerts} incidents, {2 * result.alerts} transitions"
    )
    print(
        f"  webhook: {result.lost} lost, {result.disordered} out of order, {result.repeated} repeated with the same id"
    )
    print(
        f"  people behind Alertmanager: {result.unnoticed} not notified, {result.doubled} notified twice, 0 left open"
    )
    return not (result.lost or result.disordered or result.unnoticed or result.doubled)


def main() -> int:
    """Measure; 1 when an aim was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--alerts", type=int, default=200)
    parser.add_argument("--open", type=int, default=1000)
    given = parser.parse_args()
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        print("no Alertmanager here: install Debian's `prometheus-alertmanager`")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        seconds, spent = asyncio.run(first_posts(program, Path(folder), alerts=given.alerts, already=given.open))
        delays, each = sorted(seconds), 1e3 * spent / len(seconds)
        print(f"decision to first post, {given.open} alerts open, one replica silent, {given.alerts} times:")
        print(
            f"  median {1e3 * statistics.median(delays):.1f} ms, p99 {1e3 * delays[int(0.99 * len(delays))]:.1f} ms, "
            f"longest {1e3 * delays[-1]:.1f} ms (aim {AIM_SECONDS:g} s); {each:.1f} ms of processor each"
        )
        is_good = kills(program, Path(folder), given.kills)
    return int(not is_good or delays[-1] > AIM_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
