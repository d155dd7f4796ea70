"""The pages over a history, as a process of its own."""

from pathlib import Path

import uvicorn

from pipelines.parts import utc_now
from vqmon.errors import SettingsError
from vqmon.transport.store import open_history
from vqmon.web.app import create_app


def serve(path: Path, *, host: str, port: int, title: str) -> None:
    """Serve until SIGTERM or SIGINT; the history is only read."""
    if not path.is_file():
        raise SettingsError(f"{path}: no history yet; run `vqmon run` or `vqmon watch URL` first, or give --history")
    with open_history(path, mode="read") as history:
        app = create_app(history, now=utc_now, title=title, is_stopping=lambda: server.should_exit)
        config = uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        server.run()
