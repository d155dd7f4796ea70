"""The manifest of a composite scorer: its graphs, the inputs of each, and the order in which they run."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import TypeAdapter

from vqmon.core.calibration import Calibration, IntervalTable, PercentileTable, ScoreNoise
from vqmon.core.scores import POOLINGS
from vqmon.scoring.manifests.frame_scorer import (
    GoldenInput,
    InputSpec,
    Licence,
    check_percentiles,
    read_manifest,
    write_manifest,
)
from vqmon.scoring.manifests.level_scorer import GraphSpec

MAX_MERGES_BYTES = 2**24
"""The largest list of CLIP's merges, uncompressed."""
BYTE_TOKEN_COUNT = 512
"""CLIP's token ids for the 256 bytes inside a word and the 256 bytes at its end."""
SPECIAL_TOKEN_COUNT = 2
"""CLIP's start and end tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """An input array with one row per sampled frame of a segment.

    `order` is its layout: "NCHW" has one picture per row; "NCTHW" has `pictures` consecutive frames (a clip); "NKCHW"
    has `pictures` crops of one frame, or frames of a clip, for a step that takes one picture at a time. The decoder
    gives (rows, height, width, 3) for the first layout and (rows, pictures, height, width, 3) for the other two.
    """

    name: str
    input: InputSpec
    order: Literal["NCHW", "NCTHW", "NKCHW"] = "NCHW"
    pictures: int = 1

    def __post_init__(self) -> None:
        if self.pictures < 1 or (self.order == "NCHW") != (self.pictures == 1):
            raise ValueError(
                f"source {self.name}: order NCHW requires one picture per row, the other orders more than one"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSpec:
    """The prompt of a segment as token ids (rows, tokens) int64, the same in every row.

    `file` is the list of CLIP's merges beside the graphs; `ids` is the size of the vocabulary.
    """

    name: str
    file: str
    sha256: str
    size_bytes: int
    ids: int
    tokens: int = 77

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][A-Za-z0-9._@-]*\.txt", self.file):
            raise ValueError(f"{self.file!r} is not a plain file name that ends in .txt")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256) or not 1 <= self.size_bytes <= MAX_MERGES_BYTES:
            raise ValueError(f"sha256 must be 64 hexadecimal digits, size_bytes within 1..{MAX_MERGES_BYTES}")
        if self.tokens < 2 or self.ids < BYTE_TOKEN_COUNT + SPECIAL_TOKEN_COUNT:
            raise ValueError("tokens must be at least 2 (start and end), ids at least 514 (bytes, start and end)")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpec:
    """One run of a graph, whose inputs are sources and the outputs of earlier steps, in the order of `graph.inputs`.

    `each` is the unit that the graph takes. "row": it takes arrays (rows, ...) and gives one output per row; outputs
    are cached by content and shared with all scorers whose manifests name a graph of the same sha256. "picture": the
    same for each picture: (rows, pictures, ...) go in as (rows x pictures, ...) and come out as (rows, pictures, ...).
    "segment": all rows go in as (1, rows, ...) and give one output (1, ...); segments of different length are never
    padded into one batch.
    """

    name: str
    graph: GraphSpec
    takes: tuple[str, ...]
    each: Literal["row", "picture", "segment"]
    # the batch sizes (in rows, pictures or segments) that are run, in rising order
    buckets: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        if len(self.takes) != len(self.graph.inputs):
            raise ValueError(
                f"step {self.name}: takes {len(self.takes)} arrays, its graph has {len(self.graph.inputs)} inputs"
            )
        if not self.buckets or list(self.buckets) != sorted(set(self.buckets)) or self.buckets[0] < 1:
            raise ValueError(f"step {self.name}: buckets must be 1 or more and rise")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositeGolden:
    """The native values at export, for golden frames of every source: one per row, or one for the segment."""

    input: GoldenInput
    output: tuple[float, ...]
    tolerance: float
    # for scorers that take a prompt
    prompt: str = ""

    def __post_init__(self) -> None:
        if not self.output or not np.isfinite(self.output).all() or not 0 < self.tolerance < np.inf:
            raise ValueError("golden output must be finite and its tolerance above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositeSpec:
    """The manifest of a composite scorer: the file `name@version.json` beside its graphs.

    A graph with the same file and sha256 as in another scorer's manifest is loaded once, and its output for a row is
    computed once. The last step gives the native values: (rows), (rows, 1), or one per segment.
    """

    kind: Literal["composite"]
    name: str
    version: int
    description: str
    sources: tuple[SourceSpec, ...]
    steps: tuple[StepSpec, ...]
    native_range: tuple[float, float]
    higher_is_better: bool
    calibration: Calibration
    # of the rows; without effect when the last step gives one value per segment
    pooling: str
    licence: Licence
    provenance: Mapping[str, str] = field(hash=False)
    golden: CompositeGolden
    # if there are any, the scorer scores only segments that have a prompt
    texts: tuple[TextSpec, ...] = ()
    # of the segments' native values; None = events state no percentile
    percentiles: PercentileTable | None = None
    # of human scores around the segments' scores; None = events state no interval
    interval: IntervalTable | None = None
    # of the segments' scores; None = not measured
    noise: ScoreNoise | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", self.name) or self.version < 1:
            raise ValueError(f"not a scorer id: {self.name!r} version {self.version}")
        if self.pooling not in POOLINGS:
            raise ValueError(f"unknown pooling {self.pooling!r}; known: {', '.join(sorted(POOLINGS))}")
        check_percentiles(self.percentiles, higher_is_better=self.higher_is_better)
        names = [*(source.name for source in self.sources), *(text.name for text in self.texts)]
        if not self.sources or not self.steps:
            raise ValueError("needs a source and a step")
        for step in self.steps:
            if unknown := [name for name in step.takes if name not in names]:
                raise ValueError(f"step {step.name} takes {unknown[0]!r}; available to it: {', '.join(names)}")
            names.append(step.name)
        if len(set(names)) != len(names):
            raise ValueError("two sources or steps share a name")
        sources_without_crops = {source.name for source in self.sources if source.order != "NKCHW"}
        for step in self.steps:
            if step.each == "picture" and sources_without_crops & set(step.takes):
                raise ValueError(f"step {step.name} runs per picture, so its sources must have order NKCHW")

    @property
    def id(self) -> str:
        """name@version."""
        return f"{self.name}@{self.version}"

    @property
    def sha256(self) -> str:
        """A hash over the hashes of the graphs, in the order of the steps, and of the lists of merges."""
        digests = (*(step.graph.sha256 for step in self.steps), *(text.sha256 for text in self.texts))
        return sha256("".join(digests).encode()).hexdigest()


_ADAPTER = TypeAdapter(CompositeSpec)


def load_composite_spec(path: Path) -> CompositeSpec:
    """Read the manifest of a composite scorer; raises SettingsError with file and key."""
    return read_manifest(path, _ADAPTER)


def save_composite_spec(spec: CompositeSpec, path: Path) -> None:
    """Write the manifest of a composite scorer; raises ValueError unless the file is named after the scorer's id."""
    write_manifest(spec.id, asdict(spec), path)
