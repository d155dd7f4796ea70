"""Scored pictures and clips: reading the CSV, splitting by content, frames, and features kept on disk."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image

from models.data.csv_scores import DataError, ScoredRow, normalise_scores, read_frames, read_scored_rows, split_by_group

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("default")]


@pytest.fixture
def listed(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a CSV beside two pictures, a.png and b.png."""
    for name, level in (("a.png", 20), ("b.png", 200)):
        Image.new("RGB", (6, 4), (level, level, level)).save(tmp_path / name)

    def write(text: str) -> Path:
        (tmp_path / "scores.csv").write_text(text)
        return tmp_path / "scores.csv"

    return write


def test_rows_are_read_as_written(listed: Callable[[str], Path]) -> None:
    """All columns, and the path as the group where none is named."""
    rows = read_scored_rows(listed("path,score,group,spread,prompt\na.png,3.5,one,0.4,a cat\nb.png,1,,,\n"))
    assert [(row.path.name, row.score, row.group, row.spread, row.prompt) for row in rows] == [
        ("a.png", 3.5, "one", 0.4, "a cat"),
        ("b.png", 1.0, "b.png", 0.0, ""),
    ]
    assert normalise_scores(rows).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,score\na.png,1\n", "no column path"),
        ("path,score\n", "holds no rows"),
        ("path,score\na.png,1\nnone.png,2\n", "line 3: 'none.png' is not a file"),
        ("path,score\na.png,good\n", "line 2: score 'good'"),
        ("path,score\na.png,nan\n", "line 2: score must be finite"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line(listed: Callable[[str], Path], text: str, message: str) -> None:
    """Every refusal says where."""
    with pytest.raises(DataError, match=message):
        read_scored_rows(listed(text))


def test_a_split_keeps_contents_together() -> None:
    """Four fifths of the groups, whole, the same for the same seed and others for another."""
    groups = [f"g{n % 10}" for n in range(50)]
    fit, held = split_by_group(groups, seed=3)
    assert sorted([*fit, *held]) == list(range(50))
    assert len({groups[n] for n in fit}) == 8
    assert not {groups[n] for n in fit} & {groups[n] for n in held}
    assert (split_by_group(groups, seed=3)[0] == fit).all()
    assert any((split_by_group(groups, seed=other)[0].tolist() != fit.tolist()) for other in range(4, 9))
    with pytest.raises(DataError, match="two groups"):
        split_by_group(["one", "one"], seed=0)
    with pytest.raises(DataError, match="all scores are equal"):
        normalise_scores([ScoredRow(path=Path("a"), score=2.0, group="a")] * 2)


def test_frames_of_a_clip_are_those_of_its_equal_parts(tmp_path: Path) -> None:
    """A clip whose n-th frame has the level 8 n: of 20 frames in 4 parts come 0, 5, 10 and 15."""
    raw = b"".join(bytes([8 * n]) * (64 * 48 * 3) for n in range(20))
    command = [
        get_ffmpeg_exe(),
        "-v",
        "error",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-s",
        "64x48",
        "-r",
        "10",
        "-i",
        "-",
    ]
    clip = tmp_path / "clip.mp4"
    subprocess.run([*command, "-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv444p", str(clip)], input=raw, check=True)
    frames = read_frames(clip, count=4)
    assert frames.shape == (4, 48, 64, 3)
    assert np.abs(frames.mean((1, 2, 3)) - [0, 40, 80, 120]).max() < 2
    assert len(read_frames(clip, count=30)) == 20
    (tmp_path / "broken.mp4").write_bytes(b"no clip")
    for name, message in (("broken.mp4", "as a clip"), ("broken.png", "as a picture")):
        (tmp_path / name).write_bytes(b"neither")
        with pytest.raises(DataError, match=message):
            read_frames(tmp_path / name, count=1)
