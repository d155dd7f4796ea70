"""Sends the alerts of a history to Alertmanager and webhooks."""

import asyncio
import logging
import random
import ssl
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol

from pipelines.service.history_thread import HistoryThread
from pipelines.service.wiring import fetch_policy, utc_now
from vqmon.core.alerts.annotations import Mask
from vqmon.core.alerts.reactions.notifications import NotifiedState, QueuedAlert, maintenance_window_of
from vqmon.core.types import Alert, Outcome, Severity
from vqmon.errors import FetchError, SettingsError, StoreError
from vqmon.flow import NamedTasks
from vqmon.media.fetch.http import PinnedNetworkBackend, Resolver, resolve_host
from vqmon.media.fetch.ssrf_policy import check_url
from vqmon.settings.load import Settings
from vqmon.settings.sections import FetchSettings, NotifySettings, WebhookSettings
from vqmon.telemetry.metrics import Meters
from vqmon.transport.notify.alertmanager import Alertmanager
from vqmon.transport.notify.delivery_queue import Clock
from vqmon.transport.notify.dispatcher import Dispatcher
from vqmon.transport.notify.http import HttpClient, PooledHttpClient
from vqmon.transport.notify.labels import LabelConfig
from vqmon.transport.notify.receiver import Receiver
from vqmon.transport.notify.webhook import Webhook, parse_secret
from vqmon.transport.secrets import read_secret

log = logging.getLogger("vqmon.notify")

_GROUP_RENDITION = "group"
"""The rendition name of a group's alert; its media is as new as that of the newest rendition."""

_LAST_DELIVERY_SECONDS = 6.0
"""How long the last delivery may take when the daemon stops."""


class WaitingAlerts(Protocol):
    """Alerts that cannot be written to the history yet."""

    @property
    def is_degraded(self) -> bool:
        """Whether the history cannot be written now."""

    def take_alerts(self) -> Sequence[QueuedAlert]:
        """The alerts that were not taken yet."""


class HistoryOutbox:
    """The outbox of a history for the event loop; every access runs in the history's thread.

    With `waiting`, alerts that the history cannot take yet are queued as well, and what was delivered meanwhile is
    recorded when it takes them.
    """

    def __init__(self, thread: HistoryThread, *, waiting: WaitingAlerts | None = None) -> None:
        self._thread = thread
        self._waiting = waiting
        # deliveries that could not be recorded
        self._late: dict[str, Mapping[str, NotifiedState] | None] = {}

    async def queued_alerts(self, *, after: int) -> Sequence[QueuedAlert]:
        """Return the queued alerts that changed after this number, and those that wait for the history."""

        def read() -> Sequence[QueuedAlert]:
            return self._thread.history.outbox.queued_alerts(after=after)

        if self._waiting is None:
            return await self._thread.run(read)
        waiting = self._waiting.take_alerts()
        try:
            await self._record_late()
            return [*await self._thread.run(read), *waiting]
        except StoreError as error:
            log.debug("the outbox cannot be read: %s", error)
            return waiting

    async def record_deliveries(self, deliveries: Mapping[str, Mapping[str, NotifiedState] | None]) -> None:
        """Store the states that each receiver was notified of, by alert id; None removes the alert from the outbox."""
        if self._waiting is None:
            await self._thread.run(partial(self._thread.history.outbox.record_deliveries, deliveries))
            return
        self._late |= deliveries
        try:
            await self._record_late()
        except StoreError as error:
            log.debug("deliveries cannot be recorded: %s", error)

    async def _record_late(self) -> None:
        """Record deliveries, unless the alerts that they are of may still wait."""
        if not self._late or self._waiting is None or self._waiting.is_degraded:
            return
        late = dict(self._late)
        await self._thread.run(partial(self._thread.history.outbox.record_deliveries, late))
        self._late = {alert_id: states for alert_id, states in self._late.items() if states != late.get(alert_id, ())}


@dataclass(frozen=True, slots=True, kw_only=True)
class MuteFilter:
    """Selects the alerts that no receiver is notified of: by severity, maintenance window and age."""

    windows: Sequence[Mask]
    severities: Collection[Severity]
    max_age: timedelta
    # rendition key -> end of its newest published segment
    media_ends_at: dict[str, datetime] = field(default_factory=dict)

    def __call__(self, queued_alerts: Collection[QueuedAlert]) -> Collection[str]:
        """Return the ids of the muted alerts."""
        now = utc_now()
        return {queued.alert.id for queued in queued_alerts if self._is_muted(queued, now)}

    def _is_muted(self, queued: QueuedAlert, now: datetime) -> bool:
        alert = queued.alert
        if alert.severity not in self.severities or maintenance_window_of(alert, self.windows, now):
            return True
        if queued.age_when_queued <= self.max_age:
            return False
        # A late alert comes from a backfill or after a pause: it is sent only once the media is current again.
        media_ends_at = self.media_ends_at.get(f"{alert.stream_id}/{alert.rendition}")
        if media_ends_at is None and alert.rendition == _GROUP_RENDITION:
            media_ends_at = max(self.media_ends_at.values(), default=None)
        return media_ends_at is None or now - media_ends_at > self.max_age


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertNotifier:
    """Delivers alerts in the background; whoever publishes calls `on_publish`."""

    dispatcher: Dispatcher
    mute_filter: MuteFilter

    def on_publish(self, outcomes: Sequence[Outcome], alerts: Sequence[Alert]) -> None:
        """Note how new the media is, and start a delivery if there are alerts; both are in the history, or wait."""
        for outcome in outcomes:
            segment = outcome.segment
            self.mute_filter.media_ends_at[segment.rendition.key] = segment.ends_at
        if alerts:
            self.dispatcher.wake()


@asynccontextmanager
async def open_notifier(
    settings: Settings,
    thread: HistoryThread,
    *,
    meters: Meters,
    start: asyncio.Event | None = None,
    waiting: WaitingAlerts | None = None,
) -> AsyncIterator[AlertNotifier | None]:
    """Deliver alerts in the background while the context lasts; None when the settings name no receiver.

    Delivery begins at once, or when `start` is set. Alerts that are `waiting` for the history are delivered too.
    """
    notify = settings.notify
    if not (notify.alertmanagers or notify.webhooks):
        yield None
        return
    mute_filter = mute_filter_of(notify)
    async with open_http_client(settings) as client, NamedTasks() as tasks:
        dispatcher = Dispatcher(
            HistoryOutbox(thread, waiting=waiting),
            open_receivers(notify, client),
            clock=Clock(now=utc_now, monotonic_seconds=time.monotonic, random_fraction=random.random),
            muted=mute_filter,
            meters=meters,
            resend_seconds=notify.resend_seconds,
            keep_seconds=3600 * notify.keep_hours,
        )
        tasks.start("notify", _deliver_after(start, dispatcher))
        try:
            yield AlertNotifier(dispatcher=dispatcher, mute_filter=mute_filter)
        finally:
            dispatcher.stop()
            if start:
                start.set()
            await tasks.wait_or_cancel(["notify"], within_seconds=_LAST_DELIVERY_SECONDS)


async def _deliver_after(start: asyncio.Event | None, dispatcher: Dispatcher) -> None:
    if start:
        await start.wait()
    await dispatcher.run()


def mute_filter_of(notify: NotifySettings) -> MuteFilter:
    """Return what the settings mute; raises SettingsError for a maintenance window that makes no sense."""
    windows = []
    for name, window in notify.windows.items():
        try:
            windows.append(
                Mask(
                    name=name,
                    stream=window.streams,
                    rendition=window.renditions,
                    begins_at=window.begins,
                    ends_at=window.until,
                    daily_from=window.daily_from,
                    daily_until=window.daily_until,
                )
            )
        except ValueError as error:
            raise SettingsError(f"notify.windows.{name}: {error}") from error
    return MuteFilter(
        windows=windows,
        severities=notify.severities,
        max_age=timedelta(seconds=notify.max_age_seconds),
    )


def open_http_client(settings: Settings, *, resolve: Resolver = resolve_host) -> PooledHttpClient:
    """Return a client for the receivers of the settings, as `restricted_client` makes it."""
    notify = settings.notify
    urls = [*notify.alertmanagers, *(webhook.url for webhook in notify.webhooks.values())]
    return restricted_client(settings, notify, section="notify", urls=urls, resolve=resolve)


class _ClientSettings(Protocol):
    """The keys of a section that say how its addresses may be reached."""

    @property
    def allowed_networks(self) -> tuple[str, ...]: ...
    @property
    def ca_file(self) -> Path | None: ...
    @property
    def timeout_seconds(self) -> float: ...


def restricted_client(
    settings: Settings, access: _ClientSettings, *, section: str, urls: Sequence[str], resolve: Resolver = resolve_host
) -> PooledHttpClient:
    """Return a client for addresses of a section of the settings; SettingsError names the section.

    Refuses host names that resolve to a private network unless the section allows that network.
    """
    restricted = settings.model_copy(update={"fetch": FetchSettings(allowed_networks=access.allowed_networks)})
    try:
        policy = replace(fetch_policy(restricted, named=urls), section=section)
        for url in urls:
            check_url(url, policy)
        tls = ssl.create_default_context(cafile=access.ca_file)
    except SettingsError as error:
        raise SettingsError(f"{section}: {error}") from error
    except FetchError as error:
        raise SettingsError(f"{section}: {error.detail}") from error
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"{section}.ca_file: {error}") from error
    return PooledHttpClient(
        timeout_seconds=access.timeout_seconds, network=PinnedNetworkBackend(policy, resolve), tls=tls
    )


def open_receivers(notify: NotifySettings, client: HttpClient) -> Sequence[Receiver]:
    """Return every receiver of the settings; reads the secret files."""
    try:
        naming = LabelConfig(
            labels=notify.labels,
            copied=notify.carried_labels,
            public_url=notify.public_url,
            runbook_url=notify.runbook_url,
        )
    except ValueError as error:
        raise SettingsError(f"notify.labels: {error}") from error
    token = read_secret(notify.token_file, setting="notify.token_file") if notify.token_file else ""
    return [
        *(
            Alertmanager(url, client=client, label_config=naming, resend_seconds=notify.resend_seconds, token=token)
            for url in notify.alertmanagers
        ),
        *(
            Webhook(
                name,
                webhook.url,
                client=client,
                keys=_keys_of(name, webhook),
                source=notify.source,
            )
            for name, webhook in notify.webhooks.items()
        ),
    ]


def _keys_of(name: str, webhook: WebhookSettings) -> Sequence[bytes]:
    """The keys that sign what a webhook receives."""
    setting = f"notify.webhooks.{name}.secret_files"
    return [parse_secret(read_secret(file, setting=setting), origin=setting) for file in webhook.secret_files]
