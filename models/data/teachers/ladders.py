"""Ladders of clean pictures: scenes, their degraded forms as decoded, and what full-reference teachers say of them.

A scene is a moving window of 960 x 540 px over a picture, a quarter of a 1080-line canvas; a poor scene is the same
from a bad source, and is compared with that source. The teachers are VMAF without enhancement gain (VMAF-NEG, Li et
al., Netflix 2020) and MS-SSIM (Wang et al., 2003), both by libvmaf; plain VMAF is not used, because it likes
sharpening.
"""

import json
import subprocess
import tempfile
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter  # type: ignore[import-untyped]
from torch import nn

from models.data.csv_scores import DataError
from models.data.display_tiles import FrameTiler, decode_frame
from models.data.teachers.rungs import (
    LOSSLESS,
    LOSSLESS_444,
    SCENE_HEIGHT,
    SCENE_WIDTH,
    PoorSource,
    Rung,
    draw_poor_rungs,
    draw_poor_source,
    draw_rungs,
)
from models.data.upscalers import downscale, network_upscaler
from vqmon.media.images.resampling import TileLayout

Pixels = NDArray[np.uint8]
Upscalers = Mapping[tuple[str, int], nn.Module]
"""(name, factor) -> a trained network of UPSCALING_NETWORKS."""
SceneKind = Literal["pristine", "poor"]
SceneTiles = Mapping[str, Pixels]
"""Name -> tiles (rungs, tiles, height, width, 3): 4 of the `canvas`, 2 of it at `half` its size, the `whole`."""

_FRAMES = 9
_LINES = 1080
# Pictures of fewer lines than the first keep their size; those of more than the second may show a smaller part.
_SMALL_SIDE, _LARGE_SIDE = 760, 1620
_CANVAS = TileLayout(canvas=(SCENE_WIDTH, SCENE_HEIGHT), tile=(SCENE_WIDTH, SCENE_HEIGHT), corners=((0, 0),))
# Corners are multiples of the 4 px of the canvas' chroma.
_TILES = {
    "canvas": TileLayout(
        canvas=(SCENE_WIDTH, SCENE_HEIGHT), tile=(256, 192), corners=((32, 36), (672, 36), (32, 308), (672, 308))
    ),
    "half": TileLayout(canvas=(SCENE_WIDTH // 2, SCENE_HEIGHT // 2), tile=(256, 192), corners=((0, 36), (224, 36))),
    "whole": TileLayout(canvas=(128, 96), tile=(128, 96), corners=((0, 0),)),
}
_TO_BT709 = "scale=out_color_matrix=bt709:out_range=tv:flags=bicubic+accurate_rnd"
_DEADLINE_SECONDS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class TaughtRung:
    """What was done to a scene, as in `Rung`, and the teachers' verdicts: VMAF-NEG 0..100 and MS-SSIM 0..1."""

    kind: str
    amount: float
    damage: float
    codec: str | None
    lines: int | None
    factor: float | None
    pair: int | None
    network: str | None
    vmaf_neg: float
    ms_ssim: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderScene:
    """A scene at falling quality: `rungs`, the clean one first, and their tiles; `left_out` says which rungs failed."""

    source: str
    kind: SceneKind
    number: int
    rungs: tuple[TaughtRung, ...]
    tiles: SceneTiles
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if set(self.tiles) != set(_TILES) or any(len(tiles) != len(self.rungs) for tiles in self.tiles.values()):
            raise ValueError(f"{self.source}: its tiles and rungs do not belong together")


def make_scene(
    picture: Image.Image,
    kind: SceneKind,
    *,
    source: str,
    seed: tuple[int, int],
    number: int,
    upscalers: Upscalers,
    kinds: Collection[str] | None = None,
) -> LadderScene:
    """The scene of a number of a picture, drawn with the seeds of the recipe and of the picture.

    `kinds` limits the rungs to some kinds. Rungs that ffmpeg cannot make are left out, and those whose network is not
    among `upscalers`. Raises DataError when not even the clean scene can be made.
    """
    random = np.random.default_rng([*seed, number])
    frames = _moving_window(picture, random)
    frame_number = int(random.integers(3, _FRAMES - 1))
    tiler, left_out = FrameTiler(), []
    made: list[tuple[Rung, Pixels, dict[str, Pixels]]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        maker = _RungMaker(frames, folder, upscalers)
        rungs = _draw(kind, maker, random)
        for rung in [rung for rung in rungs if kinds is None or rung.kind in kinds]:
            try:
                maker.write(rung, random)
                frame = decode_frame(maker.clip, frame_number)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired, KeyError) as error:
                left_out.append(f"{rung.kind}: {_reason(error)}")
                continue
            if frame is not None:
                tiles = {key: tiler.cut(frame, layout) for key, layout in _TILES.items()}
                made.append((rung, tiler.cut(frame, _CANVAS)[0], tiles))
        if not made or made[0][0].kind != "clean":
            raise DataError(f"{source}: ffmpeg cannot make a clip of this picture: {'; '.join(left_out[:1])}")
        verdicts = _ask_teachers(np.stack([canvas for _, canvas, _ in made]), folder)
    taught = tuple(_taught(rung, *verdict) for (rung, _, _), verdict in zip(made, verdicts, strict=True))
    stacked = {key: np.stack([tiles[key] for _, _, tiles in made]) for key in _TILES}
    return LadderScene(
        source=source, kind=kind, number=number, rungs=taught, tiles=stacked, left_out=tuple(left_out)
    )  # fmt: skip


def _draw(kind: SceneKind, maker: "_RungMaker", random: np.random.Generator) -> list[Rung]:
    """The rungs of a scene, which is made poor first if it shall be."""
    if kind == "pristine":
        return draw_rungs(random)
    source = draw_poor_source(random)
    maker.make_poor(source)
    return draw_poor_rungs(random, source.size)


def _moving_window(picture: Image.Image, random: np.random.Generator) -> Pixels:
    """Nine frames (9, 540, 960, 3) of a window that moves over a picture; of three positions the most detailed one."""
    short_side = min(picture.size)
    if short_side < _SMALL_SIDE:
        scale = max(1.0, (SCENE_HEIGHT + 20) / picture.height, (SCENE_WIDTH + 20) / picture.width)
    elif short_side < _LARGE_SIDE:
        scale = max(_LINES, short_side) / short_side
    else:
        scale = max(_LINES, min(short_side, _LINES * random.choice([1, 1, 1, 1.25, 1.5]))) / short_side
    size = (max(SCENE_WIDTH + 4, round(picture.width * scale)), max(SCENE_HEIGHT + 4, round(picture.height * scale)))
    pixels = np.asarray(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    height, width = pixels.shape[:2]
    step = (0, 0) if random.random() < 0.25 else (int(random.integers(-6, 7)), int(random.integers(-3, 4)))
    room = (min(abs(step[0]) * _FRAMES, width - SCENE_WIDTH), min(abs(step[1]) * _FRAMES, height - SCENE_HEIGHT))
    best, corner = -1.0, (0, 0)
    for _ in range(3):
        left = int(random.integers(0, width - SCENE_WIDTH - room[0] + 1))
        top = int(random.integers(0, height - SCENE_HEIGHT - room[1] + 1))
        green = pixels[top : top + SCENE_HEIGHT, left : left + SCENE_WIDTH, 1].astype(float)
        detail = float(np.abs(np.diff(green, axis=1)).mean())
        if detail > best:
            best, corner = detail, (left, top)
    return np.stack([_window(pixels, corner, step, room, frame) for frame in range(_FRAMES)])


def _window(
    pixels: Pixels, corner: tuple[int, int], step: tuple[int, int], room: tuple[int, int], frame: int
) -> Pixels:
    moved = [min(abs(each) * frame, limit) for each, limit in zip(step, room, strict=True)]
    left, top = (
        start + (way if each >= 0 else limit - way)
        for start, each, limit, way in zip(corner, step, room, moved, strict=True)
    )
    return pixels[top : top + SCENE_HEIGHT, left : left + SCENE_WIDTH]


class _RungMaker:
    """Writes rungs of the frames of a scene as `clip`, one after the other."""

    def __init__(self, frames: Pixels, folder: Path, upscalers: Upscalers) -> None:
        self._frames, self._clean = frames, folder / "clean.mkv"
        self._upscalers = {key: network_upscaler(key[0], network) for key, network in upscalers.items()}
        self.clip = folder / "rung.mkv"
        self._encode(frames, (*LOSSLESS_444, str(self._clean)))

    def make_poor(self, source: PoorSource) -> None:
        """Replace the scene by what a poor source shows of it."""
        filters = ("-vf", source.filters, "-pix_fmt", "yuv420p")
        _run_ffmpeg("-i", str(self._clean), *filters, *source.encoder, str(self.clip))
        _run_ffmpeg("-i", str(self.clip), "-pix_fmt", "yuv420p", *LOSSLESS, str(self._clean))
        to_rgb = "scale=in_color_matrix=bt709:in_range=tv:flags=bicubic+accurate_rnd+full_chroma_int"
        raw = _run_ffmpeg("-i", str(self._clean), "-vf", to_rgb, "-pix_fmt", "rgb24", "-f", "rawvideo", "-")
        self._frames = np.frombuffer(raw, np.uint8).reshape(-1, source.size[1], source.size[0], 3)

    def write(self, rung: Rung, random: np.random.Generator) -> None:
        """Raises CalledProcessError or TimeoutExpired of ffmpeg, and KeyError for a network that is missing."""
        pixel_format = () if "yuv444p" in rung.encoder else ("-pix_fmt", "yuv420p")
        output = (*pixel_format, *rung.encoder, str(self.clip))
        if rung.filters is not None:
            _run_ffmpeg("-i", str(self._clean), "-vf", rung.filters, *output)
        else:
            self._encode(self._upscaled(rung) if rung.network else _add_grain(self._frames, rung, random), output)

    def _encode(self, frames: Pixels, output: tuple[str, ...]) -> None:
        height, width = frames.shape[1:3]
        _run_ffmpeg(
            *_raw_input(width, height), "-", "-vf", f"{_TO_BT709}+full_chroma_int", *output, stdin=frames.tobytes()
        )  # fmt: skip

    def _upscaled(self, rung: Rung) -> Pixels:
        factor = int(rung.factor or 1)
        enlarge = self._upscalers[str(rung.network), factor]
        return np.stack([enlarge(downscale(frame, factor)) for frame in self._frames])


def _raw_input(width: int, height: int) -> tuple[str, ...]:
    return ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "25", "-i")


def _add_grain(frames: Pixels, rung: Rung, random: np.random.Generator) -> Pixels:
    """Grey noise, low-passed by a Gaussian, with a standard deviation of a third of the rung's amount."""
    grainy = []
    for frame in frames:
        grain = gaussian_filter(random.standard_normal(frame.shape[:2]), rung.grain_sigma)
        grain *= rung.amount / 3 / grain.std()
        grainy.append(np.clip(frame + grain[..., None], 0, 255).astype(np.uint8))
    return np.stack(grainy)


def _ask_teachers(canvases: Pixels, folder: Path) -> list[tuple[float, float]]:
    """(VMAF-NEG, MS-SSIM) of pictures (rungs, 540, 960, 3) against the first of them, by libvmaf in one run."""
    distorted, reference, log = folder / "distorted.rgb", folder / "reference.rgb", folder / "vmaf.json"
    distorted.write_bytes(canvases.tobytes())
    reference.write_bytes(np.broadcast_to(canvases[0], canvases.shape).tobytes())
    raw, to_yuv = _raw_input(SCENE_WIDTH, SCENE_HEIGHT), f"{_TO_BT709},format=yuv420p"
    measure = f"libvmaf=model=version=vmaf_v0.6.1neg:feature=name=float_ms_ssim:log_fmt=json:log_path={log}:n_threads=1"
    graph = f"[0]{to_yuv}[a];[1]{to_yuv}[b];[a][b]{measure}"
    try:
        _run_ffmpeg(*raw, str(distorted), *raw, str(reference), "-lavfi", graph, "-f", "null", "-")
    except subprocess.CalledProcessError as error:
        raise DataError(f"the teachers need an ffmpeg with libvmaf: {_reason(error)}") from error
    frames = [frame["metrics"] for frame in json.loads(log.read_text())["frames"]]
    return [(float(frame["vmaf"]), float(frame["float_ms_ssim"])) for frame in frames]


def _taught(rung: Rung, vmaf_neg: float, ms_ssim: float) -> TaughtRung:
    facts = asdict(rung)
    for name in ("encoder", "filters", "grain_sigma"):
        del facts[name]
    return TaughtRung(**facts, vmaf_neg=round(vmaf_neg, 3), ms_ssim=round(ms_ssim, 5))


def _run_ffmpeg(*arguments: str, stdin: bytes = b"") -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *arguments]
    return subprocess.run(command, check=True, capture_output=True, timeout=_DEADLINE_SECONDS, input=stdin).stdout


def _reason(error: Exception) -> str:
    detail = getattr(error, "stderr", None)
    return detail.decode(errors="replace").strip()[-200:] if detail else str(error)


def write_scene(scene: LadderScene, folder: Path) -> Path:
    """Write a scene in one step; returns its path."""
    target = scene_file(folder, scene.source, scene.kind, scene.number)
    facts = {"source": scene.source, "kind": scene.kind, "number": scene.number}
    rungs = [asdict(rung) for rung in scene.rungs]
    partial = target.with_suffix(".part")
    with partial.open("wb") as file:
        np.savez(file, facts=np.array(json.dumps({**facts, "rungs": rungs})), **scene.tiles)
    return partial.replace(target)


def scene_file(folder: Path, source: str, kind: SceneKind, number: int) -> Path:
    """Where a scene is written; `source` is the hash of its picture."""
    return folder / f"{kind}-{source[:16]}-{number}.npz"


def read_scene(file: Path) -> LadderScene:
    """A scene that `write_scene` wrote. Raises DataError."""
    try:
        with np.load(file) as archive:
            facts = json.loads(str(archive["facts"]))
            tiles = {name: archive[name] for name in _TILES}
        rungs = tuple(TaughtRung(**rung) for rung in facts.pop("rungs"))
        return LadderScene(**facts, rungs=rungs, tiles=tiles)
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{file}: not a ladder of `data lite2`: {error}; delete it and make it again") from error
