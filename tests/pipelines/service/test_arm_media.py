"""Which media the daemon stores for the clips of experiments."""

import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from pipelines.service.arm_media import open_segment_media, with_arm_media
from tests.pipelines.observe.test_observer import observer
from tests.web import seed
from vqmon.core.types import Encryption, QualityEvent, Rendition, Segment
from vqmon.settings.load import load_settings
from vqmon.testing import MemoryFetcher

EXPERIMENTS = """
[experiments.sr]
control = "old"
until = 2026-11-21T00:00:00Z
[experiments.sr.arms.old]
rendition = "old"
[experiments.sr.arms.new]
rendition = "new"
"""


def an_event(rendition: str, sequence: int, **fields: object) -> QualityEvent:
    segment = Segment(
        rendition=Rendition(stream_id="film", name=rendition),
        sequence=sequence,
        url="https://host/s.ts",
        starts_at=seed.NOW.replace(day=20, hour=1),
    )
    return seed.quality_event(replace(segment, **fields), 60.0)  # type: ignore[arg-type]


async def test_media_of_arms_are_stored_while_their_experiment_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those of other renditions, of encrypted segments, or after the end; a changed file counts at once."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "experiments.toml"
    (tmp_path / "vqmon.toml").write_text('[experiments]\npath = "experiments.toml"\n')
    settings = load_settings(tmp_path / "vqmon.toml")
    store = with_arm_media(observer(MemoryFetcher({})), settings).store_media
    belongs = an_event("new", 1)
    other = an_event("720p", 2)
    encrypted = an_event("new", 3, encryption=Encryption(method="AES-128", key_url="https://host/k"))
    late = an_event("new", 4, starts_at=belongs.segment.starts_at + timedelta(days=2))
    file.write_text("no toml")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await store(belongs, b"bytes")
    assert len(caplog.records) == 1
    file.write_text(EXPERIMENTS)
    for event in (belongs, other, encrypted, late):
        await store(event, b"bytes")
    media = open_segment_media(settings)
    assert media.folder == Path("vqmon.db.media")
    assert [media.read(event.id) for event in (belongs, other, encrypted, late)] == [b"bytes", None, None, None]


def test_nothing_is_stored_without_experiments_or_room(tmp_path: Path) -> None:
    (tmp_path / "vqmon.toml").write_text('[experiments]\npath = "experiments.toml"\nmedia_bytes = 0\n')
    plain = observer(MemoryFetcher({}))
    assert with_arm_media(plain, load_settings(tmp_path / "vqmon.toml")) is plain


async def test_an_experiments_file_that_cannot_be_looked_at_spoils_no_observation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Here a name that is too long; the same is true of a folder that vqmon may not enter."""
    (tmp_path / "vqmon.toml").write_text(f'[experiments]\npath = "{"x" * 300}.toml"\n')
    store = with_arm_media(observer(MemoryFetcher({})), load_settings(tmp_path / "vqmon.toml")).store_media
    with caplog.at_level(logging.WARNING):
        await store(an_event("new", 1), b"bytes")
    assert len(caplog.records) == 1
