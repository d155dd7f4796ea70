"""A benchmark of upscaled and encoded clips that makes itself: clean clips, ways to enlarge them, rates, and labels."""

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
from models.data.upscalers import KERNELS, TASTES, upscaler

Pixels = NDArray[np.uint8]
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
WIDTH, HEIGHT, FRAMES, FPS = 640, 360, 16, 25
LOOKS = (2, 9, 15)
CLIPS = ("bigbuckbunny.mp4", "fire2.mp4", "bt709_full_range.mp4", "cockatoo.mp4", "sample_h265.ts", "chaplin.mp4")
TIERS = ("easy", "moderate", "hard")


@dataclass(frozen=True, slots=True, kw_only=True)
class SrPlan:
    """What goes into a set: photos of scikit-image, ways to enlarge, scales, H.264 CRFs, steps of the networks."""

    photos: tuple[str, ...] = ("astronaut", "chelsea", "coffee", "rocket")
    methods: tuple[str, ...] = (*KERNELS, *TASTES)
    scales: tuple[int, ...] = (2, 4)
    rates: tuple[int, ...] = (18, 30, 38)
    steps: int = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One clip of the set; `score` 0..1 joins the reference measures, see `label_of`."""

    path: str
    score: float
    group: str
    scale: int
    method: str
    crf: int
    psnr: float
    ssim: float
    gmsd: float


def make(folder: Path, plan: SrPlan, *, clips: Path | None = None) -> Iterator[Entry]:
    """Write the clips and `set.csv` into a folder; yields each entry when its clip is there.

    Contents are pans over the right halves of the photos, and clips of CLIPS when there are any; networks
    learn from the left halves only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    photos = [_photo(name) for name in plan.photos]
    pictures = [photo[:, : photo.shape[1] // 2] for photo in photos]
    ways = {
        (name, scale): upscaler(name, scale, pictures=pictures, steps=plan.steps)
        for name, scale in itertools.product(plan.methods, plan.scales)
    }
    entries = []
    for content, clean in _contents(plan, photos, clips):
        for (method, scale), enlarge in ways.items():
            large = np.stack([enlarge(_shrunk(frame, scale)) for frame in clean])
            for crf in plan.rates:
                name = f"{content}-{method}-{scale}x-crf{crf}.mp4"
                encode(large, folder / name, crf=crf)
                measured = measures(decode(folder / name)[list(LOOKS)], clean[list(LOOKS)])
                entry = Entry(
                    path=name, score=label_of(*measured), group=content, scale=scale, method=method, crf=crf,
                    psnr=measured[0], ssim=measured[1], gmsd=measured[2],
                )  # fmt: skip
                entries.append(entry)
                yield entry
    write_set(folder / "set.csv", entries)


def write_set(file: Path, entries: Sequence[Entry]) -> None:
    """A CSV that `scored.read_rows` reads too."""
    names = list(Entry.__dataclass_fields__)
    with file.open("w", newline="") as out:
        table = csv.writer(out, lineterminator="\n")
        table.writerow(names)
        table.writerows([[getattr(entry, name) for name in names] for entry in entries])


def read_set(file: Path) -> list[Entry]:
    """What `write_set` wrote."""
    kinds = {name: field.type for name, field in Entry.__dataclass_fields__.items()}
    with file.open(newline="") as lines:
        return [Entry(**{name: kinds[name](text) for name, text in row.items()}) for row in csv.DictReader(lines)]  # type: ignore[operator,misc]


def label_of(psnr: float, ssim: float, gmsd: float) -> float:
    """The mean of three measures, each brought to 0..1: (PSNR - 20 dB) / 25 dB, SSIM, 1 - GMSD / 0.3."""
    parts = ((psnr - 20) / 25, ssim, 1 - gmsd / 0.3)
    return float(np.mean(np.clip(parts, 0, 1)))


def measures(seen: Pixels, clean: Pixels) -> tuple[float, float, float]:
    """Means over frames (n, height, width, 3) of luma PSNR in dB, SSIM and GMSD against the clean ones."""
    rows = []
    for one, other in zip(luma(seen), luma(clean), strict=True):
        error = float(((one - other) ** 2).mean())
        psnr = 10 * np.log10(255**2 / max(error, 1e-3))
        rows.append((psnr, structural_similarity(one, other, data_range=255, gaussian_weights=True), gmsd(one, other)))
    means = np.mean(rows, axis=0)
    return float(means[0]), float(means[1]), float(means[2])


def luma(frames: Pixels) -> NDArray[np.float64]:
    """BT.601 luma 0..255 of (n, height, width, 3)."""
    found: NDArray[np.float64] = frames @ np.array([0.299, 0.587, 0.114])
    return found


def gmsd(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Gradient magnitude similarity deviation, 0 = alike (Xue et al., IEEE TIP 23(2), 2014; T = 170 at 0..255)."""
    gradients = []
    for picture in (one, other):
        half = (picture[:-1:2, :-1:2] + picture[1::2, :-1:2] + picture[:-1:2, 1::2] + picture[1::2, 1::2]) / 4
        across = sum(half[k : len(half) - 2 + k, 2:] - half[k : len(half) - 2 + k, :-2] for k in range(3)) / 3
        down = sum(half[2:, k : half.shape[1] - 2 + k] - half[:-2, k : half.shape[1] - 2 + k] for k in range(3)) / 3
        gradients.append(np.hypot(across, down))
    similar = (2 * gradients[0] * gradients[1] + 170) / (gradients[0] ** 2 + gradients[1] ** 2 + 170)
    return float(similar.std())


def order_accuracy(entries: Sequence[Entry], scores: Sequence[float]) -> dict[str, tuple[float, int]]:
    """Tier -> (share of pairs that a scorer puts in the order of the labels, number of pairs); ties count half.

    Pairs share content and scale. Tiers are thirds of all pairs by how far labels are apart: the farthest are easy.
    """
    apart, right = [], []
    for i, j in itertools.combinations(range(len(entries)), 2):
        one, other = entries[i], entries[j]
        if (one.group, one.scale) == (other.group, other.scale) and one.score != other.score:
            lead = (scores[i] - scores[j]) * np.sign(one.score - other.score)
            apart.append(abs(one.score - other.score))
            right.append(float(np.heaviside(lead, 0.5)))
    if len(apart) < len(TIERS):
        raise ValueError("too few pairs to compare: a content needs two clips or more at one scale")
    ranked = np.array(right)[np.argsort(apart, kind="stable")[::-1]]
    thirds = zip(TIERS, np.array_split(ranked, 3), strict=True)
    found = {tier: (float(part.mean()), len(part)) for tier, part in thirds}
    return {**found, "all": (float(ranked.mean()), len(ranked))}


def encode(frames: Pixels, file: Path, *, crf: int) -> None:
    """Write (n, height, width, 3) as H.264 in MP4."""
    size = f"{frames.shape[2]}x{frames.shape[1]}"
    given = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(FPS), "-i", "-"]
    matrix = (
        "-vf scale=out_color_matrix=bt709 -pix_fmt yuv420p -colorspace bt709 -color_primaries bt709 -color_trc bt709"
    )
    coded = [*matrix.split(), "-c:v", "libx264", "-crf", str(crf), "-threads", "1"]
    subprocess.run([FFMPEG, "-v", "error", "-y", *given, *coded, str(file)], input=frames.tobytes(), check=True)


def decode(file: Path) -> Pixels:
    """All frames (n, height, width, 3) of a clip of the set, or any clip, at the set's size."""
    chain = f"scale={WIDTH}:{HEIGHT}:flags=bicubic+accurate_rnd+full_chroma_int"
    command = [FFMPEG, "-v", "error", "-i", str(file), "-frames:v", str(FRAMES), "-vf", chain]
    raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], check=True, capture_output=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, HEIGHT, WIDTH, 3)


def _photo(name: str) -> Pixels:
    picture = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
    height = HEIGHT + 2 * FRAMES
    width = max(round(picture.width * height / picture.height), 2 * (WIDTH + 2 * FRAMES))
    return np.asarray(picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS))


def _contents(plan: SrPlan, photos: list[Pixels], clips: Path | None) -> Iterator[tuple[str, Pixels]]:
    for name, photo in zip(plan.photos, photos, strict=True):
        half = photo[:, photo.shape[1] // 2 :]
        yield name, np.stack([half[2 * n : 2 * n + HEIGHT, 2 * n : 2 * n + WIDTH] for n in range(FRAMES)])
    for file in CLIPS if clips else ():
        if clips and (clips / file).exists() and len(frames := decode(clips / file)) == FRAMES:
            yield Path(file).stem, frames


def _shrunk(frame: Pixels, scale: int) -> Pixels:
    small = Image.fromarray(frame).resize((WIDTH // scale, HEIGHT // scale), Image.Resampling.BICUBIC)
    return np.asarray(small)


def read_events(file: Path) -> dict[str, dict[str, float]]:
    """Scorer -> file name of the clip -> score 0..100, from one CloudEvent per line. Raises DataError.

    A clip of several segments has the mean of them.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            told = json.loads(line)["data"]
            name = Path(unquote(urlsplit(told["segment"]["url"]).path)).name
            for score in told.get("scores", ()):
                found.setdefault(score["scorer"], {}).setdefault(name, []).append(float(score["value"]))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{file}, line {number}: is no event of `vqmon score --json`: {error!r}") from error
    return {
        scorer: {name: sum(values) / len(values) for name, values in clips.items()} for scorer, clips in found.items()
    }


def table(entries: Sequence[Entry], scores: Mapping[str, Mapping[str, float]]) -> str:
    """A Markdown table: how often each scorer puts two clips of one content in the order of the labels."""
    lines = ["| scorer | " + " | ".join([*TIERS, "all"]) + " |", "|---" * 5 + "|"]
    for scorer, values in {**_references(entries), **scores}.items():
        missing = [entry.path for entry in entries if entry.path not in values]
        if missing:
            raise DataError(f"{scorer}: {len(missing)} clips have no score, {missing[0]} among them; score them all")
        found = order_accuracy(entries, [values[entry.path] for entry in entries])
        cells = [f"{share:.1%}" for share, _ in (found[tier] for tier in (*TIERS, "all"))]
        lines.append(f"| {scorer} | " + " | ".join(cells) + " |")
    counts = order_accuracy(entries, [0.0] * len(entries))
    lines.append("| pairs | " + " | ".join(f"{counts[tier][1]}" for tier in (*TIERS, "all")) + " |")
    return "\n".join(lines)


def _references(entries: Sequence[Entry]) -> dict[str, dict[str, float]]:
    # What knows only the rate, as a baseline for all that look at the picture.
    return {"bitrate alone (CRF)": {entry.path: -float(entry.crf) for entry in entries}}
