"""Settings that are loaded anew: wrong ones are refused, and what does not open is taken back."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from pipelines.service.lifecycle import Service
from pipelines.service.reload import SettingsReload, serve_reloading
from vqmon.errors import SettingsError
from vqmon.settings.load import Settings
from vqmon.telemetry.health import ProgressTracker
from vqmon.telemetry.metrics import Meters

OLD, NEW = Settings(), Settings(daemon={"slo_floor": 50.0})  # type: ignore[arg-type]


def loading(*loaded: Settings | Exception) -> Callable[[], Settings]:
    """What each load gives."""
    answers = list(loaded)

    def load() -> Settings:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return load


def reloading(*loaded: Settings | Exception) -> tuple[SettingsReload, ProgressTracker]:
    """With what each load gives."""
    progress = ProgressTracker(lambda: 0.0)
    return SettingsReload(OLD, load=loading(*loaded), hindrance=lambda: progress.problem), progress


def test_new_settings_wait_until_they_are_applied() -> None:
    """Once."""
    reload, _ = reloading(NEW)
    assert not reload.apply()
    assert reload.request()
    assert (reload.is_requested, reload.settings) == (True, OLD)
    assert reload.apply()
    assert (reload.is_requested, reload.settings) == (False, NEW)
    assert not reload.apply()


@pytest.mark.parametrize("error", [SettingsError("vqmon.toml: decode.fps: 1000"), PermissionError("vqmon.toml")])
def test_settings_that_cannot_be_loaded_are_refused(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """The daemon goes on with those that it has."""
    reload, _ = reloading(error)
    assert not reload.request()
    assert not reload.is_requested
    (record,) = caplog.records
    assert (record.levelno, record.fields["error"]) == (logging.ERROR, error)  # type: ignore[attr-defined]


def test_nothing_is_reloaded_while_outcomes_wait_for_the_history() -> None:
    """They would be observed again."""
    reload, progress = reloading(NEW)
    progress.problem = "the history cannot be written"
    assert not reload.request()
    progress.problem = ""
    assert reload.request()


def test_settings_that_do_not_open_are_taken_back() -> None:
    """Unless the daemon has worked with them: then their error is its end."""
    reload, _ = reloading(NEW)
    error = SettingsError("scoring.scorers: no such scorer")
    assert not reload.fall_back(error)
    reload.request()
    reload.apply()
    assert reload.fall_back(error)
    assert reload.settings is OLD
    reload, _ = reloading(NEW)
    reload.request()
    reload.apply()
    reload.prove()
    assert not reload.fall_back(error)


async def test_a_reload_ends_the_work_and_begins_it_with_the_new_settings() -> None:
    """Until the service ends; settings with which the work does not begin are taken back."""
    bad = Settings(daemon={"slo_floor": 1.0})  # type: ignore[arg-type]
    service = Service(meters=Meters(), progress=ProgressTracker(lambda: 0.0))
    begun: list[tuple[Settings, bool]] = []

    async def work(
        settings: Settings, service: Service, *, for_seconds: float | None, reload: SettingsReload | None
    ) -> None:
        assert reload is not None
        begun.append((settings, service.stop.is_set()))
        await asyncio.sleep(0)
        if settings is bad:
            raise SettingsError("daemon.slo_floor")
        reload.prove()
        if len(begun) == 4:
            service.ending.set()
        else:
            reload.request()
        service.stop.set()

    load = loading(NEW, bad, OLD)
    await serve_reloading(OLD, work, service=service, for_seconds=None, load=load)
    assert begun == [(OLD, False), (NEW, False), (bad, False), (NEW, False)]
    assert not service.stop.is_set()
