"""The manifest beside an .onnx file: what a scorer takes, gives and may be used for."""

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from typing import Literal, Protocol, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from vqmon.core.scores import POOLINGS, Calibration
from vqmon.core.types import Pixels, View
from vqmon.errors import ScorerError, SettingsError

MAX_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """The array a scorer takes: (batch, 3, height, width) of the view.

    Floats are (pixel / 255 - mean) / std per channel. `uint8` hands the pixels over as they are, and says so with
    mean 0 and std 1.
    """

    name: str
    view: View
    colour: Literal["rgb"]
    layout: Literal["NCHW"]
    dtype: Literal["float32", "float16", "uint8"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not np.isfinite([*self.mean, *self.std]).all() or min(self.std) <= 0:
            raise ValueError("mean and std must be finite and std above 0")
        if self.dtype == "uint8" and (self.mean != (0, 0, 0) or self.std != (1, 1, 1)):
            raise ValueError("a uint8 input is not normalised: mean must be 0, 0, 0 and std 1, 1, 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSpec:
    """The array a scorer gives. `scalar`: one native value per picture, (batch) or (batch, 1)."""

    name: str
    head: Literal["scalar"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """What the weights may be used for; `commercial` None = nobody has said."""

    name: str
    commercial: bool | None
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenInput:
    """Pictures that anybody can make again: `golden_frames(view, seed=..., frames=...)`."""

    kind: Literal["pattern"]
    seed: int
    frames: int

    def __post_init__(self) -> None:
        if not 1 <= self.frames <= MAX_BATCH or not 0 <= self.seed < 2**32:
            raise ValueError(f"frames must be within 1..{MAX_BATCH} and seed within 0..2**32-1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """What the scorer said where it was exported: one native value per golden picture, met within `tolerance`."""

    input: GoldenInput
    output: tuple[float, ...]
    tolerance: float

    def __post_init__(self) -> None:
        if len(self.output) != self.input.frames or not np.isfinite(self.output).all():
            raise ValueError(f"need {self.input.frames} finite output values, one per frame, got {len(self.output)}")
        if not 0 < self.tolerance < np.inf:
            raise ValueError("tolerance must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerSpec:
    """The facts of one scorer as data; its file is called `name@version.json` and lies beside `name@version.onnx`."""

    name: str
    version: int
    description: str
    input: InputSpec
    output: OutputSpec
    # of the native scale, low end first; values may lie a little outside
    native_range: tuple[float, float]
    higher_is_better: bool
    calibration: Calibration
    # a name of core.scores.POOLINGS
    pooling: str
    # the batch sizes that are ever run, rising
    batch_buckets: tuple[int, ...]
    # of the .onnx file
    sha256: str
    size_bytes: int
    licence: Licence
    provenance: Mapping[str, str] = field(hash=False)
    golden: Golden

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", self.name) or self.version < 1:
            raise ValueError(f"not a scorer id: {self.name!r} version {self.version}; a name is like 'lite', 'q-align'")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256) or self.size_bytes < 1:
            raise ValueError("sha256 must be 64 hexadecimal digits, size_bytes above 0")
        if self.pooling not in POOLINGS:
            raise ValueError(f"unknown pooling {self.pooling!r}; known: {', '.join(sorted(POOLINGS))}")
        buckets = self.batch_buckets
        if not buckets or list(buckets) != sorted(set(buckets)) or buckets[0] < 1 or buckets[-1] > MAX_BATCH:
            raise ValueError(f"batch_buckets must rise within 1..{MAX_BATCH}, got {list(buckets)}")
        self._check_scale()

    def _check_scale(self) -> None:
        low, high = self.native_range
        if not (np.isfinite([low, high]).all() and low < high):
            raise ValueError(f"native_range must be finite and rise, got {low}..{high}")
        first, last = self.calibration.points[0][1], self.calibration.points[-1][1]
        if first == last or (first < last) != self.higher_is_better:
            raise ValueError("calibration must rise when higher_is_better is true and fall when it is false")
        if self.golden.tolerance > (high - low) / 20:
            raise ValueError(f"golden tolerance {self.golden.tolerance} is more than 1/20 of the native range")

    @property
    def id(self) -> str:
        """name@version."""
        return f"{self.name}@{self.version}"

    @property
    def preprocessing_id(self) -> str:
        """Tells how pictures are prepared; changes when any fact of it changes, never by spelling."""
        return preprocessing_id(self.input)


def preprocessing_id(source: InputSpec) -> str:
    """Tells how pictures are prepared; changes when any fact of it changes, never by spelling."""
    facts = asdict(source)
    facts.pop("name")
    # what most views do not have says nothing of them
    for absent in ("windows", "clip"):
        if not facts["view"][absent]:
            facts["view"].pop(absent)
    digest = sha256(json.dumps(_as_floats(facts), sort_keys=True).encode()).hexdigest()[:8]
    view = source.view
    return f"{view.kind}-{view.width}x{view.height}-{digest}"


_ADAPTER = TypeAdapter(ScorerSpec)


class Manifest(Protocol):
    """The facts of a scorer, kept in a file that is called after its id."""

    @property
    def id(self) -> str: ...


Facts = TypeVar("Facts", bound=Manifest)


def load_spec(path: Path) -> ScorerSpec:
    """Read one manifest; raises SettingsError naming file, key and remedy."""
    return read_manifest(path, _ADAPTER, explain=_explain)


def save_spec(spec: ScorerSpec, path: Path) -> None:
    """Write the manifest that `load_spec` reads back equal; refuses a file name that is not the scorer's id."""
    write_manifest(spec.id, asdict(spec), path)


def read_manifest(path: Path, adapter: TypeAdapter[Facts], *, explain: Callable[[ValidationError, Path], str]) -> Facts:
    """Read a manifest of any kind, strictly; `explain` says what is wrong with its content."""
    try:
        spec = adapter.validate_json(path.read_bytes(), strict=True, extra="forbid")
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise SettingsError(explain(error, path)) from error
    if path.stem != spec.id:
        raise SettingsError(f"{path}: holds the manifest of {spec.id}; rename it to {spec.id}.json")
    return spec


def write_manifest(id: str, facts: Mapping[str, object], path: Path) -> None:
    """Write a manifest of any kind; refuses a file name that is not the scorer's id."""
    if path.name != f"{id}.json":
        raise ValueError(f"the manifest of {id} is called {id}.json, not {path.name}")
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def find_bundles(folders: Iterable[Path]) -> dict[str, Path]:
    """Every manifest `name@version.json` in these folders, by id; the .onnx file has the same stem.

    Other files are left alone: an export leaves its sheet `name@version.parts.json` beside the manifest.
    """
    found: dict[str, Path] = {}
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        if not folder.is_dir():
            raise ScorerError(f"{folder}: no such folder of scorers")
        for path in sorted(folder.glob("*@*.json")):
            if not path.stem.rpartition("@")[2].isdecimal():
                continue
            if path.stem in found:
                raise ScorerError(f"two scorers are called {path.stem}: {found[path.stem]} and {path}; remove one")
            found[path.stem] = path
    return found


def golden_frames(view: View, *, seed: int, frames: int) -> Pixels:
    """Pictures (frames, height, width, 3) made by integer arithmetic alone, so they are the same on every machine.

    With x, y in pixels, c the channel, f the frame: a slope across the picture, plus two waves made of parabolas
    (period 256, height 64; the second is finer from frame to frame), plus noise of 5 bits that grows with f, from
    the 32-bit finaliser of MurmurHash3 over the pixel's number and the seed; cut to 0..255.
    """
    f, y, x, c = np.ogrid[:frames, : view.height, : view.width, :3]
    slope = 32 + (96 * x // view.width) * (1 + (c + f) % 2) // 2 + 96 * y // view.height
    waves = _wave(3 * x + (5 - c) * y + 37 * f + seed % 256) + _wave((7 + 6 * f) * (x - 2 * y) + 64 * c) // 2
    number = (x + view.width * (y + view.height * (c + 3 * f)) + seed * 0x9E3779B9).astype(np.uint32)
    noise = (_hash(number) >> 27).astype(np.int64) - 16
    pixels: Pixels = np.clip(slope + waves + noise * (f + 1) // 2, 0, 255).astype(np.uint8)
    return pixels


def _wave(phase: NDArray[np.int64]) -> NDArray[np.int64]:
    within = phase & 127
    height: NDArray[np.int64] = np.where(phase & 128, -1, 1) * (within * (128 - within) >> 6)
    return height


def _hash(number: NDArray[np.uint32]) -> NDArray[np.uint32]:
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        number = (number ^ (number >> np.uint32(shift))) * np.uint32(factor)
    return number ^ (number >> np.uint32(16))


def _as_floats(tree: object) -> object:
    """1 and 1.0 are the same fact, and tuples the same as lists."""
    if isinstance(tree, Mapping):
        return {key: _as_floats(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_as_floats(value) for value in tree]
    return float(tree) if isinstance(tree, int) else tree


def _explain(error: ValidationError, path: Path) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "manifest"
        if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            known = _known_keys(problem["loc"][:-1])
            near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1, cutoff=0)
            lines.append(f"{path}: unknown key {key!r}; did you mean {near[0]!r}?")
        elif problem["type"] in ("missing", "missing_argument"):
            lines.append(f"{path}: {key} is missing")
        else:
            lines.append(f"{path}: {key}: {problem['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)


def _known_keys(place: tuple[int | str, ...]) -> list[str]:
    kind: type = ScorerSpec
    for part in place:
        kind = get_type_hints(kind)[str(part)]
    return [each.name for each in fields(kind)]
