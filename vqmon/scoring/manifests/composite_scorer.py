"""The manifest of a scorer made of several graphs: what goes into each, and which of their answers is the score."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError

from vqmon.core.scores import POOLINGS, Calibration
from vqmon.scoring.manifests.frame_scorer import GoldenInput, InputSpec, Licence, read_manifest, write_manifest
from vqmon.scoring.manifests.level_scorer import GraphSpec
from vqmon.scoring.scorers.clip_tokenizer import BYTE_TOKENS, MOST_BYTES, SPECIAL_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """An array made of a segment's pictures: one row per moment that was looked at.

    `order` is the array's: "NCHW" of one picture per row; "NCTHW" of `pictures` that follow each other (a clip);
    "NKCHW" of `pictures` cut out of one (crops). The decoder gives (rows, pictures, height, width, 3) for the latter
    two and (rows, height, width, 3) for the first.
    """

    name: str
    input: InputSpec
    order: Literal["NCHW", "NCTHW", "NKCHW"] = "NCHW"
    pictures: int = 1

    def __post_init__(self) -> None:
        if self.pictures < 1 or (self.order == "NCHW") != (self.pictures == 1):
            raise ValueError(f"source {self.name}: NCHW has one picture per row, the others have more")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSpec:
    """The prompt of a segment as token ids (rows, tokens) int64, the same in every row (`clip_text.Vocabulary.rows`).

    The list of merges lies beside the graphs; `ids` is how many token ids it is read for.
    """

    name: str
    file: str
    sha256: str
    size_bytes: int
    ids: int
    tokens: int = 77

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][A-Za-z0-9._@-]*\.txt", self.file):
            raise ValueError(f"{self.file!r} is no plain name of a .txt file")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256) or not 1 <= self.size_bytes <= MOST_BYTES:
            raise ValueError(f"sha256 must be 64 hexadecimal digits, size_bytes within 1..{MOST_BYTES}")
        if self.tokens < 2 or self.ids < BYTE_TOKENS + SPECIAL_TOKENS:
            raise ValueError("tokens must be 2 or more: start and end; ids 514 or more: bytes, start and end")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpec:
    """One graph, fed by sources and earlier steps in the order of `graph.inputs`.

    `each` "row": rows of all inputs go in side by side, one answer comes per row; it is kept by content and shared
    with every scorer whose manifest names a graph of the same sha256. `each` "picture": the same for the pictures of
    rows (rows, pictures, ...), which go in as (rows x pictures, ...), and the answers are (rows, pictures, ...) again.
    `each` "segment": all rows go in as one (1, rows, ...), one answer (1, ...) comes; segments of different length are
    never padded into one batch.
    """

    name: str
    graph: GraphSpec
    takes: tuple[str, ...]
    each: Literal["row", "picture", "segment"]
    # how many rows, pictures or segments are ever run at once, rising
    buckets: tuple[int, ...] = (1,)

    def __post_init__(self) -> None:
        if len(self.takes) != len(self.graph.inputs):
            raise ValueError(
                f"step {self.name}: takes {len(self.takes)}, its graph has {len(self.graph.inputs)} inputs"
            )
        if not self.buckets or list(self.buckets) != sorted(set(self.buckets)) or self.buckets[0] < 1:
            raise ValueError(f"step {self.name}: buckets must rise from 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositeGolden:
    """What was said where it was exported, about golden frames of every source: one native value per row or one."""

    input: GoldenInput
    output: tuple[float, ...]
    tolerance: float
    # where the scorer takes one
    prompt: str = ""

    def __post_init__(self) -> None:
        if not self.output or not np.isfinite(self.output).all() or not 0 < self.tolerance < np.inf:
            raise ValueError("golden output must be finite, its tolerance above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompositeSpec:
    """The facts of one scorer as data; its file is called `name@version.json` and lies beside its graphs.

    A graph of another scorer is named as it is named there, by file and sha256: it is loaded once, and what it says
    of a row is computed once. The last step gives the native value: (rows) or (rows, 1), or one per segment.
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
    # of rows; a last step per segment leaves nothing to pool
    pooling: str
    licence: Licence
    provenance: Mapping[str, str] = field(hash=False)
    golden: CompositeGolden
    # not empty: the scorer looks only at segments that have a prompt
    texts: tuple[TextSpec, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", self.name) or self.version < 1:
            raise ValueError(f"not a scorer id: {self.name!r} version {self.version}")
        if self.pooling not in POOLINGS:
            raise ValueError(f"unknown pooling {self.pooling!r}; known: {', '.join(sorted(POOLINGS))}")
        known = [*(source.name for source in self.sources), *(text.name for text in self.texts)]
        if not self.sources or not self.steps:
            raise ValueError("needs a source and a step")
        for step in self.steps:
            if unknown := [name for name in step.takes if name not in known]:
                raise ValueError(f"step {step.name} takes {unknown[0]!r}; known before it: {', '.join(known)}")
            known.append(step.name)
        if len(set(known)) != len(known):
            raise ValueError("two sources or steps share a name")
        single = {source.name for source in self.sources if source.order != "NKCHW"}
        for step in self.steps:
            if step.each == "picture" and single & set(step.takes):
                raise ValueError(
                    f"step {step.name} looks at each picture of rows that have several side by side: NKCHW"
                )

    @property
    def id(self) -> str:
        """name@version."""
        return f"{self.name}@{self.version}"

    @property
    def sha256(self) -> str:
        """Of all that decides a score: every graph, in order, and what prompts are read with."""
        parts = (*(step.graph.sha256 for step in self.steps), *(text.sha256 for text in self.texts))
        return sha256("".join(parts).encode()).hexdigest()


_ADAPTER = TypeAdapter(CompositeSpec)


def load_composite_spec(path: Path) -> CompositeSpec:
    """Read one manifest; raises SettingsError naming file and key."""
    return read_manifest(path, _ADAPTER, explain=_explain)


def save_composite_spec(spec: CompositeSpec, path: Path) -> None:
    """Write the manifest that `load_composite_spec` reads back equal."""
    write_manifest(spec.id, asdict(spec), path)


def _explain(error: ValidationError, path: Path) -> str:
    return "\n".join(f"{path}: {'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors())
