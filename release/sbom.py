"""Completes a CycloneDX bill of materials: `python -m release.sbom LOCKED.json OUT.json`.

`cyclonedx-py` lists what a file of locked requirements names. Two things it cannot know: which of them the product
needs when it runs, and the native libraries inside wheels (FFmpeg and its codecs in PyAV, OpenBLAS in NumPy, ONNX
Runtime's own).
"""

import json
import re
import sys
import tomllib
from collections.abc import Collection, Iterator, Mapping
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
Component = dict[str, Any]
_Natives = Mapping[tuple[str, str], list[Component]]
"""(Canonical name of a package, its version) -> the libraries inside its wheel."""

_LIBRARY_FILE = re.compile(r"(?P<name>[\w+.-]+?)(-[0-9a-f]{8,})*\.so(\.(?P<version>[\d.]+))?$")
_EXTRAS_OF_DEVELOPERS = ("dev", "models", "sql", "demo")
"""Extras that only build, test, train or show; the others are options of those who run the product."""


def main() -> int:
    """Write the completed bill; returns 0."""
    locked, out = (Path(argument) for argument in sys.argv[1:])
    scopes = runtime_scopes()
    bill = complete(json.loads(locked.read_text()), scopes=scopes, natives=native_libraries(scopes))
    out.write_text(json.dumps(bill, indent=2) + "\n")
    counts = [component.get("scope", "required") for component in bill["components"]]
    shown = ", ".join(f"{counts.count(scope)} {scope}" for scope in dict.fromkeys(counts))
    print(f"{out}: {len(counts)} components ({shown})")
    return 0


def runtime_scopes(pyproject: Path = _PYPROJECT) -> Mapping[str, str]:
    """Canonical name -> "required" or "optional" of what the product needs, directly or not, when it runs."""
    project = tomllib.loads(pyproject.read_text())["project"]
    extras = project["optional-dependencies"]
    optional = [text for extra in extras if extra not in _EXTRAS_OF_DEVELOPERS for text in extras[extra]]
    scopes: dict[str, str] = {}
    for scope, texts in (("required", project["dependencies"]), ("optional", optional)):
        waiting = [Requirement(text) for text in texts]
        followed: dict[str, set[str]] = {}
        while waiting:
            requirement = waiting.pop()
            name = canonicalize_name(requirement.name)
            if name not in scopes or not requirement.extras <= followed.get(name, set()):
                followed.setdefault(name, set()).update(requirement.extras)
                scopes.setdefault(name, scope)
                waiting += _requirements(name, frozenset({"", *requirement.extras}))
    return scopes


def _requirements(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    """What an installed distribution with these extras needs on this machine."""
    try:
        texts = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return
    for requirement in map(Requirement, texts):
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            yield requirement


def native_libraries(names: Collection[str]) -> _Natives:
    """The shared libraries in the wheels of installed distributions; for PyAV also FFmpeg's release."""
    natives: dict[tuple[str, str], list[Component]] = {}
    for distribution in metadata.distributions():
        files = [file for file in distribution.files or () if _is_library(file)]
        name = canonicalize_name(distribution.metadata["Name"])
        if files and name in names:
            paths = sorted({Path(str(distribution.locate_file(file))).resolve() for file in files})
            natives[name, distribution.version] = [
                _native_component(path, distribution.version) for path in paths if path.is_file()
            ]
    key = "av", metadata.version("av")
    shipped = natives.get(key, [])
    known = {component["name"] for component in shipped}
    natives[key] = [*(component for component in _ffmpeg_components() if component["name"] not in known), *shipped]
    return natives


def _is_library(file: metadata.PackagePath) -> bool:
    """A shared library that others link to: not an extension module of Python."""
    in_folder = any(part.endswith(".libs") for part in file.parts)
    is_named = file.name.startswith("lib") and ".cpython-" not in file.name and ".abi3." not in file.name
    return (in_folder or is_named) and _LIBRARY_FILE.fullmatch(file.name) is not None


def _native_component(path: Path, fallback_version: str) -> Component:
    match = _LIBRARY_FILE.fullmatch(path.name)
    assert match is not None
    return {
        "type": "library",
        "name": match["name"],
        "version": match["version"] or fallback_version,
        "purl": f"pkg:generic/{match['name']}@{match['version'] or fallback_version}",
        "hashes": [{"alg": "SHA-256", "content": sha256(path.read_bytes()).hexdigest()}],
        "properties": [{"name": "vqmon:file", "value": path.name}],
    }


def _ffmpeg_components() -> Iterator[Component]:
    """FFmpeg as PyAV was built with it: the release, its licence, and the version of each of its libraries."""
    import av
    from av._core import library_meta

    release, licence = av.ffmpeg_version_info, next(iter(library_meta.values()))["license"]
    yield {
        "type": "library",
        "name": "ffmpeg",
        "version": release,
        "purl": f"pkg:generic/ffmpeg@{release}",
        "cpe": f"cpe:2.3:a:ffmpeg:ffmpeg:{release.lstrip('n')}:*:*:*:*:*:*:*",
        "licenses": [{"license": {"name": licence}}],
    }
    for name, version in av.library_versions.items():
        text = ".".join(map(str, version))
        yield {"type": "library", "name": name, "version": text, "purl": f"pkg:generic/{name}@{text}"}


def complete(bill: Mapping[str, Any], *, scopes: Mapping[str, str], natives: _Natives) -> dict[str, Any]:
    """The bill with the scope of each component, and with the native libraries that those which run contain.

    What only builds and tests need has the scope "excluded". A library is a component of the package that contains it,
    and the package depends on it. Locked requirements do not say what needs what: the product depends on all that runs.
    """
    components, dependencies = [], {entry["ref"]: set(entry.get("dependsOn", ())) for entry in bill["dependencies"]}
    for component in bill["components"]:
        name = canonicalize_name(component["name"])
        scope = scopes.get(name, "excluded")
        inside = natives.get((name, component.get("version", "")), []) if scope != "excluded" else []
        ref = component["bom-ref"]
        inside = [{**native, "bom-ref": f"{ref}#{native['name']}-{n}"} for n, native in enumerate(inside)]
        components.append({**component, "scope": scope, **({"components": inside} if inside else {})})
        for native in inside:
            dependencies.setdefault(ref, set()).add(native["bom-ref"])
            dependencies[native["bom-ref"]] = set()
    root = bill["metadata"]["component"]["bom-ref"]
    runs = {component["bom-ref"] for component in components if component["scope"] != "excluded"}
    dependencies[root] = dependencies.get(root, set()) | runs
    listed = [{"ref": ref, **({"dependsOn": sorted(on)} if on else {})} for ref, on in sorted(dependencies.items())]
    return {**bill, "components": components, "dependencies": listed}


if __name__ == "__main__":
    sys.exit(main())
