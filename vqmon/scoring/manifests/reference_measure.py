"""The manifest of a learned reference measure: one graph that compares a picture with its reference."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from vqmon.core.types import Pixels, View
from vqmon.scoring.manifests.frame_scorer import Licence, golden_frames, read_manifest, write_manifest
from vqmon.scoring.manifests.level_scorer import GraphSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class PairGolden:
    """The measure's value at export for the two test pictures of `golden_pair`, to be reproduced within `tolerance`."""

    seed: int
    height: int
    width: int
    output: float
    tolerance: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.output) or not 0 < self.tolerance < math.inf:
            raise ValueError("golden output must be finite and its tolerance above 0")
        if not 0 <= self.seed < 2**32 or not all(16 <= side <= 1024 for side in (self.height, self.width)):
            raise ValueError("seed must be within 0..2**32-1, the sides of the golden pictures within 16..1024")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceMeasureSpec:
    """The manifest of a learned reference measure: the file `name@version.json` beside its graph.

    The graph has two inputs, the reference and the picture, (pairs, height, width, 3) uint8 RGB of any size from
    `min_side_px` on, and one output (pairs).
    """

    kind: Literal["reference"]
    name: str
    version: int
    description: str
    graph: GraphSpec
    # pictures are shrunk until their short side has this many px, bilinear; 0 = they are compared on the canvas
    short_side: int
    min_side_px: int
    # bounds of the native scale; None = there is no bound
    low: float | None
    high: float | None
    higher_is_better: bool
    licence: Licence
    provenance: Mapping[str, str] = field(hash=False)
    golden: PairGolden

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", self.name) or self.version < 1:
            raise ValueError(
                f"not the id of a measure: {self.name!r} version {self.version}; a name is like 'lpips-vgg'"
            )
        if len(self.graph.inputs) != 2:
            raise ValueError(f"the graph of a reference measure has two inputs, not {list(self.graph.inputs)}")
        if self.short_side != 0 and not 16 <= self.short_side <= 8192:
            raise ValueError(f"short_side must be 0 (the canvas) or within 16..8192, got {self.short_side}")
        if not 16 <= self.min_side_px <= min(self.golden.height, self.golden.width):
            raise ValueError("min_side_px must be 16 or more, and the golden pictures no smaller")

    @property
    def id(self) -> str:
        """name@version."""
        return f"{self.name}@{self.version}"

    @property
    def preprocessing_id(self) -> str:
        """How pictures are prepared: "canvas", or "short-side-256"."""
        return f"short-side-{self.short_side}" if self.short_side else "canvas"


def golden_pair(golden: PairGolden) -> Pixels:
    """The reference and the picture, (2, height, width, 3): two frames of `golden_frames`."""
    view = View(kind="stretch", width=golden.width, height=golden.height)
    return golden_frames(view, seed=golden.seed, frames=2)


_ADAPTER = TypeAdapter(ReferenceMeasureSpec)


def load_reference_spec(path: Path) -> ReferenceMeasureSpec:
    """Read the manifest of a learned reference measure; raises SettingsError with file and key."""
    return read_manifest(path, _ADAPTER)


def save_reference_spec(spec: ReferenceMeasureSpec, path: Path) -> None:
    """Write the manifest of a measure; raises ValueError unless the file is named after the measure's id."""
    write_manifest(spec.id, asdict(spec), path)
