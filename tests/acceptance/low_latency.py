"""A live origin of low-latency DASH: chunks of CMAF that are sent as they are made, over chunked transfer coding."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

from tests.media.clips import MOTION, ffmpeg, x264
from tests.media.loopback import Answer, Request, Server
from vqmon.media.decode.bitstream.containers.boxes import iterate_iso_boxes

SEGMENT_SECONDS, CHUNKS = 2.0, 4
_SIZE, _RATE, _SEGMENT_FRAMES = "320x180", 50, 100


@cache
def cmaf(
    segments: int, *, chunks: int = CHUNKS, size: str = _SIZE, rate: int = _RATE, segment_frames: int = _SEGMENT_FRAMES
) -> tuple[bytes, Sequence[Sequence[bytes]]]:
    """The initialization section, and the chunks of each segment; only the first chunk begins with a key picture."""
    seconds = segment_frames / rate
    source = MOTION.format(size=size, rate=rate, seconds=segments * seconds)
    micros = str(round(seconds / chunks * 1e6))
    options = ("-movflags", "empty_moov+default_base_moof", "-frag_duration", micros, "-f", "mp4", "-")
    media = ffmpeg("-f", "lavfi", "-i", source, *x264(gop=segment_frames, bframes=0), *options)
    ends = [end for kind, _, end in iterate_iso_boxes(media) if kind in (b"moov", b"mdat")]
    init, *made = [media[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert len(made) == segments * chunks
    return init, [made[at : at + chunks] for at in range(0, len(made), chunks)]


def live_manifest(
    starts_at: datetime, *, chunks: int, size: str = _SIZE, rate: int = _RATE, segment_frames: int = _SEGMENT_FRAMES,
    total_seconds: float | None,
) -> bytes:  # fmt: skip
    """The MPD of a live stream, or with `total_seconds` of one that has ended."""
    kind = "dynamic" if total_seconds is None else "static"
    length = "" if total_seconds is None else f'mediaPresentationDuration="PT{total_seconds:.6f}S"'
    early = segment_frames / rate * (1 - 1 / chunks)
    width, height = size.split("x")
    return f"""<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="{kind}" {length}
        minimumUpdatePeriod="PT1S" timeShiftBufferDepth="PT30S"
        availabilityStartTime="{starts_at.isoformat()}"><Period id="0" start="PT0S">
        <AdaptationSet mimeType="video/mp4"><SegmentTemplate media="$Number$.m4s" initialization="init.mp4"
        timescale="{rate}" duration="{segment_frames}" startNumber="0"
        availabilityTimeOffset="{early:.6f}" availabilityTimeComplete="false"/>
        <Representation id="hd" codecs="avc1.64001f" width="{width}" height="{height}" bandwidth="1000000"/>
        </AdaptationSet></Period></MPD>""".encode()


class DashOrigin:
    """Makes a segment every two seconds from `starts_at` on, and sends each chunk when it is made.

    A chunk also waits for its `gates` entry, (segment, chunk) from 0, where there is one.
    """

    def __init__(self, server: Server, *, segments: int, chunks: int = CHUNKS) -> None:
        self.server = server
        self.init, self.segments = cmaf(segments, chunks=chunks)
        self.chunks = chunks
        self.starts_at = datetime.now(UTC) + timedelta(seconds=0.5)
        self.gates: dict[tuple[int, int], asyncio.Event] = {}
        self.sent: list[tuple[int, int]] = []
        server.answers["/live.mpd"] = self._send_manifest
        server.answers["/init.mp4"] = self.init
        for number in range(segments):
            server.answers[f"/{number}.m4s"] = self._send_segment

    @property
    def url(self) -> str:
        return self.server.url("/live.mpd")

    def made_at(self, number: int, chunk: int) -> datetime:
        """The time of the end of a chunk."""
        return self.starts_at + timedelta(seconds=(number + (chunk + 1) / self.chunks) * SEGMENT_SECONDS)

    async def _send_manifest(self, request: Request, writer: asyncio.StreamWriter) -> None:
        is_over = datetime.now(UTC) > self.made_at(len(self.segments) - 1, self.chunks)
        total_seconds = len(self.segments) * SEGMENT_SECONDS if is_over else None
        manifest = live_manifest(self.starts_at, chunks=self.chunks, total_seconds=total_seconds)
        writer.write(Answer(manifest).on_the_wire())
        await writer.drain()

    async def _send_segment(self, request: Request, writer: asyncio.StreamWriter) -> None:
        number = int(request.path.strip("/").split(".")[0])
        if datetime.now(UTC) < self.made_at(number, 0):
            writer.write(Answer(status=404).on_the_wire())
            return
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for chunk, media in enumerate(self.segments[number]):
            await asyncio.sleep((self.made_at(number, chunk) - datetime.now(UTC)).total_seconds())
            if gate := self.gates.get((number, chunk)):
                await gate.wait()
            self.sent.append((number, chunk))
            # as origins send them: the boxes of a chunk apart
            for piece in (media[: len(media) // 3], media[len(media) // 3 :]):
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
