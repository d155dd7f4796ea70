"""Scorers by name: from a bundle in a folder to the verdict on a segment."""

import difflib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vqmon.core.scores import pool
from vqmon.core.types import DecodedSegment, Score, ScorerIdentity, View
from vqmon.errors import ScorerError
from vqmon.scoring.manifests.composite_scorer import CompositeSpec, load_composite_spec
from vqmon.scoring.manifests.frame_scorer import ScorerSpec, find_bundles, load_spec
from vqmon.scoring.manifests.level_scorer import LevelScorerSpec, load_level_spec
from vqmon.scoring.runtime.batcher import Batcher
from vqmon.scoring.runtime.engines import open_frames
from vqmon.scoring.runtime.graph import Placement, made_at
from vqmon.scoring.runtime.onnx_session import runtime_versions
from vqmon.scoring.runtime.shared_graphs import Hosts
from vqmon.scoring.scorers.composites import CompositeScorer, open_composite
from vqmon.scoring.scorers.levels import LevelModel, LevelScorer, PairScorer, open_levels

__all__ = [
    "FrameScorer",
    "Scorer",
    "Terms",
    "builtin_folder",
    "load_any",
    "open_pairs",
    "open_scorers",
    "resolve",
    "runtime_versions",
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
        """As of now: the device changes when the one asked for fails."""
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
        """The verdict on one segment; raises ScoreError."""
        native = await self._batcher.score(decoded.views[self.spec.input.view], deadline_seconds=self._deadline_seconds)
        return verdict(self.spec, native.tolist())


def verdict(spec: ScorerSpec, native_values: Sequence[float]) -> Score:
    """Put the native values of a segment's frames together; 0..100 to four decimals, native to six."""
    values = [spec.calibration.apply(native) for native in native_values]
    return Score(
        scorer=spec.id,
        value=round(pool(spec.pooling, values), 4),
        native_value=round(_pool_native(spec, native_values), 6),
        p5=round(pool("p5", values), 4),
        min=round(pool("min", values), 4),
        pooling=spec.pooling,
        frame_values=tuple(round(value, 4) for value in values),
    )


Scorer = FrameScorer | LevelScorer | CompositeScorer
Spec = ScorerSpec | LevelScorerSpec | CompositeSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How scorers are opened: where they run, what is allowed, how long a segment may take, who hears the cost."""

    placement: Placement = field(default_factory=Placement)
    allow_noncommercial: bool = False
    deadline_seconds: float = 30.0
    # told the seconds that each run of a graph held its device
    spent: Callable[[float], None] = lambda seconds: None


@asynccontextmanager
async def open_scorers(
    names: Iterable[str], folders: Sequence[Path], terms: Terms | None = None, *, hosts: Hosts | None = None
) -> AsyncIterator[list[Scorer]]:
    """Open scorers by `name` (its newest version) or `name@version`, in the order given; close them at the end.

    A scorer that can be asked several things is `name.task`; `name` alone means its first task. Looks in `folders`
    only: give `builtin_folder()` among them. With `hosts` of the caller's, graphs are shared with what it opened
    before and close with it. Raises ScorerError and SettingsError before anything is scored.
    """
    terms, bundles = terms or Terms(), find_bundles(folders)
    async with AsyncExitStack() as stack:
        shared = hosts if hosts is not None else await stack.enter_async_context(Hosts())
        scorers: dict[str, Scorer] = {}
        models: dict[Path, LevelModel] = {}
        for name in names:
            manifest, task = chosen(name, bundles)
            spec = load_any(manifest)
            check_licence(spec, allow_noncommercial=terms.allow_noncommercial)
            scorer = _open(spec, task, manifest, terms=terms, hosts=shared, models=models)
            scorers.setdefault(scorer.id, scorer)
        yield list(scorers.values())


@asynccontextmanager
async def open_pairs(name: str, folders: Sequence[Path], terms: Terms | None = None) -> AsyncIterator[PairScorer]:
    """Open what compares two arms' frames directly, by the name of a scorer whose manifest has such a task."""
    terms = terms or Terms()
    manifest, task = chosen(name, find_bundles(folders))
    spec = load_any(manifest)
    check_licence(spec, allow_noncommercial=terms.allow_noncommercial)
    if not isinstance(spec, LevelScorerSpec):
        raise ScorerError(f"{spec.id} scores single pictures; only a scorer with a task for pairs compares two")
    pairs = [each for each in spec.tasks if (each.least_frames, each.most_frames) == (2, 2) and task in ("", each.name)]
    if not pairs:
        raise ScorerError(f"{spec.id} has no such task for pairs; its tasks: {', '.join(t.name for t in spec.tasks)}")
    async with Hosts() as hosts:
        model = open_levels(spec, manifest.parent, terms.placement, hosts, spent=terms.spent)
        yield PairScorer(model, pairs[0])


def _open(
    spec: Spec, task: str, manifest: Path, *, terms: Terms, hosts: Hosts, models: dict[Path, LevelModel]
) -> Scorer:
    placement, deadline_seconds = terms.placement, terms.deadline_seconds
    if isinstance(spec, LevelScorerSpec):
        if manifest not in models:
            models[manifest] = open_levels(spec, manifest.parent, placement, hosts, spent=terms.spent)
        asked = spec.task(task) if task else next((t for t in spec.tasks if t.least_frames == 1), spec.tasks[0])
        return LevelScorer(models[manifest], asked, deadline_seconds=deadline_seconds)
    if isinstance(spec, CompositeSpec):
        return open_composite(
            spec, manifest.parent, placement, hosts, deadline_seconds=deadline_seconds, spent=terms.spent
        )
    engine = made_at(placement.priority, lambda: open_frames(spec, manifest.with_suffix(".onnx"), placement))
    return FrameScorer(spec, hosts.batcher(engine, placement, spent=terms.spent), deadline_seconds=deadline_seconds)


def load_any(path: Path) -> Spec:
    """Read a manifest of any kind; raises SettingsError."""
    try:
        kind = json.loads(path.read_bytes()).get("kind", "frame")
    except (OSError, ValueError, AttributeError):
        kind = "frame"  # whose reader says best what is wrong
    readers: dict[str, Callable[[Path], Spec]] = {"levels": load_level_spec, "composite": load_composite_spec}
    return readers.get(kind, load_spec)(path)


def chosen(name: str, bundles: Mapping[str, Path]) -> tuple[Path, str]:
    """The manifest and the task ("" = the first) that `name`, `name.task` and both with @version mean.

    An unknown name or task is a ScorerError.
    """
    stem, at, version = name.partition("@")
    known = {bundle.split("@")[0] for bundle in bundles}
    whole, task = (stem, "") if stem in known or "." not in stem else tuple(stem.rsplit(".", 1))
    (manifest,) = resolve([f"{whole}{at}{version}" if task and whole in known else name], bundles).values()
    if task:
        spec = load_any(manifest)
        tasks = [each.name for each in spec.tasks] if isinstance(spec, LevelScorerSpec) else []
        if task not in tasks:
            raise ScorerError(f"{spec.id} has no task {task!r}; its tasks: {', '.join(tasks) or 'none'}")
    return manifest, task


def resolve(names: Iterable[str], bundles: Mapping[str, Path]) -> dict[str, Path]:
    """The manifests of `name` or `name@version` by id, each once; an unknown name is a ScorerError."""
    found = {}
    for name in names:
        versions = [known for known in bundles if name in (known, known.split("@")[0])]
        if not versions:
            known = sorted({*bundles, *(known.split("@")[0] for known in bundles)})
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ScorerError(f"unknown scorer {name!r}; {hint}known: {', '.join(sorted(bundles)) or 'none'}")
        newest = max(versions, key=_version)
        found[newest] = bundles[newest]
    return found


def check_licence(spec: Spec, *, allow_noncommercial: bool) -> None:
    """Refuse weights that may not be used commercially unless the owner has said that this use is not."""
    if spec.licence.commercial is False and not allow_noncommercial:
        raise ScorerError(
            f"{spec.id} may not be used commercially ({spec.licence.name}: {spec.licence.note}); "
            "set scoring.allow_noncommercial = true if your use is not commercial, or choose another scorer"
        )


def builtin_folder() -> Path:
    """Where the built-in scorers are: inside the installed package, else in the checkout."""
    package = Path(__file__).parents[2]
    places = (package / "builtin", package.parent / "models" / "built")
    for place in places:
        if place.is_dir():
            return place
    raise ScorerError(f"no built-in scorers: neither {places[0]} nor {places[1]} exists; install vqmon again")


def _pool_native(spec: ScorerSpec, native_values: Sequence[float]) -> float:
    if spec.higher_is_better or spec.pooling not in ("min", "p5"):
        return pool(spec.pooling, native_values)
    # `min` and `p5` look at the worst frames, which on this scale are the highest.
    return -pool(spec.pooling, (-np.asarray(native_values)).tolist())


def _version(scorer_id: str) -> int:
    version = scorer_id.rpartition("@")[2]
    return int(version) if version.isdecimal() else -1
