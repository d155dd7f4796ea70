"""What importing vqmon does to its process."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["vqmon", "models"])
def test_onnx_runtime_is_told_to_report_to_nobody_before_it_is_imported(package: str) -> None:
    """Whatever the environment says: the library reads the variable once, when it is loaded."""
    program = f"import {package}, os, sys; print(os.environ['ORT_DISABLE_TELEMETRY'], 'onnxruntime' in sys.modules)"
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["1", "False"]
