"""Measures the built-in scorers on clips, through `vqmon score`: what must not matter, and what must be in order.

python -m bench.scoring.lite [--noise] [--scorer lite@1 --scorer lite@2 ...] [--clips FOLDER | --clip FILE ...]

With --noise: how far scores of the same content lie apart when it is sampled elsewhere or has another pixel format,
which is what manifests state as `noise`.

For correlation with human scores run `vqmon evaluate lite@1 lite@2 --data BIQ2021`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

import av
import imageio_ffmpeg
import numpy as np
import onnxruntime  # type: ignore[import-untyped]

from models.data.display_tiles import FrameTiler
from vqmon.core.evaluation.correlations import spearman
from vqmon.scoring.manifests.frame_scorer import find_bundles, load_frame_spec
from vqmon.scoring.runtime.tensors import to_tensor
from vqmon.scoring.scorers.registry import builtin_folder, resolve_manifests

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 4
# No scorer was trained on them.
HELD_OUT = ("bigbuckbunny.mp4", "cockatoo.mp4", "nasa_13013.mp4", "portrait_4k60.mp4")
# Those that are long enough to begin later.
NOISE_CLIPS = ("bigbuckbunny.mp4", "bikes.mp4", "chaplin.mp4", "cockatoo.mp4", "nasa_13013.mp4")
LOSSLESS = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "4")
EXACT = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "0")
SIZES = (180, 240, 360, 480, 720)
STRENGTHS = (0.6, 1.2, 2.0, 3.5)
NOISES = (5, 10)
BANDS = (4, 8, 16, 32)
_REALTIME = ("-deadline", "realtime", "-cpu-used", "7")
CODECS: Mapping[str, tuple[Sequence[str], str, Sequence[int]]] = {
    "x264": (("libx264", "-preset", "veryfast"), "-crf", (18, 24, 30, 36, 42, 48)),
    "x265": (("libx265", "-preset", "superfast", "-x265-params", "log-level=0"), "-crf", (18, 24, 30, 36, 42, 48)),
    "av1": (("libsvtav1", "-preset", "10"), "-crf", (20, 28, 36, 44, 52, 62)),
    "vp9": (("libvpx-vp9", *_REALTIME, "-b:v", "0"), "-crf", (15, 25, 34, 43, 52, 63)),
    "vp8": (("libvpx", *_REALTIME, "-b:v", "8M", "-qmax", "63"), "-qmin", (4, 16, 28, 40, 52, 62)),
    "mpeg2": (("mpeg2video",), "-q:v", (2, 5, 10, 16, 23, 31)),
    "mpeg4": (("mpeg4",), "-q:v", (2, 5, 10, 16, 23, 31)),
}
"""Name -> encoder with options, the option of its rate, and rates from good to bad."""
NOISE_RATES = (4, 34)
"""CRF of x264 for the noise: as good as lossless, and a poor encode."""
NOISE_STARTS = (0.0, 0.04, 0.08, 0.12, 0.2, 0.3)
NOISE_FORMATS = ("yuv444p", "yuv420p10le")
Encode = tuple[str, Sequence[str], float]
"""Filters, encoder and the start in seconds."""
Scores = Mapping[str, float]
"""Name of an encode -> score."""


def encodes() -> dict[str, Encode]:
    """Name of an encode -> how it is made of a clip, that has 720 lines unless it says otherwise."""
    soft = "scale=-2:720,scale=-2:360,scale=-2:720:flags=lanczos"
    made: dict[str, Encode] = {f"size{lines}": (f"scale=-2:{lines}:flags=lanczos", LOSSLESS, 0) for lines in SIZES}
    made["clean"] = ("scale=-2:720", LOSSLESS, 0)
    made["soft"] = (soft, LOSSLESS, 0)
    made |= {f"soft+unsharp{amount}": (f"{soft},unsharp=7:7:{amount}", LOSSLESS, 0) for amount in STRENGTHS}
    made |= {f"unsharp{amount}": (f"scale=-2:720,unsharp=5:5:{amount}", LOSSLESS, 0) for amount in STRENGTHS}
    noisy = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "12")
    made |= {f"noise{level}": (f"scale=-2:720,noise=alls={level}:allf=t", noisy, 0) for level in NOISES}
    made |= {f"bands{step}": (f"scale=-2:720,lutyuv=y=floor(val/{step})*{step}", LOSSLESS, 0) for step in BANDS}
    made["444"] = ("scale=-2:720", (*EXACT, "-pix_fmt", "yuv444p"), 0)
    made["420"] = ("scale=-2:720", (*EXACT, "-pix_fmt", "yuv420p"), 0)
    made["later"] = ("scale=-2:720", LOSSLESS, 0.04)
    made["bars"] = ("scale=-2:720,pad=iw:ih+200:0:100:black", LOSSLESS, 0)
    for codec, (encoder, option, rates) in CODECS.items():
        made |= {f"{codec} {rate}": ("scale=-2:720", ("-c:v", *encoder, option, str(rate)), 0) for rate in rates}
    return made


def noise_encodes() -> dict[str, Encode]:
    """ "RATE START FORMAT" -> encodes of the same content: begun up to 0.3 s later, and in other pixel formats."""
    versions = [(start, "yuv420p") for start in NOISE_STARTS] + [(0.0, name) for name in NOISE_FORMATS]
    encoder = ("-c:v", "libx264", "-preset", "superfast")
    return {
        f"{rate} {start} {name}": ("scale=-2:720", (*encoder, "-crf", str(rate), "-pix_fmt", name), start)
        for rate in NOISE_RATES
        for start, name in versions
    }


def write_encode(clip: Path, encode: Encode, file: Path) -> None:
    """Write an encode of the first seconds of a clip."""
    filters, encoder, start = encode
    pixel_format = () if "-pix_fmt" in encoder else ("-pix_fmt", "yuv420p")
    source = ("-ss", str(start), "-i", str(clip), "-t", str(SECONDS), "-an", "-map", "0:v:0", "-vf", filters)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *source, *encoder, *pixel_format]
    subprocess.run([*command, str(file)], check=True, capture_output=True, timeout=600)


def score_folder(folder: Path, scorers: Sequence[str]) -> dict[str, dict[str, float]]:
    """Scorer -> name of a file without its suffix -> score, of one `vqmon score`."""
    names = [part for scorer in scorers for part in ("--scorer", scorer)]
    environment = dict(os.environ, VQMON_FETCH__FILE_ROOTS=json.dumps([str(folder)]), PYTHONPATH=str(ROOT))
    command = [sys.executable, "-m", "vqmon", "score", "--json", *names, str(folder)]
    output = subprocess.run(command, capture_output=True, text=True, env=environment, check=False).stdout
    scores: dict[str, dict[str, float]] = {}
    for line in filter(None, output.splitlines()):
        event = json.loads(line)["data"]
        for score in event.get("scores", ()):
            scores.setdefault(score["scorer"], {})[Path(unquote(event["segment"]["url"])).stem] = score["value"]
    return scores


def _rise(scores: Scores, names: Sequence[str], above: str) -> str:
    return f"{max(scores[name] for name in names) - scores[above]:+.1f}"


def _codec(scores: Scores, codec: str) -> str:
    rates = CODECS[codec][2]
    values = np.array([scores[f"{codec} {rate}"] for rate in rates])
    order = spearman(np.array(rates, float), values)
    return f"{order:+.2f} {values[0] - values[-1]:5.1f}"


def _sizes(scores: Scores) -> str:
    values = [scores[f"size{lines}"] for lines in SIZES]
    return f"{min(np.diff(values)):+.1f}"


MEASUREMENTS: Mapping[str, Callable[[Scores], str]] = {
    "more lines: smallest rise": _sizes,
    "soft, sharpened: above soft": lambda scores: _rise(scores, [f"soft+unsharp{a}" for a in STRENGTHS], "soft"),
    "soft, sharpened: above CRF 18": lambda scores: _rise(scores, [f"soft+unsharp{a}" for a in STRENGTHS], "x264 18"),
    "sharpened: above clean": lambda scores: _rise(scores, [f"unsharp{amount}" for amount in STRENGTHS], "clean"),
    "noise: above clean": lambda scores: _rise(scores, [f"noise{level}" for level in NOISES], "clean"),
    "bands: order": lambda scores: (
        f"{spearman(np.array(BANDS, float), np.array([scores[f'bands{step}'] for step in BANDS])):+.2f}"
    ),
    "4:4:4 less 4:2:0": lambda scores: _rise(scores, ["444"], "420"),
    "one frame later": lambda scores: _rise(scores, ["later"], "clean"),
    "black bars": lambda scores: _rise(scores, ["bars"], "clean"),
    **{f"{codec}: order, span": lambda scores, codec=codec: _codec(scores, codec) for codec in CODECS},  # type: ignore[misc]
}
"""What is measured of the scores of one scorer and clip, in points of 100 unless it is an order (Spearman)."""


def print_cost(scorers: Sequence[str], rounds: int = 20) -> None:
    """Print processor milliseconds per picture of 720 lines, view and network on one thread; scorers take turns."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    frame = av.VideoFrame.from_ndarray(
        np.random.default_rng(0).integers(16, 236, (1080, 1280)).astype(np.uint8), format="yuv420p"
    )
    manifests = resolve_manifests(scorers, find_bundles([builtin_folder()]))
    opened = []
    for manifest in manifests.values():
        spec = load_frame_spec(manifest)
        model = str(manifest.with_suffix(".onnx"))
        opened.append((spec, onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])))
    tiler, costs = FrameTiler(), {spec.id: [] for spec, _ in opened}  # type: dict[str, list[float]]
    for _ in range(rounds):
        for spec, session in opened:
            start = time.process_time()
            pixels = to_tensor(tiler.view(frame, spec.input.view)[None], spec.input)
            session.run([spec.output.name], {spec.input.name: pixels})
            costs[spec.id].append(1000 * (time.process_time() - start))
    first = float(np.median(next(iter(costs.values()))))
    for name, times in costs.items():
        median = float(np.median(times))
        print(f"cost {name:16} {median:6.1f} ms per picture, {median / first:.2f} of the first")


def print_noise(clips: Sequence[Path], scorers: Sequence[str]) -> None:
    """Print, for each clip and rate, the standard deviation of the versions' scores; then the root mean square."""
    variances: dict[str, list[float]] = {}
    for clip in clips:
        with tempfile.TemporaryDirectory() as name:
            by_scorer = _score_encodes(clip, noise_encodes(), Path(name), scorers)
        for scorer, scores in by_scorer.items():
            for rate in NOISE_RATES:
                values = [value for encode, value in scores.items() if encode.startswith(f"{rate} ")]
                variances.setdefault(scorer, []).append(float(np.var(values, ddof=1)))
                print(f"noise {scorer:16} {clip.stem:20} CRF {rate:2}: {variances[scorer][-1] ** 0.5:.2f} points")
    for scorer, values in variances.items():
        print(f"noise {scorer:16} of all: {float(np.mean(values)) ** 0.5:.2f} points")


def _score_encodes(
    clip: Path, made: Mapping[str, Encode], folder: Path, scorers: Sequence[str]
) -> dict[str, dict[str, float]]:
    for encode_name, encode in made.items():
        write_encode(clip, encode, folder / f"{encode_name}.mkv")
    return score_folder(folder, scorers)


def main() -> None:
    """Print a table per clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scorer", action="append", help="name@version; default: lite@1 and the newest lite")
    parser.add_argument("--clips", type=Path, default=ROOT.parent / "shared" / "fixtures" / "clips")
    parser.add_argument("--clip", type=Path, action="append", help="a clip of 720 lines or more, instead of --clips")
    parser.add_argument("--noise", action="store_true", help="measure the noise of the scores only")
    options = parser.parse_args()
    scorers = options.scorer or ["lite@1", "lite"]
    names = NOISE_CLIPS if options.noise else HELD_OUT
    clips = options.clip or [options.clips / name for name in names if (options.clips / name).exists()]
    if not clips:
        print(f"not measured: none of {', '.join(names)} in {options.clips} (--clips)")
    if options.noise:
        print_noise(clips, scorers)
        return
    print_cost(scorers)
    for clip in clips:
        with tempfile.TemporaryDirectory() as name:
            by_scorer = _score_encodes(clip, encodes(), Path(name), scorers)
        print(f"\n{clip.stem:32}" + "".join(f"{scorer:>18}" for scorer in by_scorer))
        for measurement, measure in MEASUREMENTS.items():
            print(f"{measurement:32}" + "".join(f"{measure(scores):>18}" for scores in by_scorer.values()))


if __name__ == "__main__":
    main()
