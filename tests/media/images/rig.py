"""Small media with known frames, decoded in this process."""

from pathlib import Path

import av.filter
import numpy as np

from tests.media.clips import clip, pictures_by_ffmpeg, times_by_ffmpeg, x264
from vqmon.core.types import DecodedSegment, Pixels, View
from vqmon.media.decode.protocol import DecodeRequest, parse_answer
from vqmon.media.decode.worker import decode_segment
from vqmon.media.images.resampling import FrameResampler

SEED = 7


DROP_FRAMES = "select='lt(n\\,20)+gt(n\\,70)'"


MEDIA = {
    "h264": clip(*x264(), seconds=2.4),
    "open-gop": clip(*x264("-x264-params", "open-gop=1:b-adapt=0", bframes=3, gop=20), seconds=2.4),
    "decoded-in-full": clip(*x264("-x264-params", "intra-refresh=1", gop=20, bframes=0), seconds=2.4),
    "variable-rate": clip(
        *x264("-vf", "select='not(mod(n\\,7))+lt(n\\,20)'", "-fps_mode", "vfr"), seconds=4, container="mp4"
    ),
    "gap": clip(*x264("-vf", DROP_FRAMES, "-fps_mode", "vfr"), seconds=4, container="mp4"),
    "odd-size": clip(
        *x264(), "-vf", "scale=321:241,setsar=1,format=yuv444p", "-pix_fmt", "yuv444p", seconds=1.5, container="mp4"
    ),
    "short": clip(*x264(), seconds=0.2),
    "one-frame": clip(*x264(), seconds=0.04),
    "60-fps": clip(*x264(gop=60), rate="60", seconds=1.5),
}


def decode_in_process(
    media: bytes, *views: View, memory_bytes: int = 200_000_000, signals: tuple[str, ...] = ()
) -> DecodedSegment:
    """Decode in this process, with the answer encoded and parsed as between two processes."""
    request = DecodeRequest(views=views, signals=signals, seed=SEED)
    request = DecodeRequest.from_dict(request.to_dict())
    shared_memory = np.full(memory_bytes, 99, np.uint8)
    collector, facts = decode_segment(media, request, shared_memory, FrameResampler(av.filter.Graph))
    return parse_answer(collector.answer(facts), b"", shared_memory, request)


def frames_by_ffmpeg(media: bytes, folder: Path) -> tuple[list[float], Pixels]:
    """Times and pictures of all frames that ffmpeg outputs."""
    path = folder / "media.bin"
    path.write_bytes(media)
    times = times_by_ffmpeg(path)
    return times, np.stack(pictures_by_ffmpeg(path, range(len(times))))
