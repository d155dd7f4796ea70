"""Runs and reads mPLUG-Owl2 from a checkpoint layer by layer, so that only one layer is in memory."""

from collections import ChainMap
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from models.checkpoints.published_files import PublishedFile
from models.export.graphs import Weights
from models.networks.owl.abstractor import grid_position_table, sine_position_table
from models.networks.owl.exportable import FrameEncoder
from models.networks.owl.language import PICTURE, DecoderLayer, RmsNorm, causal_context
from models.networks.owl.owl import PICTURE_TOKEN, Owl, OwlConfig, split_modalities
from models.weights import (
    Hub,
    LoadedWeights,
    TensorShapes,
    WeightsError,
    check_published,
    load_weights,
    state_dict_shapes,
)

OPTIONAL_TENSORS = ("*.q_pos_embed", "*.k_pos_embed")
"""Tables that can be computed when a checkpoint lacks them."""
IGNORED_TENSORS = ("*.rotary_emb.inv_freq",)
"""Tables that old versions of transformers stored."""
_ModuleType = TypeVar("_ModuleType", bound=nn.Module)


def expected_shapes(config: OwlConfig) -> TensorShapes:
    """Published names and shapes of the whole network."""
    with torch.device("meta"):
        return state_dict_shapes(Owl(config))


def load_owl(
    reference: str, config: OwlConfig, hub: Hub, *, published: PublishedFile, sha256: Sequence[str] = ()
) -> LoadedWeights:
    """`load_weights` of tensors with the names and shapes of the whole network; raises WeightsError."""
    loaded = load_weights(reference, hub=hub, sha256=sha256, published=published)
    shapes, expected = loaded.checkpoint.shapes, expected_shapes(config)
    try:
        check_published(shapes, expected, published, optional=OPTIONAL_TENSORS, ignored=IGNORED_TENSORS)
    except WeightsError as error:
        raise WeightsError(f"{reference}: {error}") from error
    return loaded


def with_position_tables(weights: Weights, config: OwlConfig) -> Weights:
    """A checkpoint with the position tables that it may lack."""
    tables: dict[str, Tensor] = {}
    for layer in range(config.abstractor.depth):
        prefix = f"model.visual_abstractor.encoder.layers.{layer}.crossattention.attention."
        if f"{prefix}q_pos_embed" not in weights:
            tables[f"{prefix}q_pos_embed"] = sine_position_table(config.abstractor.width, config.abstractor.queries)
        if f"{prefix}k_pos_embed" not in weights:
            tables[f"{prefix}k_pos_embed"] = grid_position_table(config.abstractor.width, config.abstractor.grid)
    return ChainMap(tables, weights)  # type: ignore[arg-type]


def load_encoder(weights: Weights, config: OwlConfig) -> FrameEncoder:
    """The frame encoder in float32."""
    with torch.device("meta"):
        encoder = FrameEncoder(config)
    return _fill_module(encoder, with_position_tables(weights, config), prefix="model.")


def iterate_layers(weights: Weights, config: OwlConfig) -> Iterator[DecoderLayer]:
    """The decoder layers in float32, one after the other; each overwrites the previous one."""
    with torch.device("meta"):
        layer = DecoderLayer(config.language)
    for index in range(config.language.depth):
        layer = _fill_module(layer, weights, prefix=f"model.layers.{index}.")
        yield layer


def text_embeddings(weights: Weights, ids: Sequence[int]) -> Tensor:
    """Embeddings (tokens, width) in float32 of a prompt's text tokens."""
    text_ids = [token_id for token_id in ids if token_id != PICTURE_TOKEN]
    return weights["model.embed_tokens.weight"][text_ids].float()


def head_rows(weights: Weights, levels: Sequence[int]) -> Tensor:
    """The head's rows (levels, width) in float32 for these token ids."""
    return weights["lm_head.weight"][list(levels)].float()


def reference_logits(
    weights: Weights, config: OwlConfig, prompts: Sequence[tuple[Sequence[int], Sequence[Tensor]]], *, head: Tensor
) -> Tensor:
    """Logits (prompts, levels) of the unmodified network: whole prompts, all layers, nothing precomputed.

    `prompts` are (token ids, pictures (frames, 65, width)); all run together, layer by layer.
    """
    sequences, contexts = [], []
    for ids, pictures in prompts:
        remaining, texts = (
            list(pictures),
            list(
                text_embeddings(weights, ids).split([len(chunk) for modality, chunk in split_modalities(ids) if chunk])
            ),
        )
        parts = [
            remaining.pop(0).flatten(0, 1) if modality == PICTURE else texts.pop(0)
            for modality, _ in split_modalities(ids)
        ]
        spans = [(modality, len(part)) for (modality, _), part in zip(split_modalities(ids), parts, strict=True)]
        sequence = torch.cat(parts)[None]
        sequences.append(sequence)
        contexts.append(causal_context(config.language, spans, dtype=sequence.dtype, device=sequence.device))
    with torch.inference_mode():
        for layer in iterate_layers(weights, config):
            sequences = [layer(state, context)[0] for state, context in zip(sequences, contexts, strict=True)]
        with torch.device("meta"):
            norm = RmsNorm(config.language)
        norm = _fill_module(norm, weights, prefix="model.norm.")
        return torch.stack([norm(state[0, -1]) @ head.T for state in sequences])


def _fill_module(module: _ModuleType, weights: Weights, *, prefix: str) -> _ModuleType:
    table = {name: weights[prefix + name].float() for name in module.state_dict()}
    module.load_state_dict(table, assign=True)
    return module.eval().requires_grad_(requires_grad=False)
