"""mPLUG-Owl2 as one network under its published names: every token, every layer, the whole vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from models.networks.owl.abstractor import Abstractor, AbstractorConfig
from models.networks.owl.language import (
    PICTURE,
    TEXT,
    DecoderLayer,
    LanguageConfig,
    ModalitySpans,
    RmsNorm,
    causal_context,
)
from models.networks.owl.vision import VisionConfig, VisionTower

PICTURE_TOKEN = -200
"""Placeholder in a prompt's token ids for one picture, or for all frames of a video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwlConfig:
    """Sizes of vision tower, abstractor and language tower; the defaults are the published ones."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    abstractor: AbstractorConfig = field(default_factory=AbstractorConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)

    @property
    def tokens_per_picture(self) -> int:
        return self.abstractor.queries + 1


def tiny_config() -> OwlConfig:
    """Small widths and depths with the published picture size and token counts, for tests and dry runs."""
    return OwlConfig(
        vision=VisionConfig(width=64, inner_width=256, depth=2, heads=4),
        abstractor=AbstractorConfig(width=64, inner_width=176, depth=2, heads=4, vision_width=64),
        language=LanguageConfig(width=128, inner_width=344, depth=2, heads=4),
    )


class _OwlModel(nn.Module):
    """Everything under the prefix `model.`."""

    def __init__(self, config: OwlConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.language.vocabulary, config.language.width)
        self.layers = nn.ModuleList(DecoderLayer(config.language) for _ in range(config.language.depth))
        self.norm = RmsNorm(config.language)
        self.vision_model = VisionTower(config.vision)
        self.visual_abstractor = Abstractor(config.abstractor, config.language.width)


class Owl(nn.Module):
    """The network as published; `exportable` builds the exported form of the same modules."""

    def __init__(self, config: OwlConfig) -> None:
        super().__init__()
        self.config = config
        self.model = _OwlModel(config)
        self.lm_head = nn.Linear(config.language.width, config.language.vocabulary, bias=False)

    def encode_pictures(self, pixels: Tensor) -> Tensor:
        """Normalised pictures (frames, 3, 448, 448) -> features (frames, 65, width)."""
        return self.model.visual_abstractor(self.model.vision_model(pixels))

    def hidden_states(self, ids: Sequence[int], pictures: Sequence[Tensor]) -> Tensor:
        """States after the last norm (1, tokens, width); `pictures` (frames, 65, width) replace the picture tokens of
        `ids`."""
        tokens, spans = self.embed_prompt(ids, pictures)
        context = causal_context(self.config.language, spans, dtype=tokens.dtype, device=tokens.device)
        for layer in self.model.layers:
            tokens, _ = layer(tokens, context)
        return self.model.norm(tokens)

    def logits(self, ids: Sequence[int], pictures: Sequence[Tensor]) -> Tensor:
        """Logits (vocabulary,) of the next token, float32."""
        return self.lm_head(self.hidden_states(ids, pictures)[0, -1]).float()

    def embed_prompt(self, ids: Sequence[int], pictures: Sequence[Tensor]) -> tuple[Tensor, ModalitySpans]:
        """Embeddings (1, tokens, width) of a prompt with its pictures, and the spans of its modalities. Raises
        ValueError for more pictures than picture tokens."""
        remaining = list(pictures)
        sequence: list[Tensor] = []
        spans: list[tuple[int, int]] = []
        for modality, text_ids in split_modalities(ids):
            embeddings = remaining.pop(0).flatten(0, 1) if modality == PICTURE else self._embed(text_ids)
            sequence.append(embeddings)
            spans.append((modality, embeddings.shape[0]))
        if remaining:
            raise ValueError(f"{len(remaining)} pictures have no picture token in the prompt")
        return torch.cat(sequence)[None], spans

    def _embed(self, ids: Sequence[int]) -> Tensor:
        weight = self.model.embed_tokens.weight
        return weight[torch.tensor(ids, device=weight.device)]


def split_modalities(ids: Sequence[int]) -> list[tuple[int, list[int]]]:
    """A prompt as runs of (TEXT, token ids) and (PICTURE, []), in order.

    >>> split_modalities([1, 2, -200, 3])
    [(0, [1, 2]), (1, []), (0, [3])]
    """
    runs: list[tuple[int, list[int]]] = []
    for token_id in ids:
        if token_id == PICTURE_TOKEN:
            runs.append((PICTURE, []))
        elif runs and runs[-1][0] == TEXT:
            runs[-1][1].append(token_id)
        else:
            runs.append((TEXT, [token_id]))
    return runs
