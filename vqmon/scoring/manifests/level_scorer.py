"""The manifest of a level scorer: its two graphs, and how the logits of level words become a score."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import TypeAdapter

from vqmon.core.calibration import Calibration, IntervalTable, PercentileTable
from vqmon.scoring.manifests.frame_scorer import (
    GoldenInput,
    InputSpec,
    Licence,
    check_percentiles,
    read_manifest,
    write_manifest,
)

_FILE_NAME = r"[a-z0-9][A-Za-z0-9._@-]*\.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphSpec:
    """An .onnx file and, when `has_data`, its weights in `file`.data beside it; both are hashed as one unit."""

    file: str
    has_data: bool
    # of the graph's bytes followed by the data's
    sha256: str
    size_bytes: int
    inputs: tuple[str, ...]
    output: str

    def __post_init__(self) -> None:
        if not re.fullmatch(_FILE_NAME, self.file):
            raise ValueError(f"{self.file!r} is not a plain file name that ends in .onnx")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256) or self.size_bytes < 1:
            raise ValueError("sha256 must be 64 hexadecimal digits, size_bytes above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A level word, such as "good", and its value on the native scale."""

    word: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """A task of a level scorer: `questions` are prompt indices of the language graph, each asked about the same clip.

    A clip has `least_frames` to `most_frames` pictures; clips are never padded to a common length.
    """

    name: str
    questions: tuple[int, ...]
    least_frames: int
    most_frames: int

    def __post_init__(self) -> None:
        if not self.questions or min(self.questions) < 0 or not 1 <= self.least_frames <= self.most_frames:
            raise ValueError(f"task {self.name}: needs questions, and 1 <= least_frames <= most_frames")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparisons:
    """How preferences over anchor pictures become a score: `anchor_matrix[i][j]` is P(anchor i beats anchor j).

    `link` is the link function of the maximum a posteriori estimate.
    """

    anchor_matrix: tuple[tuple[float, ...], ...]
    link: Literal["logistic", "normal"]

    def __post_init__(self) -> None:
        matrix = np.array(self.anchor_matrix)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not ((matrix >= 0) & (matrix <= 1)).all():
            raise ValueError("anchor_matrix must be square and contain probabilities")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenAnswer:
    """Logits of the network in float32 for a clip of golden frames: one row per question."""

    task: str
    frames: tuple[int, ...]
    logits: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelGolden:
    """The golden logits of all tasks; `tolerance` is that of the expected level value, in native units."""

    input: GoldenInput
    answers: tuple[GoldenAnswer, ...]
    tolerance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelScorerSpec:
    """The manifest of a level scorer: the file `name@version.json` beside its graphs.

    The encoder computes features of each picture, which are cached and shared by the tasks; the language graph takes
    features (rows, frames, tokens, width) and a question index per row, and gives logits (rows, levels).
    """

    kind: Literal["levels"]
    name: str
    version: int
    description: str
    input: InputSpec
    encoder: GraphSpec
    language: GraphSpec
    # in one run; 1 for graphs whose quantization depends on all rows, so that a score never depends on other rows
    most_rows: int
    # of the features that pass from the encoder to the language graph
    feature_dtype: Literal["float32", "float16", "bfloat16"]
    tasks: tuple[TaskSpec, ...]
    # in the order of the logits
    levels: tuple[Level, ...]
    # the logits are divided by it before the softmax
    temperature: float
    # None: the native value is the expected level value
    comparisons: Comparisons | None
    native_range: tuple[float, float]
    higher_is_better: bool
    calibration: Calibration
    licence: Licence
    provenance: Mapping[str, str] = field(hash=False)
    golden: LevelGolden
    # of the segments' native values; None = events state no percentile
    percentiles: PercentileTable | None = None
    # of human scores around the segments' scores; None = events state no interval
    interval: IntervalTable | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", self.name) or self.version < 1:
            raise ValueError(f"not a scorer id: {self.name!r} version {self.version}")
        names = [task.name for task in self.tasks]
        if not names or len(set(names)) != len(names) or len(self.levels) < 2:
            raise ValueError("needs tasks of different names, and two levels or more")
        if not self.temperature > 0 or self.most_rows < 1:
            raise ValueError("temperature and most_rows must be above 0")
        check_percentiles(self.percentiles, higher_is_better=self.higher_is_better)
        for answer in self.golden.answers:
            rows = np.array(answer.logits)
            if answer.task not in names or rows.shape[1:] != (len(self.levels),) or not np.isfinite(rows).all():
                raise ValueError(f"golden answer to {answer.task}: needs a known task and one finite logit per level")

    @property
    def id(self) -> str:
        """name@version."""
        return f"{self.name}@{self.version}"

    @property
    def sha256(self) -> str:
        """A hash over the hashes of both graphs."""
        return sha256(f"{self.encoder.sha256}{self.language.sha256}".encode()).hexdigest()

    def task(self, name: str) -> TaskSpec:
        """The task of this name; raises KeyError."""
        return {task.name: task for task in self.tasks}[name]


_ADAPTER = TypeAdapter(LevelScorerSpec)


def load_level_spec(path: Path) -> LevelScorerSpec:
    """Read the manifest of a level scorer; raises SettingsError with file and key."""
    return read_manifest(path, _ADAPTER)


def save_level_spec(spec: LevelScorerSpec, path: Path) -> None:
    """Write the manifest of a level scorer; raises ValueError unless the file is named after the scorer's id."""
    write_manifest(spec.id, asdict(spec), path)
