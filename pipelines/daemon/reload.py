"""Settings that are loaded anew while the daemon runs, on SIGHUP."""

import logging
from collections.abc import Callable

from pipelines.service.wiring import load_rules
from vqmon.errors import VqmonError
from vqmon.settings.load import Settings
from vqmon.telemetry.health import ProgressTracker
from vqmon.telemetry.logs import log_event

log = logging.getLogger("vqmon.live")


class SettingsReload:
    """The settings in force, and those that wait to replace them; wrong ones are logged and never replace anything."""

    def __init__(self, settings: Settings, *, load: Callable[[], Settings], progress: ProgressTracker) -> None:
        self.settings = settings
        self._load = load
        self._progress = progress
        self._waiting: Settings | None = None
        # the settings with which the daemon has worked
        self._proven = settings

    @property
    def is_requested(self) -> bool:
        """Whether settings wait."""
        return self._waiting is not None

    def request(self) -> bool:
        """Load settings and rules; whether they are in order and now wait."""
        if self._progress.problem:
            # what waits for the history would be observed again
            self._refuse(self._progress.problem)
            return False
        try:
            settings = self._load()
            load_rules(settings)
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
        if self.settings is self._proven:
            return False
        self._refuse(error)
        self.settings = self._proven
        return True

    def _refuse(self, why: object) -> None:
        log.error(**log_event("settings.refused", error=why, remedy="the daemon goes on with the settings that it has"))
