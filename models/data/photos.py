"""Scored photos (BIQ2021), the mosaic of tiles that lite sees of a picture, and the files of ladders."""

import csv
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

SHORT_SIDE = 540
COLUMNS, ROWS = 4, 3
TILE_WIDTH, TILE_HEIGHT = 128, 96
_SPLIT_FILES = {"train": "Train (Images and MOS).csv", "test": "Test (Images and MOS).csv"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """One content at falling quality: `rows` index `ladders.raw`, best first; ladders of one `kind` have comparable
    steps."""

    content: str
    kind: str
    rows: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.rows) < 2:
            raise ValueError(f"a ladder needs at least two rungs, {self.content}/{self.kind} has {len(self.rows)}")


def read_scores(folder: Path, split: str) -> list[tuple[str, float]]:
    """(file name, mean opinion score in 0..1) of BIQ2021's official `train` or `test` split, in file order."""
    with (folder / _SPLIT_FILES[split]).open(newline="", encoding="utf-8-sig") as lines:
        return [(row["Image Name"], float(row["MOS"])) for row in csv.DictReader(lines)]


def split_train_validation(count: int, validation: int, *, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(training rows, validation rows) of `count` rows; sorted, disjoint, the same for the same seed."""
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[validation:]), np.sort(order[:validation])


def canvas_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) in px of a frame scaled to a short side of 540 px, with its aspect ratio."""
    scale = SHORT_SIDE / min(width, height)
    return max(SHORT_SIDE, round(width * scale)), max(SHORT_SIDE, round(height * scale))


def tile_origins(width: int, height: int) -> list[tuple[int, int]]:
    """(x, y) in px of the 12 tiles on a canvas, row by row; each tile is centred in its cell of a 4 x 3 grid."""
    xs = [int(np.floor((i + 0.5) * width / COLUMNS - TILE_WIDTH / 2 + 0.5)) for i in range(COLUMNS)]
    ys = [int(np.floor((j + 0.5) * height / ROWS - TILE_HEIGHT / 2 + 0.5)) for j in range(ROWS)]
    return [(x, y) for y in ys for x in xs]


def to_canvas(picture: Image.Image) -> Pixels:
    """A picture of any size as (height, width, 3) uint8 RGB with a short side of 540 px (bicubic)."""
    rgb = picture.convert("RGB")
    return np.asarray(rgb.resize(canvas_size(*rgb.size), Image.Resampling.BICUBIC))


def cut_tiles(canvas: Pixels) -> Pixels:
    """The 12 tiles (12, 96, 128, 3) of a canvas (height, width, 3)."""
    height, width = canvas.shape[:2]
    return np.stack([canvas[y : y + TILE_HEIGHT, x : x + TILE_WIDTH] for x, y in tile_origins(width, height)])


def lay_out_tiles(tiles: Pixels) -> Pixels:
    """Tiles (..., 12, 96, 128, 3) side by side as mosaics (..., 288, 512, 3)."""
    leading = tiles.shape[:-4]
    grid = tiles.reshape(*leading, ROWS, COLUMNS, TILE_HEIGHT, TILE_WIDTH, 3)
    return np.moveaxis(grid, -4, -3).reshape(*leading, ROWS * TILE_HEIGHT, COLUMNS * TILE_WIDTH, 3)


def mosaic(picture: Image.Image) -> Pixels:
    """The mosaic (288, 512, 3) uint8 RGB that lite sees of a picture."""
    return lay_out_tiles(cut_tiles(to_canvas(picture)))


def write_photos(biq2021: Path, folder: Path) -> Iterator[float]:
    """Write `photos_<split>.npy` (n, 540, 540, 3) and `mos_<split>.npy` (n,); yields the fraction done."""
    # One file of the database ends in .JPG where the CSV says .jpg.
    files = {path.name.lower(): path for path in (biq2021 / "Images").iterdir()}
    for number, split in enumerate(_SPLIT_FILES):
        rows = read_scores(biq2021, split)
        shape = (len(rows), SHORT_SIDE, SHORT_SIDE, 3)
        photos = np.lib.format.open_memmap(folder / f"photos_{split}.npy", "w+", np.uint8, shape)
        with ThreadPoolExecutor(2) as pool:
            for index, canvas in enumerate(pool.map(_read_photo, (files[name.lower()] for name, _ in rows))):
                photos[index] = canvas
                yield (number + index / len(rows)) / len(_SPLIT_FILES)
        photos.flush()
        np.save(folder / f"mos_{split}.npy", np.array([score for _, score in rows], np.float32))


def _read_photo(path: Path) -> Pixels:
    with Image.open(path) as picture:
        return to_canvas(picture)[:SHORT_SIDE, :SHORT_SIDE]


def load_photos(folder: Path, split: str) -> tuple[Pixels, NDArray[np.float32]]:
    """(memory-mapped canvases (n, 540, 540, 3), scores (n,)) that `write_photos` wrote."""
    return np.load(folder / f"photos_{split}.npy", mmap_mode="r"), np.load(folder / f"mos_{split}.npy")


def write_ladders(folder: Path, ladders: Iterator[tuple[str, str, list[Pixels]]]) -> int:
    """Write ladders as `ladders.raw` (n, 12, 96, 128, 3) and `ladders.json`; returns the number of pictures.

    `ladders` yields (content, kind, tiles of each picture, best first).
    """
    written: list[Ladder] = []
    pictures = 0
    with (folder / "ladders.raw").open("wb") as raw:
        for content, kind, tiles in ladders:
            rows = tuple(range(pictures, pictures + len(tiles)))
            written.append(Ladder(content=content, kind=kind, rows=rows))
            pictures += len(tiles)
            for picture in tiles:
                raw.write(np.ascontiguousarray(picture).tobytes())
    (folder / "ladders.json").write_text(json.dumps([asdict(ladder) for ladder in written]))
    return pictures


def load_ladders(folder: Path) -> tuple[Pixels, list[Ladder]]:
    """(memory-mapped tiles (n, 12, 96, 128, 3), the ladders that index them) that `write_ladders` wrote."""
    rows = json.loads((folder / "ladders.json").read_text())
    ladders = [Ladder(content=row["content"], kind=row["kind"], rows=tuple(row["rows"])) for row in rows]
    shape = (-1, ROWS * COLUMNS, TILE_HEIGHT, TILE_WIDTH, 3)
    return np.memmap(folder / "ladders.raw", np.uint8, "r").reshape(shape), ladders
