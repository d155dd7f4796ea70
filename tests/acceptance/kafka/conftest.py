"""Brokers for the tests of this folder: started once, on free ports of loopback, and stopped at the end."""

from collections.abc import Iterator
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
