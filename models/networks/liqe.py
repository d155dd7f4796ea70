"""LIQE: how alike a picture is to each of 495 sentences on its scene, its main distortion and its quality.

Zhang et al., "Blind Image Quality Assessment via Vision-Language Correspondence: A Multitask Learning Perspective",
CVPR 2023. The sentences are the same for all pictures, so their vectors are a constant here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.networks.backbones.clip import END, MEAN, START, STD, Clip, ClipConfig, Visual
from models.networks.backbones.pixels import normalise
from models.networks.owl.q_align import softmax

CROP, STRIDE, CROPS = 224, 32, 15
QUALITIES = MappingProxyType({"bad": (2103,), "poor": (3665,), "fair": (2849,), "good": (886,), "perfect": (1878,)})
"""Word -> its token ids, worst first; the score is the expectation of 1..5."""
SCENES = MappingProxyType(
    {
        "animal": (4668,),
        "cityscape": (40808,),
        "human": (2751,),
        "indoor": (9546,),
        "landscape": (5727,),
        "night": (930,),
        "plant": (3912,),
        "still_life": (1170, 318, 970),
        "others": (3326,),
    }
)
DISTORTIONS = MappingProxyType(
    {
        "jpeg2000 compression": (73, 11207, 273, 271, 271, 271, 25638),
        "jpeg compression": (73, 11207, 25638),
        "noise": (9307,),
        "blur": (27976,),
        "color": (3140,),
        "contrast": (18501,),
        "overexposure": (8649, 13002, 35539),
        "underexposure": (21675, 87, 35539),
        "spatial": (22022,),
        "quantization": (31540, 3683),
        "other": (1010,),
    }
)
# "a photo of a SCENE with DISTORTION artifacts, which is of QUALITY quality"
_PHOTO, _WITH, _WHICH, _QUALITY = (320, 1125, 539, 320), (593,), (30249, 267, 1448, 533, 539), (3027,)
SENTENCES = len(QUALITIES) * len(SCENES) * len(DISTORTIONS)


def prompts() -> list[tuple[int, ...]]:
    """Token ids of all sentences: qualities outermost, distortions innermost."""
    return [
        (START, *_PHOTO, *scene, *_WITH, *distortion, *_WHICH, *quality, *_QUALITY, END)
        for quality, scene, distortion in product(QUALITIES.values(), SCENES.values(), DISTORTIONS.values())
    ]


def sentence_matrix(clip: Clip, *, every: int = 1, batch: int = 165) -> Tensor:
    """Unit vectors (495, joint) of all sentences by the text tower, or of every so manieth."""
    chosen = prompts()[::every]
    ids = torch.zeros(len(chosen), max(map(len, chosen)), dtype=torch.int64)
    for at, sentence in enumerate(chosen):
        ids[at, : len(sentence)] = torch.tensor(sentence)
    with torch.inference_mode():
        return torch.cat([functional.normalize(clip.texts(part), dim=-1) for part in ids.split(batch)])


def crop_boxes(height: int, width: int, *, crops: int = CROPS) -> list[tuple[int, int]]:
    """Row and column of the upper left corners of the 224-windows that are looked at.

    Windows stand every 32 pixels; of the list row by row, `crops` are taken at equal whole steps from the first. A
    picture with fewer windows gives them over again, so that each is always asked about the same number. Raises
    ValueError when a side is under 224. (The published module, given one picture, takes the first window each time.)

    >>> crop_boxes(224, 256, crops=3)
    [(0, 0), (0, 32), (0, 0)]
    """
    if min(height, width) < CROP:
        raise ValueError(f"a picture of {height} x {width} holds no window of {CROP} x {CROP}; scale it up")
    places = list(product(range(0, height - CROP + 1, STRIDE), range(0, width - CROP + 1, STRIDE)))
    step = max(1, len(places) // crops)
    return [places[at * step % len(places)] for at in range(crops)]


def crop(picture: NDArray[np.uint8], boxes: Sequence[tuple[int, int]]) -> NDArray[np.uint8]:
    """The windows (crops, 224, 224, 3) of a picture (height, width, 3)."""
    return np.stack([picture[top : top + CROP, left : left + CROP] for top, left in boxes])


class Liqe(nn.Module):
    """Crops of pictures (pictures, crops, 3, 224, 224) uint8 -> logits (pictures, 495), the mean over crops."""

    sentences: Tensor

    def __init__(self, config: ClipConfig, sentences: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.visual = Visual(config)
        # unit vectors, stretched by exp(logit_scale)
        self.register_buffer("sentences", sentences * scale.exp(), persistent=False)

    def forward(self, crops: Tensor) -> Tensor:
        flat = normalise(crops.flatten(0, 1), MEAN, STD, dtype=self.visual.proj.dtype)
        vectors = functional.normalize(self.visual(flat).float(), dim=-1)
        logits = vectors @ self.sentences.float().T
        return logits.unflatten(0, crops.shape[:2]).mean(1)


class QualityOf(nn.Module):
    """Logits (pictures, 495) -> expected quality (pictures), 1..5."""

    def forward(self, logits: Tensor) -> Tensor:
        shares = logits.float().softmax(-1).unflatten(-1, (len(QUALITIES), -1)).sum(-1)
        levels = [shares[:, at] * (at + 1) for at in range(len(QUALITIES))]
        return torch.stack(levels).sum(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the 495 logits of a picture say; shares add up to 1 within quality, scenes and distortions."""

    score: float
    qualities: tuple[float, ...]
    scenes: tuple[float, ...]
    distortions: tuple[float, ...]

    @property
    def scene(self) -> str:
        """The likeliest."""
        return list(SCENES)[int(np.argmax(self.scenes))]

    @property
    def distortion(self) -> str:
        """The likeliest."""
        return list(DISTORTIONS)[int(np.argmax(self.distortions))]


def verdict(logits: NDArray[np.float32]) -> Verdict:
    """The score 1..5 and the shares of words, from logits (495)."""
    shares = softmax(np.asarray(logits, np.float32)).reshape(len(QUALITIES), len(SCENES), len(DISTORTIONS))
    qualities = shares.sum((1, 2))
    return Verdict(
        score=float(qualities @ np.arange(1, len(QUALITIES) + 1, dtype=np.float32)),
        qualities=tuple(qualities.tolist()),
        scenes=tuple(shares.sum((0, 2)).tolist()),
        distortions=tuple(shares.sum((0, 1)).tolist()),
    )
