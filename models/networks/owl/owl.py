"""mPLUG-Owl2 as one network under its published names, in its plain form: every token, every layer, every word."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.networks.owl.abstractor import Abstractor, AbstractorConfig
from models.networks.owl.language import PICTURE, TEXT, DecoderLayer, Lanes, LanguageConfig, RmsNorm, whole_context
from models.networks.owl.vision import VisionConfig, VisionTower

PICTURE_ID = -200
"""Stands in a prompt's token ids where one picture, or all frames of a video, go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwlConfig:
    """Sizes of all three towers; the defaults are the published ones."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    abstractor: AbstractorConfig = field(default_factory=AbstractorConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)

    @property
    def tokens_per_picture(self) -> int:
        return self.abstractor.queries + 1


def tiny() -> OwlConfig:
    """Small widths and depths around the published picture size and token counts, for tests."""
    return OwlConfig(
        vision=VisionConfig(width=64, inner_width=256, depth=2, heads=4),
        abstractor=AbstractorConfig(width=64, inner_width=176, depth=2, heads=4, vision_width=64),
        language=LanguageConfig(width=128, inner_width=344, depth=2, heads=4),
    )


class Towers(nn.Module):
    """Everything under the prefix `model.`."""

    def __init__(self, config: OwlConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.language.vocabulary, config.language.width)
        self.layers = nn.ModuleList(DecoderLayer(config.language) for _ in range(config.language.depth))
        self.norm = RmsNorm(config.language)
        self.vision_model = VisionTower(config.vision)
        self.visual_abstractor = Abstractor(config.abstractor, config.language.width)


class Owl(nn.Module):
    """The network as published; what is exported is made of the same parts in `owl_scorer`."""

    def __init__(self, config: OwlConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Towers(config)
        self.lm_head = nn.Linear(config.language.width, config.language.vocabulary, bias=False)

    def features(self, pixels: Tensor) -> Tensor:
        """Normalised pictures (frames, 3, 448, 448) -> (frames, 65, width)."""
        return self.model.visual_abstractor(self.model.vision_model(pixels))

    def hidden(self, ids: Sequence[int], pictures: Sequence[Tensor]) -> Tensor:
        """States after the last norm (1, tokens, width); `pictures` (frames, 65, width) fill the places in `ids`."""
        tokens, lanes = self.splice(ids, pictures)
        context = whole_context(self.config.language, lanes, dtype=tokens.dtype, device=tokens.device)
        for layer in self.model.layers:
            tokens, _ = layer(tokens, context)
        return self.model.norm(tokens)

    def logits(self, ids: Sequence[int], pictures: Sequence[Tensor]) -> Tensor:
        """Logits of every word after the last token (vocabulary,), float32."""
        return self.lm_head(self.hidden(ids, pictures)[0, -1]).float()

    def splice(self, ids: Sequence[int], pictures: Sequence[Tensor]) -> tuple[Tensor, Lanes]:
        """The sequence's embeddings (1, tokens, width) and its lanes."""
        left = list(pictures)
        parts: list[Tensor] = []
        lanes: list[tuple[int, int]] = []
        for lane, chunk in chunks(ids):
            part = left.pop(0).flatten(0, 1) if lane == PICTURE else self._embed(chunk)
            parts.append(part)
            lanes.append((lane, part.shape[0]))
        if left:
            raise ValueError(f"{len(left)} pictures have no place in the prompt")
        return torch.cat(parts)[None], lanes

    def _embed(self, ids: Sequence[int]) -> Tensor:
        weight = self.model.embed_tokens.weight
        return weight[torch.tensor(ids, device=weight.device)]


def chunks(ids: Sequence[int]) -> list[tuple[int, list[int]]]:
    """A prompt as (TEXT, its ids) and (PICTURE, []) in order.

    >>> chunks([1, 2, -200, 3])
    [(0, [1, 2]), (1, []), (0, [3])]
    """
    found: list[tuple[int, list[int]]] = []
    for one in ids:
        if one == PICTURE_ID:
            found.append((PICTURE, []))
        elif found and found[-1][0] == TEXT:
            found[-1][1].append(one)
        else:
            found.append((TEXT, [one]))
    return found
