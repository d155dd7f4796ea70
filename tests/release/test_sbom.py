"""The bill of materials: what runs and what only builds, and the libraries that hide inside wheels."""

from importlib import metadata
from pathlib import Path

import av
import pytest

from release.sbom import complete, native_libraries, runtime_scopes

BILL = {
    "bomFormat": "CycloneDX",
    "metadata": {"component": {"bom-ref": "root", "name": "vqmon", "type": "application"}},
    "components": [
        {"bom-ref": "r1", "name": "av", "version": "1", "type": "library"},
        {"bom-ref": "r2", "name": "OpenTelemetry_Exporter-OTLP-proto-http", "version": "1", "type": "library"},
        {"bom-ref": "r3", "name": "pytest", "version": "1", "type": "library"},
    ],
    "dependencies": [{"ref": "root"}, {"ref": "r1"}],
}


def test_scopes_follow_what_the_project_needs(tmp_path: Path) -> None:
    """Directly and indirectly, with the extras of a requirement; tools of developers are in neither group."""
    scopes = runtime_scopes()
    assert {scopes[name] for name in ("av", "numpy", "onnxruntime", "markupsafe", "pydantic-core")} == {"required"}
    assert {scopes[name] for name in ("psycopg-binary", "pyarrow", "openvino", "googleapis-common-protos")} == {
        "optional"
    }
    assert not {"pytest", "mypy", "hypothesis", "imageio-ffmpeg"} & set(scopes)


def test_the_libraries_inside_wheels_are_named() -> None:
    """FFmpeg's release, its libraries in their versions, the codecs that it was built with, and ONNX Runtime's own."""
    natives = native_libraries(("av", "onnxruntime"))
    versions = {component["name"]: component["version"] for component in natives["av", metadata.version("av")]}
    assert versions["ffmpeg"] == av.ffmpeg_version_info
    for name, version in av.library_versions.items():
        assert versions[name] == ".".join(map(str, version)), name
    assert {"libx264", "libdav1d", "libvpx"} <= set(versions)
    assert "libonnxruntime" in {
        component["name"] for component in natives["onnxruntime", metadata.version("onnxruntime")]
    }


def test_a_bill_is_completed() -> None:
    """Natives become components of their package, and the package depends on them; of tools none are listed."""
    native = {"type": "library", "name": "libx", "version": "2"}
    scopes = {"av": "required", "opentelemetry-exporter-otlp-proto-http": "optional"}
    bill = complete(
        BILL, scopes=scopes, natives={("av", "1"): [native], ("av", "2"): [native] * 2, ("pytest", "1"): [native]}
    )
    assert [component["scope"] for component in bill["components"]] == ["required", "optional", "excluded"]
    assert [component.get("components") for component in bill["components"]] == [
        [{**native, "bom-ref": "r1#libx-0"}],
        None,
        None,
    ]
    assert bill["dependencies"] == [
        {"ref": "r1", "dependsOn": ["r1#libx-0"]},
        {"ref": "r1#libx-0"},
        {"ref": "root", "dependsOn": ["r1", "r2"]},
    ]
    assert "scope" not in BILL["components"][0]


@pytest.mark.parametrize("name", ["fuzz", "release"])
def test_the_requirements_of_tools_are_locked_by_hash(name: str) -> None:
    """Each entry has one, and the file names no index."""
    text = (Path(__file__).parents[2] / "requirements" / f"{name}.txt").read_text()
    entries = [entry for entry in text.split("\n") if "==" in entry and not entry.lstrip().startswith("#")]
    assert entries
    assert all(entry.endswith("\\") for entry in entries)
    assert "://" not in text
    assert "index" not in text
