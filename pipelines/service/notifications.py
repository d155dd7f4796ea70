"""Tells Alertmanager and webhooks of the alerts of a history."""

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from pipelines.service.wiring import fetch_policy, utc_now
from vqmon.core.alerts.annotations import Mask
from vqmon.core.alerts.notifications import NotifiedState, QueuedAlert, holding
from vqmon.core.types import Alert, Outcome, Severity
from vqmon.errors import FetchError, SettingsError
from vqmon.flow import Crew
from vqmon.media.fetch.http import PinnedNetworkBackend, Resolver, resolve_host
from vqmon.media.fetch.policy import check_url
from vqmon.settings.load import Settings
from vqmon.settings.sections import FetchSettings, NotifySettings
from vqmon.telemetry.metrics import Meters
from vqmon.transport.history.history import History
from vqmon.transport.notify.alertmanager import Alertmanager
from vqmon.transport.notify.delivery_queue import Clock
from vqmon.transport.notify.dispatcher import Dispatcher
from vqmon.transport.notify.http import HttpPoster, Post
from vqmon.transport.notify.labels import LabelConfig
from vqmon.transport.notify.receiver import Receiver
from vqmon.transport.notify.webhook import Webhook, parse_secret
from vqmon.transport.secrets import read_secret

GROUP = "group"
"""What stands for the rendition in the alert of a group: it has come as far as the farthest of all."""

CLOSING_SECONDS = 6.0
"""For a last round when the daemon stops."""


class HistoryOutbox:
    """The outbox of a history, from the loop: one thread does all that touches the file."""

    def __init__(self, history: History, thread: ThreadPoolExecutor) -> None:
        self._history = history
        self._thread = thread

    async def queued_alerts(self, *, after: int) -> Sequence[QueuedAlert]:
        """What waits, of alerts written after this number."""
        ask = partial(self._history.outbox.queued_alerts, after=after)
        return await asyncio.get_running_loop().run_in_executor(self._thread, ask)

    async def record_deliveries(self, deliveries: Mapping[str, Mapping[str, NotifiedState] | None]) -> None:
        """Remember what was told."""
        await asyncio.get_running_loop().run_in_executor(
            self._thread, self._history.outbox.record_deliveries, deliveries
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Which alerts are kept back."""

    windows: Sequence[Mask]
    severities: Collection[Severity]
    max_age: timedelta
    # rendition -> how far its media has come
    reached: dict[str, datetime] = field(default_factory=dict)

    def __call__(self, notices: Collection[QueuedAlert]) -> Collection[str]:
        """Ids of those that nobody is told of now."""
        now = utc_now()
        return {notice.alert.id for notice in notices if self._is_held(notice, now)}

    def _is_held(self, notice: QueuedAlert, now: datetime) -> bool:
        alert = notice.alert
        if alert.severity not in self.severities or holding(alert, self.windows, now):
            return True
        if notice.age_when_queued <= self.max_age:
            return False
        # It came late: out of a backfill, or after a pause. Told only if it still holds when the media is of today.
        reached = self.reached.get(f"{alert.stream_id}/{alert.rendition}")
        if reached is None and alert.rendition == GROUP:
            reached = max(self.reached.values(), default=None)
        return reached is None or now - reached > self.max_age


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What a daemon that publishes tells the delivery."""

    deliverer: Dispatcher
    holding: Holding

    def published(self, outcomes: Sequence[Outcome], alerts: Sequence[Alert]) -> None:
        """These are in the history now."""
        for outcome in outcomes:
            segment = outcome.segment
            self.holding.reached[segment.rendition.key] = segment.ends_at
        if alerts:
            self.deliverer.wake()


@asynccontextmanager
async def delivering(
    settings: Settings,
    history: History,
    *,
    thread: ThreadPoolExecutor,
    meters: Meters,
    after: asyncio.Event | None = None,
) -> AsyncIterator[Delivery | None]:
    """Deliver in the background while the context lasts, and `after` is set; None when there is nobody to tell."""
    notify = settings.notify
    if not (notify.alertmanagers or notify.webhooks):
        yield None
        return
    held = holding_of(notify)
    async with open_poster(settings) as post, Crew() as crew:
        deliverer = Dispatcher(
            HistoryOutbox(history, thread),
            targets_of(notify, post),
            clock=Clock(now=utc_now, monotonic_seconds=time.monotonic, random_fraction=random.random),
            muted=held,
            meters=meters,
            resend_seconds=notify.resend_seconds,
            keep_seconds=3600 * notify.keep_hours,
        )
        crew.begin("notify", _after(after, deliverer))
        try:
            yield Delivery(deliverer=deliverer, holding=held)
        finally:
            deliverer.stop()
            if after:
                after.set()
            await crew.end(["notify"], within_seconds=CLOSING_SECONDS)


async def _after(begin: asyncio.Event | None, deliverer: Dispatcher) -> None:
    if begin:
        await begin.wait()
    await deliverer.run()


def holding_of(notify: NotifySettings) -> Holding:
    """What the settings keep back; SettingsError when a window makes no sense."""
    windows = []
    for name, window in notify.windows.items():
        try:
            windows.append(
                Mask(
                    name=name,
                    stream=window.streams,
                    rendition=window.renditions,
                    begins=window.begins,
                    ends=window.until,
                    daily_from=window.daily_from,
                    daily_until=window.daily_until,
                )
            )
        except ValueError as error:
            raise SettingsError(f"notify.windows.{name}: {error}") from error
    return Holding(
        windows=windows,
        severities=notify.severities,
        max_age=timedelta(seconds=notify.max_age_seconds),
    )


def open_poster(settings: Settings, *, resolve: Resolver = resolve_host) -> HttpPoster:
    """Posts to what the settings name; a name that leads into a private network which they do not allow is refused."""
    notify = settings.notify
    urls = [*notify.alertmanagers, *(hook.url for hook in notify.webhooks.values())]
    guarded = settings.model_copy(update={"fetch": FetchSettings(allowed_networks=notify.allowed_networks)})
    policy = fetch_policy(guarded, named=urls)
    try:
        for url in urls:
            check_url(url, policy)
        tls = ssl.create_default_context(cafile=notify.ca_file)
    except FetchError as error:
        raise SettingsError(f"notify: {error.detail}") from error
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"notify.ca_file: {error}") from error
    return HttpPoster(timeout_seconds=notify.timeout_seconds, network=PinnedNetworkBackend(policy, resolve), tls=tls)


def targets_of(notify: NotifySettings, post: Post) -> Sequence[Receiver]:
    """Every receiver of the settings; secrets are read from their files now."""
    try:
        naming = LabelConfig(labels=notify.labels, copied=notify.carried_labels, public_url=notify.public_url)
    except ValueError as error:
        raise SettingsError(f"notify.labels: {error}") from error
    token = read_secret(notify.token_file) if notify.token_file else ""
    return [
        *(
            Alertmanager(url, post=post, label_config=naming, resend_seconds=notify.resend_seconds, token=token)
            for url in notify.alertmanagers
        ),
        *(
            Webhook(
                name,
                hook.url,
                post=post,
                keys=[parse_secret(read_secret(file), origin=f"notify.webhooks.{name}") for file in hook.secret_files],
                source=notify.source,
            )
            for name, hook in notify.webhooks.items()
        ),
    ]
