"""The parts that every command opens, with settings changed by its options."""

from pathlib import Path

from pipelines.service import wiring
from vqmon.settings.load import Settings
from vqmon.settings.sections import DecodeSettings, SourceSettings


def test_score_has_a_long_decode_deadline_by_default() -> None:
    """A deadline of the option or of the settings is used instead; other commands have the short default."""
    own = Settings(decode=DecodeSettings(deadline_seconds=25))

    assert wiring.settings_for_score(Settings()).decode.deadline_seconds == 600
    assert wiring.settings_for_score(Settings(), deadline_seconds=3).decode.deadline_seconds == 3
    assert wiring.settings_for_score(own).decode.deadline_seconds == 25
    assert Settings().decode.deadline_seconds == 10


def test_the_folder_of_a_folder_source_may_be_read(tmp_path: Path) -> None:
    """It need not be listed in fetch.file_roots."""
    settings = Settings(source=SourceSettings(kind="folder", folder=tmp_path))

    assert wiring.fetch_policy(settings).file_roots == (tmp_path,)
