"""The demo's live stream: its encoders' commands, the way they are started and ended, its clip and its origin."""

import signal
import subprocess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from pipelines.demo import stream
from pipelines.demo.stream import GOP_SECONDS, SIZES, Packager, make_clip, running_packager, serve_folder


class FakeEncoder:
    """An encoder's process that ends on SIGINT unless it `ignores_signals`."""

    started: list["FakeEncoder"]
    ignores_signals = False

    def __init__(self, command: list[str], **options: Any) -> None:
        self.command, self.options = command, options
        self.calls: list[str] = []
        self.exit_status: int | None = None
        self.running_at_start = [other for other in self.started if other.exit_status is None]
        self.started.append(self)

    def send_signal(self, number: int) -> None:
        self.calls.append(signal.Signals(number).name)
        if not self.ignores_signals:
            self.exit_status = 255

    def wait(self, timeout: float | None = None) -> int:
        if self.exit_status is None:
            raise subprocess.TimeoutExpired(self.command, timeout or 0.0)
        return self.exit_status

    def kill(self) -> None:
        self.calls.append("SIGKILL")
        self.exit_status = -9

    def poll(self) -> int | None:
        return self.exit_status

    def option(self, name: str) -> str:
        return self.command[self.command.index(name) + 1]

    @property
    def playlist(self) -> str:
        return self.command[-1]


@pytest.fixture
def encoders(monkeypatch: pytest.MonkeyPatch) -> list[FakeEncoder]:
    """The encoders in the order of their starts; none is a real process."""
    started: list[FakeEncoder] = []
    monkeypatch.setattr(FakeEncoder, "started", started, raising=False)
    monkeypatch.setattr(stream.subprocess, "Popen", FakeEncoder)
    return started


@pytest.fixture
def packager(encoders: list[FakeEncoder], tmp_path: Path) -> Packager:
    return Packager(tmp_path / "my clip.mp4", tmp_path)


def test_the_master_playlist_lists_every_rendition(packager: Packager, tmp_path: Path) -> None:
    lines = (tmp_path / "master.m3u8").read_text().splitlines()
    assert lines == [
        "#EXTM3U",
        "#EXT-X-VERSION:3",
        "#EXT-X-STREAM-INF:BANDWIDTH=3300000,RESOLUTION=1280x720",
        "720p.m3u8",
        "#EXT-X-STREAM-INF:BANDWIDTH=990000,RESOLUTION=640x360",
        "360p.m3u8",
    ]


def test_each_rendition_has_an_encoder_of_its_size_and_bitrate(
    packager: Packager, encoders: list[FakeEncoder], tmp_path: Path
) -> None:
    assert [encoder.playlist for encoder in encoders] == ["720p.m3u8", "360p.m3u8"]
    assert [encoder.option("-b:v") for encoder in encoders] == ["3000k", "900k"]
    assert [encoder.option("-vf").partition(":force")[0] for encoder in encoders] == ["scale=1280:720", "scale=640:360"]
    for encoder in encoders:
        assert encoder.option("-i") == str(tmp_path / "my clip.mp4")
        assert encoder.options["cwd"] == tmp_path


def test_segments_begin_with_a_key_frame(packager: Packager, encoders: list[FakeEncoder]) -> None:
    for encoder in encoders:
        assert int(encoder.option("-g")) == GOP_SECONDS * int(encoder.option("-r"))
        assert encoder.option("-hls_time") == str(GOP_SECONDS)
        assert encoder.option("-sc_threshold") == "0"


def test_a_restart_ends_the_old_encoder_first_and_filters_before_scaling(
    packager: Packager, encoders: list[FakeEncoder]
) -> None:
    old, other = encoders
    packager.restart("720p", 150, before="boxblur=4,")
    new = encoders[2]
    assert old.calls == ["SIGINT"]
    assert new.running_at_start == [other]
    assert new.option("-vf").startswith("boxblur=4,scale=1280:720:")
    assert [new.option(name) for name in ("-b:v", "-maxrate", "-bufsize")] == ["150k"] * 3
    assert "append_list" in new.option("-hls_flags")


def test_an_encoder_that_ignores_the_interrupt_is_killed(packager: Packager, encoders: list[FakeEncoder]) -> None:
    encoders[0].ignores_signals = True
    packager.stop("720p")
    assert encoders[0].calls == ["SIGINT", "SIGKILL"]
    assert encoders[1].calls == []


def test_stopping_twice_signals_once(packager: Packager, encoders: list[FakeEncoder]) -> None:
    packager.stop("360p")
    packager.stop("360p")
    assert encoders[1].calls == ["SIGINT"]


def test_the_wait_is_over_when_every_rendition_has_a_playlist(packager: Packager, tmp_path: Path) -> None:
    for name in SIZES:
        (tmp_path / f"{name}.m3u8").touch()
    packager.wait(within_seconds=-1.0)


def test_the_wait_fails_when_one_encoder_has_ended(
    packager: Packager, encoders: list[FakeEncoder], tmp_path: Path
) -> None:
    (tmp_path / "720p.m3u8").touch()
    encoders[1].exit_status = 1
    with pytest.raises(SystemExit, match="can ffmpeg read the input"):
        packager.wait()


def test_the_wait_fails_when_the_time_is_over(packager: Packager, tmp_path: Path) -> None:
    (tmp_path / "720p.m3u8").touch()
    with pytest.raises(SystemExit, match="wrote no stream"):
        packager.wait(within_seconds=-1.0)


def test_all_encoders_end_with_the_block_also_after_an_error(encoders: list[FakeEncoder], tmp_path: Path) -> None:
    def fail() -> None:
        with running_packager(tmp_path / "clip.mp4", tmp_path):
            assert [encoder.poll() for encoder in encoders] == [None, None]
            raise RuntimeError("demo failed")

    with pytest.raises(RuntimeError, match="demo failed"):
        fail()
    assert [encoder.calls for encoder in encoders] == [["SIGINT"], ["SIGINT"]]


def test_the_origin_serves_its_folder_on_loopback_until_the_block_ends(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "360p.m3u8").write_text("#EXTM3U\n")
    with serve_folder(tmp_path) as address, httpx.Client(base_url=address) as client:
        assert address.startswith("http://127.0.0.1:")
        assert client.get("/360p.m3u8").text == "#EXTM3U\n"
        assert client.get("/none.m3u8").status_code == 404
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/360p.m3u8")
    assert capfd.readouterr() == ("", "")


def test_the_clip_pans_over_the_whole_mosaic_and_loops_without_a_jump(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The mosaic's pixels hold their own coordinates, so that a frame's first pixel tells where it was cut."""
    height, width = 1200, 2200
    y, x = np.mgrid[0:height, 0:width]
    mosaic = np.stack([x % 256, x // 256 * 16 + y // 256, y % 256], axis=2).astype(np.uint8)
    positions: list[tuple[int, int]] = []
    sizes: set[int] = set()

    class Encoder:
        def __init__(self, command: list[str], **_: Any) -> None:
            self.command, self.stdin = command, self

        def __enter__(self) -> "Encoder":
            return self

        def __exit__(self, *_: object) -> None:
            return

        def write(self, frame: bytes) -> None:
            sizes.add(len(frame))
            positions.append((frame[0] + 256 * (frame[1] // 16), frame[2] + 256 * (frame[1] % 16)))

        def close(self) -> None:
            return

    monkeypatch.setattr(stream, "_photo_mosaic", lambda: mosaic)
    monkeypatch.setattr(stream.subprocess, "Popen", Encoder)
    assert make_clip(tmp_path / "clip.mp4") == tmp_path / "clip.mp4"
    path = np.array(positions)
    assert len(path) == 24 * 25
    assert sizes == {1280 * 720 * 3}
    assert path[0].tolist() == [0, 0]
    assert path.max(axis=0).tolist() == [width - 1280, height - 720]
    steps = np.abs(np.diff(np.vstack([path, path[:1]]), axis=0))
    assert steps.max() <= 6
