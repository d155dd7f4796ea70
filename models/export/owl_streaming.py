"""mPLUG-Owl2 out of a checkpoint piece by piece: no more than one layer is ever in memory."""

from collections import ChainMap
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from models.export.graphs import Weights
from models.networks.owl.abstractor import grid_table, line_table
from models.networks.owl.exportable import FrameEncoder
from models.networks.owl.language import PICTURE, DecoderLayer, RmsNorm, whole_context
from models.networks.owl.owl import PICTURE_ID, Owl, OwlConfig, chunks
from models.weights import Shapes, shapes_of

OPTIONAL = ("*.q_pos_embed", "*.k_pos_embed")
"""Tables that the network can compute by itself."""
IGNORED = ("*.rotary_emb.inv_freq",)
"""Tables that old versions of a library stored."""
Kind = TypeVar("Kind", bound=nn.Module)


def needed_shapes(config: OwlConfig) -> Shapes:
    """The published names and shapes of a whole network."""
    with torch.device("meta"):
        return shapes_of(Owl(config))


def with_tables(weights: Weights, config: OwlConfig) -> Weights:
    """A checkpoint with the position tables that it may lack."""
    tables: dict[str, Tensor] = {}
    for at in range(config.abstractor.depth):
        prefix = f"model.visual_abstractor.encoder.layers.{at}.crossattention.attention."
        if f"{prefix}q_pos_embed" not in weights:
            tables[f"{prefix}q_pos_embed"] = line_table(config.abstractor.width, config.abstractor.queries)
        if f"{prefix}k_pos_embed" not in weights:
            tables[f"{prefix}k_pos_embed"] = grid_table(config.abstractor.width, config.abstractor.grid)
    return ChainMap(tables, weights)  # type: ignore[arg-type]


def encoder_of(weights: Weights, config: OwlConfig) -> FrameEncoder:
    """The frame encoder in float32."""
    with torch.device("meta"):
        encoder = FrameEncoder(config)
    return _filled(encoder, with_tables(weights, config), prefix="model.")


def layers_of(weights: Weights, config: OwlConfig) -> Iterator[DecoderLayer]:
    """The language tower's layers in float32, one after the other; the next one takes the place of the last."""
    with torch.device("meta"):
        layer = DecoderLayer(config.language)
    for at in range(config.language.depth):
        layer = _filled(layer, weights, prefix=f"model.layers.{at}.")
        yield layer


def rows_of(weights: Weights, ids: Sequence[int]) -> Tensor:
    """Embeddings (tokens, width) in float32 of a prompt's text."""
    text = [one for one in ids if one != PICTURE_ID]
    return weights["model.embed_tokens.weight"][text].float()


def head_of(weights: Weights, levels: Sequence[int]) -> Tensor:
    """The head's rows (levels, width) in float32."""
    return weights["lm_head.weight"][list(levels)].float()


def plain_logits(
    weights: Weights, config: OwlConfig, asked: Sequence[tuple[Sequence[int], Sequence[Tensor]]], *, head: Tensor
) -> Tensor:
    """Logits (len(asked), levels) by the network's plain form: whole prompts, all layers, no memory, no trims.

    `asked` are prompts with their pictures (frames, 65, width), all run together, layer by layer.
    """
    sequences, contexts = [], []
    for ids, pictures in asked:
        left, texts = list(pictures), list(rows_of(weights, ids).split([len(c) for lane, c in chunks(ids) if c]))
        parts = [left.pop(0).flatten(0, 1) if lane == PICTURE else texts.pop(0) for lane, _ in chunks(ids)]
        lanes = [(lane, len(part)) for (lane, _), part in zip(chunks(ids), parts, strict=True)]
        sequence = torch.cat(parts)[None]
        sequences.append(sequence)
        contexts.append(whole_context(config.language, lanes, dtype=sequence.dtype, device=sequence.device))
    with torch.inference_mode():
        for layer in layers_of(weights, config):
            sequences = [layer(one, context)[0] for one, context in zip(sequences, contexts, strict=True)]
        with torch.device("meta"):
            norm = RmsNorm(config.language)
        norm = _filled(norm, weights, prefix="model.norm.")
        return torch.stack([norm(one[0, -1]) @ head.T for one in sequences])


def _filled(module: Kind, weights: Weights, *, prefix: str) -> Kind:
    table = {name: weights[prefix + name].float() for name in module.state_dict()}
    module.load_state_dict(table, assign=True)
    return module.eval().requires_grad_(requires_grad=False)
