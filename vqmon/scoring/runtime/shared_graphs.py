"""Graphs that are open, each once: what one says of a row is computed once and shared by all who ask."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Self

import numpy as np

from vqmon.errors import ScoreError
from vqmon.scoring.manifests.level_scorer import GraphSpec
from vqmon.scoring.runtime.batcher import Batcher, Engine
from vqmon.scoring.runtime.engines import RowEngine
from vqmon.scoring.runtime.graph import Array, Placement, made_at
from vqmon.scoring.runtime.model_file import read_unit

KEEP_BYTES = 256 * 2**20
"""Of answers that are kept over all graphs; one picture's features of Q-Align are half a megabyte."""
CLOSED_SECONDS = 30.0


class GraphHost:
    """One graph behind its batcher, with the answers to rows that were asked lately."""

    def __init__(self, engine: RowEngine, batcher: Batcher, *, sha256: str, shelf: "Shelf") -> None:
        self._batcher, self._sha256, self._shelf = batcher, sha256, shelf
        # for the self-test at load, when the batcher is not asked yet
        self.first_engine = engine

    @property
    def engine(self) -> Engine:
        return self._batcher.engine

    async def score(self, *rows: Array, deadline_seconds: float) -> Array:
        """Answers (rows, ...), computed anew; raises ScoreError."""
        return await self._batcher.score(*rows, deadline_seconds=deadline_seconds)

    async def kept(self, *rows: Array, deadline_seconds: float) -> Array:
        """Answers (rows, ...); rows whose content was seen lately, here or for somebody else, cost nothing.

        Raises ScoreError.
        """
        loop = asyncio.get_running_loop()
        due = loop.time() + deadline_seconds
        keys = await loop.run_in_executor(None, _keys, self._sha256, rows)
        try:
            async with asyncio.timeout_at(due):
                while True:
                    answers = await self._asked(keys, rows, due)
                    await asyncio.wait(set(answers))
                    # Cancelled: whoever computed it left; it is computed again.
                    if not any(answer.cancelled() for answer in answers):
                        return np.stack([answer.result() for answer in answers])
        except TimeoutError:
            raise ScoreError("timeout", f"no features within {deadline_seconds:g} s") from None

    async def _asked(self, keys: Sequence[bytes], rows: tuple[Array, ...], due: float) -> list[asyncio.Future[Array]]:
        """The answers, given or promised, after computing those that nobody has promised."""
        loop = asyncio.get_running_loop()
        answers: dict[bytes, asyncio.Future[Array]] = {}
        mine: dict[bytes, int] = {}
        for at, key in enumerate(keys):
            found = answers.get(key) or self._shelf.get(key)
            if found is None:
                mine[key] = at
                found = self._shelf.promise(key, loop.create_future())
            answers[key] = found
        if mine:
            chosen = list(mine.values())
            try:
                values = await self._batcher.score(*(each[chosen] for each in rows), deadline_seconds=due - loop.time())
            except BaseException as error:
                self._shelf.take_back(list(mine), error)
                raise
            for key, value in zip(mine, values, strict=True):
                self._shelf.put(key, value.copy())
        return [answers[key] for key in keys]


class Shelf:
    """Answers by content, the least used leave first; an answer that is being computed is a promise."""

    def __init__(self, *, keep_bytes: int = KEEP_BYTES) -> None:
        self._keep_bytes, self._bytes = keep_bytes, 0
        self._answers: OrderedDict[bytes, asyncio.Future[Array]] = OrderedDict()

    def get(self, key: bytes) -> asyncio.Future[Array] | None:
        """An answer or the promise of one."""
        found = self._answers.get(key)
        if found is not None:
            self._answers.move_to_end(key)
        return found

    def promise(self, key: bytes, answer: asyncio.Future[Array]) -> asyncio.Future[Array]:
        """Somebody computes it now."""
        self._answers[key] = answer
        return answer

    def put(self, key: bytes, value: Array) -> None:
        """The promise is kept."""
        self._answers[key].set_result(value)
        self._bytes += value.nbytes
        for other in list(self._answers):
            if self._bytes <= self._keep_bytes:
                break
            answer = self._answers[other]
            if answer.done() and other != key:
                del self._answers[other]
                self._bytes -= answer.result().nbytes

    def take_back(self, keys: Sequence[bytes], error: BaseException) -> None:
        """The promises are not kept: a failure is one for all who wait, a caller that left is none."""
        for key in keys:
            answer = self._answers.pop(key)
            if isinstance(error, ScoreError) and error.reason != "timeout":
                answer.set_exception(error)
                answer.exception()  # looked at, as nobody may be waiting
            else:
                answer.cancel()


class Hosts:
    """Opens graphs, each once by its sha256; closes them at the end. Opening takes seconds and holds the loop."""

    def __init__(self, *, keep_bytes: int = KEEP_BYTES) -> None:
        self._shelf = Shelf(keep_bytes=keep_bytes)
        self._hosts: dict[str, GraphHost] = {}
        self._batchers: list[Batcher] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for batcher in self._batchers:
            await batcher.close(grace_seconds=CLOSED_SECONDS)

    def batcher(
        self,
        engine: Engine,
        placement: Placement,
        *,
        most_work: int | None = None,
        spent: Callable[[float], None] = lambda seconds: None,
    ) -> Batcher:
        """Put an engine behind a batcher that closes with the rest."""
        self._batchers.append(Batcher(engine, priority=placement.priority, most_work=most_work, spent=spent))
        return self._batchers[-1]

    def open(
        self,
        graph: GraphSpec,
        folder: Path,
        placement: Placement,
        *,
        shapes: tuple[tuple[int | None, ...], ...],
        buckets: tuple[int, ...],
        most_work: int | None = None,
        spent: Callable[[float], None] = lambda seconds: None,
    ) -> tuple[GraphHost, bool]:
        """A graph that `folder` holds, and whether it was not open before; raises ScorerError.

        A graph that is open already keeps the placement that it has.
        """
        found = self._hosts.get(graph.sha256)
        if found is not None:
            return found, False
        unit = read_unit(graph, folder)
        engine = made_at(placement.priority, lambda: RowEngine(graph, unit, placement, shapes=shapes, buckets=buckets))
        batcher = self.batcher(engine, placement, most_work=most_work, spent=spent)
        self._hosts[graph.sha256] = GraphHost(engine, batcher, sha256=graph.sha256, shelf=self._shelf)
        return self._hosts[graph.sha256], True


def device_text(*graphs: GraphHost) -> str:
    """Where graphs run now, and why it is not where they were asked to."""
    engines = [graph.engine for graph in graphs]
    devices = " + ".join(dict.fromkeys(engine.device for engine in engines))
    why = "; ".join(dict.fromkeys(engine.fallback for engine in engines if engine.fallback))
    return f"{devices} (fallback: {why})" if why else devices


def one_by_one(host: GraphHost, *rows: Array) -> Array:
    """The answers to rows asked one after the other, at load; raises ScorerError."""
    engine = host.first_engine
    answers = []
    for at in range(len(rows[0])):
        alone = (np.repeat(each[at : at + 1], engine.buckets[0], axis=0) for each in rows)
        answers.append(engine.tried(*alone)[:1])
    return np.concatenate(answers)


def settle(host: GraphHost, rows: tuple[Array, ...], answers: Array) -> None:
    """After its self-test: warm every bucket, and keep the answers for the self-test of a spare."""
    host.first_engine.remember(rows, answers)
    host.first_engine.warm(*rows)


def powers_of_two(most: int) -> tuple[int, ...]:
    """1, 2, 4 ... up to `most`."""
    return tuple(2**power for power in range(most.bit_length()) if 2**power <= most)


def _keys(sha256: str, rows: tuple[Array, ...]) -> list[bytes]:
    """In a thread: what tells each row from any other one, for this graph."""
    keys = []
    for at in range(len(rows[0])):
        digest = blake2b(sha256.encode(), digest_size=20)
        for each in rows:
            digest.update(f"{each.shape[1:]}{each.dtype.str}".encode())
            digest.update(np.ascontiguousarray(each[at]).data)
        keys.append(digest.digest())
    return keys
