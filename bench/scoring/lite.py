"""Measures lite@1: milliseconds per picture, correlation with human scores, and the order of encodes with three codecs.

python bench/scoring/lite.py [--biq2021 FOLDER] [--clips FOLDER]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from models.data.photos import canvas_size, cut_tiles, lay_out_tiles, mosaic, read_scores  # noqa: E402
from vqmon.scoring.manifests.frame_scorer import load_frame_spec  # noqa: E402

MODEL = ROOT / "models" / "built" / "lite@1.onnx"
# Never trained on: they are not among the clips of models/train/lite.py.
HELD_OUT = ("bikes.mp4", "nasa_13013.mp4", "cockatoo.mp4", "portrait_4k60.mp4")
CODECS: dict[str, tuple[list[str], tuple[int, ...]]] = {
    "h264": (["-c:v", "libx264", "-preset", "veryfast"], (18, 23, 28, 33, 38, 43, 48)),
    "hevc": (["-c:v", "libx265", "-preset", "superfast", "-x265-params", "log-level=0"], (18, 23, 28, 33, 38, 43, 48)),
    "av1": (["-c:v", "libsvtav1", "-preset", "10"], (20, 27, 34, 41, 48, 55, 62)),
}
FRAMES, EVERY = 48, 8
BATCH = 16
Scorer = Callable[[NDArray[np.uint8]], NDArray[np.float64]]


def load(threads: int) -> Scorer:
    """A function from pictures (n, 288, 512, 3) uint8 RGB to native scores (n,), on the CPU."""
    spec = load_frame_spec(MODEL.with_suffix(".json"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(MODEL), options, providers=["CPUExecutionProvider"])
    mean, std = (np.array(values, np.float32) for values in (spec.input.mean, spec.input.std))

    def score(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        parts = []
        for start in range(0, len(pictures), BATCH):
            scaled = (pictures[start : start + BATCH].astype(np.float32) / 255 - mean) / std
            array = np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
            parts.append(session.run([spec.output.name], {spec.input.name: array})[0].astype(np.float64))
        return np.concatenate(parts)

    return score


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's rank correlation; equal values share their mean rank."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks


def print_speed(rounds: int = 60) -> None:
    """Print median and fastest milliseconds per picture, batch 1, normalisation included."""
    picture = np.random.default_rng(0).integers(0, 256, (1, 288, 512, 3)).astype(np.uint8)
    for threads in (2, 1):
        score, milliseconds = load(threads), []
        for _ in range(rounds):
            start = time.perf_counter()
            score(picture)
            milliseconds.append((time.perf_counter() - start) * 1000)
        median, fastest = float(np.median(milliseconds)), min(milliseconds)
        print(f"speed      {threads} thread(s)   median {median:6.1f} ms   fastest {fastest:6.1f} ms per picture")


def print_correlation(folder: Path | None) -> None:
    """Print SRCC and PLCC on the official test split, which no training run has used."""
    if folder is None or not folder.is_dir():
        print("BIQ2021    not measured: clone nisarahmedrana/BIQ2021 from GitHub and name the folder in VQMON_BIQ2021")
        return
    score, files = load(2), {path.name.lower(): path for path in (folder / "Images").iterdir()}
    rows = read_scores(folder, "test")
    pictures = (mosaic(Image.open(files[name.lower()])) for name, _ in rows)
    scores = np.concatenate([score(picture[None]) for picture in pictures])
    human = np.array([value for _, value in rows])
    srcc, plcc = spearman(scores, human), float(np.corrcoef(scores, human)[0, 1])
    rmse = float(np.sqrt(np.mean((scores - human) ** 2)))
    print(f"BIQ2021    test split, {len(rows)} photos   SRCC {srcc:.4f}   PLCC {plcc:.4f}   RMSE {rmse:.4f}")


def read_mosaics(clip: Path) -> NDArray[np.uint8]:
    """The mosaics (n, 288, 512, 3) of every eighth frame of a clip."""
    width, height = canvas_size(*next(imageio_ffmpeg.read_frames(str(clip)))["size"])
    chain = f"select=not(mod(n\\,{EVERY})),scale={width}:{height}:flags=bicubic+accurate_rnd+full_chroma_int"
    raw = ffmpeg("-i", str(clip), "-vf", chain, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.stack(
        [lay_out_tiles(cut_tiles(frame)) for frame in np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)]
    )


def ffmpeg(*arguments: str) -> bytes:
    """Run ffmpeg quietly and return its standard output."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *arguments]
    return subprocess.run(command, check=True, capture_output=True, timeout=600).stdout


def print_order(folder: Path) -> None:
    """Print Spearman's correlation of mean score and CRF per held-out clip and codec; -1 is a perfect order."""
    clips = [folder / name for name in HELD_OUT if (folder / name).exists()]
    if not clips:
        print(f"order      not measured: none of {', '.join(HELD_OUT)} in the folder of clips (--clips)")
        return
    score, calibrate = load(2), load_frame_spec(MODEL.with_suffix(".json")).calibration.apply
    for codec, (arguments, crfs) in CODECS.items():
        correlations = []
        for clip in clips:
            means = [_score_encoded(clip, [*arguments, "-crf", str(crf)], score=score) for crf in crfs]
            correlations.append(spearman(np.array(means), np.array(crfs, float)))
            steps = " ".join(f"{calibrate(mean):3.0f}" for mean in means)
            span = f"CRF {crfs[0]}..{crfs[-1]}"
            print(f"order      {codec:5} {clip.stem:14} Spearman {correlations[-1]:+.3f}   {span}: {steps} of 100")
        print(f"order      {codec:5} mean of {len(correlations)} clips  Spearman {np.mean(correlations):+.3f}")


def _score_encoded(clip: Path, codec: list[str], *, score: Scorer) -> float:
    with tempfile.TemporaryDirectory() as folder:
        encoded = Path(folder) / "coded.mkv"
        ffmpeg("-i", str(clip), "-map", "0:v:0", "-frames:v", str(FRAMES), *codec, "-pix_fmt", "yuv420p", str(encoded))
        return float(score(read_mosaics(encoded)).mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default_folder = os.environ.get("VQMON_BIQ2021")
    parser.add_argument("--biq2021", type=Path, default=Path(default_folder) if default_folder else None)
    parser.add_argument("--clips", type=Path, default=ROOT.parent / "shared" / "fixtures" / "clips")
    options = parser.parse_args()
    print_speed()
    print_correlation(options.biq2021)
    print_order(options.clips)


if __name__ == "__main__":
    main()
