"""Opens scorers by name: finds the manifest, checks the licence, and builds the scorer of its kind."""

import difflib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from vqmon.core.calibration import interval_at, percentile_of
from vqmon.core.scores import pool
from vqmon.core.types import DecodedSegment, Display, Score, ScorerIdentity, View
from vqmon.errors import ScorerError, UnknownScorerError
from vqmon.scoring.manifests.composite_scorer import CompositeSpec, load_composite_spec
from vqmon.scoring.manifests.frame_scorer import ScorerSpec, builtin_folder, find_bundles, load_frame_spec
from vqmon.scoring.manifests.level_scorer import LevelScorerSpec, load_level_spec
from vqmon.scoring.manifests.reference_measure import ReferenceMeasureSpec, load_reference_spec
from vqmon.scoring.runtime.batcher import Batcher
from vqmon.scoring.runtime.devices import open_frame_engine
from vqmon.scoring.runtime.graph import Placement, call_at_priority
from vqmon.scoring.runtime.onnx_session import runtime_versions
from vqmon.scoring.runtime.shared_graphs import SharedGraphs
from vqmon.scoring.scorers.composites import CompositeScorer, open_composite_scorer
from vqmon.scoring.scorers.levels import LevelModel, LevelScorer, PairScorer, open_level_model

__all__ = [
    "FrameScorer",
    "Scorer",
    "ScorerOptions",
    "builtin_folder",
    "check_licence",
    "load_manifest",
    "load_scorer_manifest",
    "open_pair_scorer",
    "open_scorers",
    "resolve_manifests",
    "runtime_versions",
    "scorer_noise",
]


class FrameScorer:
    """Scores each sampled frame by itself and pools the frame values."""

    needs_prompt = False

    def __init__(self, spec: ScorerSpec, batcher: Batcher, *, deadline_seconds: float = 30.0) -> None:
        self.spec, self._batcher, self._deadline_seconds = spec, batcher, deadline_seconds

    @property
    def id(self) -> str:
        """name@version."""
        return self.spec.id

    @property
    def views(self) -> tuple[View, ...]:
        return (self.spec.input.view,)

    @property
    def identity(self) -> ScorerIdentity:
        """The identity now: the device changes when the one that was asked for fails."""
        engine = self._batcher.engine
        return ScorerIdentity(
            scorer=self.spec.id,
            sha256=self.spec.sha256,
            preprocessing=self.spec.preprocessing_id,
            calibration_version=self.spec.calibration.version,
            device=f"{engine.device} (fallback: {engine.fallback})" if engine.fallback else engine.device,
            licence=self.spec.licence.name,
        )

    async def score(self, decoded: DecodedSegment) -> Score:
        """Score one segment; raises ScoreError."""
        return pooled_score(self.spec, await self._native_values(decoded))

    async def add_frames(self, score: Score, decoded: DecodedSegment, *, weight: float) -> Score:
        """The score of a segment, whose pooling is the mean, with additional frames of it; raises ScoreError.

        `weight` is that of an additional frame in the mean; that of a sampled one is 1.
        """
        return _with_additional(self.spec, score, await self._native_values(decoded), weight=weight)

    async def _native_values(self, decoded: DecodedSegment) -> list[float]:
        pixels = decoded.views[self.spec.input.view]
        native_values = await self._batcher.infer(pixels, deadline_seconds=self._deadline_seconds)
        values: list[float] = native_values.tolist()
        return values


def pooled_score(spec: ScorerSpec, native_values: Sequence[float]) -> Score:
    """Calibrate and pool the native values of a segment's frames; 0..100 to four decimals, native to six."""
    values = [spec.calibration.apply(native_value) for native_value in native_values]
    value, native_value = pool(spec.pooling, values), _pool_native(spec, native_values)
    return Score(
        scorer=spec.id,
        value=round(value, 4),
        native_value=round(native_value, 6),
        p5=round(pool("p5", values), 4),
        min=round(pool("min", values), 4),
        pooling=spec.pooling,
        frame_values=tuple(round(value, 4) for value in values),
        percentile=percentile_of(spec.percentiles, native_value),
        interval=interval_at(spec.interval, value),
    )


def _with_additional(spec: ScorerSpec, score: Score, native_values: Sequence[float], *, weight: float) -> Score:
    """The score, a mean of its frame values, as the mean of these and of additional native values."""
    added = [spec.calibration.apply(native_value) for native_value in native_values]
    values = [*score.frame_values, *added]
    share = weight * len(added) / (len(score.frame_values) + weight * len(added))
    value = (1 - share) * pool("mean", score.frame_values) + share * pool("mean", added)
    native_value = (1 - share) * score.native_value + share * pool("mean", native_values)
    return replace(
        score,
        value=round(value, 4),
        native_value=round(native_value, 6),
        p5=round(pool("p5", values), 4),
        min=round(pool("min", values), 4),
        percentile=percentile_of(spec.percentiles, native_value),
        interval=interval_at(spec.interval, value),
        additional_frames=len(native_values),
    )


Scorer = FrameScorer | LevelScorer | CompositeScorer
Spec = ScorerSpec | LevelScorerSpec | CompositeSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerOptions:
    """How scorers are opened: placement, licences allowed, the deadline of one segment, the display of the viewers."""

    placement: Placement = field(default_factory=Placement)
    allow_noncommercial: bool = False
    deadline_seconds: float = 30.0
    display: Display = field(default_factory=Display)
    # called with the seconds for which each run of a graph held its device
    on_run: Callable[[float], None] = lambda seconds: None


@asynccontextmanager
async def open_scorers(
    names: Iterable[str],
    folders: Sequence[Path],
    options: ScorerOptions | None = None,
    *,
    shared_graphs: SharedGraphs | None = None,
) -> AsyncIterator[list[Scorer]]:
    """Open scorers by `name` (the newest version) or `name@version`, in the order given; close them with the context.

    `name.task` selects a task of a level scorer; `name` alone selects the first. Only `folders` are searched: include
    `builtin_folder()` to find the built-in scorers. Graphs are shared with those that are open in `shared_graphs`,
    and close with it. Raises ScorerError and SettingsError before anything is scored.
    """
    options, bundles = options or ScorerOptions(), find_bundles(folders)
    async with AsyncExitStack() as stack:
        graphs = shared_graphs if shared_graphs is not None else await stack.enter_async_context(SharedGraphs())
        scorers: dict[str, Scorer] = {}
        models: dict[Path, LevelModel] = {}
        for name in names:
            manifest, task = _resolve_task(name, bundles)
            spec = load_scorer_manifest(manifest)
            check_licence(spec, allow_noncommercial=options.allow_noncommercial)
            scorer = _open_scorer(spec, task, manifest, options=options, shared_graphs=graphs, models=models)
            if scorer.id in scorers:
                raise ScorerError(f"{name}: the scorer {scorer.id} is named twice; name it once")
            scorers[scorer.id] = scorer
        yield list(scorers.values())


@asynccontextmanager
async def open_pair_scorer(
    name: str, folders: Sequence[Path], options: ScorerOptions | None = None
) -> AsyncIterator[PairScorer]:
    """Open a scorer that compares the frames of two arms directly; its manifest must have a task for pairs.

    Raises ScorerError and SettingsError.
    """
    options = options or ScorerOptions()
    manifest, task_name = _resolve_task(name, find_bundles(folders))
    spec = load_scorer_manifest(manifest)
    check_licence(spec, allow_noncommercial=options.allow_noncommercial)
    if not isinstance(spec, LevelScorerSpec):
        raise ScorerError(f"{spec.id} scores single pictures; to compare two, use a scorer with a task for pairs")
    pair_tasks = [
        task for task in spec.tasks if (task.least_frames, task.most_frames) == (2, 2) and task_name in ("", task.name)
    ]
    if not pair_tasks:
        raise ScorerError(f"{spec.id} has no such task for pairs; its tasks: {', '.join(t.name for t in spec.tasks)}")
    async with SharedGraphs() as shared_graphs:
        open_levels = partial(
            open_level_model, spec, manifest.parent, shared_graphs=shared_graphs, on_run=options.on_run
        )
        model = shared_graphs.open_or_fall_back(spec.id, options.placement, open_levels)
        yield PairScorer(model, pair_tasks[0])


def _open_scorer(
    spec: Spec,
    task_name: str,
    manifest: Path,
    *,
    options: ScorerOptions,
    shared_graphs: SharedGraphs,
    models: dict[Path, LevelModel],
) -> Scorer:
    placement, deadline_seconds, on_run = options.placement, options.deadline_seconds, options.on_run
    folder = manifest.parent
    if isinstance(spec, LevelScorerSpec):
        if manifest not in models:
            open_levels = partial(open_level_model, spec, folder, shared_graphs=shared_graphs, on_run=on_run)
            models[manifest] = shared_graphs.open_or_fall_back(spec.id, placement, open_levels)
        first_task = next((task for task in spec.tasks if task.least_frames == 1), spec.tasks[0])
        task = spec.task(task_name) if task_name else first_task
        return LevelScorer(models[manifest], task, deadline_seconds=deadline_seconds)
    if isinstance(spec, CompositeSpec):
        open_composite = partial(
            open_composite_scorer,
            spec,
            folder,
            shared_graphs=shared_graphs,
            deadline_seconds=deadline_seconds,
            on_run=on_run,
        )
        return shared_graphs.open_or_fall_back(spec.id, placement, open_composite)
    spec, onnx = spec.for_display(options.display), manifest.with_suffix(".onnx")
    engine = call_at_priority(
        placement.priority, lambda: open_frame_engine(spec, onnx, placement, runtime=shared_graphs.runtime)
    )
    batcher = shared_graphs.add_batcher(engine, placement, on_run=on_run)
    return FrameScorer(spec, batcher, deadline_seconds=deadline_seconds)


def load_scorer_manifest(path: Path) -> Spec:
    """Read the manifest of a scorer; raises SettingsError, and ScorerError for that of a reference measure."""
    spec = load_manifest(path)
    if isinstance(spec, ReferenceMeasureSpec):
        raise ScorerError(f"{spec.id} needs a reference: name it in scoring.references instead")
    return spec


def load_manifest(path: Path) -> Spec | ReferenceMeasureSpec:
    """Read a manifest of any kind; raises SettingsError."""
    try:
        kind = json.loads(path.read_bytes()).get("kind", "frame")
    except (OSError, ValueError, AttributeError):
        kind = "frame"  # its reader has the most helpful messages for a file that is not a manifest
    readers: dict[str, Callable[[Path], Spec | ReferenceMeasureSpec]] = {
        "levels": load_level_spec,
        "composite": load_composite_spec,
        "reference": load_reference_spec,
    }
    return readers.get(kind, load_frame_spec)(path)


def _resolve_task(name: str, bundles: Mapping[str, Path]) -> tuple[Path, str]:
    """The manifest and the task ("" = the first) of `name`, `name.task`, `name@version` or `name.task@version`.

    Raises ScorerError for an unknown name or task.
    """
    stem, at, version = name.partition("@")
    bundle_names = {bundle.split("@")[0] for bundle in bundles}
    bundle_name, task = (stem, "") if stem in bundle_names or "." not in stem else tuple(stem.rsplit(".", 1))
    scorer = f"{bundle_name}{at}{version}" if task and bundle_name in bundle_names else name
    (manifest,) = resolve_manifests([scorer], bundles).values()
    if task:
        spec = load_scorer_manifest(manifest)
        tasks = [spec_task.name for spec_task in spec.tasks] if isinstance(spec, LevelScorerSpec) else []
        if task not in tasks:
            raise ScorerError(f"{spec.id} has no task {task!r}; its tasks: {', '.join(tasks) or 'none'}")
    return manifest, task


def resolve_manifests(names: Iterable[str], bundles: Mapping[str, Path]) -> dict[str, Path]:
    """Scorer id -> manifest of each `name` (the newest version) or `name@version`; raises UnknownScorerError."""
    manifests = {}
    for name in names:
        matches = [scorer_id for scorer_id in bundles if name in (scorer_id, scorer_id.split("@")[0])]
        if not matches:
            candidates = sorted({*bundles, *(scorer_id.split("@")[0] for scorer_id in bundles)})
            closest = difflib.get_close_matches(name, candidates, n=1)
            hint = f"did you mean {closest[0]!r}? " if closest else ""
            raise UnknownScorerError(name, f"{hint}known: {', '.join(sorted(bundles)) or 'none'}")
        newest = max(matches, key=_version)
        manifests[newest] = bundles[newest]
    return manifests


def scorer_noise(names: Iterable[str], folders: Sequence[Path]) -> dict[str, float]:
    """Scorer id -> standard deviation of its noise in points, of those among `names` whose manifests state it.

    Names are `name` or `name@version`; unknown ones and level scorers, which state none, are left out. Raises
    SettingsError and ScorerError.
    """
    bundles, noise = find_bundles(folders), {}
    for name in names:
        try:
            manifest, _ = _resolve_task(name, bundles)
        except ScorerError:
            continue
        spec = load_scorer_manifest(manifest)
        if not isinstance(spec, LevelScorerSpec) and spec.noise is not None:
            noise[spec.id] = spec.noise.deviation
    return noise


def check_licence(spec: Spec | ReferenceMeasureSpec, *, allow_noncommercial: bool) -> None:
    """Refuse weights that may not be used commercially unless the settings state that the use is non-commercial."""
    if spec.licence.commercial is False and not allow_noncommercial:
        raise ScorerError(
            f"{spec.id} may not be used commercially ({spec.licence.name}: {spec.licence.note}); "
            "set scoring.allow_noncommercial = true if your use is not commercial, or choose another scorer"
        )


def _pool_native(spec: ScorerSpec, native_values: Sequence[float]) -> float:
    if spec.higher_is_better or spec.pooling not in ("min", "p5"):
        return pool(spec.pooling, native_values)
    # `min` and `p5` select the worst frames, which have the highest values on this scale.
    return -pool(spec.pooling, (-np.asarray(native_values)).tolist())


def _version(scorer_id: str) -> int:
    version = scorer_id.rpartition("@")[2]
    return int(version) if version.isdecimal() else -1
