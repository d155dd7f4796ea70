"""The manifest of a frame scorer, which has one .onnx file; how manifests of every kind are read, written and found."""

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Literal, Protocol, TypeVar, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from vqmon.core.calibration import Calibration, IntervalTable, PercentileTable, ScoreNoise
from vqmon.core.scores import POOLINGS
from vqmon.core.types import Display, Pixels, View
from vqmon.errors import ScorerError, SettingsError
from vqmon.whole_files import write_whole_file

_MAX_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """The input tensor of a scorer: (batch, 3, height, width) of the view.

    Floats are (pixel / 255 - mean) / std per channel. `uint8` takes the pixels unchanged and requires mean 0 and std 1.
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
    """The output tensor of a scorer. `scalar`: one native value per picture, (batch) or (batch, 1)."""

    name: str
    head: Literal["scalar"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """The licence of the weights; `commercial` says whether they may be used commercially, None = not stated."""

    name: str
    commercial: bool | None
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenInput:
    """Reproducible test pictures: `golden_frames(view, seed=..., frames=...)`."""

    kind: Literal["pattern"]
    seed: int
    frames: int

    def __post_init__(self) -> None:
        if not 1 <= self.frames <= _MAX_BATCH or not 0 <= self.seed < 2**32:
            raise ValueError(f"frames must be within 1..{_MAX_BATCH} and seed within 0..2**32-1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """The scorer's outputs at export: one native value per golden frame, to be reproduced within `tolerance`."""

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
    """The manifest of a frame scorer: the file `name@version.json` beside `name@version.onnx`."""

    name: str
    version: int
    description: str
    input: InputSpec
    output: OutputSpec
    # (low, high) of the native scale; values may lie slightly outside
    native_range: tuple[float, float]
    higher_is_better: bool
    calibration: Calibration
    # a key of core.scores.POOLINGS
    pooling: str
    # the batch sizes that are run, in rising order
    batch_buckets: tuple[int, ...]
    # of the .onnx file
    sha256: str
    size_bytes: int
    licence: Licence
    provenance: Mapping[str, str] = field(hash=False)
    golden: Golden
    # of the segments' native values; None = events state no percentile
    percentiles: PercentileTable | None = None
    # of human scores around the segments' scores; None = events state no interval
    interval: IntervalTable | None = None
    # of the segments' scores; None = not measured
    noise: ScoreNoise | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", self.name) or self.version < 1:
            raise ValueError(f"not a scorer id: {self.name!r} version {self.version}; a name is like 'lite', 'q-align'")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256) or self.size_bytes < 1:
            raise ValueError("sha256 must be 64 hexadecimal digits, size_bytes above 0")
        if self.pooling not in POOLINGS:
            raise ValueError(f"unknown pooling {self.pooling!r}; known: {', '.join(sorted(POOLINGS))}")
        buckets = self.batch_buckets
        if not buckets or list(buckets) != sorted(set(buckets)) or buckets[0] < 1 or buckets[-1] > _MAX_BATCH:
            raise ValueError(f"batch_buckets must rise within 1..{_MAX_BATCH}, got {list(buckets)}")
        self._check_scale()

    def _check_scale(self) -> None:
        low, high = self.native_range
        if not (np.isfinite([low, high]).all() and low < high):
            raise ValueError(f"native_range must be finite and rise, got {low}..{high}")
        first, last = self.calibration.points[0][1], self.calibration.points[-1][1]
        if first == last or (first < last) != self.higher_is_better:
            raise ValueError("calibration must rise when higher_is_better is true and fall when it is false")
        check_percentiles(self.percentiles, higher_is_better=self.higher_is_better)
        if self.golden.tolerance > (high - low) / 20:
            raise ValueError(f"golden tolerance {self.golden.tolerance} is more than 1/20 of the native range")

    @property
    def id(self) -> str:
        """name@version."""
        return f"{self.name}@{self.version}"

    @property
    def preprocessing_id(self) -> str:
        """Identifies how pictures are preprocessed; see the function `preprocessing_id`."""
        return preprocessing_id(self.input)

    def for_display(self, display: Display) -> "ScorerSpec":
        """The same scorer for viewers of this display; scorers without a display view do not depend on it."""
        view = self.input.view
        if view.kind != "display":
            return self
        lines = display.canvas_lines(resolved_lines=view.short_side)
        return replace(self, input=replace(self.input, view=replace(view, short_side=lines)))


def check_percentiles(percentiles: PercentileTable | None, *, higher_is_better: bool) -> None:
    """Raise ValueError when the percentiles do not rise with quality."""
    if percentiles is None:
        return
    first, last = percentiles.points[0][1], percentiles.points[-1][1]
    if first == last or (first < last) != higher_is_better:
        raise ValueError("percentiles must rise when higher_is_better is true and fall when it is false")


def preprocessing_id(source: InputSpec) -> str:
    """Identifies how pictures are preprocessed: changes with every fact of the input except its name."""
    facts = asdict(source)
    facts.pop("name")
    # Fields that were added later do not change the ids of views that leave them unset.
    for name in ("windows", "grids", "clip"):
        if not facts["view"][name]:
            facts["view"].pop(name)
    digest = sha256(json.dumps(_as_floats(facts), sort_keys=True).encode()).hexdigest()[:8]
    view = source.view
    return f"{view.kind}-{view.width}x{view.height}-{digest}"


_ADAPTER = TypeAdapter(ScorerSpec)


class Manifest(Protocol):
    """The facts of a scorer, stored in a file whose stem is the scorer's id."""

    @property
    def id(self) -> str: ...


ManifestT = TypeVar("ManifestT", bound=Manifest)


def load_frame_spec(path: Path) -> ScorerSpec:
    """Read the manifest of a frame scorer; raises SettingsError with file, key and remedy."""
    return read_manifest(path, _ADAPTER, explain=_explain)


def save_frame_spec(spec: ScorerSpec, path: Path) -> None:
    """Write the manifest of a frame scorer; raises ValueError unless the file is named after the scorer's id."""
    write_manifest(spec.id, asdict(spec), path)


def _explain_by_key(error: ValidationError, path: Path) -> str:
    """One line per problem of a manifest: file, key and message."""
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "manifest"
        lines.append(f"{path}: {key}: {_requirement(problem)}")
    return "\n".join(lines)


_TYPE_NAMES = {
    "bool": "true or false",
    "dataclass": "an object",
    "dict": "an object",
    "finite": "a finite number",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "string": "a text, in quotes",
    "tuple": "a list",
}
"""First word of a pydantic error -> what the value must be, in the words of JSON."""


def _requirement(problem: ErrorDetails) -> str:
    """What a value of a manifest must be, and what it is."""
    kind, context = problem["type"], problem.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return "is no key of this manifest; remove it"
    if kind in ("missing", "missing_argument"):
        return "is missing"
    if kind == "json_invalid":
        return f"is no JSON: {context['error']}"
    value = problem["input"]
    given = "" if isinstance(value, dict | list | tuple) else f", got {json.dumps(value, default=str)}"
    if kind in ("literal_error", "enum"):
        return f"must be {context['expected']}{given}"
    if kind.startswith(("greater_than", "less_than")):
        bound, side = next(iter(context.values())), "above" if kind.startswith("greater") else "below"
        return f"must be {bound} or {side}{given}" if kind.endswith("equal") else f"must be {side} {bound}{given}"
    if kind == "too_short":
        return f"must have at least {context['min_length']} entries, has {context['actual_length']}"
    if kind == "too_long":
        return f"must have at most {context['max_length']} entries, has {context['actual_length']}"
    noun = _TYPE_NAMES.get(kind.partition("_")[0], "a value of another type")
    return f"must be {noun}{given}"


def read_manifest(
    path: Path, adapter: TypeAdapter[ManifestT], *, explain: Callable[[ValidationError, Path], str] = _explain_by_key
) -> ManifestT:
    """Read a manifest of any kind; unknown keys and wrong types are refused with the message of `explain`.

    Raises SettingsError.
    """
    try:
        spec = adapter.validate_json(path.read_bytes(), strict=True, extra="forbid")
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise SettingsError(explain(error, path)) from error
    if path.stem != spec.id:
        raise SettingsError(f"{path}: holds the manifest of {spec.id}; rename it to {spec.id}.json")
    return spec


def write_manifest(scorer_id: str, facts: Mapping[str, object], path: Path) -> None:
    """Write a manifest of any kind; raises ValueError unless the file is named after the scorer's id."""
    if path.name != f"{scorer_id}.json":
        raise ValueError(f"the manifest of {scorer_id} must be named {scorer_id}.json, not {path.name}")
    write_whole_file(path, json.dumps(facts, indent=2) + "\n")


def builtin_folder() -> Path:
    """The folder of the built-in scorers, in the installed package or in the checkout; raises ScorerError."""
    package = Path(__file__).parents[2]
    candidates = (package / "builtin", package.parent / "models" / "built")
    for folder in candidates:
        if folder.is_dir():
            return folder
    missing = " nor ".join(str(folder) for folder in candidates)
    raise ScorerError(f"no built-in scorers: neither {missing} exists; install vqmon again")


def find_bundles(folders: Iterable[Path]) -> dict[str, Path]:
    """The manifests `name@version.json` in these folders by scorer id; raises ScorerError.

    Other files are ignored: an export leaves `name@version.parts.json` beside the manifest.
    """
    manifests: dict[str, Path] = {}
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        if not folder.is_dir():
            raise ScorerError(f"scoring.folders: {folder}: no such folder; create it, or correct the setting")
        for path in sorted(folder.glob("*@*.json")):
            scorer_id = path.stem
            if not scorer_id.rpartition("@")[2].isdecimal():
                continue
            if scorer_id in manifests:
                raise ScorerError(f"two scorers have the id {scorer_id}: {manifests[scorer_id]} and {path}; remove one")
            manifests[scorer_id] = path
    return manifests


def golden_frames(view: View, *, seed: int, frames: int) -> Pixels:
    """Test pictures (frames, height, width, 3), computed with integers only and so the same on every machine.

    With x, y in pixels, c the channel, f the frame: a gradient across the picture, plus two waves made of parabolas
    (period 256, height 64; the second one is finer in each next frame), plus 5-bit noise that grows with f, from
    the 32-bit finaliser of MurmurHash3 over the index of the pixel and the seed; clipped to 0..255.
    """
    f, y, x, c = np.ogrid[:frames, : view.height, : view.width, :3]
    gradient = 32 + (96 * x // view.width) * (1 + (c + f) % 2) // 2 + 96 * y // view.height
    waves = _wave(3 * x + (5 - c) * y + 37 * f + seed % 256) + _wave((7 + 6 * f) * (x - 2 * y) + 64 * c) // 2
    index = (x + view.width * (y + view.height * (c + 3 * f)) + seed * 0x9E3779B9).astype(np.uint32)
    noise = (_murmur_finalize(index) >> 27).astype(np.int64) - 16
    pixels: Pixels = np.clip(gradient + waves + noise * (f + 1) // 2, 0, 255).astype(np.uint8)
    return pixels


def _wave(phase: NDArray[np.int64]) -> NDArray[np.int64]:
    offset = phase & 127
    height: NDArray[np.int64] = np.where(phase & 128, -1, 1) * (offset * (128 - offset) >> 6)
    return height


def _murmur_finalize(values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        values = (values ^ (values >> np.uint32(shift))) * np.uint32(factor)
    return values ^ (values >> np.uint32(16))


def _as_floats(tree: object) -> object:
    """Integers as floats and tuples as lists, so that equal facts have equal JSON."""
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
            valid_keys = _valid_keys(problem["loc"][:-1])
            closest = difflib.get_close_matches(str(problem["loc"][-1]), valid_keys, n=1, cutoff=0)
            lines.append(f"{path}: unknown key {key!r}; did you mean {closest[0]!r}?")
        elif problem["type"] in ("missing", "missing_argument"):
            lines.append(f"{path}: {key} is missing")
        else:
            lines.append(f"{path}: {key}: {_requirement(problem)}")
    return "\n".join(lines)


def _valid_keys(location: tuple[int | str, ...]) -> list[str]:
    """The keys that the manifest has at a location."""
    section: type = ScorerSpec
    for key in location:
        hint = get_type_hints(section)[str(key)]
        # An optional section is a union with None.
        section = next((part for part in get_args(hint) if isinstance(part, type) and is_dataclass(part)), hint)
    return [field.name for field in fields(section)]
