"""The section `scoring` of the settings: which scorers run, on which devices, and which measures compare references."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from vqmon.media.reference.canvas import Kernel
from vqmon.media.reference.comparison import ReferenceRequest
from vqmon.media.reference.libvmaf.measures import LIBVMAF_MEASURES
from vqmon.media.reference.measures.offered import ALONE_MEASURES, REFERENCE_MEASURES
from vqmon.settings.sections import PositiveFloat, PositiveInt, Section

_LABEL = r"^[^=]+=.*$"
_GPU = r"^(\d{1,3}|(GPU|MIG)-[0-9A-Za-z/-]{1,80})$"
_CANVAS = r"^(reference|[1-9]\d{1,3}x[1-9]\d{1,3})$"

SCORING_PATTERN_MEANINGS = {
    _LABEL: 'a label and its value, like "tier=premium"',
    _GPU: 'the number of a GPU, like "0", or a UUID like "GPU-..." or "MIG-..."',
    _CANVAS: '"reference", or a size like "1920x1080"',
}
"""Regular expression of a setting -> what it asks for, in words."""


class ScoringSettings(Section):
    """Which scorers run, and where."""

    scorers: tuple[str, ...] = Field(default=("lite",), min_length=1)
    folders: tuple[Path, ...] = ()
    device: Literal["auto", "cpu", "cuda", "tensorrt", "openvino"] = "auto"
    devices: tuple[Annotated[str, Field(pattern=_GPU)], ...] = ()
    cuda_graphs: bool = False
    tensorrt_precision: Literal["float32", "float16", "bfloat16"] = "float32"
    engine_cache: Path | None = None
    threads: int = Field(default=0, ge=0)
    gpu_memory_bytes: int = Field(default=0, ge=0)
    feature_bytes: int = Field(default=268_435_456, ge=0)
    deadline_seconds: PositiveFloat = 30.0
    # 0, or "native" in the file, = each picture at its own size
    display_lines: int = 1080
    display_distance_heights: float = Field(default=3.0, ge=0.5, le=20)
    standard_error_points: float = Field(default=0.5, ge=0, le=100)
    allow_noncommercial: bool = False
    shadows: tuple[str, ...] = ()
    heavy: tuple[str, ...] = ()
    heavy_device: Literal["auto", "cpu", "cuda", "tensorrt", "openvino"] = "auto"
    heavy_threads: PositiveInt = 1
    heavy_share: float = Field(default=0.05, ge=0, le=1)
    heavy_labels: tuple[Annotated[str, Field(pattern=_LABEL)], ...] = ()
    heavy_below: float = Field(default=0.0, ge=0, le=100)
    heavy_drop: float = Field(default=0.0, ge=0, le=100)
    located_frames: int = Field(default=0, ge=0, le=20)
    heavy_seconds_per_hour: PositiveFloat = 360.0
    heavy_deadline_seconds: PositiveFloat = 20.0
    measures: tuple[str, ...] = ()
    references: tuple[str, ...] = ("psnr", "ssim", "xpsnr", "gmsd")
    reference_canvas: str = Field(default="1920x1080", pattern=_CANVAS)
    reference_kernel: Kernel = "bicubic"
    # path or name of an ffmpeg program with libvmaf; "" = none
    ffmpeg: str = ""

    @field_validator("devices")
    @classmethod
    def _are_different(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("a GPU is named twice; one session on each keeps it busy")
        return names

    @property
    def used_devices(self) -> tuple[Literal["auto", "cpu", "cuda", "tensorrt", "openvino"], ...]:
        """The devices of the tiers that have scorers, each once."""
        return tuple(dict.fromkeys((self.device, self.heavy_device) if self.heavy else (self.device,)))

    @property
    def learned_references(self) -> tuple[str, ...]:
        """Those of `references` that are bundles in `folders`."""
        return tuple(name for name in self.references if name not in REFERENCE_MEASURES)

    @property
    def libvmaf_references(self) -> tuple[str, ...]:
        """Those of `references` that the program `ffmpeg` computes."""
        return tuple(name for name in self.references if name in LIBVMAF_MEASURES)

    def reference_request(self, *, picture_sides: Sequence[int] = ()) -> ReferenceRequest | None:
        """How segments are compared with their references; None = not at all.

        `picture_sides` are the sizes of the pictures that the learned measures take.
        """
        measures = tuple(name for name in self.references if name in REFERENCE_MEASURES)
        if not measures and not picture_sides:
            return None
        width, _, height = self.reference_canvas.partition("x")
        canvas = None if self.reference_canvas == "reference" else (int(width), int(height))
        return ReferenceRequest(
            measures=measures,
            picture_sides=tuple(dict.fromkeys(picture_sides)),
            canvas=canvas,
            kernel=self.reference_kernel,
        )

    @field_validator("measures")
    @classmethod
    def _need_no_reference(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in names if name not in ALONE_MEASURES]:
            known = f"{', '.join(unknown)}: not among those without a reference, {', '.join(ALONE_MEASURES)}"
            setting = "references" if set(unknown) <= set(REFERENCE_MEASURES) else "scorers"
            raise ValueError(f"{known}; {setting} are named in scoring.{setting}")
        return tuple(dict.fromkeys(names))

    @model_validator(mode="after")
    def _has_measures(self) -> "ScoringSettings":
        files = [path.stem for folder in self.folders if folder.is_dir() for path in folder.glob("*@*.json")]
        bundles = {name for stem in files for name in (stem, stem.partition("@")[0])}
        if unknown := [name for name in self.learned_references if name not in bundles]:
            raise ValueError(
                f"references: no reference measure is named {', '.join(unknown)}; {', '.join(REFERENCE_MEASURES)} are, "
                "and learned ones whose bundles are in scoring.folders"
            )
        if both := [name for name in self.measures if name in self.references]:
            raise ValueError(f"references: {', '.join(both)} is in scoring.measures too: name it in one of them")
        # raises for an invalid canvas
        self.reference_request()
        if self.libvmaf_references and not self.ffmpeg:
            raise ValueError(
                f"references: for {', '.join(self.libvmaf_references)} set scoring.ffmpeg, the path of an ffmpeg "
                "program with libvmaf"
            )
        return self

    @field_validator("display_lines", mode="before")
    @classmethod
    def _read_display_lines(cls, value: object) -> object:
        if value == "native":
            return 0
        lines = int(value) if isinstance(value, str) and value.isdecimal() else value
        if not isinstance(lines, int) or isinstance(lines, bool) or not (lines == 0 or 144 <= lines <= 4320):
            raise ValueError('must be a number of lines from 144 to 4320, or "native"')
        return lines
