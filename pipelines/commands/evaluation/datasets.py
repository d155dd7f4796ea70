"""Reads pictures and videos with human scores: a plain CSV, or the layout of a public data set.

| layout | file | its columns |
|---|---|---|
| plain | any CSV | path, score; optional: group, content, reference, spread, votes, prompt |
| KonIQ-10k | koniq10k_scores_and_distributions.csv, koniq10k_distributions_sets.csv | image_name, MOS, SD, c_total |
| KADID-10k | dmos.csv | dist_img, ref_img, dmos |
| LSVQ | labels_train_test.csv, labels_test_1080p.csv | name, mos, mos_p1 |
| KoNViD-1k | KoNViD_1k_mos.csv, KoNViD_1k_attributes.csv | flickr_id, MOS |
| LIVE-VQC | data.mat, or a CSV | video_list and mos; File, MOS |
| BIQ2021 | Train (Images and MOS).csv, Test (Images and MOS).csv | Image Name, MOS |
"""

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.commands.evaluation.matlab import read_matlab_columns
from vqmon.core.types import check_prompt_length
from vqmon.errors import SettingsError

_Row = Mapping[str, str]
"""The cells of a row by the name of their column in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedFile:
    """A picture or video with its human score; higher is better."""

    path: Path
    score: float
    group: str = ""
    # items of one content are not independent of each other; empty = unknown
    content: str = ""
    # the undistorted source; None = unknown
    reference: Path | None = None
    # of the score; None = unknown
    standard_error: float | None = None
    prompt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedData:
    """The rated files of one data set."""

    file: Path
    layout: str
    rated: Sequence[RatedFile]
    # files that are listed and do not exist
    missing: Sequence[Path]
    # the worst and the best human score that the layout allows; None = unknown
    scale: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    name: str
    # in lower case; a file with all of them has this layout
    columns: frozenset[str]
    path_column: str
    score_column: str
    # searched for the files, relative to the folder of the CSV
    folders: tuple[str, ...] = (".",)
    suffixes: tuple[str, ...] = ("",)
    group: Callable[[_Row], str] = lambda row: ""
    content: Callable[[_Row], str] = lambda row: ""
    reference_column: str = ""
    # the worst and the best human score; None: those of a plain CSV are unknown
    scale: tuple[float, float] | None = None
    spread_column: str = ""
    votes_column: str = ""


_LAYOUTS = (
    _Layout(
        name="plain CSV",
        columns=frozenset({"path", "score"}),
        path_column="path",
        score_column="score",
        group=lambda row: row.get("group", ""),
        content=lambda row: row.get("content", "") or row.get("reference", ""),
        reference_column="reference",
        spread_column="spread",
        votes_column="votes",
    ),
    _Layout(
        name="KonIQ-10k",
        columns=frozenset({"image_name", "mos"}),
        path_column="image_name",
        score_column="mos",
        folders=("1024x768", "512x384", "images", "."),
        scale=(1, 5),
        spread_column="sd",
        votes_column="c_total",
    ),
    _Layout(
        name="KADID-10k",
        columns=frozenset({"dist_img", "ref_img", "dmos"}),
        path_column="dist_img",
        score_column="dmos",
        folders=("images", "."),
        group=lambda row: f"distortion {row['dist_img'].split('_')[1]}" if row["dist_img"].count("_") == 2 else "",
        content=lambda row: row["ref_img"],
        reference_column="ref_img",
        scale=(1, 5),
    ),
    _Layout(
        name="LSVQ",
        columns=frozenset({"name", "mos", "mos_p1"}),
        path_column="name",
        score_column="mos",
        folders=(".", "videos"),
        suffixes=(".mp4", ""),
        scale=(0, 100),
    ),
    _Layout(
        name="KoNViD-1k",
        columns=frozenset({"flickr_id", "mos"}),
        path_column="flickr_id",
        score_column="mos",
        folders=("KoNViD_1k_videos", "../KoNViD_1k_videos", "videos", "."),
        suffixes=(".mp4", "_original_centercrop_960x540_8s.mp4", ""),
        scale=(1, 5),
    ),
    _Layout(
        name="LIVE-VQC",
        columns=frozenset({"file", "mos"}),
        path_column="file",
        score_column="mos",
        folders=("Video", "video", "."),
        suffixes=("", ".mp4"),
        scale=(0, 100),
    ),
    _Layout(
        name="BIQ2021",
        columns=frozenset({"image name", "mos"}),
        path_column="image name",
        score_column="mos",
        folders=("Images", "images", "."),
        scale=(0, 1),
    ),
)


def read_rated_files(data: Path, *, media: Path | None = None, group_column: str = "") -> RatedData:
    """The rated files of a CSV or MATLAB file, or of a folder that holds exactly one.

    Files are searched in `media`, by default in the folder of `data` and the folders of its layout. `group_column`
    replaces the layout's groups. Raises SettingsError, which names file, line and remedy.
    """
    file = _only_table(data) if data.is_dir() else data
    rows = _matlab_rows(file) if file.suffix.lower() == ".mat" else _csv_rows(file)
    header = list(rows[0][1]) if rows else []
    layout = _detect_layout(file, header)
    group_key = group_column.strip().lower()
    if group_key and group_key not in header:
        raise SettingsError(f"{file}: no column {group_column!r} to group by; its columns: {', '.join(header)}")
    roots = [media] if media is not None else []
    roots += [root / folder for root in (media or file.parent,) for folder in layout.folders]
    parsed = [_parse_row(file, number, row, layout=layout, roots=roots, group_key=group_key) for number, row in rows]
    rated = [item for item in parsed if item.path.is_file()]
    if not rated:
        where = ", ".join(dict.fromkeys(str(root) for root in roots))
        raise SettingsError(
            f"{file}: not one of its {len(rows)} files exists, for example {rows[0][1][layout.path_column]!r}; "
            f"searched in {where}; name their folder with --media"
        )
    missing = [item.path for item in parsed if not item.path.is_file()]
    return RatedData(file=file, layout=layout.name, rated=rated, missing=missing, scale=layout.scale)


def _only_table(folder: Path) -> Path:
    tables = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".csv", ".mat"))
    if len(tables) == 1:
        return tables[0]
    names = ", ".join(path.name for path in tables)
    problem = f"holds several tables: {names}; name one of them" if tables else "holds no .csv and no data.mat"
    raise SettingsError(f"{folder}: {problem}")


def _csv_rows(file: Path) -> Sequence[tuple[int, _Row]]:
    """The rows with their line numbers; columns without a name are left out. Raises SettingsError."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot be read as a CSV in UTF-8: {error}") from error
    first_line = text.split("\n", 1)[0]
    delimiter = max((",", ";", "\t"), key=first_line.count)
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    header = [name.strip().lower() for name in next(reader, [])]
    rows = [
        (reader.line_num, {name: cell.strip() for name, cell in zip(header, cells, strict=False) if name})
        for cells in reader
        if any(cell.strip() for cell in cells)
    ]
    if not rows:
        raise SettingsError(f"{file}: holds no rows; it needs a line of column names and a line per picture or video")
    return rows


def _matlab_rows(file: Path) -> Sequence[tuple[int, _Row]]:
    columns = read_matlab_columns(file)
    names, scores = columns.get("video_list"), columns.get("mos")
    if not names or not scores or len(names) != len(scores):
        known = ", ".join(columns) or "none"
        raise SettingsError(
            f"{file}: needs the variables video_list and mos of equal length, as LIVE-VQC has them; it has: {known}"
        )
    rows = enumerate(zip(names, scores, strict=True), start=1)
    return [(number, {"file": str(name), "mos": str(mos)}) for number, (name, mos) in rows]


def _detect_layout(file: Path, header: Iterable[str]) -> _Layout:
    columns = set(header)
    for layout in _LAYOUTS:
        if layout.columns <= columns:
            return layout
    layouts = "; ".join(f"{', '.join(sorted(layout.columns))} ({layout.name})" for layout in _LAYOUTS)
    raise SettingsError(
        f"{file}: has the columns {', '.join(header) or 'none'}, which is no layout that is understood; rename the "
        f"columns of the files and their human scores to path and score. Understood: {layouts}"
    )


def _parse_row(
    file: Path, number: int, row: _Row, *, layout: _Layout, roots: Sequence[Path], group_key: str
) -> RatedFile:
    name = row.get(layout.path_column, "")
    if not name:
        raise SettingsError(f"{file}, line {number}: {layout.path_column} is empty")
    score = _number(file, number, row, layout.score_column)
    if score is None:
        raise SettingsError(f"{file}, line {number}: {layout.score_column} is empty")
    spread = _number(file, number, row, layout.spread_column)
    votes = _number(file, number, row, layout.votes_column)
    try:
        check_prompt_length(prompt := row.get("prompt", "") if layout is _LAYOUTS[0] else "")
    except ValueError as error:
        raise SettingsError(f"{file}, line {number}: {error}") from error
    reference = row.get(layout.reference_column, "") if layout.reference_column else ""
    return RatedFile(
        path=_locate(name, roots, layout.suffixes),
        score=score,
        group=row.get(group_key, "") if group_key else layout.group(row),
        content=layout.content(row),
        reference=_locate(reference, roots, ("",)) if reference else None,
        standard_error=spread / math.sqrt(votes) if spread is not None and votes else None,
        prompt=prompt,
    )


def _number(file: Path, number: int, row: _Row, column: str) -> float | None:
    """The number in a column; None when it is empty or there is no such column."""
    text = row.get(column, "") if column else ""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise SettingsError(f"{file}, line {number}: {column} {text!r} is not a number") from None
    if not math.isfinite(value):
        raise SettingsError(f"{file}, line {number}: {column} must be finite, got {text!r}")
    return value


def _locate(name: str, roots: Sequence[Path], suffixes: Sequence[str]) -> Path:
    """The first file that exists, else where the first one would be."""
    candidates = [root / f"{name}{suffix}" for root in roots for suffix in suffixes]
    return next((path for path in candidates if path.is_file()), candidates[0])
