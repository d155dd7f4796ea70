"""Settings that are loaded anew while the daemon runs, on SIGHUP."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from pipelines.service.lifecycle import Service, release_signals
from vqmon.errors import VqmonError
from vqmon.settings.load import Settings
from vqmon.telemetry.logs import log_event

log = logging.getLogger("vqmon.live")


class Work(Protocol):
    """What a daemon does with its settings until the service is to stop; it serves, and proves what it was given."""

    async def __call__(
        self, settings: Settings, service: Service, *, for_seconds: float | None, reload: "SettingsReload | None"
    ) -> None: ...


async def serve_reloading(
    settings: Settings,
    work: Work,
    *,
    service: Service,
    for_seconds: float | None,
    load: Callable[[], Settings] | None,
    hindrance: Callable[[], str] = lambda: "",
) -> None:
    """Work until the service ends; a SIGHUP ends the work and begins it with the settings that `load` returns.

    Without `load` it works once. Settings that do not load are refused, as all are while `hindrance` says something;
    those with which the work does not begin are taken back.
    """
    ends_at = None if for_seconds is None else time.monotonic() + for_seconds
    reload = None if load is None else SettingsReload(settings, load=load, hindrance=hindrance)
    try:
        while True:
            seconds_left = None if ends_at is None else max(0.0, ends_at - time.monotonic())
            # each turn stops by itself
            turn = replace(service, stop=asyncio.Event())
            try:
                await work(reload.settings if reload else settings, turn, for_seconds=seconds_left, reload=reload)
            except VqmonError as error:
                if reload is None or not reload.fall_back(error):
                    raise
                continue
            if service.ending.is_set() or reload is None or not reload.apply():
                break
    finally:
        if reload is not None:
            release_signals()


def stop_when_signalled(service: Service, reload: "SettingsReload | None") -> None:
    """Stop at once when a signal came before there was anything to stop."""
    if reload is not None and (reload.is_requested or service.ending.is_set()):
        service.stop.set()


class SettingsReload:
    """The settings in force, and those that wait to replace them; wrong ones are logged and never replace anything."""

    def __init__(self, settings: Settings, *, load: Callable[[], Settings], hindrance: Callable[[], str]) -> None:
        self.settings = settings
        self._load = load
        self._hindrance = hindrance
        self._waiting: Settings | None = None
        # the settings with which the daemon has worked
        self._proven = settings

    @property
    def is_requested(self) -> bool:
        """Whether settings wait."""
        return self._waiting is not None

    @property
    def is_on_trial(self) -> bool:
        """Whether the settings in force have not worked yet, and others have: what does not open is taken back."""
        return self.settings is not self._proven

    def request(self) -> bool:
        """Load settings; whether they are in order and now wait."""
        if hindrance := self._hindrance():
            self._refuse(hindrance)
            return False
        try:
            settings = self._load()
        except (VqmonError, OSError) as error:
            self._refuse(error)
            return False
        self._waiting = settings
        return True

    def apply(self) -> bool:
        """Put the settings that wait in force; whether there were any."""
        if self._waiting is None:
            return False
        self.settings, self._waiting = self._waiting, None
        return True

    def prove(self) -> None:
        """Everything was opened by the settings in force."""
        self._proven = self.settings

    def fall_back(self, error: VqmonError) -> bool:
        """Return to the settings with which the daemon has worked; False when these failed themselves."""
        if not self.is_on_trial:
            return False
        self._refuse(error)
        self.settings = self._proven
        return True

    def _refuse(self, why: object) -> None:
        log.error(**log_event("settings.refused", error=why, remedy="the daemon goes on with the settings that it has"))
