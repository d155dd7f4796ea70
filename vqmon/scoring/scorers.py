"""Scorers by name: from a bundle in a folder to the verdict on a segment."""

import difflib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Self

import numpy as np

from vqmon.core.pooling import pool
from vqmon.core.types import Decoded, Score, ScorerIdentity, View
from vqmon.errors import ScorerError
from vqmon.scoring.batcher import Batcher, Engine
from vqmon.scoring.engines import open_frames
from vqmon.scoring.graphs import Device, Placement
from vqmon.scoring.session import runtime_versions
from vqmon.scoring.specs import ScorerSpec, find_bundles, load_spec

__all__ = ["FrameScorer", "builtin_folder", "open_scorers", "resolve", "runtime_versions"]


class FrameScorer:
    """Scores each sampled frame by itself and pools the frame values."""

    def __init__(self, spec: ScorerSpec, engine: Engine, *, deadline_seconds: float = 30.0) -> None:
        self.spec = spec
        self._batcher = Batcher(engine)
        self._deadline_seconds = deadline_seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._batcher.close()

    @property
    def id(self) -> str:
        """name@version."""
        return self.spec.id

    @property
    def view(self) -> View:
        return self.spec.input.view

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

    async def score(self, decoded: Decoded) -> Score:
        """The verdict on one segment; raises ScoreError."""
        native = await self._batcher.score(decoded.views[self.view], deadline_seconds=self._deadline_seconds)
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


@asynccontextmanager
async def open_scorers(
    names: Iterable[str],
    folders: Sequence[Path],
    *,
    device: Device = "auto",
    threads: int = 0,
    allow_noncommercial: bool = False,
    deadline_seconds: float = 30.0,
) -> AsyncIterator[list[FrameScorer]]:
    """Open scorers by `name` (its newest version) or `name@version`, in the order given; close them at the end.

    Looks in `folders` only: give `builtin_folder()` among them. `threads` 0 = one per core. Raises ScorerError and
    SettingsError before anything is scored.
    """
    manifests = resolve(names, find_bundles(folders))
    async with AsyncExitStack() as stack:
        scorers = []
        for manifest in manifests.values():
            spec = load_spec(manifest)
            check_licence(spec, allow_noncommercial=allow_noncommercial)
            engine = open_frames(spec, manifest.with_suffix(".onnx"), Placement(device=device, threads=threads))
            scorer = FrameScorer(spec, engine, deadline_seconds=deadline_seconds)
            scorers.append(await stack.enter_async_context(scorer))
        yield scorers


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


def check_licence(spec: ScorerSpec, *, allow_noncommercial: bool) -> None:
    """Refuse weights that may not be used commercially unless the owner has said that this use is not."""
    if spec.licence.commercial is False and not allow_noncommercial:
        raise ScorerError(
            f"{spec.id} may not be used commercially ({spec.licence.name}: {spec.licence.note}); "
            "set scoring.allow_noncommercial = true if your use is not commercial, or choose another scorer"
        )


def builtin_folder() -> Path:
    """Where the built-in scorers are: inside the installed package, else in the checkout."""
    package = Path(__file__).parent.parent
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
