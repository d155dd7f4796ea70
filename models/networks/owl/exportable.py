"""The exported form of mPLUG-Owl2: a frame encoder, and a language scorer with precomputed prompt prefixes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.owl.abstractor import Abstractor
from models.networks.owl.language import (
    PICTURE,
    TEXT,
    AttentionContext,
    DecoderLayer,
    KeyValues,
    LanguageConfig,
    RmsNorm,
    causal_context,
    rotary_tables,
)
from models.networks.owl.owl import OwlConfig, split_modalities
from models.networks.owl.q_align import MEAN, STD
from models.networks.owl.vision import VisionTower

_MASKED_POSITION = 1 << 30
"""Position of padding in shorter prompts: no token may attend to it."""


class FrameEncoder(nn.Module):
    """Pictures (frames, 3, 448, 448) uint8 RGB -> features (frames, 65, width), shared by all tasks and scorers."""

    def __init__(self, config: OwlConfig) -> None:
        super().__init__()
        self.vision_model = VisionTower(config.vision)
        self.visual_abstractor = Abstractor(config.abstractor, config.language.width)

    def forward(self, pixels: Tensor) -> Tensor:
        # Normalised in float32 whatever the tower's type: as precise as outside the graph, with a quarter of the bytes.
        channels = (pixels.float() / 255).unbind(1)
        scaled = torch.stack(
            [(channel - mean) / std for channel, mean, std in zip(channels, MEAN, STD, strict=True)], dim=1
        )
        weight = self.vision_model.embeddings.patch_embed.weight
        return self.visual_abstractor(self.vision_model(scaled.to(weight.dtype)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitPrompt:
    """A prompt split into a constant prefix, the text between two open pictures, and the suffix."""

    prefix: tuple[Tensor, ...]
    """Embeddings (tokens, width) of text and fixed pictures in turn, text first."""
    # position of the first open picture
    first_picture_position: int
    between: Tensor
    suffix: Tensor


class _PrefixKeyValues(nn.Module):
    """One layer's keys and values (questions, heads, tokens, head width) of all prefixes."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("keys", keys)
        self.register_buffer("values", values)

    def forward(self, question: Tensor) -> KeyValues:
        return self.keys.index_select(0, question), self.values.index_select(0, question)


class LanguageScorer(nn.Module):
    """Features (rows, frames, 65, width) and each row's question number (rows) -> level logits (rows, levels), float32.

    Constants: keys and values of the prefixes, embeddings of the suffixes, one row of the head per level. In the
    sequence the pictures come first and the text last, whatever the prompt's order: only the mask and the rotary
    embedding depend on positions, which are passed as numbers, so each modality is one slice.
    """

    cosines: Tensor
    sines: Tensor
    text: Tensor
    head: Tensor
    starts: Tensor
    prefix_places: Tensor
    text_offsets: Tensor

    def __init__(self, config: OwlConfig, constants: "ScorerConstants") -> None:
        super().__init__()
        language = config.language
        self.picture_tokens = config.tokens_per_picture
        self.gap = constants.gap
        self.layers = nn.ModuleList(DecoderLayer(language) for _ in range(language.depth))
        self.norm = RmsNorm(language)
        self.prefix = nn.ModuleList(_PrefixKeyValues(keys, values) for keys, values in constants.prefix_key_values)
        for name in ("cosines", "sines", "text", "head", "starts", "prefix_places", "text_offsets"):
            self.register_buffer(name, getattr(constants, name))

    def forward(self, features: Tensor, question: Tensor) -> Tensor:
        pictures = features.flatten(1, 2)
        text = self.text.index_select(0, question)
        tokens = torch.cat([pictures, text], dim=1)
        context = self._context(features, question, spans=[(PICTURE, pictures.shape[1]), (TEXT, text.shape[1])])
        for layer, prefix in zip(self.layers[:-1], self.prefix[:-1], strict=True):
            tokens, _ = layer(tokens, context, prefix(question))
        token = self.layers[-1].forward_last_token(tokens, context, self.prefix[-1](question))
        return (self.norm(token)[:, 0].float() @ self.head.T).float()

    def _context(self, features: Tensor, question: Tensor, *, spans: list[tuple[int, int]]) -> AttentionContext:
        frames, count = features.shape[1], features.shape[1] * self.picture_tokens
        start = self.starts.index_select(0, question)[:, None]
        index = torch.arange(count, device=features.device)
        pictures = start + (index + index // self.picture_tokens * self.gap)[None]
        text = start + self.text_offsets.index_select(0, question) + (count + (frames - 1) * self.gap)
        # Padding of a shorter suffix has an offset far below 0: it moves to the masked position.
        text_positions = torch.where(text < 0, _MASKED_POSITION, text)
        query_positions = torch.cat([pictures, text], dim=1)
        key_positions = torch.cat([self.prefix_places.index_select(0, question), pictures, text_positions], dim=1)
        rotary_positions = query_positions.clamp(min=0)
        return AttentionContext(
            spans=spans,
            cosines=functional.embedding(rotary_positions, self.cosines)[:, None],
            sines=functional.embedding(rotary_positions, self.sines)[:, None],
            mask=(key_positions[:, None, :] <= rotary_positions[:, :, None])[:, None],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerConstants:
    """Everything about the questions of a `LanguageScorer` that does not depend on pictures."""

    # per layer, (questions, heads, prefix, head width) each
    prefix_key_values: list[KeyValues]
    # (questions, prefix): positions, MASKED_POSITION for padding
    prefix_places: Tensor
    # (questions,): position of the first picture token
    starts: Tensor
    # (questions, tokens, width): text between pictures, padding, suffix
    text: Tensor
    # (questions, tokens): position after the last picture token, -MASKED_POSITION for padding
    text_offsets: Tensor
    # tokens between two pictures
    gap: int
    # (levels, width), float32
    head: Tensor
    # (longest, head width) each
    cosines: Tensor
    sines: Tensor

    def to(self, dtype: torch.dtype) -> "ScorerConstants":
        """The same constants in another floating type; the head stays in float32."""
        changed = {name: getattr(self, name).to(dtype) for name in ("text", "cosines", "sines")}
        return replace(
            self,
            prefix_key_values=[(keys.to(dtype), values.to(dtype)) for keys, values in self.prefix_key_values],
            **changed,
        )


def split_prompt(ids: Sequence[int], embeddings: Tensor, *, fixed_pictures: Sequence[Tensor] = ()) -> SplitPrompt:
    """Split a prompt's token ids; `embeddings` (text tokens, width) are those of its text, in order.

    `fixed_pictures` (65, width) replace the first picture tokens; one or two must remain open. Raises ValueError for
    another number of open pictures, or without text around them.
    """
    texts = list(embeddings.split([len(ids) for modality, ids in split_modalities(ids) if modality == TEXT]))
    pictures: list[Tensor | None] = [*fixed_pictures, *([None] * len(ids))]
    parts = [texts.pop(0) if modality == TEXT else pictures.pop(0) for modality, _ in split_modalities(ids)]
    open_indices = [index for index, part in enumerate(parts) if part is None]
    if not 1 <= len(open_indices) <= 2 or open_indices != list(
        range(len(parts) - 2 * len(open_indices), len(parts), 2)
    ):
        raise ValueError("a prompt must leave one or two pictures open, with text before, between and after")
    # The text before a single open picture counts as `between` when a fixed picture comes before it.
    prefix_length = open_indices[0] if len(open_indices) == 2 or not fixed_pictures else open_indices[0] - 1
    between = parts[open_indices[-1] - 1] if len(open_indices) == 2 or fixed_pictures else embeddings[:0]
    prefix = tuple(part for part in parts[:prefix_length] if part is not None)
    suffix = parts[-1]
    assert between is not None
    assert suffix is not None
    start = sum(len(part) for part in parts[: open_indices[0]] if part is not None)
    return SplitPrompt(prefix=prefix, first_picture_position=start, between=between, suffix=suffix)


def compute_constants(
    questions: Sequence[SplitPrompt], layers: Iterator[DecoderLayer], *, config: LanguageConfig, head: Tensor
) -> ScorerConstants:
    """Run the prefixes through layers that come one by one, so that only one is in memory. Raises ValueError when the
    prompts have different texts between pictures."""
    gaps = {len(question.between) for question in questions}
    if len(gaps) != 1:
        raise ValueError("all questions of one scorer must have the same text between pictures")
    lengths = [sum(map(len, question.prefix)) for question in questions]
    longest_suffix = max(len(question.suffix) for question in questions)
    (gap,) = gaps
    cosines, sines = rotary_tables(config)
    return ScorerConstants(
        prefix_key_values=_compute_prefix_key_values(questions, layers, config=config, longest=max(lengths)),
        prefix_places=torch.stack([_prefix_positions(length, max(lengths)) for length in lengths]),
        starts=torch.tensor([question.first_picture_position for question in questions]),
        text=torch.stack([_pad_text(question, longest_suffix) for question in questions]),
        text_offsets=torch.stack([_text_offsets(gap, len(question.suffix), longest_suffix) for question in questions]),
        gap=gap,
        head=head.float(),
        cosines=cosines.to(questions[0].suffix),
        sines=sines.to(questions[0].suffix),
    )


def _prefix_positions(length: int, longest: int) -> Tensor:
    positions = torch.arange(longest)
    positions[length:] = _MASKED_POSITION
    return positions


def _text_offsets(gap: int, length: int, longest: int) -> Tensor:
    # With two pictures, the text between them comes before the last picture's tokens; see `_context`.
    padding = torch.full((longest - length,), -_MASKED_POSITION)
    return torch.cat([_between_offsets(gap), padding, torch.arange(length)])


def _between_offsets(gap: int, picture_tokens: int = 65) -> Tensor:
    return torch.arange(gap) - picture_tokens - gap


def _pad_text(question: SplitPrompt, longest: int) -> Tensor:
    padding = question.suffix.new_zeros(longest - len(question.suffix), question.suffix.shape[1])
    return torch.cat([question.between, padding, question.suffix])


def _compute_prefix_key_values(
    questions: Sequence[SplitPrompt], layers: Iterator[DecoderLayer], *, config: LanguageConfig, longest: int
) -> list[KeyValues]:
    sequences = [torch.cat(question.prefix)[None] for question in questions]
    spans = [[(index % 2, len(part)) for index, part in enumerate(question.prefix)] for question in questions]
    contexts = [
        causal_context(config, modality, dtype=sequence.dtype, device=sequence.device)
        for modality, sequence in zip(spans, sequences, strict=True)
    ]
    all_key_values = []
    for layer in layers:
        layer_key_values = []
        for index, context in enumerate(contexts):
            sequences[index], key_values = layer(sequences[index], context)
            layer_key_values.append(
                [
                    functional.pad(values_tensor, (0, 0, 0, longest - values_tensor.shape[2]))
                    for values_tensor in key_values
                ]
            )
        all_key_values.append(
            (torch.cat([keys for keys, _ in layer_key_values]), torch.cat([values for _, values in layer_key_values]))
        )
    return all_key_values
