"""Stores the media of what belongs to an experiment while the daemon has them, for the clips of the blind review."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipelines.observe.observer import Observer
from pipelines.service.wiring import load_experiments, state_file
from vqmon.core.experiments.definition import Experiment
from vqmon.core.types import QualityEvent
from vqmon.errors import SettingsError, StoreError
from vqmon.settings.load import Settings
from vqmon.telemetry.logs import log_event
from vqmon.transport.segment_media import SegmentMedia

_log = logging.getLogger("vqmon.experiments")


def open_segment_media(settings: Settings) -> SegmentMedia:
    """The folder of the media: in `daemon.state_folder`, else beside the history."""
    return SegmentMedia(state_file(settings, "media"), max_bytes=settings.experiments.media_bytes)


class _ArmMedia:
    """Stores the media of segments that belong to an arm of an experiment that still runs.

    What was encrypted is not stored: a decrypted copy must not outlive its observation.
    """

    def __init__(self, media: SegmentMedia, path: Path) -> None:
        self._media, self._path = media, path
        self._modified_at: float | None = None
        self._experiments: Sequence[Experiment] = ()
        self._problem = ""

    async def store(self, event: QualityEvent, media: bytes) -> None:
        """Store the media if the event belongs to an experiment; what hinders is logged once and fails nothing."""
        await asyncio.to_thread(self._store, event, media)

    def _store(self, event: QualityEvent, media: bytes) -> None:
        try:
            if not self._belongs(event):
                return
            self._media.store(event.id, media)
        except (StoreError, SettingsError, OSError) as error:
            # OSError: whether the file of experiments has changed cannot be seen
            problem = str(error)
        else:
            problem = ""
        if problem and problem != self._problem:
            remedy = "make room or let vqmon write there; experiments.media_bytes = 0 stores nothing"
            _log.warning(**log_event("experiments.media", problem=problem, remedy=remedy))
        self._problem = problem

    def _belongs(self, event: QualityEvent) -> bool:
        segment = event.segment
        if segment.encryption is not None:
            return False
        return any(
            experiment.arm_of(event) is not None and (experiment.until is None or segment.starts_at < experiment.until)
            for experiment in self._current_experiments()
        )

    def _current_experiments(self) -> Sequence[Experiment]:
        """Those of the file, which is read again when it has changed."""
        modified_at = self._path.stat().st_mtime if self._path.is_file() else 0.0
        if modified_at != self._modified_at:
            self._modified_at = modified_at
            self._experiments = load_experiments(self._path)
        return self._experiments


def with_arm_media(observer: Observer, settings: Settings) -> Observer:
    """The observer, which also stores the media of experiments if there are any and the settings allow it."""
    experiments = settings.experiments
    if experiments.path is None or not experiments.media_bytes:
        return observer
    return replace(observer, store_media=_ArmMedia(open_segment_media(settings), experiments.path).store)
