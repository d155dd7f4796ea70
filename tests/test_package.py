"""What importing vqmon does to its process, and what its packages install."""

import os
import re
import subprocess
import sys
import tomllib
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


def pins_of(name: str) -> set[tuple[str, str]]:
    """(package, version) of each line of a file of locked requirements."""
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z0-9.-]+)==([^ ]+)", text, flags=re.MULTILINE))


@pytest.mark.parametrize("name", ["run.txt", "demo.txt"])
def test_packages_and_images_hold_the_versions_that_are_tested(name: str) -> None:
    """What the Debian package and the image install is what the tests ran with, and all that vqmon needs."""
    versions = pins_of(name)
    assert versions <= pins_of("dev.txt")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = ["demo"] if name == "demo.txt" else ["otlp", "postgres"]
    needed = [*project["dependencies"], *(item for extra in extras for item in project["optional-dependencies"][extra])]
    assert {re.split(r"[^a-z0-9-]", item)[0] for item in needed} <= {package for package, _ in versions}
