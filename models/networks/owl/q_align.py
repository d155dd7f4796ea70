"""Q-Align and OneAlign: what mPLUG-Owl2 is asked about a picture or a clip, and how its answer becomes a score.

Wu et al., "Q-Align: Teaching LMMs for Visual Scoring via Discrete Text-Defined Levels", ICML 2024.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.networks.owl.owl import PICTURE_ID

SIDE = 448
PAD_RGB = (122, 116, 104)
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

LEVELS = MappingProxyType({"excellent": 15129, "good": 1781, "fair": 6534, "poor": 6460, "bad": 4319})
"""Level word -> the token id that stands for it, best first."""
ONE_TO_FIVE = (5.0, 4.0, 3.0, 2.0, 1.0)
ZERO_TO_ONE = (1.0, 0.75, 0.5, 0.25, 0.0)
MOST_FRAMES = 31
"""27 tokens of text and 65 per frame fill 2042 of the 2048 trained positions."""

_QUALITY, _AESTHETICS = (11029,), (263, 342, 9188, 1199)
_IMAGE, _VIDEO = 1967, 4863


def _prompt(what: tuple[int, ...], of: int) -> tuple[int, ...]:
    # "USER: How would you rate the WHAT of this OF?\n<picture>\nASSISTANT: The WHAT of the OF is"
    asked = (1, 3148, 1001, 29901, 1128, 723, 366, 6554, 278, *what, 310, 445, of, 29973, 13)
    return (*asked, PICTURE_ID, 29871, 13, 22933, 9047, 13566, 29901, 450, *what, 310, 278, of, 338)


def _after(prompt: tuple[int, ...], *suffix: int) -> tuple[int, ...]:
    return (*prompt[: prompt.index(PICTURE_ID) + 1], *suffix)


_ASKED = _prompt(_QUALITY, _IMAGE)
PROMPTS = MappingProxyType(
    {
        "quality": _ASKED,
        "aesthetics": _prompt(_AESTHETICS, _IMAGE),
        "video": _prompt(_QUALITY, _VIDEO),
    }
)
"""Task -> token ids of the LLaMA tokenizer; `PICTURE_ID` is where the picture, or all frames of a clip, go."""

VARIANTS = MappingProxyType(
    {
        # evaluation scripts, and the RQ-VQA feature extractor: a space before ASSISTANT where `quality` has a newline
        "quality_form_b": _after(_ASKED, 29871, 319, 1799, 9047, 13566, 29901, 450, 11029, 310, 278, 1967, 338),
        # the `score` method of the published model fills its template the wrong way round
        "quality_form_d": _after(_ASKED, 29871, 13, 22933, 9047, 13566, 29901, 450, 1967, 310, 278, 11029, 338),
    }
)
"""Other prompts found in published code; they shift scores by a few hundredths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the five logits say; `level_probabilities` in the order of LEVELS, `entropy` 0 (sure) .. 1 (all alike)."""

    one_to_five: float
    zero_to_one: float
    level_probabilities: tuple[float, ...]
    entropy: float


def verdict(logits: Sequence[float] | NDArray[np.float32]) -> Verdict:
    """The score on both published scales, from logits in the order of LEVELS.

    >>> verdict([0.0, 0.0, 0.0, 0.0, 0.0]).one_to_five
    3.0
    """
    probabilities = softmax(np.asarray(logits, dtype=np.float32))
    # In float32, though the published code works in half precision: nothing is gained by that.
    score = float(probabilities @ np.asarray(ZERO_TO_ONE, dtype=np.float32))
    return Verdict(
        one_to_five=1 + 4 * score,
        zero_to_one=score,
        level_probabilities=tuple(float(one) for one in probabilities),
        entropy=float(entropy(probabilities)),
    )


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities along the last axis."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: NDArray[np.float32] = raised / raised.sum(axis=-1, keepdims=True)
    return shares


def entropy(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shannon's entropy along the last axis over that of equal shares: 0 = one level is sure, 1 = all are alike."""
    logs = np.log(np.clip(probabilities, np.finfo(np.float32).tiny, None))
    spread: NDArray[np.float32] = -(probabilities * logs).sum(axis=-1) / np.log(probabilities.shape[-1])
    return spread


def frame_times(frame_count: int, fps: float) -> list[int]:
    """The published choice of frames: one per second, the first of each; the first alone of a clip under a second.

    >>> frame_times(100, 25.0)
    [0, 25, 50, 75]
    """
    return [int(fps * second) for second in range(int(frame_count / fps))] or [0]


def to_square(picture: Image.Image) -> NDArray[np.uint8]:
    """A picture as (448, 448, 3): padded to a square first, resized after, as published; the border bleeds inward."""
    picture = picture.convert("RGB")
    side = max(picture.size)
    square = Image.new("RGB", (side, side), PAD_RGB)
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def normalise(squares: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pictures (frames, 448, 448, 3) as the tower's input (frames, 3, 448, 448)."""
    scaled = (squares.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
