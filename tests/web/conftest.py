"""A seeded history, the pages over it, and the pages in a real browser."""

import socket
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from time import sleep

import httpx
import pytest
import uvicorn

from tests.web import experiment_results, input_decisions, seed
from tests.web.stored_history import StoredHistory, open_copy, write_history
from vqmon.transport.reviews import Reviews
from vqmon.web.app import create_app


@pytest.fixture(scope="session")
def seeded() -> seed.Seeded:
    """Eight streams, one of each kind."""
    return seed.fleet(streams=8)


@pytest.fixture(scope="session")
def filled(seeded: seed.Seeded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history file with all of them, written once."""
    return write_history(tmp_path_factory.mktemp("filled") / "history.db", seeded)


@pytest.fixture
def history(filled: Path, seeded: seed.Seeded, tmp_path: Path) -> Iterator[StoredHistory]:
    """A copy of the history for each test, so that tests may write."""
    with open_copy(filled, seeded, tmp_path) as stored_history:
        yield stored_history


@pytest.fixture
def reviews(tmp_path: Path) -> Reviews:
    """A review store without votes and pictures."""
    return Reviews(tmp_path / "history.db.reviews")


@pytest.fixture
async def client(history: StoredHistory, reviews: Reviews) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the pages without a network."""
    app = create_app(
        history.store.queries,
        now=lambda: seed.NOW + timedelta(seconds=2),
        experiment_results=experiment_results.FixedResults(experiment_results.comparison(history.seeded)),
        reviews=reviews,
        input_rules=input_decisions.RULES,
        allows_votes=True,
        poll_seconds=0.01,
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client


class Served:
    """The pages on a free port of this machine."""

    def __init__(
        self, history: StoredHistory, *, port: int = 0, results: experiment_results.FixedResults | None = None
    ) -> None:
        app = create_app(
            history.store.queries,
            now=lambda: seed.NOW + timedelta(seconds=2),
            experiment_results=results
            or experiment_results.FixedResults(experiment_results.comparison(history.seeded)),
            reviews=Reviews(history.path.with_name("served.reviews")),
            input_rules=input_decisions.RULES,
            allows_votes=True,
            poll_seconds=0.1,
            is_stopping=lambda: self._server.should_exit,
        )
        self.history = history
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1, lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> "Served":
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            sleep(0.02)
        return self

    def __exit__(self, *error: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._socket.close()


@pytest.fixture
def served(history: StoredHistory) -> Iterator[Served]:
    """The seeded pages, served."""
    with Served(history) as served:
        yield served
