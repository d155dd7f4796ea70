"""Makes the same content worse step by step: codecs at rising CRF, JPEG, scaling, blur, noise, sharpening, banding."""

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

# (ffmpeg's arguments, the knob, its values from good to bad)
Codec = tuple[list[str], str, tuple[int, ...]]
H26X = (20, 26, 32, 38, 44, 51)
CODECS: dict[str, Codec] = {
    "h264": (["-c:v", "libx264", "-preset", "veryfast"], "-crf", H26X),
    "hevc": (["-c:v", "libx265", "-preset", "superfast", "-x265-params", "log-level=0"], "-crf", H26X),
    "av1": (["-c:v", "libsvtav1", "-preset", "10", "-svtav1-params", "lp=1"], "-crf", (22, 32, 40, 48, 56, 63)),
    "mpeg2": (["-c:v", "mpeg2video"], "-qscale:v", (2, 5, 9, 14, 21, 31)),
}
STEPS = {
    "h264": (20, 27, 33, 38, 43, 47, 51),
    "hevc": (20, 27, 33, 38, 43, 47, 51),
    "av1": (22, 30, 37, 44, 51, 57, 63),
}
FINE: dict[str, Codec] = {name: (*CODECS[name][:2], values) for name, values in STEPS.items()}
KERNELS = (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.LANCZOS, Image.Resampling.NEAREST)
Random = np.random.Generator
# (content, kind, tiles of the rungs, best first)
Rungs = Iterator[tuple[str, str, list[Pixels]]]


def _ffmpeg(*arguments: str) -> bytes:
    """Standard output of ffmpeg, quiet, never reading the terminal; raises CalledProcessError."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *arguments]
    return subprocess.run(command, check=True, capture_output=True, timeout=300).stdout


def _clip(values: NDArray[np.floating]) -> Pixels:
    levels: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return levels


def jpeg(canvas: Pixels, _: Random) -> list[Pixels]:
    """JPEG at quality 70, 45, 25, 12, 5."""
    return [_through_jpeg(canvas, quality) for quality in (70, 45, 25, 12, 5)]


def _through_jpeg(canvas: Pixels, quality: int) -> Pixels:
    store = io.BytesIO()
    Image.fromarray(canvas).save(store, "JPEG", quality=quality)
    return np.asarray(Image.open(store).convert("RGB"))


def rescale(canvas: Pixels, random: Random) -> list[Pixels]:
    """Made smaller by 0.75 ... 0.15 and enlarged again, with kernels drawn at random."""
    down, up = (KERNELS[i] for i in random.integers((3, 4)))
    height, width = canvas.shape[:2]
    picture = Image.fromarray(canvas)
    small = [picture.resize((round(width * s), round(height * s)), down) for s in (0.75, 0.5, 0.33, 0.22, 0.15)]
    return [np.asarray(one.resize((width, height), up)) for one in small]


def blur(canvas: Pixels, random: Random) -> list[Pixels]:
    """Gaussian blur of standard deviation 0.7 ... 6 px."""
    scale = random.uniform(0.8, 1.25)
    picture = Image.fromarray(canvas)
    return [np.asarray(picture.filter(ImageFilter.GaussianBlur(s * scale))) for s in (0.7, 1.2, 2.0, 3.5, 6.0)]


def motion_blur(canvas: Pixels, random: Random) -> list[Pixels]:
    """A box blur of 3 ... 31 px along rows or columns."""
    axis = int(random.integers(2))
    return [_clip(uniform_filter1d(canvas.astype(np.float32), size, axis=axis)) for size in (3, 6, 11, 19, 31)]


def noise(canvas: Pixels, random: Random) -> list[Pixels]:
    """Gaussian noise of standard deviation 4 ... 48 levels; grey, coloured or softened by the drawn grain size."""
    channels, grain = int(random.choice((1, 3))), float(random.choice((0.0, 0.6)))
    pattern = random.standard_normal((*canvas.shape[:2], channels)).astype(np.float32)
    if grain:
        pattern = gaussian_filter(pattern, (grain, grain, 0))
    pattern /= pattern.std()
    return [_clip(canvas + sigma * pattern) for sigma in (4, 9, 16, 28, 48)]


def sharpen(canvas: Pixels, random: Random) -> list[Pixels]:
    """Unsharp mask of amount 1.5 ... 12, far beyond what a viewer likes."""
    picture = canvas.astype(np.float32)
    detail = picture - gaussian_filter(picture, (*(float(random.uniform(0.8, 2.0)),) * 2, 0))
    return [_clip(picture + amount * detail) for amount in (1.5, 3.0, 5.0, 8.0, 12.0)]


def banding(canvas: Pixels, _: Random) -> list[Pixels]:
    """Colours rounded to 40 ... 4 levels without dither."""
    return [_clip(np.rint(canvas / 255 * (n - 1)) / (n - 1) * 255) for n in (40, 24, 14, 8, 4)]


SYNTHETIC: dict[str, Callable[[Pixels, Random], list[Pixels]]] = {
    "jpeg": jpeg, "rescale": rescale, "blur": blur, "motion_blur": motion_blur, "noise": noise, "sharpen": sharpen,
    "banding": banding,
}  # fmt: skip


def synthetic_ladders(
    named: Iterator[tuple[str, Pixels]], *, kinds: int, seed: int
) -> Iterator[tuple[str, str, list[Pixels]]]:
    """For each (name, canvas): `kinds` ladders of drawn kinds, tiles best first, the clean picture at the top."""
    random = np.random.default_rng(seed)
    for name, canvas in named:
        for kind in random.choice(sorted(SYNTHETIC), kinds, replace=False):
            pictures = [canvas, *SYNTHETIC[kind](canvas, random)]
            yield name, str(kind), [cut_tiles(picture) for picture in pictures]


def photo_clip(photo: Path, *, side: int, frames: int, speed: int = 3) -> list[str]:
    """ffmpeg input arguments that pan over a photo scaled to `side` px, `speed` px a frame, so that frames differ."""
    inner = side * 9 // 10 // 2 * 2
    room = side - inner
    scale = f"scale={side}:{side}:flags=bicubic:force_original_aspect_ratio=increase"
    pan = f"{scale},crop={inner}:{inner}:'min(n*{speed},{room})':'min(n*{speed - speed // 3},{room})'"
    return ["-loop", "1", "-framerate", "25", "-i", str(photo), "-frames:v", str(frames), "-vf", pan]


def codec_ladder(source: list[str], codec: Codec, *, looks: tuple[int, ...]) -> list[list[Pixels]]:
    """Per look (frame number): the frame's tiles uncompressed, then through the codec at rising CRF."""
    arguments, knob, values = codec
    with tempfile.TemporaryDirectory() as room:
        clean = Path(room) / "clean.mkv"
        lossless = ["-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", "-threads", "1"]
        _ffmpeg(*source, "-an", "-sn", "-pix_fmt", "yuv420p", *lossless, str(clean))
        rungs = [_frames(clean, looks)]
        for value in values:
            coded = Path(room) / f"{value}.mkv"
            _ffmpeg("-i", str(clean), "-threads", "1", *arguments, knob, str(value), "-pix_fmt", "yuv420p", str(coded))
            rungs.append(_frames(coded, looks))
    return [[rung[number] for rung in rungs] for number in range(min(map(len, rungs)))]


def _frames(clip: Path, looks: tuple[int, ...]) -> list[Pixels]:
    """Tiles of the frames with these numbers, scaled by ffmpeg as the daemon's decoder scales them."""
    width, height = canvas_size(*next(imageio_ffmpeg.read_frames(str(clip)))["size"])
    wanted = "+".join(f"eq(n\\,{look})" for look in looks)
    chain = f"select={wanted},scale={width}:{height}:flags=bicubic+accurate_rnd+full_chroma_int"
    raw = _ffmpeg("-i", str(clip), "-vf", chain, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return [cut_tiles(frame) for frame in np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)]


def codec_ladders(
    sources: list[tuple[str, list[str]]], *, codecs: Mapping[str, Codec], looks: tuple[int, ...]
) -> Rungs:
    """For each (name, ffmpeg input arguments), codec and look: one ladder; a source that cannot be read is skipped."""
    tasks = [(name, source, codec) for name, source in sources for codec in codecs]
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(codec_ladder, source, codecs[codec], looks=looks) for _, source, codec in tasks]
        for (name, _, codec), answer in zip(tasks, answers, strict=True):
            try:
                ladders = answer.result()
            except subprocess.CalledProcessError:
                continue
            for tiles in ladders:
                yield name, codec, tiles
