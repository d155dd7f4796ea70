"""Exports the feature that RQ-VQA takes from Q-Align: the mean hidden state over all tokens of a question and its
picture.

Every token counts, so no prefix is precomputed and no layer trimmed, unlike in `models.networks.owl.exportable`; the
frame encoder is the same file as that of the Q-Align scorer.
"""

from collections import ChainMap
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.export import graphs
from models.export.assembly.assembly import PixelInput
from models.export.assembly.writer import (
    BATCH_BUCKETS,
    GOLDEN_ROWS,
    GOLDEN_SEED,
    SheetFacts,
    golden_values,
    write_sheet,
)
from models.export.graphs import GraphSignature, Weights, graph_spec
from models.export.owl import PRECISIONS, PrefixedWeights, default_dtype, write_encoder
from models.export.owl_streaming import iterate_layers, load_encoder, text_embeddings
from models.networks.owl import q_align
from models.networks.owl.language import PICTURE, TEXT, AttentionContext, DecoderLayer, RmsNorm, rotary_tables
from models.networks.owl.owl import PICTURE_TOKEN, OwlConfig
from models.weights import WeightsError
from vqmon.scoring.manifests.composite_scorer import StepSpec

HIDDEN_STATE_PROMPT = q_align.PROMPT_VARIANTS["quality_form_b"]
"""The prompt of the published features."""
_HALVES, _MAX_UNITS = 2, 32


class MeanHiddenState(nn.Module):
    """Encoder features of both halves (units, 2, 65, width) -> mean hidden state (units, width), float32.

    `text` (tokens, width) are the embeddings of the prompt's text. Parameter names are those of the language tower
    without the leading `model.`.
    """

    before: Tensor
    after: Tensor
    cosines: Tensor
    sines: Tensor
    mask: Tensor

    def __init__(self, config: OwlConfig, text: Tensor, *, weights_on: str = "cpu") -> None:
        super().__init__()
        language, picture_index = config.language, HIDDEN_STATE_PROMPT.index(PICTURE_TOKEN)
        before, after = text[:picture_index], text[picture_index:]
        with torch.device(weights_on):
            self.layers = nn.ModuleList(DecoderLayer(language) for _ in range(language.depth))
            self.norm = RmsNorm(language)
        count = len(before) + config.tokens_per_picture + len(after)
        cosines, sines = (table[:count].to(before.dtype)[None, None] for table in rotary_tables(language))
        mask = torch.ones(count, count, dtype=torch.bool).tril()[None, None]
        tables = {"before": before, "after": after, "cosines": cosines, "sines": sines, "mask": mask}
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        tokens, context = self.sequence(features)
        for layer in self.layers:
            tokens, _ = layer(tokens, context)
        means = self.norm(tokens).float().mean(1)
        return means.unflatten(0, features.shape[:2]).mean(1)

    def sequence(self, features: Tensor) -> tuple[Tensor, AttentionContext]:
        """The token sequences of all halves, and their attention context."""
        pictures = features.to(self.before.dtype).flatten(0, 1)
        text = [part[None].expand(pictures.shape[0], -1, -1) for part in (self.before, self.after)]
        tokens = torch.cat([text[0], pictures, text[1]], dim=1)
        spans = [(TEXT, len(self.before)), (PICTURE, pictures.shape[1]), (TEXT, len(self.after))]
        return tokens, AttentionContext(spans=spans, cosines=self.cosines, sines=self.sines, mask=self.mask)


def _write_hidden_graph(
    config: OwlConfig, weights: Weights, *, precision: str, target: Path, max_embedded_bytes: int
) -> Path:
    """Write the graph features (units, 2, 65, width) -> hidden (units, width) float32; features have the precision's
    type."""
    settings = PRECISIONS[precision]
    with default_dtype(settings.dtype):
        network = MeanHiddenState(
            config, text_embeddings(weights, HIDDEN_STATE_PROMPT).to(settings.dtype), weights_on="meta"
        )
    known, names = dict(network.named_buffers()), dict(network.named_parameters())
    shape = (2, _HALVES, config.tokens_per_picture, config.language.width)
    features = torch.empty(shape, dtype=settings.dtype, device="meta")
    signature = GraphSignature(
        example=(features,), inputs=("features",), output="hidden", dynamic_axes=({0: ("units", _MAX_UNITS)},)
    )
    model = graphs.export_graph(network.to("meta"), signature)
    graphs.fill_initializers(model, ChainMap(known, PrefixedWeights(weights, "model.", names)))  # type: ignore[arg-type]
    if settings.quantize_weights:
        settings.quantize_weights(model)
    graphs.save_graph(model, target, max_embedded_bytes=max_embedded_bytes)
    return target


def _reference_hidden(config: OwlConfig, weights: Weights, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """The output of `MeanHiddenState` in float32, with one layer of the checkpoint in memory at a time."""
    with torch.inference_mode():
        network = MeanHiddenState(config, text_embeddings(weights, HIDDEN_STATE_PROMPT), weights_on="meta")
        tokens, context = network.sequence(torch.from_numpy(features))
        for layer in iterate_layers(weights, config):
            tokens, _ = layer(tokens, context)
        scale = weights["model.norm.weight"].float()
        means = functional.rms_norm(tokens, scale.shape, scale, config.language.eps).mean(1)
        hidden: NDArray[np.float32] = means.unflatten(0, features.shape[:2]).mean(1).numpy()
    return hidden


def _reference_features(config: OwlConfig, weights: Weights, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The encoder's features in float32 of halves (units, 2, 3, 448, 448), one picture at a time."""
    encoder, pictures = load_encoder(weights, config), torch.from_numpy(pixels).flatten(0, 1)
    with torch.inference_mode():
        features = torch.cat([encoder(picture[None]) for picture in pictures])
    result: NDArray[np.float32] = features.unflatten(0, pixels.shape[:2]).numpy()
    return result


def write_hidden_scorer(
    config: OwlConfig, weights: Weights, facts: SheetFacts, *, precision: str, sheet: Path, max_embedded_bytes: int
) -> Path:
    """Write the frame encoder, the graph behind it, and their sheet; returns the path of the sheet.

    The encoder has the file name of the Q-Align scorer's; an existing file with the same content is kept. Raises
    WeightsError when it has other weights.
    """
    name_and_version = sheet.name.removesuffix(".parts.json")
    encoder, hidden = (
        sheet.with_name(f"{file_name}.onnx")
        for file_name in (f"{name_and_version.replace('-hidden', '')}.encoder", name_and_version)
    )
    _write_shared_encoder(config, weights, precision=precision, target=encoder, max_embedded_bytes=max_embedded_bytes)
    _write_hidden_graph(config, weights, precision=precision, target=hidden, max_embedded_bytes=max_embedded_bytes)
    source = PixelInput(name="halves", transform="halves", side=q_align.SIDE, order="NKCHW", pictures=_HALVES)
    encoder_name, hidden_name = "q-align-encoder", "llm"
    steps = (
        StepSpec(
            name=encoder_name,
            graph=graph_spec(encoder, inputs=("pixels",), output="features"),
            takes=(source.name,),
            each="picture",
            buckets=BATCH_BUCKETS,
        ),
        StepSpec(
            name=hidden_name,
            graph=graph_spec(hidden, inputs=("features",), output="hidden"),
            takes=(encoder_name,),
            each="row",
            buckets=BATCH_BUCKETS,
        ),
    )
    features = _reference_features(config, weights, source.golden(GOLDEN_ROWS, seed=GOLDEN_SEED))
    hidden_values = _reference_hidden(config, weights, features)
    # complete: scorers that take this feature are exported without running its graphs
    golden = {
        encoder_name: golden_values(features),
        hidden_name: golden_values(hidden_values, max_values=hidden_values.size),
    }
    write_sheet(sheet, facts, precision=precision, inputs=(source,), steps=steps, golden=golden)
    return sheet


def _write_shared_encoder(
    config: OwlConfig, weights: Weights, *, precision: str, target: Path, max_embedded_bytes: int
) -> None:
    with TemporaryDirectory(dir=target.parent) as folder:
        temporary = Path(folder) / target.name
        write_encoder(
            config, weights, precision=PRECISIONS[precision], target=temporary, max_embedded_bytes=max_embedded_bytes
        )
        if target.exists() and graphs.hash_graph(target) != graphs.hash_graph(temporary):
            raise WeightsError(
                f"{target} exists and has other weights: name the weights of that scorer, or write to "
                "another folder (--built)"
            )
        for file in (graphs.external_data_file(temporary), temporary):
            if file.exists():
                file.replace(target.with_name(file.name))
