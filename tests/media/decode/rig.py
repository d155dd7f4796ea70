"""A small moving clip and views for the tests of decoding."""

from pathlib import Path

import av.filter
import numpy as np
import pytest

from tests.media.clips import clip, x264
from vqmon.core.types import DecodedSegment, Sampling, View
from vqmon.errors import DecodeError
from vqmon.media.decode.pool import DecodeLimits, DecoderPool
from vqmon.media.decode.protocol import DecodeRequest, parse_answer
from vqmon.media.decode.worker import decode_segment
from vqmon.media.images.resampling import FrameResampler

SMALL = View(kind="stretch", width=64, height=36)


FIT = View(kind="fit", width=64, height=64, pad_rgb=(1, 2, 3))


TILES = View(kind="tiles", width=128, height=96, short_side=128, columns=4, rows=3)


def moving_clip(seconds: float = 3) -> bytes:
    return clip(*x264(), seconds=seconds)


async def refusal_reason(media: bytes, *, limits: DecodeLimits | None = None, **options: object) -> str:
    """The reason with which a pool refuses a segment."""
    async with DecoderPool(1, limits=limits) as pool:
        with pytest.raises(DecodeError) as caught:
            await pool.decode(media, views=[SMALL], **options)  # type: ignore[arg-type]
        assert caught.value.detail
        return caught.value.reason


def read_proc_file(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def decode_in_process(
    media: bytes,
    view: View,
    *,
    fps: float = 1.0,
    density: int = 1,
    from_seconds: float = 0.0,
    sampling: Sampling = "exact",
    measures: tuple[str, ...] = (),
    signals: tuple[str, ...] = (),
) -> DecodedSegment:
    """Decode in this process, with the answer encoded and parsed as between two processes."""
    request = DecodeRequest(
        views=(view,),
        signals=signals,
        fps=fps,
        density=density,
        from_seconds=from_seconds,
        sampling=sampling,
        measures=measures,
        limits=DecodeLimits(),
    )
    shared_memory = np.empty(200_000_000, np.uint8)
    collector, facts = decode_segment(media, request, shared_memory, FrameResampler(av.filter.Graph))
    return parse_answer(collector.answer(facts), b"".join(collector.thumbnails), shared_memory, request)
