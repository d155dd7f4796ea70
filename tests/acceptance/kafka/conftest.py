"""Brokers for the tests of this folder: started once, on free ports of loopback, and stopped at the end."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.acceptance.kafka.broker import REMEDY, Cluster, is_available
from tests.conftest import need


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One real broker."""
    need("kafka", present=is_available(), remedy=REMEDY)
    folder: Path = tmp_path_factory.mktemp("kafka")
    with Cluster(folder) as started:
        yield started


@pytest.fixture
async def nothing_left_behind() -> AsyncIterator[None]:
    """At the end of the test its clients have left no task, and no error that nobody has retrieved."""
    loop, reports = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    before = asyncio.all_tasks()
    yield
    # Tasks that were cancelled last take a few turns of the loop.
    if tasks := asyncio.all_tasks() - before - {asyncio.current_task()}:
        await asyncio.wait(tasks, timeout=10)
    assert [task for task in tasks if not task.done()] == []
    gc.collect()
    assert reports == []
