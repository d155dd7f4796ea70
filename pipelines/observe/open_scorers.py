"""Opens the scorers that the settings name, the first tier, the shadows and the heavy tier, and learned measures."""

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

from pipelines.observe.scoring_tiers import DeviceTimeReservations, HeavyTier
from vqmon.core.cascade import PromotionPolicy
from vqmon.core.types import Display
from vqmon.errors import ScorerError, UnknownScorerError
from vqmon.media.reference.measures.offered import ALONE_MEASURES, REFERENCE_MEASURES
from vqmon.scoring.runtime.batcher import BatchFacts
from vqmon.scoring.runtime.devices import select_gpus
from vqmon.scoring.runtime.graph import Device, Placement, Runtime
from vqmon.scoring.runtime.onnx_session import ONNX_RUNTIME
from vqmon.scoring.runtime.shared_graphs import SharedGraphs
from vqmon.scoring.scorers.composites import CompositeScorer
from vqmon.scoring.scorers.reference_measures import ReferenceMeasure, open_reference_measures
from vqmon.scoring.scorers.registry import Scorer, ScorerOptions, builtin_folder, open_scorers
from vqmon.settings.scoring import ScoringSettings
from vqmon.telemetry.gpus import GpuReader, supply_gpu_metrics
from vqmon.telemetry.metrics import Meters


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerTiers:
    """The open scorers by tier."""

    scorers: Sequence[Scorer]
    shadows: Sequence[Scorer]
    heavy: HeavyTier | None
    learned_measures: Sequence[ReferenceMeasure] = ()

    @property
    def picture_sides(self) -> tuple[int, ...]:
        """The sizes of the pictures that the learned measures take."""
        return tuple(measure.short_side for measure in self.learned_measures)


@asynccontextmanager
async def open_scorer_tiers(scoring: ScoringSettings, *, meters: Meters) -> AsyncIterator[ScorerTiers]:
    """Open all scorers of the settings, each shared graph once; they close with the context.

    Raises ScorerError or SettingsError for a scorer that cannot be opened or fed.
    """
    folders = [builtin_folder(), *scoring.folders]
    budget = DeviceTimeReservations(scoring.heavy_seconds_per_hour, clock=time.monotonic)

    def on_heavy_run(seconds: float) -> None:
        budget.spend(seconds)
        meters.record("vqmon.scorer.run.duration", seconds, tier="heavy")

    async with AsyncExitStack() as stack:
        shared_graphs = await stack.enter_async_context(_measured_graphs(scoring, meters))

        async def open_tier(names: Sequence[str], options: ScorerOptions, *, setting: str = "") -> list[Scorer]:
            context = open_scorers(names, folders, options, shared_graphs=shared_graphs)
            try:
                scorers = await stack.enter_async_context(context)
            except ScorerError as error:
                # those of scoring.scorers may also come from the command line
                is_named = not setting or str(error).startswith("scoring.")
                text = f"{error}{_measure_hint(error)}"
                raise ScorerError(text if is_named else f"{setting}: {text}") from error
            _check_views(scorers)
            return scorers

        first_tier_options = _first_tier_options(scoring, meters)
        scorers = await open_tier(scoring.scorers, first_tier_options)
        shadows = await open_tier(scoring.shadows, first_tier_options, setting="scoring.shadows")
        heavy_scorers = await open_tier(scoring.heavy, _heavy_options(scoring, on_heavy_run), setting="scoring.heavy")
        _refuse_two_tiers({"scoring.scorers": scorers, "scoring.shadows": shadows, "scoring.heavy": heavy_scorers})
        heavy_tier = HeavyTier(
            heavy_scorers,
            policy=_promotion_policy(scoring),
            budget=budget,
            count=lambda metric, reason: meters.count(metric, reason=reason),
        )
        learned_measures = open_reference_measures(
            scoring.learned_references, folders, first_tier_options, shared_graphs=shared_graphs
        )
        yield ScorerTiers(
            scorers=scorers,
            shadows=shadows,
            heavy=heavy_tier if heavy_scorers else None,
            learned_measures=learned_measures,
        )


def _measure_hint(error: ScorerError) -> str:
    """Where a measure belongs that was named as a scorer; empty when the error is not about one."""
    name = error.name if isinstance(error, UnknownScorerError) else ""
    if name in ALONE_MEASURES:
        return f". {name} is a measure: name it in scoring.measures, or with --measure where the command has it"
    return f". {name} is a reference measure: name it in scoring.references" if name in REFERENCE_MEASURES else ""


def _refuse_two_tiers(scorers_of: Mapping[str, Sequence[Scorer]]) -> None:
    """Refuse a scorer that two settings name: an event would hold its score twice."""
    settings_of: dict[str, str] = {}
    for setting, scorers in scorers_of.items():
        for scorer in scorers:
            if scorer.id in settings_of:
                raise ScorerError(f"{setting}: {scorer.id} is in {settings_of[scorer.id]} already")
            settings_of[scorer.id] = setting


def _check_views(scorers: Sequence[Scorer]) -> None:
    """Refuse, before anything is scored, a scorer whose views do not give what its graphs take."""
    for scorer in scorers:
        if isinstance(scorer, CompositeScorer) and scorer.mismatched_sources:
            sources = ", ".join(scorer.mismatched_sources)
            raise ScorerError(
                f"{scorer.id}: the view of {sources} gives another number of pictures per row than the source takes; "
                "add `clip` or `windows` to the view in the manifest, or export the scorer again"
            )


def _first_tier_options(scoring: ScoringSettings, meters: Meters) -> ScorerOptions:
    return ScorerOptions(
        placement=replace(_placement(scoring, scoring.device), threads=scoring.threads),
        allow_noncommercial=scoring.allow_noncommercial,
        deadline_seconds=scoring.deadline_seconds,
        display=_display(scoring),
        on_run=lambda seconds: meters.record("vqmon.scorer.run.duration", seconds, tier="first"),
    )


def _heavy_options(scoring: ScoringSettings, on_run: Callable[[float], None]) -> ScorerOptions:
    return ScorerOptions(
        placement=replace(
            _placement(scoring, scoring.heavy_device),
            threads=scoring.heavy_threads,
            cores_per_run=scoring.heavy_threads,
            priority="background",
        ),
        allow_noncommercial=scoring.allow_noncommercial,
        deadline_seconds=scoring.heavy_deadline_seconds,
        display=_display(scoring),
        on_run=on_run,
    )


def _placement(scoring: ScoringSettings, device: Device) -> Placement:
    return Placement(
        device=device,
        gpus=select_gpus(scoring.devices, os.environ),
        memory_bytes=scoring.gpu_memory_bytes,
        precision=scoring.tensorrt_precision,
        engine_cache=scoring.engine_cache,
        cuda_graphs=scoring.cuda_graphs,
    )


def may_use_gpu(scoring: ScoringSettings, *, runtime: Runtime = ONNX_RUNTIME) -> bool:
    """Whether GPUs are asked for, or "auto" takes one where there is one: the runtime is built for them."""
    if scoring.devices or {"cuda", "tensorrt"} & set(scoring.used_devices):
        return True
    return "auto" in scoring.used_devices and runtime.has_gpu_provider()


def _measured_graphs(scoring: ScoringSettings, meters: Meters) -> SharedGraphs:
    """The graphs that the scorers share, with metrics of their batches and of the GPUs."""
    if may_use_gpu(scoring) and isinstance(reader := GpuReader.open(scoring.devices, os.environ), GpuReader):
        supply_gpu_metrics(meters, reader)
    return SharedGraphs(cache_bytes=scoring.feature_bytes, on_batch=partial(_record_batch, meters))


def _record_batch(meters: Meters, batch: BatchFacts) -> None:
    meters.record("vqmon.scorer.batch.fill", batch.rows / batch.max_rows)
    meters.record("vqmon.scorer.batch.waiting", batch.waiting_rows)


def _display(scoring: ScoringSettings) -> Display:
    return Display(lines=scoring.display_lines, distance_heights=scoring.display_distance_heights)


def _promotion_policy(scoring: ScoringSettings) -> PromotionPolicy:
    labels = (label.partition("=") for label in scoring.heavy_labels)
    return PromotionPolicy(
        share=scoring.heavy_share,
        labels=tuple((name, value) for name, _, value in labels),
        below=scoring.heavy_below,
        drop=scoring.heavy_drop,
    )
