"""Pictures and clips with human scores, as a CSV names them: path, score, group."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

Pixels = NDArray[np.uint8]
PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


class DataError(ValueError):
    """A data set cannot be used; the message names the file, the line and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One picture or clip with its mean opinion; rows of one `group` (content) never part between two sets."""

    path: Path
    score: float
    group: str
    # standard deviation of the opinions, in units of `score`; 0 = not known
    spread: float = 0.0
    prompt: str = ""


def read_rows(file: Path) -> list[Row]:
    """The rows of a CSV with a header; paths are relative to it. Raises DataError.

    Columns: `path` and `score` are needed; `group` (default: the path), `spread` and `prompt` may be there.
    """
    with file.open(newline="", encoding="utf-8-sig") as lines:
        table = csv.DictReader(lines)
        missing = {"path", "score"} - set(table.fieldnames or ())
        if missing:
            raise DataError(f"{file}: no column {', '.join(sorted(missing))}; the first line must name path and score")
        rows = [_row(file, number, given) for number, given in enumerate(table, start=2)]
    if not rows:
        raise DataError(f"{file}: holds no rows")
    return rows


def _row(file: Path, number: int, given: dict[str, str]) -> Row:
    path = file.parent / (given["path"] or "")
    if not given["path"] or not path.is_file():
        raise DataError(f"{file}, line {number}: {given['path']!r} is no file; paths are relative to the CSV")
    try:
        score, spread = float(given["score"]), float(given.get("spread") or 0)
    except (TypeError, ValueError):
        raise DataError(f"{file}, line {number}: score {given['score']!r} or spread is no number") from None
    if not (math.isfinite(score) and spread >= 0):
        raise DataError(f"{file}, line {number}: score must be finite and spread not negative")
    group, prompt = given.get("group") or given["path"], given.get("prompt") or ""
    return Row(path=path, score=score, group=group, spread=spread, prompt=prompt)


def split_by_group(
    groups: Sequence[str], *, share: float = 0.8, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(rows to fit on, rows to validate on): about `share` of the groups, drawn by the seed, are fitted on.

    Both are sorted; no group is in both. Raises DataError when there are fewer than two groups.
    """
    names = sorted(set(groups))
    if len(names) < 2:
        raise DataError(f"a split needs two groups or more, found {len(names)}")
    count = min(max(round(share * len(names)), 1), len(names) - 1)
    chosen = set(np.random.default_rng(seed).permutation(names)[:count].tolist())
    is_fit = np.array([group in chosen for group in groups])
    return np.flatnonzero(is_fit), np.flatnonzero(~is_fit)


def unit_scores(rows: Sequence[Row]) -> NDArray[np.float32]:
    """Scores brought to 0..1 by the least and the largest. Raises DataError when all are alike."""
    scores = np.array([row.score for row in rows])
    low, high = scores.min(), scores.max()
    if low == high:
        raise DataError("all scores are alike; there is nothing to learn")
    return ((scores - low) / (high - low)).astype(np.float32)


def read_frames(path: Path, *, count: int) -> Pixels:
    """(frames, height, width, 3) RGB: the one of a picture, or the first of each of `count` equal parts of a clip.

    Raises DataError when it cannot be read.
    """
    if path.suffix.lower() in PICTURES:
        try:
            with Image.open(path) as picture:
                return np.asarray(picture.convert("RGB"))[None]
        except (OSError, UnidentifiedImageError) as error:
            raise DataError(f"{path}: cannot be read as a picture: {error}") from error
    from decord import DECORDError, VideoReader  # type: ignore[import-untyped]

    try:
        video = VideoReader(str(path), num_threads=1)
        length = len(video)
        places = sorted({part * length // count for part in range(count)})
        frames: Pixels = video.get_batch(places).asnumpy()
    except (RuntimeError, DECORDError) as error:
        raise DataError(f"{path}: cannot be read as a clip: {error}") from error
    return frames
