"""Settings that are loaded anew: wrong ones are refused, and what does not open is taken back."""

import logging

import pytest

from pipelines.daemon.reload import SettingsReload
from vqmon.errors import SettingsError
from vqmon.settings.load import Settings
from vqmon.telemetry.health import ProgressTracker

OLD, NEW = Settings(), Settings(daemon={"slo_floor": 50.0})  # type: ignore[arg-type]


def reloading(*loaded: Settings | Exception) -> tuple[SettingsReload, ProgressTracker]:
    """With what each load gives."""
    answers, progress = list(loaded), ProgressTracker(lambda: 0.0)

    def load() -> Settings:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return SettingsReload(OLD, load=load, progress=progress), progress


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
