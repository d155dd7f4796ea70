"""What RQ-VQA takes from Q-Align: the mean hidden state over all tokens of a question about each half of a picture.

Every token counts here, so no prefix is remembered and no layer trimmed, unlike in the scorer of `owl_scorer.py`; the
frame encoder is that scorer's own, the same file.
"""

from collections import ChainMap
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from models.export import graphs
from models.export.assembly.assembly import Source
from models.export.assembly.writer import (
    BUCKETS,
    GOLDEN_ROWS,
    GOLDEN_SEED,
    SheetFacts,
    golden_of,
    graph_of,
    write_sheet,
)
from models.export.graphs import Signature, Weights
from models.export.owl import FORMS, Renamed, default_dtype, write_encoder
from models.export.owl_streaming import encoder_of, layers_of, rows_of
from models.networks.owl import q_align
from models.networks.owl.language import PICTURE, TEXT, Context, DecoderLayer, RmsNorm, rotary_tables
from models.networks.owl.owl import PICTURE_ID, OwlConfig
from models.weights import WeightsError
from vqmon.scoring.manifests.composite_scorer import StepSpec

PROMPT = q_align.VARIANTS["quality_form_b"]
"""The question that the published features were made with."""
HALVES, MOST_ROWS = 2, 32


class HiddenMean(nn.Module):
    """Features of halves (units, 2, 65, width) by the frame encoder -> (units, width), float32, whatever comes in.

    `text` (tokens, width) are the embeddings of the prompt's words. Names are those of the language tower without the
    leading `model.`.
    """

    before: Tensor
    after: Tensor
    cosines: Tensor
    sines: Tensor
    mask: Tensor

    def __init__(self, config: OwlConfig, text: Tensor, *, weights_on: str = "cpu") -> None:
        super().__init__()
        language, place = config.language, PROMPT.index(PICTURE_ID)
        before, after = text[:place], text[place:]
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

    def sequence(self, features: Tensor) -> tuple[Tensor, Context]:
        """The tokens of every half, and how they lie."""
        pictures = features.to(self.before.dtype).flatten(0, 1)
        text = [part[None].expand(pictures.shape[0], -1, -1) for part in (self.before, self.after)]
        tokens = torch.cat([text[0], pictures, text[1]], dim=1)
        lanes = [(TEXT, len(self.before)), (PICTURE, pictures.shape[1]), (TEXT, len(self.after))]
        return tokens, Context(lanes=lanes, cosines=self.cosines, sines=self.sines, mask=self.mask)


def write(config: OwlConfig, weights: Weights, *, form: str, target: Path, one_file_bytes: int) -> Path:
    """The graph features (units, 2, 65, width) -> hidden (units, width) float32, a tensor at a time.

    Features are of the form's type, as the encoder gives them.
    """
    chosen = FORMS[form]
    with default_dtype(chosen.dtype):
        network = HiddenMean(config, rows_of(weights, PROMPT).to(chosen.dtype), weights_on="meta")
    known, names = dict(network.named_buffers()), dict(network.named_parameters())
    shape = (2, HALVES, config.tokens_per_picture, config.language.width)
    features = torch.empty(shape, dtype=chosen.dtype, device="meta")
    signature = Signature(
        example=(features,), inputs=("features",), output="hidden", varying=({0: ("units", MOST_ROWS)},)
    )
    model = graphs.trace(network.to("meta"), signature)
    graphs.fill(model, ChainMap(known, Renamed(weights, "model.", names)))  # type: ignore[arg-type]
    if chosen.shrink:
        chosen.shrink(model)
    graphs.write(model, target, one_file_bytes=one_file_bytes)
    return target


def plain(config: OwlConfig, weights: Weights, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """What `HiddenMean` says in float32, a layer of the checkpoint at a time."""
    with torch.inference_mode():
        network = HiddenMean(config, rows_of(weights, PROMPT), weights_on="meta")
        tokens, context = network.sequence(torch.from_numpy(features))
        for layer in layers_of(weights, config):
            tokens, _ = layer(tokens, context)
        scale = weights["model.norm.weight"].float()
        means = functional.rms_norm(tokens, scale.shape, scale, config.language.eps).mean(1)
        found: NDArray[np.float32] = means.unflatten(0, features.shape[:2]).mean(1).numpy()
    return found


def plain_features(config: OwlConfig, weights: Weights, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the frame encoder says in float32 of halves (units, 2, 3, 448, 448), a picture at a time."""
    encoder, pictures = encoder_of(weights, config), torch.from_numpy(pixels).flatten(0, 1)
    with torch.inference_mode():
        features = torch.cat([encoder(one[None]) for one in pictures])
    found: NDArray[np.float32] = features.unflatten(0, pixels.shape[:2]).numpy()
    return found


def write_scorer(
    config: OwlConfig, weights: Weights, facts: SheetFacts, *, form: str, sheet: Path, one_file_bytes: int
) -> Path:
    """Write the frame encoder, the graph behind it, and their sheet; returns the latter's path.

    The encoder's file is that of the scorer: one which is there already is left as it is. Raises WeightsError when it
    is of other weights.
    """
    own = sheet.name.removesuffix(".parts.json")
    encoder, hidden = (sheet.with_name(f"{name}.onnx") for name in (f"{own.replace('-hidden', '')}.encoder", own))
    _write_encoder(config, weights, form=form, target=encoder, one_file_bytes=one_file_bytes)
    write(config, weights, form=form, target=hidden, one_file_bytes=one_file_bytes)
    source = Source(name="halves", made="halves", side=q_align.SIDE, order="NKCHW", pictures=HALVES)
    seen, thought = "q-align-encoder", "llm"
    steps = (
        StepSpec(
            name=seen, graph=graph_of(encoder, inputs=("pixels",), output="features"), takes=(source.name,),
            each="picture", buckets=BUCKETS,
        ),
        StepSpec(
            name=thought, graph=graph_of(hidden, inputs=("features",), output="hidden"), takes=(seen,), each="row",
            buckets=BUCKETS,
        ),
    )  # fmt: skip
    features = plain_features(config, weights, source.golden(GOLDEN_ROWS, seed=GOLDEN_SEED))
    said = plain(config, weights, features)
    # whole: a scorer that takes it is written without running this one
    golden = {seen: golden_of(features), thought: golden_of(said, most=said.size)}
    write_sheet(sheet, facts, form=form, sources=(source,), steps=steps, golden=golden)
    return sheet


def _write_encoder(config: OwlConfig, weights: Weights, *, form: str, target: Path, one_file_bytes: int) -> None:
    with TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        write_encoder(config, weights, form=FORMS[form], target=made, one_file_bytes=one_file_bytes)
        if target.exists() and graphs.unit_hash(target) != graphs.unit_hash(made):
            raise WeightsError(
                f"{target} is there already and is of other weights: name the weights of that scorer, or write to "
                "another folder (--built)"
            )
        for file in (graphs.data_file(made), made):
            if file.exists():
                file.replace(target.with_name(file.name))


def halves(picture: Image.Image) -> NDArray[np.uint8]:
    """The upper and the lower half of a picture (2, 448, 448, 3), each padded to a square of its own and resized."""
    middle = picture.height // 2
    boxes = ((0, 0, picture.width, middle), (0, middle, picture.width, picture.height))
    return np.stack([q_align.to_square(picture.crop(box)) for box in boxes])
