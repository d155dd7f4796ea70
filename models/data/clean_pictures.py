"""The clean pictures of which ladders are made: their list with origins and licences, and the search for them."""

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.data.csv_scores import DataError

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
_MAX_LISTED = 20
# The largest picture of the list has 27 million pixels; Pillow refuses pictures that expand to far more.
_MAX_PIXELS = 60_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanPicture:
    """One picture of a list. `file` is its path within its origin, `seed` draws what is made of it."""

    file: str
    origin: str
    author: str
    licence: str
    size_bytes: int
    sha256: str
    seed: int

    def __post_init__(self) -> None:
        if len(self.sha256) != 64 or self.size_bytes < 1 or self.seed < 0:
            raise ValueError(f"{self.file}: not a SHA-256, a size in bytes and a seed")


def read_picture_list(file: Path) -> list[CleanPicture]:
    """The pictures of a TOML file with tables `[origins.NAME]` and `[[pictures]]`, in its order. Raises DataError."""
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    try:
        pictures = [CleanPicture(**row) for row in table["pictures"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: not a list of pictures: {error}") from error
    if unknown := sorted({picture.origin for picture in pictures} - table["origins"].keys()):
        raise DataError(f"{file}: no origin is named {', '.join(unknown)}; add a table [origins.{unknown[0]}]")
    for name, values in (("hash", [each.sha256 for each in pictures]), ("seed", [each.seed for each in pictures])):
        if len(set(values)) != len(values):
            raise DataError(f"{file}: two pictures have the same {name}")
    return pictures


def find_pictures(pictures: Sequence[CleanPicture], folder: Path) -> Mapping[str, Path]:
    """SHA-256 -> file of every picture, anywhere below a folder, by size and hash.

    Raises DataError with the pictures that are missing.
    """
    sizes = {picture.size_bytes for picture in pictures}
    wanted = {picture.sha256 for picture in pictures}
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in _SUFFIXES or not path.is_file() or path.stat().st_size not in sizes:
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest in wanted:
            files.setdefault(digest, path)
    missing = [f"{picture.origin}: {picture.file}" for picture in pictures if picture.sha256 not in files]
    if missing:
        more = f"\n  and {len(missing) - _MAX_LISTED} more" if len(missing) > _MAX_LISTED else ""
        raise DataError(
            f"{folder}: {len(missing)} of {len(pictures)} pictures are missing, or are other versions of them; unpack "
            "their packages and clone their repositories into this folder:\n  "
            + "\n  ".join(missing[:_MAX_LISTED])
            + more
        )
    return files


def open_picture(path: Path) -> Image.Image:
    """A picture in RGB. Raises DataError for a file that is no picture, or one of more than 60 million pixels."""
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > _MAX_PIXELS:
                raise DataError(f"{path}: {picture.width} x {picture.height} is more than {_MAX_PIXELS} pixels")
            return picture.convert("RGB")
    except OSError as error:
        raise DataError(f"{path}: not a picture: {error}") from error


def scale_to_short_side(picture: Image.Image, short_side: int) -> NDArray[np.uint8]:
    """(height, width, 3) of a picture scaled by Pillow's Lanczos to a short side in px."""
    factor = short_side / min(picture.size)
    size = (round(picture.width * factor), round(picture.height * factor))
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
