"""LIQE: CLIP's similarity of a picture to each of 495 sentences on its scene, its main distortion and its quality.

Zhang et al., "Blind Image Quality Assessment via Vision-Language Correspondence: A Multitask Learning Perspective",
CVPR 2023. The sentences are the same for all pictures, so their vectors are constants of the exported graph.
"""

from itertools import product
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.backbones.clip import END_TOKEN, MEAN, START_TOKEN, STD, Clip, ClipConfig, VisualTower
from models.networks.backbones.pixels import normalise

CROP_SIDE, CROPS = 224, 15
QUALITY_WORDS = MappingProxyType({"bad": (2103,), "poor": (3665,), "fair": (2849,), "good": (886,), "perfect": (1878,)})
"""Word -> its token ids, worst first; the quality is the expectation of 1..5."""
SCENE_WORDS = MappingProxyType(
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
DISTORTION_WORDS = MappingProxyType(
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
SENTENCE_COUNT = len(QUALITY_WORDS) * len(SCENE_WORDS) * len(DISTORTION_WORDS)


def sentence_token_ids() -> list[tuple[int, ...]]:
    """Token ids of all sentences: quality varies slowest, distortion fastest."""
    return [
        (START_TOKEN, *_PHOTO, *scene, *_WITH, *distortion, *_WHICH, *quality, *_QUALITY, END_TOKEN)
        for quality, scene, distortion in product(
            QUALITY_WORDS.values(), SCENE_WORDS.values(), DISTORTION_WORDS.values()
        )
    ]


def encode_sentences(clip: Clip, *, every: int = 1, batch: int = 165) -> Tensor:
    """Unit vectors (495, joint) of the sentences by the text tower; `every` takes only each n-th sentence."""
    sentences = sentence_token_ids()[::every]
    ids = torch.zeros(len(sentences), max(map(len, sentences)), dtype=torch.int64)
    for index, sentence in enumerate(sentences):
        ids[index, : len(sentence)] = torch.tensor(sentence)
    with torch.inference_mode():
        return torch.cat([functional.normalize(clip.encode_text(batch_ids), dim=-1) for batch_ids in ids.split(batch)])


class Liqe(nn.Module):
    """Crops of pictures (pictures, crops, 3, 224, 224) uint8 -> logits (pictures, 495), the mean over the crops."""

    sentences: Tensor

    def __init__(self, config: ClipConfig, sentences: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.visual = VisualTower(config)
        # unit vectors, multiplied by exp(logit_scale)
        self.register_buffer("sentences", sentences * scale.exp(), persistent=False)

    def forward(self, crops: Tensor) -> Tensor:
        pixels = normalise(crops.flatten(0, 1), MEAN, STD, dtype=self.visual.proj.dtype)
        vectors = functional.normalize(self.visual(pixels).float(), dim=-1)
        logits = vectors @ self.sentences.float().T
        return logits.unflatten(0, crops.shape[:2]).mean(1)


class ExpectedQuality(nn.Module):
    """Logits (pictures, 495) -> expected quality (pictures), 1..5."""

    def forward(self, logits: Tensor) -> Tensor:
        probabilities = logits.float().softmax(-1).unflatten(-1, (len(QUALITY_WORDS), -1)).sum(-1)
        levels = [probabilities[:, level] * (level + 1) for level in range(len(QUALITY_WORDS))]
        return torch.stack(levels).sum(0)
