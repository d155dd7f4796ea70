"""A benchmark of upscaled and encoded clips: reference clips, upscaling methods, rates, and computed quality labels."""

import csv
import itertools
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import imageio_ffmpeg  # type: ignore[import-untyped]
import numpy as np
import skimage.data  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import structural_similarity  # type: ignore[import-untyped]

from models.data.csv_scores import DataError
from models.data.upscalers import KERNELS, UPSCALING_NETWORKS, build_upscaler

Pixels = NDArray[np.uint8]
_FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
WIDTH, HEIGHT, FRAMES, FPS = 640, 360, 16, 25
_MEASURED_FRAMES = (2, 9, 15)
_CLIP_FILES = ("bigbuckbunny.mp4", "fire2.mp4", "bt709_full_range.mp4", "cockatoo.mp4", "sample_h265.ts", "chaplin.mp4")
_TIERS = ("easy", "moderate", "hard")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkConfig:
    """Contents of a benchmark: photos of scikit-image, upscaling methods, scales, H.264 CRFs; `steps` trains the
    networks."""

    photos: tuple[str, ...] = ("astronaut", "chelsea", "coffee", "rocket")
    methods: tuple[str, ...] = (*KERNELS, *UPSCALING_NETWORKS)
    scales: tuple[int, ...] = (2, 4)
    rates: tuple[int, ...] = (18, 30, 38)
    steps: int = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkClip:
    """One clip of the benchmark; `score` 0..1 combines the reference measures, see `quality_label`."""

    path: str
    score: float
    group: str
    scale: int
    method: str
    crf: int
    psnr: float
    ssim: float
    gmsd: float


def make_benchmark(folder: Path, config: BenchmarkConfig, *, clips: Path | None = None) -> Iterator[BenchmarkClip]:
    """Write the clips and `set.csv` into a folder; yields each clip when it is written.

    Contents are pans over the right halves of the photos, and those of the files in `_CLIP_FILES` that are in `clips`.
    The upscaling networks are trained on the left halves only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    photos = [_load_photo(name) for name in config.photos]
    pictures = [photo[:, : photo.shape[1] // 2] for photo in photos]
    upscalers = {
        (name, scale): build_upscaler(name, scale, pictures=pictures, steps=config.steps)
        for name, scale in itertools.product(config.methods, config.scales)
    }
    written = []
    for content, reference in _reference_contents(config, photos, clips):
        for (method, scale), upscale in upscalers.items():
            upscaled = np.stack([upscale(_downscale(frame, scale)) for frame in reference])
            for crf in config.rates:
                name = f"{content}-{method}-{scale}x-crf{crf}.mp4"
                _encode_clip(upscaled, folder / name, crf=crf)
                measures = measure_fidelity(
                    decode_clip(folder / name)[list(_MEASURED_FRAMES)], reference[list(_MEASURED_FRAMES)]
                )
                clip_entry = BenchmarkClip(
                    path=name, score=quality_label(*measures), group=content, scale=scale, method=method, crf=crf,
                    psnr=measures[0], ssim=measures[1], gmsd=measures[2],
                )  # fmt: skip
                written.append(clip_entry)
                yield clip_entry
    write_benchmark(folder / "set.csv", written)


def write_benchmark(file: Path, entries: Sequence[BenchmarkClip]) -> None:
    """Write a CSV that `csv_scores.read_scored_rows` can read too."""
    names = list(BenchmarkClip.__dataclass_fields__)
    with file.open("w", newline="") as out:
        table = csv.writer(out, lineterminator="\n")
        table.writerow(names)
        table.writerows([[getattr(entry, name) for name in names] for entry in entries])


def read_benchmark(file: Path) -> list[BenchmarkClip]:
    """Read what `write_benchmark` wrote."""
    kinds = {name: field.type for name, field in BenchmarkClip.__dataclass_fields__.items()}
    with file.open(newline="") as lines:
        return [
            BenchmarkClip(**{name: kinds[name](text) for name, text in row.items()}) for row in csv.DictReader(lines)
        ]  # type: ignore[operator,misc]


def quality_label(psnr: float, ssim: float, gmsd: float) -> float:
    """Mean of three measures, each scaled and clipped to 0..1: (PSNR - 20 dB) / 25 dB, SSIM, 1 - GMSD / 0.3."""
    parts = ((psnr - 20) / 25, ssim, 1 - gmsd / 0.3)
    return float(np.mean(np.clip(parts, 0, 1)))


def measure_fidelity(frames: Pixels, references: Pixels) -> tuple[float, float, float]:
    """(luma PSNR in dB, SSIM, GMSD) against the reference, means over frames (n, height, width, 3)."""
    rows = []
    for luma_frame, luma_reference in zip(luma(frames), luma(references), strict=True):
        error = float(((luma_frame - luma_reference) ** 2).mean())
        psnr = 10 * np.log10(255**2 / max(error, 1e-3))
        rows.append(
            (
                psnr,
                structural_similarity(luma_frame, luma_reference, data_range=255, gaussian_weights=True),
                gmsd(luma_frame, luma_reference),
            )
        )
    means = np.mean(rows, axis=0)
    return float(means[0]), float(means[1]), float(means[2])


def luma(frames: Pixels) -> NDArray[np.float64]:
    """BT.601 luma 0..255 of (n, height, width, 3)."""
    values: NDArray[np.float64] = frames @ np.array([0.299, 0.587, 0.114])
    return values


def gmsd(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Gradient magnitude similarity deviation, 0 = identical (Xue et al., IEEE TIP 23(2), 2014; T = 170 at 0..255)."""
    gradients = []
    for picture in (one, other):
        smaller = (picture[:-1:2, :-1:2] + picture[1::2, :-1:2] + picture[:-1:2, 1::2] + picture[1::2, 1::2]) / 4
        across = (
            sum(smaller[k : len(smaller) - 2 + k, 2:] - smaller[k : len(smaller) - 2 + k, :-2] for k in range(3)) / 3
        )
        down = (
            sum(
                smaller[2:, k : smaller.shape[1] - 2 + k] - smaller[:-2, k : smaller.shape[1] - 2 + k] for k in range(3)
            )
            / 3
        )
        gradients.append(np.hypot(across, down))
    similarity = (2 * gradients[0] * gradients[1] + 170) / (gradients[0] ** 2 + gradients[1] ** 2 + 170)
    return float(similarity.std())


def pairwise_accuracy(entries: Sequence[BenchmarkClip], scores: Sequence[float]) -> dict[str, tuple[float, int]]:
    """Tier -> (share of pairs that the scores order as the labels do, number of pairs); ties count half.

    Pairs share content and scale. Tiers are thirds of all pairs by label difference; the largest differences are easy.
    Raises ValueError for fewer than three pairs.
    """
    differences, correct = [], []
    for i, j in itertools.combinations(range(len(entries)), 2):
        first, second = entries[i], entries[j]
        if (first.group, first.scale) == (second.group, second.scale) and first.score != second.score:
            lead = (scores[i] - scores[j]) * np.sign(first.score - second.score)
            differences.append(abs(first.score - second.score))
            correct.append(float(np.heaviside(lead, 0.5)))
    if len(differences) < len(_TIERS):
        raise ValueError("too few pairs to compare: each content needs two clips or more at one scale")
    ranked = np.array(correct)[np.argsort(differences, kind="stable")[::-1]]
    thirds = zip(_TIERS, np.array_split(ranked, 3), strict=True)
    accuracy = {tier: (float(tier_pairs.mean()), len(tier_pairs)) for tier, tier_pairs in thirds}
    return {**accuracy, "all": (float(ranked.mean()), len(ranked))}


def _encode_clip(frames: Pixels, file: Path, *, crf: int) -> None:
    """Write frames (n, height, width, 3) as H.264 in MP4."""
    size = f"{frames.shape[2]}x{frames.shape[1]}"
    input_options = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(FPS), "-i", "-"]
    colour_options = (
        "-vf scale=out_color_matrix=bt709 -pix_fmt yuv420p -colorspace bt709 -color_primaries bt709 -color_trc bt709"
    )
    output_options = [*colour_options.split(), "-c:v", "libx264", "-crf", str(crf), "-threads", "1"]
    subprocess.run(
        [_FFMPEG, "-v", "error", "-y", *input_options, *output_options, str(file)], input=frames.tobytes(), check=True
    )


def decode_clip(file: Path) -> Pixels:
    """The first frames (n, height, width, 3) of a clip at the benchmark's size."""
    chain = f"scale={WIDTH}:{HEIGHT}:flags=bicubic+accurate_rnd+full_chroma_int"
    command = [_FFMPEG, "-v", "error", "-i", str(file), "-frames:v", str(FRAMES), "-vf", chain]
    raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], check=True, capture_output=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, HEIGHT, WIDTH, 3)


def _load_photo(name: str) -> Pixels:
    picture = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
    height = HEIGHT + 2 * FRAMES
    width = max(round(picture.width * height / picture.height), 2 * (WIDTH + 2 * FRAMES))
    return np.asarray(picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS))


def _reference_contents(
    config: BenchmarkConfig, photos: list[Pixels], clips: Path | None
) -> Iterator[tuple[str, Pixels]]:
    for name, photo in zip(config.photos, photos, strict=True):
        half = photo[:, photo.shape[1] // 2 :]
        yield name, np.stack([half[2 * n : 2 * n + HEIGHT, 2 * n : 2 * n + WIDTH] for n in range(FRAMES)])
    for file in _CLIP_FILES if clips else ():
        if clips and (clips / file).exists() and len(frames := decode_clip(clips / file)) == FRAMES:
            yield Path(file).stem, frames


def _downscale(frame: Pixels, scale: int) -> Pixels:
    small = Image.fromarray(frame).resize((WIDTH // scale, HEIGHT // scale), Image.Resampling.BICUBIC)
    return np.asarray(small)


def read_scores_by_scorer(file: Path) -> dict[str, dict[str, float]]:
    """Scorer -> file name of the clip -> score 0..100, from one CloudEvent per line. Raises DataError.

    A clip of several segments gets the mean of their scores.
    """
    scores: dict[str, dict[str, list[float]]] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            event = json.loads(line)["data"]
            name = Path(unquote(urlsplit(event["segment"]["url"]).path)).name
            for score in event.get("scores", ()):
                scores.setdefault(score["scorer"], {}).setdefault(name, []).append(float(score["value"]))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{file}, line {number}: not an event of `vqmon score --json`: {error!r}") from error
    return {
        scorer: {name: sum(values) / len(values) for name, values in clips.items()} for scorer, clips in scores.items()
    }


def format_accuracy_table(entries: Sequence[BenchmarkClip], scores: Mapping[str, Mapping[str, float]]) -> str:
    """A Markdown table of each scorer's pairwise accuracy by tier. Raises DataError when a clip has no score."""
    lines = ["| scorer | " + " | ".join([*_TIERS, "all"]) + " |", "|---" * 5 + "|"]
    for scorer, values in {**_bitrate_baseline(entries), **scores}.items():
        missing = [entry.path for entry in entries if entry.path not in values]
        if missing:
            raise DataError(f"{scorer}: {len(missing)} clips have no score, {missing[0]} among them; score them all")
        accuracy = pairwise_accuracy(entries, [values[entry.path] for entry in entries])
        cells = [f"{share:.1%}" for share, _ in (accuracy[tier] for tier in (*_TIERS, "all"))]
        lines.append(f"| {scorer} | " + " | ".join(cells) + " |")
    counts = pairwise_accuracy(entries, [0.0] * len(entries))
    lines.append("| pairs | " + " | ".join(f"{counts[tier][1]}" for tier in (*_TIERS, "all")) + " |")
    return "\n".join(lines)


def _bitrate_baseline(entries: Sequence[BenchmarkClip]) -> dict[str, dict[str, float]]:
    # A baseline that knows the rate and not the picture.
    return {"bitrate alone (CRF)": {entry.path: -float(entry.crf) for entry in entries}}
