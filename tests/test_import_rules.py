"""The import contracts refuse what they are for: one import is planted per contract, in a copy of the tree."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLANTED = {
    "av has one room": ("vqmon/media/images/clips.py", "import av"),
    "onnxruntime has one room": ("vqmon/scoring/runtime/shared_graphs.py", "import onnxruntime"),
    "openvino has one room": ("vqmon/scoring/runtime/engines.py", "import openvino"),
    "httpcore2 has one room": ("vqmon/media/sources/playlist.py", "import httpcore2"),
    "sqlite3 has one room": ("vqmon/transport/history/queries.py", "import sqlite3"),
    "psycopg has one room": ("vqmon/transport/history/history.py", "import psycopg"),
    "aiokafka has one room": ("pipelines/fleet/worker.py", "import aiokafka"),
    "starlette has one room": ("pipelines/commands/serve_web.py", "import starlette"),
    "jinja2 has one room": ("pipelines/console/alerts.py", "import jinja2"),
    "click has one room": ("pipelines/commands/score.py", "import click"),
    "The core is pure": ("vqmon/core/cascade.py", "import random"),
    "Nothing at run time needs torch; nothing imports models": ("vqmon/scoring/scorers/levels.py", "import torch"),
    "models knows the core and the scorer manifests only": ("models/weights.py", "import vqmon.media"),
    "Layers: the command on top, the pure core at the bottom": ("vqmon/web/site.py", "import vqmon.media"),
    "Layers inside core": ("vqmon/core/types.py", "import vqmon.core.alerts.judge"),
    "Layers inside media": ("vqmon/media/images/views.py", "import vqmon.media.decode.pool"),
    "Layers inside scoring": ("vqmon/scoring/runtime/batcher.py", "import vqmon.scoring.scorers.registry"),
    "Layers inside transport": ("vqmon/transport/wire/cloudevents.py", "import vqmon.transport.history.history"),
    "Layers inside web": ("vqmon/web/charts/svg.py", "import vqmon.web.pages.fleet"),
    "Layers inside models": ("models/networks/lite.py", "import models.train.loop"),
    "Layers inside pipelines": ("pipelines/observe/observer.py", "import pipelines.daemon.one_host"),
}
"""Contract -> the file into which an import that it refuses is planted, and that import."""


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What import-linter says of a copy with one forbidden import per contract."""
    copy = tmp_path_factory.mktemp("planted")
    for folder in ("vqmon", "pipelines", "models"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "built", "static"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for name, line in PLANTED.values():
        with (copy / name).open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
    code = (
        "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command; lint_imports_command()"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], capture_output=True, text=True, check=False, cwd=copy
    )
    assert run.returncode == 1, run.stdout + run.stderr
    return run.stdout


@pytest.mark.parametrize("contract", PLANTED)
def test_a_planted_import_is_refused(refused: str, contract: str) -> None:
    """Each contract is broken by the import planted for it."""
    assert f"{contract} BROKEN" in refused
