"""Small HLS streams made of real media, and a loopback origin to serve them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.media.clips import clip, ffmpeg, x264
from tests.receivers import served

BLACK = "color=black:s={size}:r={rate}:d={seconds}"


def write_vod(folder: Path, *, segments: int, seconds: float = 1.0) -> Path:
    """A playlist of `segments` short segments of one moving picture."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "source.mp4"
    source.write_bytes(clip(*x264(), size="192x108", seconds=segments * seconds, container="mp4"))
    playlist = folder / "vod.m3u8"
    options = ["-c", "copy", "-f", "hls", "-hls_time", str(seconds), "-hls_playlist_type", "vod"]
    ffmpeg("-i", str(source), *options, "-hls_segment_filename", str(folder / "s%04d.ts"), str(playlist))
    return playlist


def write_story(folder: Path, parts: list[bytes], *, seconds: float) -> Path:
    """A playlist of the given media, one segment each, every one a discontinuity."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{round(seconds)}", "#EXT-X-PLAYLIST-TYPE:VOD"]
    for number, part in enumerate(parts):
        if part:
            (folder / f"{number}.ts").write_bytes(part)
        lines += ["#EXT-X-DISCONTINUITY", f"#EXTINF:{seconds},", f"{number}.ts"]
    playlist = folder / "story.m3u8"
    playlist.write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]), encoding="utf-8")
    return playlist


@contextmanager
def serving(folder: Path, *, on_request: Callable[[str], object] = lambda path: None) -> Iterator[str]:
    """An HTTP origin on a free loopback port; `on_request` gets each path before it is served."""

    class Quiet(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            on_request(self.path)
            super().do_GET()

        def log_message(self, *args: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server, served(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"
