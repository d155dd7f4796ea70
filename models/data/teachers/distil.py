"""Asks a scorer that the daemon serves for the scores of a folder, from which a small scorer is then trained."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from models.data.csv_scores import DataError

_EXIT_UNSCORED = 3
_QUALITY = "org.vqmon.quality.v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaughtScores:
    """The scores of a teacher: a CSV for the training, and what the manifest of the pupil says about them."""

    csv: Path
    # name@version, the first digits of its hash, and the numbers of files that it scored and of their contents
    teacher: str
    licence: str
    # the lowest and the highest score, 0..100: the pupil's scores are on the teacher's scale
    score_range: tuple[float, float]


def ask_teacher(teacher: str, clips: Path, *, folder: Path) -> TaughtScores:
    """Score the files of `clips` and its sub-folders and write `teacher.csv` into `folder`; raises DataError.

    `teacher` is the name of a scorer in `scoring.folders`, or the path of its manifest. The scores are those that
    `vqmon score` prints, so that the teacher sees the same decoded pictures as in the daemon. Files that it cannot
    score are left out. All files of one sub-folder are one content, which is trained on or held out as a whole; a file
    directly in `clips` is a content of its own.
    """
    events = [event for event in _score(teacher, clips) if event["scores"]]
    if not events:
        raise DataError(f"{clips}: {teacher} could score no file")
    paths = [unquote(urlsplit(event["segment"]["url"]).path) for event in events]
    rows = [
        (path, event["scores"][0]["value"], _content_of(path, clips)) for path, event in zip(paths, events, strict=True)
    ]
    scores = [score for _, score, _ in rows]
    if min(scores) == max(scores):
        raise DataError(f"{clips}: {teacher} gives all files the score {scores[0]:g}; there is nothing to learn")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "teacher.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "score", "group"), *rows])
    identity = events[0]["provenance"]["scorers"][0]
    return TaughtScores(
        csv=folder / "teacher.csv",
        teacher=(
            f"{identity['scorer']}, sha256 {identity['sha256'][:16]}, {len(rows)} files, "
            f"{len({group for _, _, group in rows})} contents"
        ),
        licence=identity["licence"],
        score_range=(min(scores), max(scores)),
    )


def _content_of(path: str, clips: Path) -> str:
    folder = Path(path).parent
    return path if folder == clips.resolve() else str(folder)


def _folders_of(clips: Path) -> list[str]:
    """The folder and its sub-folders that have files, hidden ones left out."""
    folders = [clips, *(path for path in sorted(clips.rglob("*")) if path.is_dir() and not path.name.startswith("."))]
    return [str(folder) for folder in folders if any(path.is_file() for path in folder.iterdir())] or [str(clips)]


def _score(teacher: str, clips: Path) -> list[dict[str, Any]]:
    """The quality events of the files, by the command in a process of its own: torch and the daemon stay apart."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    manifest = Path(teacher)
    if manifest.suffix == ".json" and manifest.is_file():
        environment["VQMON_SCORING__FOLDERS"] = json.dumps([str(manifest.parent.resolve())])
        teacher = manifest.stem
    command = [sys.executable, "-m", "vqmon", "score", "--json", "--scorer", teacher, *_folders_of(clips)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if process.returncode not in (0, _EXIT_UNSCORED):
        reason = (process.stderr.strip() or "no reason given").splitlines()[-1]
        raise DataError(f"{teacher} cannot score {clips}: {reason}")
    messages = [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]
    return [message["data"] for message in messages if message["type"] == _QUALITY]
