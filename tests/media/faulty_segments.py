"""Segments of a panning photo, whole or with one fault planted, encoded as a stream would be."""

from functools import cache

import numpy as np

from tests.media.clips import ffmpeg, x264
from tests.media.images.pictures import photo

WIDTH, HEIGHT, FPS, SECONDS = 320, 180, 25, 4
MPEG2 = ("-c:v", "mpeg2video", "-q:v", "31", "-g", "25", "-bf", "2")

FILTERS = {
    "black": "lutyuv=y=16:u=128:v=128",
    "flicker": "lutyuv=y=val*0.85:enable='lt(mod(n,6),3)'",
    "shimmering": "noise=c0s=40:c0f=t",
    "banded": "gblur=6,lutyuv=y=floor(val/12)*12",
    "boxed": "scale=iw*0.7:ih*0.7,pad=iw/0.7:ih/0.7:(ow-iw)/2:(oh-ih)/2",
}


def segment(fault: str = "", *, number: int = 0) -> bytes:
    """The `number`-th segment of a pan of 20 pixels per second, back and forth, with one of the faults.

    frozen, flat (one colour with noise and a line of text), blocky, or a name in FILTERS.
    """
    count = SECONDS * FPS
    frames = [_panned((number * count + frame) * 20 / FPS) for frame in range(count)]
    if fault == "frozen":
        frames = frames[:1] * count
    elif fault == "flat":
        frames = [_flat_picture(seed) for seed in range(count)]
    options = MPEG2 if fault == "blocky" else x264("-crf", "35" if fault == "frozen" else "23", gop=50)
    chain = f"scale=in_range=tv:out_range=tv,format=yuv420p,{FILTERS.get(fault, 'null')}"
    source = ("-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS), "-i", "pipe:0")
    raw = b"".join(np.clip(np.rint(frame), 16, 235).astype(np.uint8).tobytes() for frame in frames)
    return ffmpeg(*source, "-vf", chain, *options, "-f", "mpegts", "-", source=raw)


@cache
def _photo() -> np.ndarray:
    return photo("coffee")


def _panned(pixels: float) -> np.ndarray:
    picture = _photo()
    left = round(abs((pixels + 300) % 600 - 300))
    return picture[90 : 90 + HEIGHT, left : left + WIDTH]


def _flat_picture(seed: int) -> np.ndarray:
    chance = np.random.default_rng(seed)
    picture = np.full((HEIGHT, WIDTH), 90.0) + chance.normal(0, 4, (HEIGHT, WIDTH))
    picture[90:98, 60:260] += np.random.default_rng(1).integers(0, 2, (8, 200)) * 120
    return picture
