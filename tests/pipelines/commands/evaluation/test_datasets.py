"""Readers of pictures and videos with human scores: each layout, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from pipelines.commands.evaluation.datasets import RatedFile, read_rated_files
from vqmon.errors import SettingsError


def _write(folder: Path, table: str, text: str, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"media")
    (folder / table).write_text(text, encoding="utf-8")
    return folder / table


def test_a_plain_csv_has_paths_scores_and_what_else_is_known(tmp_path: Path) -> None:
    """Group, content, reference, prompt, and the standard error from spread and votes."""
    table = _write(
        tmp_path,
        "scores.csv",
        "Path,Score,group,reference,spread,votes,prompt\na/one.mp4,71.5,x2,ref.mp4,12,16,A fox\ntwo.mp4,30,x4,,,,\n",
        "a/one.mp4",
        "two.mp4",
        "ref.mp4",
    )
    data = read_rated_files(table)
    first, second = data.rated
    assert data.layout == "plain CSV"
    assert first == RatedFile(
        path=tmp_path / "a/one.mp4",
        score=71.5,
        group="x2",
        content="ref.mp4",
        reference=tmp_path / "ref.mp4",
        standard_error=3.0,
        prompt="A fox",
    )
    assert second == RatedFile(path=tmp_path / "two.mp4", score=30, group="x4")


LAYOUTS = {
    "KonIQ-10k": ("k.csv", '"image_name","c1","c_total","MOS","SD"\n"a.jpg",0,100,3.91,0.5\n', "1024x768/a.jpg", 3.91),
    "KADID-10k": (
        "dmos.csv",
        "dist_img,ref_img,dmos,var\nI01_07_02.png,I01.png,4.57,0.4\n",
        "images/I01_07_02.png",
        4.57,
    ),
    "LSVQ": ("l.csv", "name,height,mos_p1,mos\nyfcc-batch1/7,1080,1,61.5\n", "yfcc-batch1/7.mp4", 61.5),
    "KoNViD-1k": ("k.csv", "flickr_id,mos\n3339962845,3.42\n", "KoNViD_1k_videos/3339962845.mp4", 3.42),
    "LIVE-VQC": ("v.csv", "File,MOS\nA001.mp4,80.2\n", "Video/A001.mp4", 80.2),
    "BIQ2021": ("t.csv", "Image Name,MOS,,\nss03 (3753).jpg,0.8471,,\n", "Images/ss03 (3753).jpg", 0.8471),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_of_a_public_data_set_is_recognised_by_its_columns(tmp_path: Path, layout: str) -> None:
    """Files are found in the folder where the data set has them."""
    table, text, file, score = LAYOUTS[layout]
    data = read_rated_files(_write(tmp_path, table, text, file))
    assert data.layout == layout
    assert [(item.path, item.score) for item in data.rated] == [(tmp_path / file, score)]


def test_facts_that_layouts_state_are_read(tmp_path: Path) -> None:
    """Standard error of KonIQ-10k; distortion and content of KADID-10k."""
    table, text, file, _ = LAYOUTS["KonIQ-10k"]
    assert read_rated_files(_write(tmp_path, table, text, file)).rated[0].standard_error == pytest.approx(0.05)
    table, text, file, _ = LAYOUTS["KADID-10k"]
    (item,) = read_rated_files(_write(tmp_path, table, text, file, "images/I01.png")).rated
    assert (item.group, item.content, item.reference) == ("distortion 07", "I01.png", tmp_path / "images/I01.png")


def test_live_vqc_is_read_from_its_matlab_file(tmp_path: Path) -> None:
    """As MATLAB writes it: compressed, a cell of names and a column of scores; the folder alone is enough."""
    for name in ("A001.mp4", "B010.mp4"):
        (tmp_path / "Video").mkdir(exist_ok=True)
        (tmp_path / "Video" / name).write_bytes(b"media")
    names = np.empty((2, 1), dtype=object)
    names[:, 0] = ["A001.mp4", "B010.mp4"]
    for compressed in (True, False):
        savemat(tmp_path / "data.mat", {"video_list": names, "mos": [[80.25], [31.5]]}, do_compression=compressed)
        data = read_rated_files(tmp_path)
        assert data.layout == "LIVE-VQC"
        assert [(item.path.name, item.score) for item in data.rated] == [("A001.mp4", 80.25), ("B010.mp4", 31.5)]


def test_any_column_can_be_the_group(tmp_path: Path) -> None:
    """In place of the layout's own group."""
    table = _write(tmp_path, "t.csv", "image_name,MOS,Set\na.png,3,test\n", "a.png")
    assert read_rated_files(table, group_column="set").rated[0].group == "test"
    with pytest.raises(SettingsError, match="no column 'sets' to group by; its columns: image_name, mos, set"):
        read_rated_files(table, group_column="sets")


def test_files_that_do_not_exist_are_listed_and_files_elsewhere_are_named(tmp_path: Path) -> None:
    """`media` is searched first."""
    (tmp_path / "tables").mkdir()
    table = _write(tmp_path / "tables", "t.csv", "path;score\na.png;3\nb.png;4\n")
    (tmp_path / "b.png").write_bytes(b"media")
    data = read_rated_files(table, media=tmp_path)
    assert [item.path for item in data.rated] == [tmp_path / "b.png"]
    assert data.missing == [tmp_path / "a.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "file,rating\na.png,3\n",
            "has the columns file, rating, which is no layout.*rename the columns.*path and score",
        ),
        ("path,score\n", "holds no rows"),
        ("", "holds no rows"),
        ("path,score\na.png,good\n", r"line 2: score 'good' is not a number"),
        ("path,score\na.png,\n", "line 2: score is empty"),
        ("path,score\n,3\n", "line 2: path is empty"),
        ("path,score\na.png,nan\n", "line 2: score must be finite"),
        ("path,score\nb.png,3\n", "not one of its 1 files exists, for example 'b.png'; searched in .*--media"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_with_line_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    """Foreign columns are named."""
    with pytest.raises(SettingsError, match=message):
        read_rated_files(_write(tmp_path, "t.csv", text, "a.png"))


def test_a_folder_needs_exactly_one_table(tmp_path: Path) -> None:
    """Otherwise the tables are named."""
    with pytest.raises(SettingsError, match=r"holds no \.csv"):
        read_rated_files(tmp_path)
    _write(tmp_path, "train.csv", "path,score\n")
    _write(tmp_path, "test.csv", "path,score\n")
    with pytest.raises(SettingsError, match=r"several tables: test\.csv, train\.csv; name one"):
        read_rated_files(tmp_path)
