"""Exports a checkpoint of mPLUG-Owl2 as a level scorer: frame encoder, language graph, and their manifest."""

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import onnx_ir as ir
import torch
from torch import Tensor

from models.export import graphs, quantize
from models.export.graphs import GraphSignature, Weights
from models.export.owl_streaming import (
    head_rows,
    iterate_layers,
    load_encoder,
    reference_logits,
    text_embeddings,
    with_position_tables,
)
from models.export.pair import ManifestFacts
from models.networks.owl import q_align
from models.networks.owl.exportable import FrameEncoder, LanguageScorer, compute_constants, split_prompt
from models.networks.owl.owl import PICTURE_TOKEN, OwlConfig
from vqmon.core.types import View
from vqmon.scoring.manifests.frame_scorer import GoldenInput, InputSpec, golden_frames
from vqmon.scoring.manifests.level_scorer import (
    Comparisons,
    GoldenAnswer,
    Level,
    LevelGolden,
    LevelScorerSpec,
    TaskSpec,
    save_level_spec,
)

PICTURE_VIEW = View(kind="fit", width=q_align.SIDE, height=q_align.SIDE, pad_rgb=q_align.PAD_RGB)
_MAX_ROWS = 64
_GOLDEN_INPUT = GoldenInput(kind="pattern", seed=448, frames=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """Type of the activations and quantization of the weights."""

    dtype: torch.dtype
    quantize_weights: Callable[[ir.Model], int] | None = None
    # the encoder has a twentieth of the weights: precisions that only save memory leave it as it is
    quantize_encoder: Callable[[ir.Model], int] | None = None
    # allowed difference of the expected level from the reference network, as a share of the span of the levels
    tolerance: float
    max_rows: int = _MAX_ROWS


def _is_head(name: str) -> bool:
    # Five rows in float32: quantizing them would save nothing.
    return name.startswith("head")


def _quantize_weights(bits: int) -> Callable[[ir.Model], int]:
    return lambda model: quantize.quantize_weights(model, bits, keep=_is_head)


def _quantize_weights_and_activations(model: ir.Model) -> int:
    return quantize.quantize_dynamically(model, keep=_is_head)


PRECISIONS: Mapping[str, Precision] = MappingProxyType(
    {
        "fp32": Precision(dtype=torch.float32, tolerance=0.0005),
        "fp16": Precision(dtype=torch.float16, tolerance=0.0025),
        # ONNX Runtime has no CPU kernels for it
        "bf16": Precision(dtype=torch.bfloat16, tolerance=0.02),
        # for CPUs: weights and activations in 8 bits; one scale for all activations of a run, hence one row per run
        "int8": Precision(
            dtype=torch.float32,
            quantize_weights=_quantize_weights_and_activations,
            quantize_encoder=_quantize_weights_and_activations,
            tolerance=0.08,
            max_rows=1,
        ),
        # to save memory: weights alone
        "int8-weights": Precision(dtype=torch.float32, quantize_weights=_quantize_weights(8), tolerance=0.05),
        "int4": Precision(dtype=torch.float32, quantize_weights=_quantize_weights(4), tolerance=0.2),
        "int8-fp16": Precision(dtype=torch.float16, quantize_weights=_quantize_weights(8), tolerance=0.05),
        "int4-fp16": Precision(dtype=torch.float16, quantize_weights=_quantize_weights(4), tolerance=0.2),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerPrompt:
    """A prompt's token ids, and the features (65, width) of its fixed pictures."""

    ids: tuple[int, ...]
    fixed_pictures: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelScorerRecipe:
    """Everything that defines a level scorer beside the weights."""

    name: str
    version: int
    config: OwlConfig
    prompts: tuple[ScorerPrompt, ...]
    tasks: tuple[TaskSpec, ...]
    # level word -> token id, in the order of the logits
    levels: Mapping[str, int]
    values: tuple[float, ...]
    temperature: float
    comparisons: Comparisons | None
    facts: ManifestFacts

    def id(self, precision: str) -> str:
        """name-precision@version."""
        return f"{self.name}-{precision}@{self.version}"


def write_level_scorer(
    recipe: LevelScorerRecipe, weights: Weights, *, precision: str, folder: Path, max_embedded_bytes: int
) -> Path:
    """Write both graphs and the manifest; returns the path of the manifest. Reads one layer at a time."""
    scorer = recipe.id(precision)
    encoder, language = folder / f"{scorer}.encoder.onnx", folder / f"{scorer}.language.onnx"
    write_encoder(
        recipe.config, weights, precision=PRECISIONS[precision], target=encoder, max_embedded_bytes=max_embedded_bytes
    )
    write_language(
        recipe, weights, precision=PRECISIONS[precision], target=language, max_embedded_bytes=max_embedded_bytes
    )
    spec = LevelScorerSpec(
        kind="levels",
        name=f"{recipe.name}-{precision}",
        version=recipe.version,
        description=recipe.facts.description,
        input=InputSpec(
            name="pixels", view=PICTURE_VIEW, colour="rgb", layout="NCHW", dtype="uint8", mean=(0, 0, 0), std=(1, 1, 1)
        ),
        encoder=graphs.graph_spec(encoder, inputs=("pixels",), output="features"),
        language=graphs.graph_spec(language, inputs=("features", "question"), output="logits"),
        most_rows=PRECISIONS[precision].max_rows,
        feature_dtype=str(PRECISIONS[precision].dtype).removeprefix("torch."),  # type: ignore[arg-type]
        tasks=recipe.tasks,
        levels=tuple(Level(word=word, value=value) for word, value in zip(recipe.levels, recipe.values, strict=True)),
        temperature=recipe.temperature,
        comparisons=recipe.comparisons,
        native_range=recipe.facts.native_range,
        higher_is_better=True,
        calibration=recipe.facts.calibration,
        licence=recipe.facts.licence,
        provenance=recipe.facts.provenance,
        golden=_compute_golden(recipe, weights, tolerance=PRECISIONS[precision].tolerance),
    )
    save_level_spec(spec, folder / f"{scorer}.json")
    return folder / f"{scorer}.json"


def write_encoder(
    config: OwlConfig, weights: Weights, *, precision: Precision, target: Path, max_embedded_bytes: int
) -> None:
    """Write the graph pixels (frames, 3, 448, 448) uint8 -> features (frames, 65, width)."""
    with torch.device("meta"), default_dtype(precision.dtype):
        encoder = FrameEncoder(config)
        pixels = torch.empty(2, 3, q_align.SIDE, q_align.SIDE, dtype=torch.uint8)
    signature = GraphSignature(
        example=(pixels,), inputs=("pixels",), output="features", dynamic_axes=({0: ("frames", _MAX_ROWS)},)
    )
    model = graphs.export_graph(encoder.to(precision.dtype), signature)
    graphs.fill_initializers(
        model, PrefixedWeights(with_position_tables(weights, config), "model.", encoder.state_dict())
    )
    if precision.quantize_encoder:
        precision.quantize_encoder(model)
    graphs.save_graph(model, target, max_embedded_bytes=max_embedded_bytes)


def write_language(
    recipe: LevelScorerRecipe, weights: Weights, *, precision: Precision, target: Path, max_embedded_bytes: int
) -> None:
    """Write the graph features (rows, frames, 65, width), question (rows) -> logits (rows, levels) float32."""
    config = recipe.config
    questions = [
        split_prompt(prompt.ids, text_embeddings(weights, prompt.ids), fixed_pictures=prompt.fixed_pictures)
        for prompt in recipe.prompts
    ]
    with torch.inference_mode():
        head = head_rows(weights, list(recipe.levels.values()))
        constants = compute_constants(questions, iterate_layers(weights, config), config=config.language, head=head)
    # Prefixes are computed in float32 at every precision and rounded once, at the end.
    with torch.device("meta"), default_dtype(precision.dtype):
        scorer = LanguageScorer(config, constants.to(precision.dtype))
    constants_by_name = dict(scorer.named_buffers())
    scorer.to("meta")
    with torch.device("meta"):
        features = torch.empty(2, 3, config.tokens_per_picture, config.language.width, dtype=precision.dtype)
        question = torch.zeros(2, dtype=torch.int64)
    signature = GraphSignature(
        example=(features, question),
        inputs=("features", "question"),
        output="logits",
        dynamic_axes=({0: ("rows", _MAX_ROWS), 1: ("frames", q_align.MAX_FRAMES)}, {0: ("rows", _MAX_ROWS)}),
    )
    model = graphs.export_graph(scorer, signature)
    parameters = PrefixedWeights(weights, "model.", dict(scorer.named_parameters()))
    graphs.fill_initializers(model, ChainMap(constants_by_name, parameters))  # type: ignore[arg-type]
    if precision.quantize_weights:
        precision.quantize_weights(model)
    graphs.save_graph(model, target, max_embedded_bytes=max_embedded_bytes)


def encode_pictures(recipe: LevelScorerRecipe, weights: Weights, frames: Sequence[Tensor]) -> Tensor:
    """Features (frames, 65, width) of pictures (3, 448, 448) uint8 by the encoder in float32."""
    encoder = load_encoder(weights, recipe.config)
    with torch.inference_mode():
        return torch.cat([encoder(frame[None]) for frame in frames])


def _compute_golden(recipe: LevelScorerRecipe, weights: Weights, *, tolerance: float) -> LevelGolden:
    """The reference network's logits for the golden frames: of each task, with the fewest and the most frames."""
    pixels = golden_frames(PICTURE_VIEW, seed=_GOLDEN_INPUT.seed, frames=_GOLDEN_INPUT.frames)
    features = encode_pictures(recipe, weights, [torch.from_numpy(value).permute(2, 0, 1) for value in pixels])
    cases = [
        (task, tuple(range(count)))
        for task in recipe.tasks
        for count in sorted({task.least_frames, min(task.most_frames, _GOLDEN_INPUT.frames)})
    ]
    prompts = []
    for task, frames in cases:
        for question in task.questions:
            prompt = recipe.prompts[question]
            prompts.append((prompt.ids, fill_pictures(prompt, features[list(frames)])))
    head = head_rows(weights, list(recipe.levels.values()))
    logits = iter(reference_logits(weights, recipe.config, prompts, head=head).tolist())
    answers = [
        GoldenAnswer(
            task=task.name, frames=frames,
            logits=tuple(tuple(round(value, 6) for value in next(logits)) for _ in task.questions),
        )
        for task, frames in cases
    ]  # fmt: skip
    span = max(recipe.values) - min(recipe.values)
    return LevelGolden(input=_GOLDEN_INPUT, answers=tuple(answers), tolerance=tolerance * span)


def fill_pictures(prompt: ScorerPrompt, features: Tensor) -> list[Tensor]:
    """Features (frames, 65, width) for each picture token of a prompt: the fixed pictures, then the frames."""
    open_count = prompt.ids.count(PICTURE_TOKEN) - len(prompt.fixed_pictures)
    fixed = [picture[None] for picture in prompt.fixed_pictures]
    return [*fixed, features] if open_count == 1 else [*fixed, *(picture[None] for picture in features)]


class PrefixedWeights(Mapping[str, Tensor]):
    """Published weights under a module's own names, which lack a prefix."""

    def __init__(self, weights: Weights, prefix: str, names: Mapping[str, object]) -> None:
        self._weights, self._prefix, self._names = weights, prefix, names

    def __getitem__(self, name: str) -> Tensor:
        return self._weights[self._prefix + name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Temporarily set the default type of new tensors."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
