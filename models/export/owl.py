"""A checkpoint of mPLUG-Owl2 becomes a scorer: frame encoder, language graph, and the manifest of both."""

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
from models.export.graphs import Signature, Weights
from models.export.owl_streaming import encoder_of, head_of, layers_of, plain_logits, rows_of, with_tables
from models.export.pair import Facts
from models.networks.owl import q_align
from models.networks.owl.exportable import FrameEncoder, LanguageScorer, ask, constants_of
from models.networks.owl.owl import OwlConfig
from vqmon.core.types import View
from vqmon.scoring.manifests.frame_scorer import GoldenInput, InputSpec, golden_frames
from vqmon.scoring.manifests.level_scorer import (
    Comparisons,
    GoldenAnswer,
    GraphSpec,
    Level,
    LevelGolden,
    LevelScorerSpec,
    TaskSpec,
    save_level_spec,
)

VIEW = View(kind="fit", width=q_align.SIDE, height=q_align.SIDE, pad_rgb=q_align.PAD_RGB)
MOST_ROWS = 64
GOLDEN = GoldenInput(kind="pattern", seed=448, frames=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How numbers are kept: the type of activations, and what becomes of the weights of products."""

    dtype: torch.dtype
    shrink: Callable[[ir.Model], int] | None = None
    # the encoder is a twentieth of the weights: in the forms that save memory it stays as it is
    shrink_encoder: Callable[[ir.Model], int] | None = None
    # how far the expectation of the levels may be from that of the plain network, as a share of the scale's span
    tolerance: float
    most_rows: int = MOST_ROWS


def _keep(name: str) -> bool:
    # Five rows, read in float32: nothing is gained by rounding them.
    return name.startswith("head")


def _nbits(bits: int) -> Callable[[ir.Model], int]:
    return lambda model: quantize.to_nbits(model, bits, keep=_keep)


def _dynamic(model: ir.Model) -> int:
    return quantize.to_dynamic(model, keep=_keep)


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "fp32": Form(dtype=torch.float32, tolerance=0.0005),
        "fp16": Form(dtype=torch.float16, tolerance=0.0025),
        # no CPU kernels in ONNX Runtime
        "bf16": Form(dtype=torch.bfloat16, tolerance=0.02),
        # for CPUs: weights and activations in 8 bits; a scale for all activations of a run, hence one row a run
        "int8": Form(dtype=torch.float32, shrink=_dynamic, shrink_encoder=_dynamic, tolerance=0.08, most_rows=1),
        # for little memory: weights alone
        "int8-weights": Form(dtype=torch.float32, shrink=_nbits(8), tolerance=0.05),
        "int4": Form(dtype=torch.float32, shrink=_nbits(4), tolerance=0.2),
        "int8-fp16": Form(dtype=torch.float16, shrink=_nbits(8), tolerance=0.05),
        "int4-fp16": Form(dtype=torch.float16, shrink=_nbits(4), tolerance=0.2),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Token ids, and the features (65, width) of pictures that are known beforehand."""

    ids: tuple[int, ...]
    known: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What makes a scorer of a checkpoint, beside its weights."""

    name: str
    version: int
    config: OwlConfig
    prompts: tuple[Prompt, ...]
    tasks: tuple[TaskSpec, ...]
    # word -> token id, in the order of the logits
    levels: Mapping[str, int]
    values: tuple[float, ...]
    temperature: float
    comparisons: Comparisons | None
    facts: Facts

    def id(self, form: str) -> str:
        """name-form@version."""
        return f"{self.name}-{form}@{self.version}"


def write_scorer(recipe: Recipe, weights: Weights, *, form: str, folder: Path, one_file_bytes: int) -> Path:
    """Write both graphs and the manifest; returns the manifest's path. Reads no more than a layer at a time."""
    scorer = recipe.id(form)
    encoder, language = folder / f"{scorer}.encoder.onnx", folder / f"{scorer}.language.onnx"
    write_encoder(recipe.config, weights, form=FORMS[form], target=encoder, one_file_bytes=one_file_bytes)
    write_language(recipe, weights, form=FORMS[form], target=language, one_file_bytes=one_file_bytes)
    spec = LevelScorerSpec(
        kind="levels",
        name=f"{recipe.name}-{form}",
        version=recipe.version,
        description=recipe.facts.description,
        input=InputSpec(
            name="pixels", view=VIEW, colour="rgb", layout="NCHW", dtype="uint8", mean=(0, 0, 0), std=(1, 1, 1)
        ),
        encoder=_graph(encoder, inputs=("pixels",), output="features"),
        language=_graph(language, inputs=("features", "question"), output="logits"),
        most_rows=FORMS[form].most_rows,
        feature_dtype=str(FORMS[form].dtype).removeprefix("torch."),  # type: ignore[arg-type]
        tasks=recipe.tasks,
        levels=tuple(Level(word=word, value=value) for word, value in zip(recipe.levels, recipe.values, strict=True)),
        temperature=recipe.temperature,
        comparisons=recipe.comparisons,
        native_range=recipe.facts.native_range,
        higher_is_better=True,
        calibration=recipe.facts.calibration,
        licence=recipe.facts.licence,
        provenance=recipe.facts.provenance,
        golden=golden(recipe, weights, tolerance=FORMS[form].tolerance),
    )
    save_level_spec(spec, folder / f"{scorer}.json")
    return folder / f"{scorer}.json"


def write_encoder(config: OwlConfig, weights: Weights, *, form: Form, target: Path, one_file_bytes: int) -> None:
    """The graph pixels (frames, 3, 448, 448) uint8 -> features (frames, 65, width)."""
    with torch.device("meta"), default_dtype(form.dtype):
        encoder = FrameEncoder(config)
        pixels = torch.empty(2, 3, q_align.SIDE, q_align.SIDE, dtype=torch.uint8)
    signature = Signature(
        example=(pixels,), inputs=("pixels",), output="features", varying=({0: ("frames", MOST_ROWS)},)
    )
    model = graphs.trace(encoder.to(form.dtype), signature)
    graphs.fill(model, Renamed(with_tables(weights, config), "model.", encoder.state_dict()))
    if form.shrink_encoder:
        form.shrink_encoder(model)
    graphs.write(model, target, one_file_bytes=one_file_bytes)


def write_language(recipe: Recipe, weights: Weights, *, form: Form, target: Path, one_file_bytes: int) -> None:
    """The graph features (rows, frames, 65, width), question (rows) -> logits (rows, levels) float32."""
    config = recipe.config
    questions = [ask(each.ids, rows_of(weights, each.ids), known=each.known) for each in recipe.prompts]
    with torch.inference_mode():
        head = head_of(weights, list(recipe.levels.values()))
        constants = constants_of(questions, layers_of(weights, config), config=config.language, head=head)
    # Prefixes run in float32 whatever the form: rounded once, at the end.
    with torch.device("meta"), default_dtype(form.dtype):
        scorer = LanguageScorer(config, constants.to(form.dtype))
    known = dict(scorer.named_buffers())
    scorer.to("meta")
    with torch.device("meta"):
        features = torch.empty(2, 3, config.tokens_per_picture, config.language.width, dtype=form.dtype)
        question = torch.zeros(2, dtype=torch.int64)
    signature = Signature(
        example=(features, question),
        inputs=("features", "question"),
        output="logits",
        varying=({0: ("rows", MOST_ROWS), 1: ("frames", q_align.MOST_FRAMES)}, {0: ("rows", MOST_ROWS)}),
    )
    model = graphs.trace(scorer, signature)
    parameters = Renamed(weights, "model.", dict(scorer.named_parameters()))
    graphs.fill(model, ChainMap(known, parameters))  # type: ignore[arg-type]
    if form.shrink:
        form.shrink(model)
    graphs.write(model, target, one_file_bytes=one_file_bytes)


def features_of(recipe: Recipe, weights: Weights, frames: Sequence[Tensor]) -> Tensor:
    """Features (frames, 65, width) in float32 of pictures (3, 448, 448) uint8, by the plain network."""
    encoder = encoder_of(weights, recipe.config)
    with torch.inference_mode():
        return torch.cat([encoder(frame[None]) for frame in frames])


def golden(recipe: Recipe, weights: Weights, *, tolerance: float) -> LevelGolden:
    """What the plain network says of the golden frames: task by task, of one picture and of as many as go together."""
    pixels = golden_frames(VIEW, seed=GOLDEN.seed, frames=GOLDEN.frames)
    features = features_of(recipe, weights, [torch.from_numpy(one).permute(2, 0, 1) for one in pixels])
    cases = [
        (task, tuple(range(count)))
        for task in recipe.tasks
        for count in sorted({task.least_frames, min(task.most_frames, GOLDEN.frames)})
    ]
    asked = []
    for task, frames in cases:
        for question in task.questions:
            prompt = recipe.prompts[question]
            asked.append((prompt.ids, _fill_places(prompt, features[list(frames)])))
    head = head_of(weights, list(recipe.levels.values()))
    said = iter(plain_logits(weights, recipe.config, asked, head=head).tolist())
    answers = [
        GoldenAnswer(
            task=task.name, frames=frames,
            logits=tuple(tuple(round(one, 6) for one in next(said)) for _ in task.questions),
        )
        for task, frames in cases
    ]  # fmt: skip
    span = max(recipe.values) - min(recipe.values)
    return LevelGolden(input=GOLDEN, answers=tuple(answers), tolerance=tolerance * span)


def _fill_places(prompt: Prompt, features: Tensor) -> list[Tensor]:
    """One entry (frames, 65, width) per place of the prompt: what is known, then the frames."""
    places = sum(one == q_align.PICTURE_ID for one in prompt.ids) - len(prompt.known)
    known = [one[None] for one in prompt.known]
    return [*known, features] if places == 1 else [*known, *(one[None] for one in features)]


def _graph(file: Path, *, inputs: tuple[str, ...], output: str) -> GraphSpec:
    digest, size = graphs.unit_hash(file)
    return GraphSpec(
        file=file.name, has_data=graphs.data_file(file).exists(), sha256=digest, size_bytes=size, inputs=inputs,
        output=output,
    )  # fmt: skip


class Renamed(Mapping[str, Tensor]):
    """Published weights under a module's own, shorter names."""

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
    """What new tensors are made of, for a while."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
