"""Which contents the ladders of degradations are made from, and which clips are kept for measuring only."""

import tempfile
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from models.data.ladders import CODECS, FINE, Rungs, codec_ladders, photo_clip, synthetic_ladders
from models.data.photos import read_scores, split_validation, to_canvas
from models.train.lite import Plan

HELD_OUT = ("bikes", "nasa_13013", "cockatoo", "portrait_4k60")
CLIPS = (
    "bigbuckbunny.mp4", "bt709_full_range.mp4", "carphone_pristine.mp4", "chaplin.mp4", "fire2.mp4", "h264_10bits.mp4",
    "sample_h265.ts", "sample_with_increasing_timestamps.mp4", "av1_video.mkv",
)  # fmt: skip
RESIZED = (
    ("bigbuckbunny.mp4", 1, "640:360"), ("fire2.mp4", 1, "854:480"), ("bt709_full_range.mp4", 0, "426:240"),
    ("bigbuckbunny.mp4", 1, "1920:1080"), ("fire2.mp4", 1, "1920:1080"),
)  # fmt: skip
SMALL = (
    ("bigbuckbunny.mp4", 2, "320:180"), ("bigbuckbunny.mp4", 3, "480:270"), ("fire2.mp4", 0, "320:180"),
    ("fire2.mp4", 1, "640:360"), ("chaplin.mp4", 2, "320:180"), ("chaplin.mp4", 4, "480:270"),
    ("bt709_full_range.mp4", 0, "320:180"), ("sample_h265.ts", 0, "426:240"),
)  # fmt: skip
BUNDLED = {"astronaut": 540, "coffee": 720, "chelsea": 540, "rocket": 540}
SIDES = (512, 512, 512, 1024, 768)
SMALL_SIDES = (180, 240, 270, 360, 480)
BEST, CODED, CODED_SMALL, DEGRADED, KINDS = 1500, 90, 110, 320, 3
PLAIN, PLAIN_SIDES = 47, (200, 300, 400, 500, 600, 720)
PICK_SEED, SMALL_SEED, DEGRADE_SEED, PLAIN_SEED = 3, 5, 7, 11


def best_photos(biq2021: Path, *, plan: Plan) -> list[str]:
    """File names of the best-rated photos to fit on; no photo of the validation rows or of the test split."""
    rows = read_scores(biq2021, "train")
    fit, _ = split_validation(len(rows), plan.validation, seed=plan.seed)
    return [rows[index][0] for index in sorted(fit, key=lambda index: -rows[index][1])[:BEST]]


def clip_sources(clips: Path) -> list[tuple[str, list[str]]]:
    """(name, ffmpeg input arguments) of the clips to train on, at their size and at others."""
    found = [(name, ["-i", str(clips / name), "-frames:v", "20"]) for name in CLIPS]
    return [(name, source) for name, source in [*found, *_resized(clips, RESIZED)] if (clips / name).exists()]


def _resized(clips: Path, sizes: tuple[tuple[str, int, str], ...]) -> list[tuple[str, list[str]]]:
    return [
        (name, ["-ss", str(at), "-i", str(clips / name), "-frames:v", "20", "-vf", f"scale={size}:flags=bicubic"])
        for name, at, size in sizes
    ]


def all_rungs(biq2021: Path, clips: Path | None, *, plan: Plan) -> Rungs:
    """Every ladder: synthetic kinds on photos; codecs on clips and on photos that are panned over; the same, small."""
    photos = {path.name.lower(): path for path in (biq2021 / "Images").iterdir()}
    best = [photos[name.lower()] for name in best_photos(biq2021, plan=plan)]
    random = np.random.default_rng(PICK_SEED)
    coded, degraded = (random.choice(len(best), count, replace=False) for count in (CODED, DEGRADED))
    canvases = ((best[index].name, to_canvas(Image.open(best[index]))) for index in degraded)
    yield from synthetic_ladders(canvases, kinds=KINDS, seed=DEGRADE_SEED)
    if clips is not None:
        yield from codec_ladders(clip_sources(clips), codecs=CODECS, looks=(4, 9, 18))
    with tempfile.TemporaryDirectory() as room:
        pans = [(best[index], SIDES[n % len(SIDES)]) for n, index in enumerate(coded)]
        panned = [(path.name, photo_clip(path, side=side, frames=10)) for path, side in pans]
        yield from codec_ladders([*_bundled(Path(room)), *panned], codecs=CODECS, looks=(8,))
    yield from small_rungs(best, clips)
    yield from plain_rungs(biq2021, photos, plan=plan)


def plain_rungs(biq2021: Path, photos: dict[str, Path], *, plan: Plan) -> Rungs:
    """Codec ladders in finer steps of photos of any rating: a poor source must not look better for being blocky."""
    rows = read_scores(biq2021, "train")
    fit, _ = split_validation(len(rows), plan.validation, seed=plan.seed)
    sources = []
    for number, index in enumerate(np.random.default_rng(PLAIN_SEED).choice(fit, PLAIN, replace=False)):
        path, side = photos[rows[index][0].lower()], PLAIN_SIDES[number % len(PLAIN_SIDES)]
        sources.append((path.name, photo_clip(path, side=side, frames=26, speed=number % 4)))
    yield from codec_ladders(sources, codecs=FINE, looks=(10, 24))


def small_rungs(best: list[Path], clips: Path | None) -> Rungs:
    """Codec ladders of pictures of 180..480 lines, as the low renditions of a stream are."""
    chosen = np.random.default_rng(SMALL_SEED).choice(len(best), CODED_SMALL, replace=False)
    sources = []
    for number, index in enumerate(chosen):
        side = SMALL_SIDES[number % len(SMALL_SIDES)]
        pan = photo_clip(best[index], side=side, frames=22, speed=number % 4)
        sources.append((best[index].name, pan))
    if clips is not None:
        sources = [*_resized(clips, SMALL), *sources]
    yield from codec_ladders(sources, codecs={name: CODECS[name] for name in FINE}, looks=(8, 20))


def _bundled(room: Path) -> list[tuple[str, list[str]]]:
    """scikit-image's own photos, panned over."""
    found = []
    for name, side in BUNDLED.items():
        path = room / f"{name}.png"
        Image.fromarray(getattr(skimage.data, name)()).save(path)
        found.append((name, photo_clip(path, side=side, frames=10)))
    return found
