"""mPLUG-Owl2 as it is exported: a frame encoder, and a language scorer that remembers what is always the same."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.owl.abstractor import Abstractor
from models.networks.owl.language import (
    PICTURE,
    TEXT,
    Context,
    DecoderLayer,
    LanguageConfig,
    Memory,
    RmsNorm,
    rotary_tables,
    whole_context,
)
from models.networks.owl.owl import OwlConfig, chunks
from models.networks.owl.q_align import MEAN, STD
from models.networks.owl.vision import VisionTower

UNSEEN = 1 << 30
"""The place of a token that no other may look at: padding of a shorter prompt."""


class FrameEncoder(nn.Module):
    """Pictures (frames, 3, 448, 448) uint8 RGB -> features (frames, 65, width), shared by all tasks and scorers."""

    def __init__(self, config: OwlConfig) -> None:
        super().__init__()
        self.vision_model = VisionTower(config.vision)
        self.visual_abstractor = Abstractor(config.abstractor, config.language.width)

    def forward(self, pixels: Tensor) -> Tensor:
        # In float32 whatever the tower's type: as precise as preparing the pictures outside, at a quarter of the bytes.
        shares = (pixels.float() / 255).unbind(1)
        scaled = torch.stack([(each - mean) / std for each, mean, std in zip(shares, MEAN, STD, strict=True)], dim=1)
        weight = self.vision_model.embeddings.patch_embed.weight
        return self.visual_abstractor(self.vision_model(scaled.to(weight.dtype)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One way to ask: what comes before the pictures, between two of them, and after the last."""

    before: tuple[Tensor, ...]
    """Embeddings (tokens, width) of text and known pictures in turn, text first."""
    # the place of the first open picture
    start: int
    between: Tensor
    after: Tensor


class PrefixMemory(nn.Module):
    """One layer's keys and values (questions, heads, tokens, head width) of all prefixes."""

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.register_buffer("keys", keys)
        self.register_buffer("values", values)

    def forward(self, question: Tensor) -> Memory:
        return self.keys.index_select(0, question), self.values.index_select(0, question)


class LanguageScorer(nn.Module):
    """Features (rows, frames, 65, width) and which question each row is asked -> level logits (rows, levels), float32.

    Constant: the prefixes' keys and values, the suffixes' embeddings, one row of the head per level. Pictures come
    first in the sequence and text last, whatever the prompt's order: places are carried as numbers, so only the mask
    and the rotation know of order, and each lane is one slice.
    """

    cosines: Tensor
    sines: Tensor
    text: Tensor
    head: Tensor
    starts: Tensor
    prefix_places: Tensor
    text_offsets: Tensor

    def __init__(self, config: OwlConfig, constants: "Constants") -> None:
        super().__init__()
        language = config.language
        self.picture_tokens = config.tokens_per_picture
        self.gap = constants.gap
        self.layers = nn.ModuleList(DecoderLayer(language) for _ in range(language.depth))
        self.norm = RmsNorm(language)
        self.prefix = nn.ModuleList(PrefixMemory(keys, values) for keys, values in constants.memories)
        for name in ("cosines", "sines", "text", "head", "starts", "prefix_places", "text_offsets"):
            self.register_buffer(name, getattr(constants, name))

    def forward(self, features: Tensor, question: Tensor) -> Tensor:
        pictures = features.flatten(1, 2)
        text = self.text.index_select(0, question)
        tokens = torch.cat([pictures, text], dim=1)
        context = self._context(features, question, lanes=[(PICTURE, pictures.shape[1]), (TEXT, text.shape[1])])
        for layer, prefix in zip(self.layers[:-1], self.prefix[:-1], strict=True):
            tokens, _ = layer(tokens, context, prefix(question))
        token = self.layers[-1].last(tokens, context, self.prefix[-1](question))
        return (self.norm(token)[:, 0].float() @ self.head.T).float()

    def _context(self, features: Tensor, question: Tensor, *, lanes: list[tuple[int, int]]) -> Context:
        frames, count = features.shape[1], features.shape[1] * self.picture_tokens
        start = self.starts.index_select(0, question)[:, None]
        at = torch.arange(count, device=features.device)
        pictures = start + (at + at // self.picture_tokens * self.gap)[None]
        text = start + self.text_offsets.index_select(0, question) + (count + (frames - 1) * self.gap)
        # Padding of a shorter suffix has an offset far below 0: it is moved where nobody looks.
        unseen = torch.where(text < 0, UNSEEN, text)
        seen_from = torch.cat([pictures, text], dim=1)
        places = torch.cat([self.prefix_places.index_select(0, question), pictures, unseen], dim=1)
        turned = seen_from.clamp(min=0)
        return Context(
            lanes=lanes,
            cosines=functional.embedding(turned, self.cosines)[:, None],
            sines=functional.embedding(turned, self.sines)[:, None],
            mask=(places[:, None, :] <= turned[:, :, None])[:, None],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """All that a LanguageScorer knows beforehand about its questions."""

    # per layer, (questions, heads, prefix, head width) each
    memories: list[Memory]
    # (questions, prefix): places, UNSEEN for padding
    prefix_places: Tensor
    # (questions,): the place of the first picture token
    starts: Tensor
    # (questions, tokens, width): what is between pictures, then padding, then what is after
    text: Tensor
    # (questions, tokens): place after the last picture token, -UNSEEN for padding
    text_offsets: Tensor
    # tokens between two pictures
    gap: int
    # (levels, width), float32
    head: Tensor
    # (longest, head width) each
    cosines: Tensor
    sines: Tensor

    def to(self, dtype: torch.dtype) -> "Constants":
        """The same in another floating type; the head stays in float32."""
        changed = {name: getattr(self, name).to(dtype) for name in ("text", "cosines", "sines")}
        return replace(self, memories=[(keys.to(dtype), values.to(dtype)) for keys, values in self.memories], **changed)


def ask(ids: Sequence[int], rows: Tensor, *, known: Sequence[Tensor] = ()) -> Question:
    """A prompt's ids, with `rows` their embeddings in order of the text tokens, as a Question.

    The first places of pictures are filled by `known` (65, width); one or two are left open for each run.
    """
    texts = list(rows.split([len(ids) for lane, ids in chunks(ids) if lane == TEXT]))
    pictures: list[Tensor | None] = [*known, *([None] * len(ids))]
    parts = [texts.pop(0) if lane == TEXT else pictures.pop(0) for lane, _ in chunks(ids)]
    opens = [at for at, part in enumerate(parts) if part is None]
    if not 1 <= len(opens) <= 2 or opens != list(range(len(parts) - 2 * len(opens), len(parts), 2)):
        raise ValueError("a prompt must leave one or two pictures open, with text before, between and after")
    # The text before an only open picture counts as `between` when a known picture comes before it.
    cut = opens[0] if len(opens) == 2 or not known else opens[0] - 1
    between = parts[opens[-1] - 1] if len(opens) == 2 or known else rows[:0]
    before = tuple(part for part in parts[:cut] if part is not None)
    after = parts[-1]
    assert between is not None
    assert after is not None
    start = sum(len(part) for part in parts[: opens[0]] if part is not None)
    return Question(before=before, start=start, between=between, after=after)


def constants_of(
    questions: Sequence[Question], layers: Iterator[DecoderLayer], *, config: LanguageConfig, head: Tensor
) -> Constants:
    """Run the prefixes through layers that come one by one: no more than one needs to be in memory."""
    gaps = {len(question.between) for question in questions}
    if len(gaps) != 1:
        raise ValueError("all questions of one scorer must have the same text between pictures")
    lengths = [sum(map(len, question.before)) for question in questions]
    longest_text = max(len(question.after) for question in questions)
    (gap,) = gaps
    cosines, sines = rotary_tables(config)
    return Constants(
        memories=_memories(questions, layers, config=config, longest=max(lengths)),
        prefix_places=torch.stack([_places(length, max(lengths)) for length in lengths]),
        starts=torch.tensor([question.start for question in questions]),
        text=torch.stack([_pad_text(question, longest_text) for question in questions]),
        text_offsets=torch.stack([_offsets(gap, len(question.after), longest_text) for question in questions]),
        gap=gap,
        head=head.float(),
        cosines=cosines.to(questions[0].after),
        sines=sines.to(questions[0].after),
    )


def _places(length: int, longest: int) -> Tensor:
    places = torch.arange(longest)
    places[length:] = UNSEEN
    return places


def _offsets(gap: int, length: int, longest: int) -> Tensor:
    # With two pictures, the text between them lies before the last picture's tokens; see `_context`.
    inner = torch.full((longest - length,), -UNSEEN)
    return torch.cat([_between_offsets(gap), inner, torch.arange(length)])


def _between_offsets(gap: int, picture_tokens: int = 65) -> Tensor:
    return torch.arange(gap) - picture_tokens - gap


def _pad_text(question: Question, longest: int) -> Tensor:
    padding = question.after.new_zeros(longest - len(question.after), question.after.shape[1])
    return torch.cat([question.between, padding, question.after])


def _memories(
    questions: Sequence[Question], layers: Iterator[DecoderLayer], *, config: LanguageConfig, longest: int
) -> list[Memory]:
    sequences = [torch.cat(question.before)[None] for question in questions]
    lanes = [[(at % 2, len(part)) for at, part in enumerate(question.before)] for question in questions]
    contexts = [
        whole_context(config, lane, dtype=sequence.dtype, device=sequence.device)
        for lane, sequence in zip(lanes, sequences, strict=True)
    ]
    memories = []
    for layer in layers:
        kept = []
        for at, context in enumerate(contexts):
            sequences[at], memory = layer(sequences[at], context)
            kept.append([functional.pad(one, (0, 0, 0, longest - one.shape[2])) for one in memory])
        memories.append((torch.cat([keys for keys, _ in kept]), torch.cat([values for _, values in kept])))
    return memories
