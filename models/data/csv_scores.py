"""Reads pictures and clips with human scores from a CSV: path, score, group."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

Pixels = NDArray[np.uint8]
PICTURE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


class DataError(ValueError):
    """Training data cannot be used; the message names the file, the line and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRow:
    """A picture or clip with its mean opinion score; rows of one `group` (content) always stay in one set."""

    path: Path
    score: float
    group: str
    # standard deviation of the opinions, in units of `score`; 0 = unknown
    spread: float = 0.0
    prompt: str = ""


def read_scored_rows(file: Path) -> list[ScoredRow]:
    """The rows of a CSV with a header; paths are relative to the CSV. Raises DataError.

    Columns: `path` and `score` are required; `group` (default: the path), `spread` and `prompt` are optional.
    """
    with file.open(newline="", encoding="utf-8-sig") as lines:
        table = csv.DictReader(lines)
        missing = {"path", "score"} - set(table.fieldnames or ())
        if missing:
            raise DataError(f"{file}: no column {', '.join(sorted(missing))}; the first line must name path and score")
        rows = [_parse_row(file, number, record) for number, record in enumerate(table, start=2)]
    if not rows:
        raise DataError(f"{file}: holds no rows")
    return rows


def _parse_row(file: Path, number: int, record: dict[str, str]) -> ScoredRow:
    path = file.parent / (record["path"] or "")
    if not record["path"] or not path.is_file():
        raise DataError(f"{file}, line {number}: {record['path']!r} is not a file; paths are relative to the CSV")
    try:
        score, spread = float(record["score"]), float(record.get("spread") or 0)
    except (TypeError, ValueError):
        raise DataError(f"{file}, line {number}: score {record['score']!r} or spread is not a number") from None
    if not (math.isfinite(score) and spread >= 0):
        raise DataError(f"{file}, line {number}: score must be finite and spread not negative")
    group, prompt = record.get("group") or record["path"], record.get("prompt") or ""
    return ScoredRow(path=path, score=score, group=group, spread=spread, prompt=prompt)


def split_by_group(
    groups: Sequence[str], *, share: float = 0.8, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(training rows, validation rows), both sorted; about `share` of the groups, drawn with the seed, are trained on.

    No group is in both. Raises DataError when there are fewer than two groups.
    """
    names = sorted(set(groups))
    if len(names) < 2:
        raise DataError(f"a split needs two groups or more, found {len(names)}")
    count = min(max(round(share * len(names)), 1), len(names) - 1)
    train_groups = set(np.random.default_rng(seed).permutation(names)[:count].tolist())
    is_training = np.array([group in train_groups for group in groups])
    return np.flatnonzero(is_training), np.flatnonzero(~is_training)


def normalise_scores(rows: Sequence[ScoredRow]) -> NDArray[np.float32]:
    """Scores scaled to 0..1 by the lowest and the highest. Raises DataError when all are equal."""
    scores = np.array([row.score for row in rows])
    low, high = scores.min(), scores.max()
    if low == high:
        raise DataError("all scores are equal; there is nothing to learn")
    return ((scores - low) / (high - low)).astype(np.float32)


def read_frames(path: Path, *, count: int) -> Pixels:
    """(frames, height, width, 3) RGB: a picture, or the first frame of each of `count` equal parts of a clip.

    Raises DataError when the file cannot be read.
    """
    if path.suffix.lower() in PICTURE_SUFFIXES:
        try:
            with Image.open(path) as picture:
                return np.asarray(picture.convert("RGB"))[None]
        except (OSError, UnidentifiedImageError) as error:
            raise DataError(f"{path}: cannot be read as a picture: {error}") from error
    from decord import DECORDError, VideoReader  # type: ignore[import-untyped]

    try:
        video = VideoReader(str(path), num_threads=1)
        length = len(video)
        frame_numbers = sorted({index * length // count for index in range(count)})
        frames: Pixels = video.get_batch(frame_numbers).asnumpy()
    except (RuntimeError, DECORDError) as error:
        raise DataError(f"{path}: cannot be read as a clip: {error}") from error
    return frames
