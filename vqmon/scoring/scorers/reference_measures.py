"""Learned reference measures: one graph that compares pictures of a segment with their partners in its reference."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from vqmon.core.scores import PicturePairs, ReferenceScore
from vqmon.core.types import ScorerIdentity
from vqmon.errors import ScoreError, ScorerError
from vqmon.scoring.manifests.frame_scorer import find_bundles
from vqmon.scoring.manifests.reference_measure import ReferenceMeasureSpec, golden_pair
from vqmon.scoring.runtime.graph import Placement
from vqmon.scoring.runtime.shared_graphs import SharedGraph, SharedGraphs, describe_devices, run_row_by_row, warm_up
from vqmon.scoring.scorers.registry import ScorerOptions, check_licence, load_manifest, resolve_manifests

_ANY_PICTURE = (None, None, 3)


class ReferenceMeasure:
    """Compares pairs of pictures; `deadline_seconds` is that of one segment."""

    def __init__(self, spec: ReferenceMeasureSpec, graph: SharedGraph, *, deadline_seconds: float) -> None:
        self.spec, self._graph, self._deadline_seconds = spec, graph, deadline_seconds

    @property
    def name(self) -> str:
        """The name under which its values are published, without the version."""
        return self.spec.name

    @property
    def short_side(self) -> int:
        """The size of the pictures that it takes: px of the short side, 0 = the canvas."""
        return self.spec.short_side

    @property
    def identity(self) -> ScorerIdentity:
        """The identity now: the device changes when the one that was asked for fails. There is no calibration."""
        spec = self.spec
        return ScorerIdentity(
            scorer=spec.id,
            sha256=spec.graph.sha256,
            preprocessing=spec.preprocessing_id,
            calibration_version=0,
            device=describe_devices(self._graph),
            licence=spec.licence.name,
        )

    async def compare(self, pairs: PicturePairs, *, sample_count: int) -> ReferenceScore:
        """The mean over the pairs of a segment with `sample_count` sampled frames; raises ScoreError."""
        spec = self.spec
        height, width = pairs.segment.shape[1:3]
        if min(height, width) < spec.min_side_px:
            raise ScoreError(
                "scorer_failed", f"{spec.id} needs {spec.min_side_px} px, the pictures are {width}x{height}"
            )
        output = await self._graph.infer(pairs.reference, pairs.segment, deadline_seconds=self._deadline_seconds)
        values = np.asarray(output, dtype=np.float64).reshape(len(pairs.samples))
        by_sample = {sample: round(float(value), 6) for sample, value in zip(pairs.samples, values, strict=True)}
        return ReferenceScore(
            measure=spec.name,
            value=round(float(values.mean()), 6),
            frame_values=tuple(by_sample.get(index) for index in range(sample_count)),
            unit="",
            higher_is_better=spec.higher_is_better,
        )


def open_reference_measures(
    names: Iterable[str], folders: Sequence[Path], options: ScorerOptions, *, shared_graphs: SharedGraphs
) -> list[ReferenceMeasure]:
    """Open the measures by `name` (the newest version) or `name@version`; they close with `shared_graphs`.

    Raises ScorerError or SettingsError for a bundle that is missing, broken, of a scorer, or may not be used.
    """
    measures: dict[str, ReferenceMeasure] = {}
    bundles = find_bundles(folders)
    for name in names:
        (manifest,) = resolve_manifests([name], bundles).values()
        spec = load_manifest(manifest)
        if not isinstance(spec, ReferenceMeasureSpec):
            raise ScorerError(f"{spec.id} scores without a reference: name it in scoring.scorers, not in references")
        check_licence(spec, allow_noncommercial=options.allow_noncommercial)
        open_on = partial(_open_graph, spec, manifest.parent, shared_graphs=shared_graphs, on_run=options.on_run)
        graph = shared_graphs.open_or_fall_back(spec.id, options.placement, open_on)
        measures.setdefault(spec.name, ReferenceMeasure(spec, graph, deadline_seconds=options.deadline_seconds))
    return list(measures.values())


def _open_graph(
    spec: ReferenceMeasureSpec,
    folder: Path,
    placement: Placement,
    *,
    shared_graphs: SharedGraphs,
    on_run: Callable[[float], None],
) -> SharedGraph:
    """The graph, after its self-test; raises ScorerError."""
    graph, is_new = shared_graphs.open(
        spec.graph, folder, placement, shapes=(_ANY_PICTURE, _ANY_PICTURE), buckets=(1,), on_run=on_run
    )
    pair = golden_pair(spec.golden)
    inputs = (pair[:1], pair[1:])
    output = run_row_by_row(graph, *inputs)
    if is_new:
        warm_up(graph, inputs, output)
    value = float(np.asarray(output, dtype=np.float64).ravel()[0])
    if output.size != 1 or not abs(value - spec.golden.output) <= spec.golden.tolerance:
        raise ScorerError(
            f"{spec.id}: self-test: the golden pictures gave {value:.6g}, the manifest says {spec.golden.output:.6g} "
            f"(tolerance {spec.golden.tolerance:g}); either the bundle is not the one that was exported or this "
            "machine computes it wrongly: fetch or export the bundle again"
        )
    return graph
