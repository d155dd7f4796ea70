"""Files of a work folder: found again under the same conditions only."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.commands.evaluation.ladder.work_folder import WorkFolder
from tests import factories
from vqmon.errors import SettingsError
from vqmon.media.encode.codecs import EncodeSettings
from vqmon.media.encode.process import EncodedClip, Excerpt

SETTINGS = EncodeSettings(codec="h264", lines=720, seconds=4.0, quality=26)
EXCERPT = Excerpt(
    media=b"excerpt", start_seconds=3.0, seconds=4.0, fps=25.0, frames=100, width=1280, height=720, length_seconds=10.0,
    bits=8,
)  # fmt: skip


def open_folder(folder: Path, *, content: bytes = b"clip", seconds: float = 4.0) -> WorkFolder:
    clip = folder / "clip.mp4"
    clip.write_bytes(content)
    return WorkFolder(folder / "work", clip=clip, seconds=seconds, start_seconds=None)


def test_what_was_stored_is_found_by_the_next_run(tmp_path: Path) -> None:
    work = open_folder(tmp_path)
    assert (work.find_excerpt(), work.find_encode(SETTINGS), work.find_event(SETTINGS, "a")) == (None, None, None)
    event = factories.event()
    work.add_excerpt(EXCERPT)
    stored = work.add_encode(SETTINGS, EncodedClip(media=b"encode", rate_kbps=900.5, width=1280, height=720))
    work.add_event(SETTINGS, "a", event)
    later = open_folder(tmp_path)
    assert later.find_excerpt() == EXCERPT
    assert later.find_encode(SETTINGS) == stored
    assert (stored.file.read_bytes(), stored.rate_kbps) == (b"encode", 900.5)
    assert stored.file.name.startswith("h264-720p-crf26-")
    assert later.find_event(SETTINGS, "a") == event


def test_other_clips_settings_and_conditions_find_nothing(tmp_path: Path) -> None:
    work = open_folder(tmp_path)
    work.add_excerpt(EXCERPT)
    work.add_encode(SETTINGS, EncodedClip(media=b"encode", rate_kbps=900.5, width=1280, height=720))
    work.add_event(SETTINGS, "a", factories.event())
    assert work.find_event(SETTINGS, "b") is None
    others = {"quality": 27, "lines": 480, "noise": 6, "sharpen": 0.7, "soft_lines": 360, "seconds": 2.0}
    for name, value in others.items():
        assert work.find_encode(replace(SETTINGS, **{name: value})) is None  # type: ignore[arg-type]
    for changed in (open_folder(tmp_path, content=b"another"), open_folder(tmp_path, seconds=2.0)):
        assert changed.find_excerpt() is None
        assert changed.find_encode(SETTINGS) is None


def test_what_was_cut_off_is_made_again(tmp_path: Path) -> None:
    """An encode without its facts, an event that is no event, a part of a file."""
    work = open_folder(tmp_path)
    stored = work.add_encode(SETTINGS, EncodedClip(media=b"encode", rate_kbps=900.5, width=1280, height=720))
    work.add_event(SETTINGS, "a", factories.event())
    stored.file.with_suffix(".json").write_text('{"rate_kb')
    (event_file,) = work.folder.glob("*.event.json")
    event_file.write_text(event_file.read_text()[:50])
    assert work.find_encode(SETTINGS) is None
    assert work.find_event(SETTINGS, "a") is None
    assert not list(work.folder.glob("*.part"))


def test_facts_of_another_version_are_made_again(tmp_path: Path) -> None:
    """They have a field more or less, or are no facts at all."""
    work = open_folder(tmp_path)
    stored = work.add_encode(SETTINGS, EncodedClip(media=b"encode", rate_kbps=900.5, width=1280, height=720))
    work.add_excerpt(EXCERPT)
    for text in ('{"rate_kbps": 900.5, "width": 1280}', '{"rate_kbps": 1, "width": 1, "height": 1, "more": 1}', "[]"):
        for file in (stored.file, work.excerpt_file):
            file.with_suffix(".json").write_text(text)
        assert (work.find_encode(SETTINGS), work.find_excerpt()) == (None, None)


def test_two_runs_in_one_folder_write_their_parts_under_other_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[str] = []
    work = open_folder(tmp_path)
    monkeypatch.setattr("os.replace", lambda part, file: parts.append(str(part)))
    for _ in range(2):
        work.add_event(SETTINGS, "a", factories.event())
    assert len(set(parts)) == 2


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file")
    with pytest.raises(SettingsError, match="work: File exists"):
        open_folder(tmp_path)
