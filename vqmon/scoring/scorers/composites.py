"""Composite scorers: several graphs run in the order of a manifest, the last of which gives the score."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from vqmon.core.calibration import interval_at, percentile_of
from vqmon.core.scores import pool
from vqmon.core.types import DecodedSegment, Pixels, Score, ScorerIdentity, View
from vqmon.errors import ScoreError, ScorerError
from vqmon.scoring.manifests.composite_scorer import CompositeSpec, SourceSpec, StepSpec, TextSpec
from vqmon.scoring.manifests.frame_scorer import golden_frames, preprocessing_id
from vqmon.scoring.runtime.graph import Array, Placement
from vqmon.scoring.runtime.shared_graphs import SharedGraph, SharedGraphs, describe_devices, run_row_by_row, warm_up
from vqmon.scoring.runtime.tensors import to_tensor
from vqmon.scoring.runtime.verified_model import read_verified_file
from vqmon.scoring.scorers.clip_tokenizer import ClipTokenizer, load_clip_tokenizer


class CompositeScorer:
    """Runs the steps of a manifest in order; the last step's output is the score."""

    def __init__(
        self,
        spec: CompositeSpec,
        graphs: Mapping[str, SharedGraph],
        tokenizers: Mapping[str, ClipTokenizer],
        *,
        deadline_seconds: float,
    ) -> None:
        self.spec, self._graphs, self._tokenizers = spec, graphs, tokenizers
        self._deadline_seconds = deadline_seconds

    @property
    def id(self) -> str:
        """name@version."""
        return self.spec.id

    @property
    def views(self) -> tuple[View, ...]:
        return tuple(dict.fromkeys(source.input.view for source in self.spec.sources))

    @property
    def needs_prompt(self) -> bool:
        """Whether the scorer can score only segments that have a prompt."""
        return bool(self.spec.texts)

    @property
    def mismatched_sources(self) -> tuple[str, ...]:
        """Names of the sources that take another number of pictures per row than their view gives."""
        return tuple(source.name for source in self.spec.sources if source.pictures != source.input.view.picture_count)

    @property
    def identity(self) -> ScorerIdentity:
        """The identity now: the device changes when the one that was asked for fails."""
        spec = self.spec
        return ScorerIdentity(
            scorer=spec.id,
            sha256=spec.sha256,
            preprocessing=" ".join(
                (
                    *(preprocessing_id(source.input) for source in spec.sources),
                    *(f"clip-text-{text.tokens}-{text.sha256[:8]}" for text in spec.texts),
                )
            ),
            calibration_version=spec.calibration.version,
            device=describe_devices(*self._graphs.values()),
            licence=spec.licence.name,
        )

    async def score(self, decoded: DecodedSegment) -> Score:
        """Score one segment; raises ScoreError."""
        if self.needs_prompt and not decoded.prompt:
            raise ScoreError("no_prompt", f"{self.id} compares pictures with a prompt; the segment has none")
        loop = asyncio.get_running_loop()
        arrays: dict[str, Array] = {}
        for source in self.spec.sources:
            pixels = decoded.views[source.input.view]
            arrays[source.name] = await loop.run_in_executor(None, source_tensor, source, pixels)
        frame_count = len(decoded.times_seconds)
        for text in self.spec.texts:
            tokenizer = self._tokenizers[text.name]
            token_ids = await loop.run_in_executor(None, _prompt_token_ids, text, tokenizer, decoded.prompt)
            arrays[text.name] = np.repeat(token_ids, frame_count, axis=0)
        for step in self.spec.steps:
            graph, inputs = self._graphs[step.name], _step_inputs(step, arrays)
            infer = graph.infer if step.each == "segment" else graph.infer_cached
            try:
                output = await infer(*inputs, deadline_seconds=self._deadline_seconds)
            except ScoreError as error:
                raise ScoreError(error.reason, f"{self.id}: step {step.name}: {error.detail}") from error
            arrays[step.name] = _step_output(step, output, arrays)
        native = np.asarray(arrays[self.spec.steps[-1].name], dtype=np.float64).ravel()
        return self._pooled_score(native, frame_count=frame_count)

    def _pooled_score(self, native: Array, *, frame_count: int) -> Score:
        """The score of native values, one per frame or one for the segment; 0..100 to 4 decimals, native to 6."""
        spec = self.spec
        if len(native) not in (1, frame_count):
            raise ScoreError("scorer_failed", f"{spec.id}: {len(native)} values for {frame_count} frames")
        native_values = native.tolist() * (frame_count if len(native) == 1 else 1)
        values = [spec.calibration.apply(native_value) for native_value in native_values]
        value, native_value = pool(spec.pooling, values), float(np.mean(native_values))
        return Score(
            scorer=spec.id,
            value=round(value, 4),
            native_value=round(native_value, 6),
            p5=round(pool("p5", values), 4),
            min=round(min(values), 4),
            pooling=spec.pooling,
            frame_values=tuple(round(value, 4) for value in values),
            percentile=percentile_of(spec.percentiles, native_value),
            interval=interval_at(spec.interval, value),
        )


def source_tensor(source: SourceSpec, pixels: Pixels) -> Array:
    """The array of a source from the pixels of its view; raises ScoreError when their shape is not the view's."""
    view = source.input.view
    row_shape = (
        (view.height, view.width, 3) if source.order == "NCHW" else (source.pictures, view.height, view.width, 3)
    )
    if pixels.shape[1:] != row_shape:
        raise ScoreError("scorer_failed", f"{source.name}: rows of shape {pixels.shape[1:]}, expected {row_shape}")
    if source.order == "NCHW":
        return to_tensor(pixels, source.input)
    pictures = to_tensor(pixels.reshape(-1, *row_shape[1:]), source.input)
    rows = pictures.reshape(len(pixels), source.pictures, *pictures.shape[1:])
    return np.ascontiguousarray(rows.transpose(0, 2, 1, 3, 4)) if source.order == "NCTHW" else rows


def open_composite_scorer(
    spec: CompositeSpec,
    folder: Path,
    placement: Placement,
    shared_graphs: SharedGraphs,
    *,
    deadline_seconds: float,
    on_run: Callable[[float], None] = lambda seconds: None,
) -> CompositeScorer:
    """Open the graphs that are not open yet and check the golden output of the last one; raises ScorerError."""
    arrays = {source.name: _golden_array(spec, source) for source in spec.sources}
    tokenizers = {text.name: _open_tokenizer(text, folder) for text in spec.texts}
    for text in spec.texts:
        token_ids = _prompt_token_ids(text, tokenizers[text.name], spec.golden.prompt)
        arrays[text.name] = np.repeat(token_ids, spec.golden.input.frames, axis=0)
    graphs = {}
    for step in spec.steps:
        inputs = _step_inputs(step, arrays)
        graph, is_new = shared_graphs.open(
            step.graph, folder, placement, shapes=_row_shapes(step, inputs), buckets=step.buckets, on_run=on_run
        )
        output = run_row_by_row(graph, *inputs)
        if is_new:
            warm_up(graph, inputs, output)
        graphs[step.name] = graph
        arrays[step.name] = _step_output(step, output, arrays)
    _check_golden(spec, np.asarray(arrays[spec.steps[-1].name], dtype=np.float64).ravel())
    return CompositeScorer(spec, graphs, tokenizers, deadline_seconds=deadline_seconds)


def _prompt_token_ids(text: TextSpec, tokenizer: ClipTokenizer, prompt: str) -> Array:
    """Token ids (1, tokens)."""
    return tokenizer.encode_batch([prompt], context_length=text.tokens)


def _step_inputs(step: StepSpec, arrays: Mapping[str, Array]) -> tuple[Array, ...]:
    """The inputs of a step's graph, from arrays (rows, ...) by name."""
    inputs = (arrays[name] for name in step.takes)
    if step.each == "segment":
        return tuple(array[None] for array in inputs)
    if step.each == "picture":
        return tuple(array.reshape(-1, *array.shape[2:]) for array in inputs)
    return tuple(inputs)


def _step_output(step: StepSpec, output: Array, arrays: Mapping[str, Array]) -> Array:
    """The output of a step's graph as an array (rows, ...), or of the whole segment."""
    if step.each == "picture":
        return output.reshape(*arrays[step.takes[0]].shape[:2], *output.shape[1:])
    return output[0] if step.each == "segment" else output


def _open_tokenizer(text: TextSpec, folder: Path) -> ClipTokenizer:
    """The tokenizer of the list of merges beside a manifest; raises ScorerError."""
    path = folder / text.file
    content = read_verified_file(path, sha256_hex=text.sha256, size_bytes=text.size_bytes)
    try:
        return load_clip_tokenizer(content, vocabulary_size=text.ids)
    except ScorerError as error:
        raise ScorerError(f"{path}: {error}") from error


def _golden_array(spec: CompositeSpec, source: SourceSpec) -> Array:
    view, golden = source.input.view, spec.golden.input
    pixels = golden_frames(view, seed=golden.seed, frames=golden.frames * source.pictures)
    if source.order != "NCHW":
        pixels = pixels.reshape(golden.frames, source.pictures, *pixels.shape[1:])
    return source_tensor(source, pixels)


def _row_shapes(step: StepSpec, inputs: tuple[Array, ...]) -> tuple[tuple[int | None, ...], ...]:
    """The shapes of one row of each input; a segment may have any number of rows."""
    if step.each == "segment":
        return tuple((None, *array.shape[2:]) for array in inputs)
    return tuple(array.shape[1:] for array in inputs)


def _check_golden(spec: CompositeSpec, output: Array) -> None:
    expected = np.array(spec.golden.output)
    if output.shape != expected.shape or not np.abs(output - expected).max() <= spec.golden.tolerance:
        raise ScorerError(
            f"{spec.id}: self-test: golden frames gave {output.tolist()}, the manifest says {expected.tolist()} "
            f"(tolerance {spec.golden.tolerance:g}); either the bundle is not the one that was exported or "
            "this machine computes it wrongly: fetch or export the bundle again"
        )
