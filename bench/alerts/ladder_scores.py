"""Scores of real pictures on a ladder of bitrates: what their noise is like, and what pairing takes away."""

import asyncio
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from pipelines.commands.score import score_media
from vqmon.core.types import QualityEvent
from vqmon.settings.load import Settings

CLIPS = Path(__file__).parents[3] / "shared" / "fixtures" / "clips"
NAMES = (
    "bigbuckbunny.mp4", "bikes.mp4", "chaplin.mp4", "cockatoo.mp4", "nasa_13013.mp4", "av1_video.mkv", "fire2.mp4",
    "carphone_pristine.mp4",
)  # fmt: skip
CRFS = (22, 28, 34)
# left and right parts of each picture are two contents
PARTS = ("0", "iw-ow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Standard deviations in points, and correlations of neighbours, of real series."""

    # of contents' means around the rendition's mean
    between: float
    # of segments around the mean of their content
    within: float
    within_memory: float
    # share of the within-content residuals beyond three MAD deviations
    tail: float
    # of the difference between neighbours on the ladder: between contents, and within
    pair_between: float
    pair_within: float
    pair_memory: float
    # of the middle rendition's difference from the mean of its two neighbours
    neighbours_between: float
    neighbours_within: float
    # variance of a score over variance of a difference; whole series
    gain: float


def scores_of(clips: Path) -> Mapping[int, Sequence[list[float]]]:
    """CRF -> per content the scores of its segments of one second, by the default scorer, all through the product."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for crf in CRFS:
            (folder / str(crf)).mkdir()
            for number, name in enumerate(NAMES):
                for part, left in enumerate(PARTS):
                    _encode(clips / name, folder / str(crf) / f"{number}{part}", crf=crf, left=left)
        return {crf: _scored(folder / str(crf)) for crf in CRFS}


def measure(scores: Mapping[int, Sequence[list[float]]]) -> Measured:
    """The figures of such scores."""
    alone = [[np.array(content) for content in scores[crf]] for crf in CRFS]
    pairs = [
        [np.array(low[: len(high)]) - np.array(high[: len(low)]) for high, low in zip(upper, lower, strict=True)]
        for upper, lower in pairwise(alone)
    ]
    both = [
        np.array(middle[:length]) - (np.array(high[:length]) + np.array(low[:length])) / 2
        for high, middle, low in zip(*alone, strict=True)
        for length in [min(len(high), len(middle), len(low))]
    ]
    gains = [
        np.concatenate(lower).var() / np.concatenate(pair).var() for lower, pair in zip(alone[1:], pairs, strict=True)
    ]
    residuals = np.concatenate(
        [values - values.mean() for rendition in alone for values in rendition if len(values) > 2]
    )
    spread = 1.4826 * np.median(np.abs(residuals - np.median(residuals)))
    return Measured(
        between=_between(alone),
        within=_within(alone),
        within_memory=_memory(alone),
        tail=float((np.abs(residuals) > 3 * spread).mean()),
        pair_between=_between(pairs),
        pair_within=_within(pairs),
        pair_memory=_memory(pairs),
        neighbours_between=_between([both]),
        neighbours_within=_within([both]),
        gain=float(np.median(gains)),
    )


def _between(series: Sequence[Sequence[np.ndarray]]) -> float:
    return float(np.mean([np.std([values.mean() for values in rendition]) for rendition in series]))


def _within(series: Sequence[Sequence[np.ndarray]]) -> float:
    return float(
        np.sqrt(np.mean([values.var(ddof=1) for rendition in series for values in rendition if len(values) > 2]))
    )


def _memory(series: Sequence[Sequence[np.ndarray]]) -> float:
    """Of deviations from each content's mean; corrected for the bias of short series, about (1 + 4 phi) / n."""
    long = [values - values.mean() for rendition in series for values in rendition if len(values) >= 5]
    product = sum(float(values[1:] @ values[:-1]) for values in long)
    square = sum(float(values @ values) for values in long)
    phi, length = product / square, float(np.mean([len(values) for values in long]))
    return min(max((phi + 1 / length) / (1 - 4 / length), 0.0), 0.95)


def _encode(clip: Path, output: Path, *, crf: int, left: str) -> None:
    output.mkdir()
    # Every second a key frame and a file.
    subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(clip), "-an", "-t", "14",
            "-vf", f"fps=25,crop=floor(iw*0.7/2)*2:floor(ih/2)*2:{left}:0,scale=640:360,setsar=1",
            "-pix_fmt", "yuv420p",
            "-c:v", "libx264", "-preset", "veryfast", "-crf", str(crf), "-threads", "1",
            "-force_key_frames", "expr:gte(t,n_forced)", "-f", "segment", "-segment_time", "1",
            "-reset_timestamps", "1", str(output / "%03d.ts"),
        ],
        check=True,
    )  # fmt: skip


def _scored(folder: Path) -> list[list[float]]:
    contents = []
    for content in sorted(folder.iterdir()):
        outcomes = [seen.outcome for seen in asyncio.run(score_media(Settings(), [str(content)]))]
        events = sorted(
            (outcome for outcome in outcomes if isinstance(outcome, QualityEvent)),
            key=lambda scored_event: scored_event.segment.url,
        )
        contents.append([event.scores[0].value for event in events])
    return contents
