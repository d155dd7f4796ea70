"""Q-Align and OneAlign: the prompts for mPLUG-Owl2 about a picture or a clip, and the score of its level logits.

Wu et al., "Q-Align: Teaching LMMs for Visual Scoring via Discrete Text-Defined Levels", ICML 2024.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.networks.owl.owl import PICTURE_TOKEN

SIDE = 448
PAD_RGB = (122, 116, 104)
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

LEVELS = MappingProxyType({"excellent": 15129, "good": 1781, "fair": 6534, "poor": 6460, "bad": 4319})
"""Level word -> its token id, best first."""
LEVEL_VALUES = (5.0, 4.0, 3.0, 2.0, 1.0)
_UNIT_LEVEL_VALUES = (1.0, 0.75, 0.5, 0.25, 0.0)
MAX_FRAMES = 31
"""27 text tokens and 65 per frame fill 2042 of the 2048 trained positions."""

_QUALITY, _AESTHETICS = (11029,), (263, 342, 9188, 1199)
_IMAGE, _VIDEO = 1967, 4863


def _rating_prompt(quality_ids: tuple[int, ...], medium_id: int) -> tuple[int, ...]:
    # "USER: How would you rate the WHAT of this OF?\n<picture>\nASSISTANT: The WHAT of the OF is"
    question = (1, 3148, 1001, 29901, 1128, 723, 366, 6554, 278, *quality_ids, 310, 445, medium_id, 29973, 13)
    return (*question, PICTURE_TOKEN, 29871, 13, 22933, 9047, 13566, 29901, 450, *quality_ids, 310, 278, medium_id, 338)


def _replace_suffix(prompt: tuple[int, ...], *suffix: int) -> tuple[int, ...]:
    return (*prompt[: prompt.index(PICTURE_TOKEN) + 1], *suffix)


_QUALITY_PROMPT = _rating_prompt(_QUALITY, _IMAGE)
PROMPTS = MappingProxyType(
    {
        "quality": _QUALITY_PROMPT,
        "aesthetics": _rating_prompt(_AESTHETICS, _IMAGE),
        "video": _rating_prompt(_QUALITY, _VIDEO),
    }
)
"""Task -> token ids of the LLaMA tokenizer; `PICTURE_TOKEN` stands for the picture, or for all frames of a clip."""

PROMPT_VARIANTS = MappingProxyType(
    {
        # evaluation scripts, and RQ-VQA's feature extractor: a space before ASSISTANT where `quality` has a newline
        "quality_form_b": _replace_suffix(
            _QUALITY_PROMPT, 29871, 319, 1799, 9047, 13566, 29901, 450, 11029, 310, 278, 1967, 338
        ),
        # the `score` method of the published model swaps the two words of its template
        "quality_form_d": _replace_suffix(
            _QUALITY_PROMPT, 29871, 13, 22933, 9047, 13566, 29901, 450, 1967, 310, 278, 11029, 338
        ),
    }
)
"""Other prompts of published code; they shift scores by a few hundredths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelScore:
    """The expected level on both published scales; `level_probabilities` are in the order of LEVELS, `entropy` is
    0..1."""

    one_to_five: float
    zero_to_one: float
    level_probabilities: tuple[float, ...]
    entropy: float


def score_levels(logits: Sequence[float] | NDArray[np.float32]) -> LevelScore:
    """The expected level, from logits in the order of LEVELS.

    >>> score_levels([0.0, 0.0, 0.0, 0.0, 0.0]).one_to_five
    3.0
    """
    probabilities = softmax(np.asarray(logits, dtype=np.float32))
    # float32, although the published code uses half precision.
    score = float(probabilities @ np.asarray(_UNIT_LEVEL_VALUES, dtype=np.float32))
    return LevelScore(
        one_to_five=1 + 4 * score,
        zero_to_one=score,
        level_probabilities=tuple(float(probability) for probability in probabilities),
        entropy=float(_entropy(probabilities)),
    )


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax along the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float32] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def _entropy(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shannon entropy along the last axis, divided by that of the uniform distribution: 0 = certain, 1 = uniform."""
    log_probabilities = np.log(np.clip(probabilities, np.finfo(np.float32).tiny, None))
    normalised: NDArray[np.float32] = -(probabilities * log_probabilities).sum(axis=-1) / np.log(
        probabilities.shape[-1]
    )
    return normalised


def pad_to_square(picture: Image.Image) -> NDArray[np.uint8]:
    """A picture as (448, 448, 3): padded to a square, then resized, as published; so the padding bleeds inward."""
    picture = picture.convert("RGB")
    side = max(picture.size)
    square = Image.new("RGB", (side, side), PAD_RGB)
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def normalise_pictures(squares: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pictures (frames, 448, 448, 3) uint8 as the vision tower's input (frames, 3, 448, 448) float32."""
    scaled = (squares.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
