"""A folder becomes a lane of finished files: in order, each once, never one that is still being written."""

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from vqmon.core.types import Segment, SegmentFailure
from vqmon.errors import SegmentError
from vqmon.media.sources.folder import FolderSource

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class ManualClock:
    """A clock that advances only by waiting, and runs scheduled actions."""

    def __init__(self, *, ends: float = 30.0) -> None:
        self.seconds = 0.0
        self.ends = ends
        self.stop = asyncio.Event()
        self.happens: list[tuple[float, Callable[[], object]]] = []

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)

    async def wait(self, stop: asyncio.Event, seconds: float) -> None:
        self.seconds += seconds
        while self.happens and self.happens[0][0] <= self.seconds:
            self.happens.pop(0)[1]()
        if self.seconds >= self.ends:
            stop.set()


def write_file(path: Path, *, at: float, body: bytes = b"x") -> Path:
    """A file that was written so many seconds after noon."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    moment = (NOON + timedelta(seconds=at)).timestamp()
    os.utime(path, (moment, moment))
    return path


def folder_source(folder: Path, clock: ManualClock, **arguments: Any) -> FolderSource:
    times = {"now": clock.now, "monotonic": lambda: clock.now().timestamp()}
    return FolderSource(folder, stream_id="films", stop=clock.stop, wait=clock.wait, **times, **arguments)


async def collect_segments(folder: FolderSource) -> list[Segment]:
    (lane,) = await folder.lanes()
    return [item async for item in lane if isinstance(item, Segment)]


def file_names(segments: list[Segment]) -> list[str]:
    return [segment.url.rsplit("/")[-1] for segment in segments]


async def test_finished_files_come_by_time_then_name(tmp_path: Path) -> None:
    """Whatever order the file system lists them in."""
    for name, at in (("c.ts", -100.0), ("b.ts", -50), ("a.ts", -50), ("d.ts", -200)):
        write_file(tmp_path / name, at=at)
    segments = await collect_segments(folder_source(tmp_path, ManualClock(), until="exhausted"))

    assert file_names(segments) == ["d.ts", "c.ts", "a.ts", "b.ts"]
    assert segments[0].starts_at == NOON - timedelta(seconds=200)
    assert segments[0].sequence == round((NOON - timedelta(seconds=200)).timestamp() * 1000)
    assert segments[0].rendition.key == "films/main"


async def test_pictures_are_segments_as_videos_are(tmp_path: Path) -> None:
    names = ["a.jpg", "b.JPEG", "c.png", "d.ts", "e.webp", "f.avif"]
    for number, name in enumerate(names):
        write_file(tmp_path / name, at=-100 + number)
    assert file_names(await collect_segments(folder_source(tmp_path, ManualClock(), until="exhausted"))) == names


async def test_hidden_and_non_media_files_are_ignored(tmp_path: Path) -> None:
    """Hidden and half-written names, playlists, folders that look like films, hidden folders."""
    for name in (
        ".a.ts",
        "a.ts.part",
        "a.ts.tmp",
        "a.m3u8",
        "a.mpd",
        ".a.jpg",
        "a.gif",
        "a.txt",
        "a",
        ".hidden/a.ts",
        "x/.y/a.ts",
    ):
        write_file(tmp_path / name, at=-100)
    (tmp_path / "folder.ts").mkdir()
    os.mkfifo(tmp_path / "pipe.ts")
    (tmp_path / "gone.ts").symlink_to("nowhere.ts")
    (tmp_path / "circle").symlink_to(tmp_path, target_is_directory=True)
    write_file(tmp_path / "b.MP4", at=-100)
    assert file_names(await collect_segments(folder_source(tmp_path, ManualClock(), until="exhausted"))) == ["b.MP4"]


async def test_sub_folders_name_renditions(tmp_path: Path) -> None:
    """The first level counts, however deep the file lies."""
    write_file(tmp_path / "720p" / "a.ts", at=-3)
    write_file(tmp_path / "720p" / "2026" / "b.ts", at=-4)
    write_file(tmp_path / "360p" / "c.ts", at=-5)
    segments = await collect_segments(folder_source(tmp_path, ManualClock(), until="exhausted"))
    assert [(segment.rendition.name, file_names([segment])[0]) for segment in segments] == [
        ("360p", "c.ts"), ("720p", "b.ts"), ("720p", "a.ts"),
    ]  # fmt: skip


async def test_a_growing_file_is_not_finished(tmp_path: Path) -> None:
    """It is taken once its size and time have stood still for as long as set."""
    clock = ManualClock(ends=20)
    for second in range(6):
        clock.happens.append(
            (second, lambda second=second: write_file(tmp_path / "a.ts", at=second, body=b"x" * (second + 1)))
        )
    segments = await collect_segments(folder_source(tmp_path, clock, settle_seconds=2))
    assert [segment.starts_at for segment in segments] == [NOON + timedelta(seconds=5)]


async def test_a_modification_time_in_the_future_settles_by_our_clock(tmp_path: Path) -> None:
    """A file from tomorrow is not waited for until tomorrow."""
    write_file(tmp_path / "a.ts", at=86_400)
    clock = ManualClock(ends=1000)
    assert file_names(await collect_segments(folder_source(tmp_path, clock, until="exhausted", settle_seconds=5))) == [
        "a.ts"
    ]
    assert 5 <= clock.seconds < 10


async def test_new_files_are_taken_as_they_appear(tmp_path: Path) -> None:
    """And files that vanish, or a folder that does, harm nobody."""
    write_file(tmp_path / "a.ts", at=-10)
    clock = ManualClock(ends=30)
    clock.happens = [
        (3, lambda: write_file(tmp_path / "b.ts", at=3)),
        (9, lambda: (tmp_path / "a.ts").unlink()),
        (12, lambda: write_file(tmp_path / "c.ts", at=12)),
    ]
    assert file_names(await collect_segments(folder_source(tmp_path, clock))) == ["a.ts", "b.ts", "c.ts"]


async def test_a_file_that_is_written_again_is_another_segment(tmp_path: Path) -> None:
    """The same name at another time has another key."""
    write_file(tmp_path / "a.ts", at=-10)
    clock = ManualClock(ends=20)
    clock.happens = [(5, lambda: write_file(tmp_path / "a.ts", at=5))]
    segments = await collect_segments(folder_source(tmp_path, clock))
    assert file_names(segments) == ["a.ts", "a.ts"]
    assert len({segment.key for segment in segments}) == 2


async def test_files_of_earlier_runs_are_skipped(tmp_path: Path) -> None:
    """Keys are the same after a restart."""
    for number in range(4):
        write_file(tmp_path / f"{number}.ts", at=-10 - number)
    first = await collect_segments(folder_source(tmp_path, ManualClock(), until="exhausted"))
    seen = {segment.key for segment in first[:2]}
    second = await collect_segments(folder_source(tmp_path, ManualClock(), until="exhausted", seen=seen))
    assert [segment.key for segment in second] == [segment.key for segment in first[2:]]


async def test_a_stop_ends_the_lane_between_two_files(tmp_path: Path) -> None:
    """The rest is left to the next start."""
    for number in range(4):
        write_file(tmp_path / f"{number}.ts", at=-10)
    clock, seen = ManualClock(), []
    (lane,) = await folder_source(tmp_path, clock).lanes()
    async for item in lane:
        seen.append(item)
        clock.stop.set()
    assert len(seen) == 1


async def test_fragments_get_the_init_section_beside_them(tmp_path: Path) -> None:
    """The init section itself is no segment; of two, nobody knows which."""
    for name in (
        "one/init.mp4",
        "one/1.m4s",
        "one/2.m4s",
        "one/film.mp4",
        "two/init-0.mp4",
        "two/init-1.mp4",
        "two/1.m4s",
    ):
        write_file(tmp_path / name, at=-10)
    segments = await collect_segments(folder_source(tmp_path, ManualClock(), until="exhausted"))
    inits = {
        f"{segment.rendition.name}/{file_names([segment])[0]}": (segment.init_url or "").rsplit("/")[-1]
        for segment in segments
    }
    assert inits == {
        "one/1.m4s": "init.mp4", "one/2.m4s": "init.mp4", "one/film.mp4": "",
        "two/1.m4s": "", "two/init-0.mp4": "", "two/init-1.mp4": "",
    }  # fmt: skip


async def test_a_folder_that_is_not_there_is_refused_at_the_start(tmp_path: Path) -> None:
    """The caller decides when to try again."""
    for path in (tmp_path / "none", write_file(tmp_path / "file.ts", at=0)):
        with pytest.raises(SegmentError) as caught:
            await folder_source(path, ManualClock()).lanes()
        assert caught.value.reason == "file"


async def test_a_removed_folder_is_a_failure_and_may_reappear(tmp_path: Path) -> None:
    """An unmounted disk is said, no more often than a stale playlist."""
    folder = tmp_path / "disk"
    write_file(folder / "a.ts", at=-10)
    clock = ManualClock(ends=60)
    clock.happens = [
        (2, lambda: folder.rename(tmp_path / "elsewhere")),
        (40, lambda: write_file(folder / "b.ts", at=40)),
    ]
    (lane,) = await folder_source(folder, clock).lanes()
    items = [item async for item in lane]
    failures = [item for item in items if isinstance(item, SegmentFailure)]
    assert 2 <= len(failures) <= 5
    assert {failure.reason for failure in failures} == {"playlist"}
    assert file_names([item for item in items if isinstance(item, Segment)]) == ["a.ts", "b.ts"]


async def test_file_names_survive_the_conversion_to_urls(tmp_path: Path) -> None:
    """Blanks, percent signs, question marks and umlauts."""
    write_file(tmp_path / "ä b%41?#.ts", at=-10)
    (segment,) = await collect_segments(folder_source(tmp_path, ManualClock(), until="exhausted"))
    assert segment.url == (tmp_path / "ä b%41?#.ts").as_uri()
