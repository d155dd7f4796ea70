"""Shared graphs: cached outputs, pending ones, failures, and callers that are cancelled."""

import asyncio
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from tests.scoring.runtime.test_batcher import FOREVER, FakeEngine, frames
from tests.scoring.tiny_levels import write_levels
from vqmon.errors import ScoreError
from vqmon.scoring.manifests.level_scorer import load_level_spec
from vqmon.scoring.runtime.batcher import Batcher
from vqmon.scoring.runtime.engines import GraphEngine
from vqmon.scoring.runtime.graph import Array, Placement
from vqmon.scoring.runtime.shared_graphs import OutputCache, SharedGraph, SharedGraphs, powers_of_two


class CountingCache(OutputCache):
    """Knows how many rows were looked up; keys are made in threads, so that callers come in any order."""

    lookups = 0

    def get(self, key: bytes) -> asyncio.Future[Array] | None:
        self.lookups += 1
        return super().get(key)


def shared_graph_of(engine: FakeEngine, *, cache_bytes: int = 10_000) -> tuple[SharedGraph, Batcher]:
    batcher = Batcher(engine)
    cache = CountingCache(cache_bytes=cache_bytes)
    return SharedGraph(cast(GraphEngine, engine), batcher, sha256="a" * 64, cache=cache), batcher


async def infer(graph: SharedGraph, *firsts: int, deadline_seconds: float = FOREVER) -> list[float]:
    outputs = await graph.infer_cached(frames(*firsts), deadline_seconds=deadline_seconds)
    return [float(output) for output in outputs]


async def until_running(engine: FakeEngine, runs: int = 1) -> None:
    while len(engine.batches) < runs:  # noqa: ASYNC110 - threads report here, not tasks
        await asyncio.sleep(0.001)


async def until_looked_up(graph: SharedGraph, rows: int) -> None:
    """Until so many rows are computed or waited for."""
    while cast(CountingCache, graph._cache).lookups < rows:  # noqa: ASYNC110 - threads report here, not tasks
        await asyncio.sleep(0.001)


async def test_rows_with_the_same_content_are_computed_once() -> None:
    """In one call, in a later call, and for another caller."""
    engine = FakeEngine(buckets=(1,))
    graph, batcher = shared_graph_of(engine)
    assert await infer(graph, 1, 2, 1) == [1, 2, 1]
    assert await infer(graph, 2, 3) == [2, 3]
    assert sorted(number for batch in engine.batches for number in batch) == [1, 2, 3]
    await batcher.close()


async def test_concurrent_callers_share_one_run() -> None:
    """The second caller waits for the pending output."""
    engine = FakeEngine(buckets=(1,))
    graph, batcher = shared_graph_of(engine)
    engine.open.clear()
    both = asyncio.gather(infer(graph, 1), infer(graph, 1))
    await until_looked_up(graph, 2)
    await until_running(engine)
    engine.open.set()
    assert await both == [[1], [1]]
    assert engine.batches == [[1]]
    await batcher.close()


async def test_a_row_is_computed_again_when_its_caller_is_cancelled() -> None:
    """A caller that waited for its output computes it itself."""
    engine = FakeEngine(buckets=(1,))
    graph, batcher = shared_graph_of(engine)
    engine.open.clear()
    first = asyncio.create_task(infer(graph, 1))
    await until_running(engine)
    second = asyncio.create_task(infer(graph, 1))
    await until_looked_up(graph, 2)
    first.cancel()
    await asyncio.sleep(0)
    engine.open.set()
    assert await second == [1]
    with pytest.raises(asyncio.CancelledError):
        await first
    await batcher.close()


async def test_a_failure_reaches_all_waiting_callers_and_is_not_cached() -> None:
    """The next call runs the row again."""
    engine = FakeEngine(device="cpu", buckets=(1,), failures=[ScoreError("scorer_failed", "boom")])
    graph, batcher = shared_graph_of(engine)
    engine.open.clear()
    both = asyncio.gather(infer(graph, 1), infer(graph, 1), return_exceptions=True)
    await until_looked_up(graph, 2)
    await until_running(engine)
    engine.open.set()
    assert [str(output) for output in await both] == ["scorer_failed: boom"] * 2
    assert await infer(graph, 1) == [1]
    await batcher.close()


async def test_waiting_for_a_pending_output_ends_at_the_deadline() -> None:
    """The caller that computes it is not affected."""
    engine = FakeEngine(buckets=(1,))
    graph, batcher = shared_graph_of(engine)
    engine.open.clear()
    patient = asyncio.create_task(infer(graph, 1))
    await until_running(engine)
    with pytest.raises(ScoreError) as caught:
        await infer(graph, 1, deadline_seconds=0.05)
    assert caught.value.reason == "timeout"
    engine.open.set()
    assert await patient == [1]
    await batcher.close()


@pytest.mark.parametrize("cache_bytes", [0, 16, 10_000])
async def test_the_cache_is_bounded(cache_bytes: int) -> None:
    """The least recently used outputs are evicted; without any room, every call is still served."""
    engine = FakeEngine(buckets=(1,))
    graph, batcher = shared_graph_of(engine, cache_bytes=cache_bytes)
    assert await infer(graph, *range(20)) == list(range(20))
    assert await infer(graph, *range(19, -1, -1)) == list(range(19, -1, -1))
    runs = sum(len(batch) for batch in engine.batches)
    assert runs == {0: 39, 16: 38, 10_000: 20}[cache_bytes]
    await batcher.close()


async def test_a_graph_is_opened_once_by_its_hash(tmp_path: Path) -> None:
    """It closes with all the others."""
    spec = load_level_spec(write_levels(tmp_path))
    shape = ((3, 8, 16),)
    async with SharedGraphs() as shared_graphs:
        first, is_new = shared_graphs.open(spec.encoder, tmp_path, Placement(device="cpu"), shapes=shape, buckets=(1,))
        second, is_new_again = shared_graphs.open(
            spec.encoder, tmp_path, Placement(device="cpu"), shapes=shape, buckets=(1,)
        )
        assert first is second
        assert (is_new, is_new_again) == (True, False)
    with pytest.raises(ValueError, match="after close"):
        await first.infer(np.zeros((1, 3, 8, 16), np.uint8), deadline_seconds=1)


def test_powers_of_two_end_at_the_limit() -> None:
    """The limit itself is included."""
    assert [powers_of_two(most) for most in (1, 2, 7, 64)] == [(1,), (1, 2), (1, 2, 4), (1, 2, 4, 8, 16, 32, 64)]
