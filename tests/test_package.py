"""What importing vqmon does to its process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("package", ["vqmon", "models"])
def test_onnx_runtime_is_told_to_report_to_nobody_before_it_is_imported(package: str) -> None:
    """Whatever the environment says: the library reads the variable once, when it is loaded."""
    program = f"import {package}, os, sys; print(os.environ['ORT_DISABLE_TELEMETRY'], 'onnxruntime' in sys.modules)"
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["1", "False"]


def test_the_wheel_has_the_torch_side_and_the_built_in_scorers_once() -> None:
    """`pip install vqmon[models]` brings the commands, their recipes and cards; bundles lie where the daemon looks."""
    builder = WheelBuilder(str(ROOT))
    with builder.config.set_build_data({"force_include": {}, "force_include_editable": {}, "artifacts": []}):
        files = {file.distribution_path for file in builder.recurse_included_files()}
    code = {str(path.relative_to(ROOT)) for path in (ROOT / "models").rglob("*.py")}
    recipes = {str(path.relative_to(ROOT)) for path in (ROOT / "models").glob("*.toml")}
    assert code | recipes <= files
    assert {f"vqmon/builtin/{path.name}" for path in (ROOT / "models" / "built").iterdir()} <= files
    assert not [file for file in files if file.startswith("models/built/")]
