"""Makes ladders of falling quality: codecs at rising CRF, JPEG, rescaling, blur, noise, sharpening, banding."""

import io
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter, uniform_filter1d  # type: ignore[import-untyped]

from models.data.photos import Pixels, canvas_size, cut_tiles

Codec = tuple[list[str], str, tuple[int, ...]]
"""(ffmpeg arguments, name of the quality option, its values from good to bad)."""
_H26X_CRFS = (20, 26, 32, 38, 44, 51)
CODECS: dict[str, Codec] = {
    "h264": (["-c:v", "libx264", "-preset", "veryfast"], "-crf", _H26X_CRFS),
    "hevc": (["-c:v", "libx265", "-preset", "superfast", "-x265-params", "log-level=0"], "-crf", _H26X_CRFS),
    "av1": (["-c:v", "libsvtav1", "-preset", "10", "-svtav1-params", "lp=1"], "-crf", (22, 32, 40, 48, 56, 63)),
    "mpeg2": (["-c:v", "mpeg2video"], "-qscale:v", (2, 5, 9, 14, 21, 31)),
}
_FINE_CRFS = {
    "h264": (20, 27, 33, 38, 43, 47, 51),
    "hevc": (20, 27, 33, 38, 43, 47, 51),
    "av1": (22, 30, 37, 44, 51, 57, 63),
}
FINE_CODECS: dict[str, Codec] = {name: (*CODECS[name][:2], values) for name, values in _FINE_CRFS.items()}
_RESIZE_KERNELS = (
    Image.Resampling.BICUBIC,
    Image.Resampling.BILINEAR,
    Image.Resampling.LANCZOS,
    Image.Resampling.NEAREST,
)
_Random = np.random.Generator
LadderTiles = Iterator[tuple[str, str, list[Pixels]]]
"""(content, kind, tiles of each rung, best first) of each ladder."""


def _ffmpeg(*arguments: str) -> bytes:
    """Run ffmpeg quietly, without terminal input, and return its standard output; raises CalledProcessError."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *arguments]
    return subprocess.run(command, check=True, capture_output=True, timeout=300).stdout


def _to_pixels(values: NDArray[np.floating]) -> Pixels:
    levels: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return levels


def _compress_jpeg(canvas: Pixels, _: _Random) -> list[Pixels]:
    """JPEG at quality 70, 45, 25, 12, 5."""
    return [_jpeg_round_trip(canvas, quality) for quality in (70, 45, 25, 12, 5)]


def _jpeg_round_trip(canvas: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def _rescale(canvas: Pixels, random: _Random) -> list[Pixels]:
    """Downscaled by 0.75 ... 0.15 and enlarged again, with randomly drawn kernels."""
    down, up = (_RESIZE_KERNELS[i] for i in random.integers((3, 4)))
    height, width = canvas.shape[:2]
    picture = Image.fromarray(canvas)
    small = [
        picture.resize((round(width * scale), round(height * scale)), down) for scale in (0.75, 0.5, 0.33, 0.22, 0.15)
    ]
    return [np.asarray(smaller.resize((width, height), up)) for smaller in small]


def _blur(canvas: Pixels, random: _Random) -> list[Pixels]:
    """Gaussian blur of standard deviation 0.7 ... 6 px."""
    scale = random.uniform(0.8, 1.25)
    picture = Image.fromarray(canvas)
    return [np.asarray(picture.filter(ImageFilter.GaussianBlur(s * scale))) for s in (0.7, 1.2, 2.0, 3.5, 6.0)]


def _motion_blur(canvas: Pixels, random: _Random) -> list[Pixels]:
    """Box blur of 3 ... 31 px along rows or along columns."""
    axis = int(random.integers(2))
    return [_to_pixels(uniform_filter1d(canvas.astype(np.float32), size, axis=axis)) for size in (3, 6, 11, 19, 31)]


def _add_noise(canvas: Pixels, random: _Random) -> list[Pixels]:
    """Gaussian noise of standard deviation 4 ... 48 levels: grey or coloured, and softened or not, as drawn."""
    channels, grain = int(random.choice((1, 3))), float(random.choice((0.0, 0.6)))
    pattern = random.standard_normal((*canvas.shape[:2], channels)).astype(np.float32)
    if grain:
        pattern = gaussian_filter(pattern, (grain, grain, 0))
    pattern /= pattern.std()
    return [_to_pixels(canvas + sigma * pattern) for sigma in (4, 9, 16, 28, 48)]


def _sharpen(canvas: Pixels, random: _Random) -> list[Pixels]:
    """Unsharp mask of amount 1.5 ... 12, far beyond what viewers like."""
    picture = canvas.astype(np.float32)
    detail = picture - gaussian_filter(picture, (*(float(random.uniform(0.8, 2.0)),) * 2, 0))
    return [_to_pixels(picture + amount * detail) for amount in (1.5, 3.0, 5.0, 8.0, 12.0)]


def _band(canvas: Pixels, _: _Random) -> list[Pixels]:
    """Colours quantised to 40 ... 4 levels without dither."""
    return [_to_pixels(np.rint(canvas / 255 * (n - 1)) / (n - 1) * 255) for n in (40, 24, 14, 8, 4)]


_DEGRADATIONS: dict[str, Callable[[Pixels, _Random], list[Pixels]]] = {
    "jpeg": _compress_jpeg,
    "rescale": _rescale,
    "blur": _blur,
    "motion_blur": _motion_blur,
    "noise": _add_noise,
    "sharpen": _sharpen,
    "banding": _band,
}


def synthetic_ladders(
    pictures_by_name: Iterator[tuple[str, Pixels]], *, kinds: int, seed: int
) -> Iterator[tuple[str, str, list[Pixels]]]:
    """For each (name, canvas), `kinds` ladders of randomly drawn kinds: (name, kind, tiles), best first, the clean
    picture at the top."""
    random = np.random.default_rng(seed)
    for name, canvas in pictures_by_name:
        for kind in random.choice(sorted(_DEGRADATIONS), kinds, replace=False):
            rungs = [canvas, *_DEGRADATIONS[kind](canvas, random)]
            yield name, str(kind), [cut_tiles(picture) for picture in rungs]


def pan_over_photo(photo: Path, *, side: int, frames: int, speed: int = 3) -> list[str]:
    """ffmpeg input arguments for a pan over a photo scaled to `side` px, moving `speed` px per frame."""
    window = side * 9 // 10 // 2 * 2
    room = side - window
    scale = f"scale={side}:{side}:flags=bicubic:force_original_aspect_ratio=increase"
    pan = f"{scale},crop={window}:{window}:'min(n*{speed},{room})':'min(n*{speed - speed // 3},{room})'"
    return ["-loop", "1", "-framerate", "25", "-i", str(photo), "-frames:v", str(frames), "-vf", pan]


def _encode_ladder(source: list[str], codec: Codec, *, frame_numbers: tuple[int, ...]) -> list[list[Pixels]]:
    """One ladder per frame number: the frame's tiles uncompressed, then encoded at rising CRF."""
    arguments, option, values = codec
    with tempfile.TemporaryDirectory() as folder:
        clean = Path(folder) / "clean.mkv"
        lossless = ["-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", "-threads", "1"]
        _ffmpeg(*source, "-an", "-sn", "-pix_fmt", "yuv420p", *lossless, str(clean))
        rungs = [_decode_tiles(clean, frame_numbers)]
        for value in values:
            encoded = Path(folder) / f"{value}.mkv"
            _ffmpeg(
                "-i", str(clean), "-threads", "1", *arguments, option, str(value), "-pix_fmt", "yuv420p", str(encoded)
            )
            rungs.append(_decode_tiles(encoded, frame_numbers))
    return [[rung[number] for rung in rungs] for number in range(min(map(len, rungs)))]


def _decode_tiles(clip: Path, frame_numbers: tuple[int, ...]) -> list[Pixels]:
    """Tiles of the frames with these numbers, scaled by ffmpeg as the daemon's decoder scales them."""
    width, height = canvas_size(*next(imageio_ffmpeg.read_frames(str(clip)))["size"])
    selection = "+".join(f"eq(n\\,{number})" for number in frame_numbers)
    chain = f"select={selection},scale={width}:{height}:flags=bicubic+accurate_rnd+full_chroma_int"
    raw = _ffmpeg("-i", str(clip), "-vf", chain, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return [cut_tiles(frame) for frame in np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)]


def codec_ladders(
    sources: list[tuple[str, list[str]]], *, codecs: Mapping[str, Codec], frame_numbers: tuple[int, ...]
) -> LadderTiles:
    """A ladder for each (name, ffmpeg input arguments), codec and frame number; sources that cannot be read are
    skipped."""
    tasks = [(name, source, codec) for name, source in sources for codec in codecs]
    with ThreadPoolExecutor(2) as pool:
        futures = [
            pool.submit(_encode_ladder, source, codecs[codec], frame_numbers=frame_numbers)
            for _, source, codec in tasks
        ]
        for (name, _, codec), future in zip(tasks, futures, strict=True):
            try:
                ladders = future.result()
            except subprocess.CalledProcessError:
                continue
            for tiles in ladders:
                yield name, codec, tiles
