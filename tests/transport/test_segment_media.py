"""Media of experiments in a folder of bounded size."""

import os
from pathlib import Path

import pytest

from vqmon.errors import StoreError
from vqmon.transport.segment_media import SegmentMedia

IDS = [f"{number:032x}" for number in range(4)]


def test_the_oldest_media_make_room(tmp_path: Path) -> None:
    media = SegmentMedia(tmp_path / "media", max_bytes=250)
    for number, event_id in enumerate(IDS[:3]):
        media.store(event_id, bytes([number]) * 100)
        os.utime(tmp_path / "media" / f"{event_id}.media", (number, number))
    assert [media.read(event_id) for event_id in IDS[:3]] == [None, b"\1" * 100, b"\2" * 100]
    assert [event_id in media for event_id in IDS[:3]] == [False, True, True]
    media.store(IDS[3], b"larger than all" * 100)
    assert media.read(IDS[3]) is None
    assert len(list((tmp_path / "media").iterdir())) == 2
    assert (tmp_path / "media").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "media").write_text("a file")
    with pytest.raises(StoreError, match=f"{tmp_path}/media: media of experiments cannot be stored: File exists"):
        SegmentMedia(tmp_path / "media", max_bytes=250).store(IDS[0], b"x")


def test_no_name_leads_out_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no event id"):
        SegmentMedia(tmp_path / "media", max_bytes=250).read("../secret")
