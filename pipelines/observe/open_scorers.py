"""Opens the scorers of the settings: those that always look, those on trial, and the heavy ones."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from pipelines.observe.scoring_tiers import HeavyTier, Purse
from vqmon.core.cascade import PromotionPolicy
from vqmon.errors import ScorerError
from vqmon.scoring.runtime.graph import Placement
from vqmon.scoring.runtime.shared_graphs import Hosts
from vqmon.scoring.scorers.composites import CompositeScorer
from vqmon.scoring.scorers.registry import Scorer, Terms, builtin_folder, open_scorers
from vqmon.settings.sections import ScoringSettings
from vqmon.telemetry.metrics import Meters


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiers:
    """The open scorers."""

    scorers: Sequence[Scorer]
    shadows: Sequence[Scorer]
    heavy: HeavyTier | None


@asynccontextmanager
async def open_tiers(scoring: ScoringSettings, *, meters: Meters) -> AsyncIterator[Tiers]:
    """Open all of them, graphs that several use once; they close with the context."""
    folders = [builtin_folder(), *scoring.folders]
    purse = Purse(scoring.heavy_seconds_per_hour, clock=time.monotonic)

    def heard(seconds: float) -> None:
        purse.hear(seconds)
        meters.record("vqmon.scorer.run.duration", seconds, tier="heavy")

    async with AsyncExitStack() as stack:
        hosts = await stack.enter_async_context(Hosts(keep_bytes=scoring.feature_bytes))

        async def opened(names: Sequence[str], terms: Terms) -> list[Scorer]:
            found = await stack.enter_async_context(open_scorers(names, folders, terms, hosts=hosts))
            _check_views(found)
            return found

        scorers = await opened(scoring.scorers, first_terms(scoring, meters))
        shadows = await opened(scoring.shadows, first_terms(scoring, meters))
        heavy = await opened(
            scoring.heavy,
            Terms(
                placement=Placement(
                    device=scoring.heavy_device,
                    threads=scoring.heavy_threads,
                    cores_per_run=scoring.heavy_threads,
                    memory_bytes=scoring.gpu_memory_bytes,
                    priority="background",
                ),
                allow_noncommercial=scoring.allow_noncommercial,
                deadline_seconds=scoring.heavy_deadline_seconds,
                spent=heard,
            ),
        )
        tier = HeavyTier(
            heavy,
            policy=policy_of(scoring),
            purse=purse,
            count=lambda name, reason: meters.count(name, reason=reason),
        )
        yield Tiers(scorers=scorers, shadows=shadows, heavy=tier if heavy else None)


def _check_views(scorers: Sequence[Scorer]) -> None:
    """Refuse at start what the decoder could not feed; raises ScorerError."""
    for scorer in scorers:
        if isinstance(scorer, CompositeScorer) and scorer.unfed:
            why = f"takes clips or crops as {', '.join(scorer.unfed)}, but their view gives another number of pictures"
            raise ScorerError(f"{scorer.id} {why}: say `clip` or `windows` in the manifest, or export it again")


def first_terms(scoring: ScoringSettings, meters: Meters) -> Terms:
    """How the scorers that always look are opened."""
    return Terms(
        placement=Placement(device=scoring.device, threads=scoring.threads, memory_bytes=scoring.gpu_memory_bytes),
        allow_noncommercial=scoring.allow_noncommercial,
        deadline_seconds=scoring.deadline_seconds,
        spent=lambda seconds: meters.record("vqmon.scorer.run.duration", seconds, tier="first"),
    )


def policy_of(scoring: ScoringSettings) -> PromotionPolicy:
    """When the heavy scorers look, as the settings say."""
    labels = (label.partition("=") for label in scoring.heavy_labels)
    return PromotionPolicy(
        share=scoring.heavy_share,
        labels=tuple((name, value) for name, _, value in labels),
        below=scoring.heavy_below,
        drop=scoring.heavy_drop,
    )
