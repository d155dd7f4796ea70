"""Scorers of several graphs: features side by side, joined by a last one."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from vqmon.core.scores import pool
from vqmon.core.types import DecodedSegment, Pixels, Score, ScorerIdentity, View
from vqmon.errors import ScoreError, ScorerError
from vqmon.scoring.manifests.composite_scorer import CompositeSpec, SourceSpec, StepSpec, TextSpec
from vqmon.scoring.manifests.frame_scorer import golden_frames, preprocessing_id
from vqmon.scoring.runtime.graph import Array, Placement
from vqmon.scoring.runtime.model_file import read_beside
from vqmon.scoring.runtime.shared_graphs import GraphHost, Hosts, device_text, one_by_one, settle
from vqmon.scoring.runtime.tensors import to_tensor
from vqmon.scoring.scorers.clip_tokenizer import Vocabulary, read_vocabulary


class CompositeScorer:
    """Runs the steps of a manifest in order; the last one's answer is the verdict."""

    def __init__(
        self,
        spec: CompositeSpec,
        graphs: Mapping[str, GraphHost],
        vocabularies: Mapping[str, Vocabulary],
        *,
        deadline_seconds: float,
    ) -> None:
        self.spec, self._graphs, self._vocabularies = spec, graphs, vocabularies
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
        """Whether it can say nothing of a segment that has no prompt."""
        return bool(self.spec.texts)

    @property
    def unfed(self) -> tuple[str, ...]:
        """Sources that take more, or fewer, pictures per row than their view gives."""
        return tuple(each.name for each in self.spec.sources if each.pictures != each.input.view.picture_count)

    @property
    def identity(self) -> ScorerIdentity:
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
            device=device_text(*self._graphs.values()),
            licence=spec.licence.name,
        )

    async def score(self, decoded: DecodedSegment) -> Score:
        """The verdict on one segment; raises ScoreError."""
        if self.needs_prompt and not decoded.prompt:
            raise ScoreError("no_prompt", f"{self.id} needs the prompt of a generated picture; the segment has none")
        loop, known = asyncio.get_running_loop(), {}
        for source in self.spec.sources:
            known[source.name] = await loop.run_in_executor(None, rows_of, source, decoded.views[source.input.view])
        rows, prompt = len(decoded.times_seconds), decoded.prompt
        for text in self.spec.texts:
            ids = await loop.run_in_executor(None, ids_of, text, self._vocabularies[text.name], prompt)
            known[text.name] = np.repeat(ids, rows, axis=0)
        for step in self.spec.steps:
            graph, fed = self._graphs[step.name], fed_to(step, known)
            ask = graph.score if step.each == "segment" else graph.kept
            known[step.name] = said_by(step, await ask(*fed, deadline_seconds=self._deadline_seconds), known)
        native = np.asarray(known[self.spec.steps[-1].name], dtype=np.float64).ravel()
        return self._verdict(native, frames=len(decoded.times_seconds))

    def _verdict(self, native: Array, *, frames: int) -> Score:
        spec = self.spec
        if len(native) not in (1, frames):
            raise ScoreError("scorer_failed", f"{spec.id}: {len(native)} values for {frames} frames")
        raw = native.tolist() * (frames if len(native) == 1 else 1)
        values = [spec.calibration.apply(each) for each in raw]
        return Score(
            scorer=spec.id,
            value=round(pool(spec.pooling, values), 4),
            native_value=round(float(np.mean(raw)), 6),
            p5=round(pool("p5", values), 4),
            min=round(min(values), 4),
            pooling=spec.pooling,
            frame_values=tuple(round(value, 4) for value in values),
        )


def rows_of(source: SourceSpec, pixels: Pixels) -> Array:
    """A view's pictures as the array of a source; raises ScoreError when the decoder gave something else."""
    view = source.input.view
    wanted = (view.height, view.width, 3) if source.order == "NCHW" else (source.pictures, view.height, view.width, 3)
    if pixels.shape[1:] != wanted:
        raise ScoreError("scorer_failed", f"{source.name}: rows of {pixels.shape[1:]}, not of {wanted}")
    if source.order == "NCHW":
        return to_tensor(pixels, source.input)
    flat = to_tensor(pixels.reshape(-1, *wanted[1:]), source.input)
    rows = flat.reshape(len(pixels), source.pictures, *flat.shape[1:])
    return np.ascontiguousarray(rows.transpose(0, 2, 1, 3, 4)) if source.order == "NCTHW" else rows


def ids_of(text: TextSpec, vocabulary: Vocabulary, prompt: str) -> Array:
    """A prompt's token ids (1, tokens)."""
    return vocabulary.rows([prompt], count=text.tokens)


def fed_to(step: StepSpec, known: Mapping[str, Array]) -> tuple[Array, ...]:
    """What goes into a step's graph, of arrays (rows, ...) by name."""
    taken = (known[name] for name in step.takes)
    if step.each == "segment":
        return tuple(each[None] for each in taken)
    if step.each == "picture":
        return tuple(each.reshape(-1, *each.shape[2:]) for each in taken)
    return tuple(taken)


def said_by(step: StepSpec, answers: Array, known: Mapping[str, Array]) -> Array:
    """The graph's answers as an array (rows, ...), or that of the segment."""
    if step.each == "picture":
        return answers.reshape(*known[step.takes[0]].shape[:2], *answers.shape[1:])
    return answers[0] if step.each == "segment" else answers


def open_composite(
    spec: CompositeSpec,
    folder: Path,
    placement: Placement,
    hosts: Hosts,
    *,
    deadline_seconds: float,
    spent: Callable[[float], None] = lambda seconds: None,
) -> CompositeScorer:
    """Load the graphs that are not open yet and hold the last one to its golden answer; raises ScorerError."""
    known = {source.name: _golden_rows(spec, source) for source in spec.sources}
    vocabularies = {text.name: open_vocabulary(text, folder) for text in spec.texts}
    for text in spec.texts:
        ids = ids_of(text, vocabularies[text.name], spec.golden.prompt)
        known[text.name] = np.repeat(ids, spec.golden.input.frames, axis=0)
    graphs = {}
    for step in spec.steps:
        taken = fed_to(step, known)
        graph, is_new = hosts.open(
            step.graph, folder, placement, shapes=_shapes(step, taken), buckets=step.buckets, spent=spent
        )
        answers = one_by_one(graph, *taken)
        if is_new:
            settle(graph, taken, answers)
        graphs[step.name] = graph
        known[step.name] = said_by(step, answers, known)
    _check_golden(spec, np.asarray(known[spec.steps[-1].name], dtype=np.float64).ravel())
    return CompositeScorer(spec, graphs, vocabularies, deadline_seconds=deadline_seconds)


def open_vocabulary(text: TextSpec, folder: Path) -> Vocabulary:
    """The list of merges that lies beside a manifest; raises ScorerError."""
    path = folder / text.file
    content = read_beside(path, sha256_hex=text.sha256, size_bytes=text.size_bytes)
    try:
        return read_vocabulary(content, size=text.ids)
    except ScorerError as error:
        raise ScorerError(f"{path}: {error}") from error


def _golden_rows(spec: CompositeSpec, source: SourceSpec) -> Array:
    view, golden = source.input.view, spec.golden.input
    pixels = golden_frames(view, seed=golden.seed, frames=golden.frames * source.pictures)
    if source.order != "NCHW":
        pixels = pixels.reshape(golden.frames, source.pictures, *pixels.shape[1:])
    return rows_of(source, pixels)


def _shapes(step: StepSpec, taken: tuple[Array, ...]) -> tuple[tuple[int | None, ...], ...]:
    """Of one row or picture; a segment may have any number of rows."""
    if step.each == "segment":
        return tuple((None, *each.shape[2:]) for each in taken)
    return tuple(each.shape[1:] for each in taken)


def _check_golden(spec: CompositeSpec, found: Array) -> None:
    expected = np.array(spec.golden.output)
    if found.shape != expected.shape or not np.abs(found - expected).max() <= spec.golden.tolerance:
        raise ScorerError(
            f"{spec.id}: self-test: golden frames gave {found.tolist()}, the manifest says {expected.tolist()} "
            f"(tolerance {spec.golden.tolerance:g}); the bundle is not what was exported, or it is computed wrongly "
            "here: fetch or export the bundle again"
        )
