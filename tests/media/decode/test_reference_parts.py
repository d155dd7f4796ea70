"""The values against a part of a reference are those against all of it."""

from functools import partial
from typing import Any

import av
import av.filter
import numpy as np
import pytest

from tests.media.clips import clip, x264
from tests.media.decode.rig import SMALL
from vqmon.media.decode import worker
from vqmon.media.decode.protocol import DecodeLimits, DecodeRequest
from vqmon.media.images.resampling import FrameResampler
from vqmon.media.reference.comparison import ReferenceRequest
from vqmon.media.reference.sides import ReferenceTools

FILM = "mandelbrot=size={size}:rate={rate}:end_scale=0.02:end_pts=250,trim=duration={seconds}"
REFERENCES = {
    "pyramid": (x264("-crf", "10", "-x264-params", "b-pyramid=normal:b-adapt=0", bframes=7, gop=50), "mp4"),
    "open groups": (x264("-crf", "10", "-x264-params", "open-gop=1:b-adapt=0", bframes=3, gop=20), "mpegts"),
    "hevc": (("-c:v", "libx265", "-preset", "ultrafast", "-crf", "10", "-x265-params", "bframes=3:log-level=0"), "mp4"),
    "mpeg2": (("-c:v", "mpeg2video", "-q:v", "2", "-bf", "2"), "mpegts"),
}


def compare(segment: bytes, reference: bytes) -> dict[str, Any]:
    """What the worker answers about a reference, but the confidence, which is of all frames that were read."""
    request = DecodeRequest(
        views=(SMALL,),
        signals=(),
        limits=DecodeLimits(),
        reference=ReferenceRequest(measures=("psnr", "ssim", "xpsnr")),
        reference_bytes=len(reference),
    )
    tools = ReferenceTools(
        FrameResampler(av.filter.Graph),
        new_graph=av.filter.Graph,
        frame_from_rgb=partial(av.VideoFrame.from_ndarray, format="rgb24"),
    )
    answer, _ = worker._answer_request(segment + reference, request, np.empty(100_000_000, np.uint8), tools)
    return {name: value for name, value in answer["reference"].items() if name != "confidence"}


@pytest.mark.parametrize("name", REFERENCES)
def test_a_part_of_a_reference_gives_the_values_of_all_of_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where some of the pictures from which no other is predicted are left out."""
    options, container = REFERENCES[name]
    segment = clip(*x264("-crf", "32"), size="256x144", seconds=4, source=FILM)
    reference = clip(*options, size="256x144", seconds=4, source=FILM, container=container)
    read: list[int] = []
    choose = worker.choose_frames

    def note(*arguments: Any, **options: Any) -> list[int]:
        read.extend(choose(*arguments, **options))
        return read

    monkeypatch.setattr(worker, "choose_frames", note)
    by_part = compare(segment, reference)
    assert 10 < len(read) < 85
    monkeypatch.setattr(worker, "select_part", lambda *_, **__: None)
    by_whole = compare(segment, reference)
    assert by_part == by_whole
    assert by_part["measures"]["psnr"]["values"]
