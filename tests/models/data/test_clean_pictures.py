"""The list of clean pictures: found by content below a folder, and everything that is missing is named."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from PIL import Image

from models import MODELS_FOLDER
from models.data.clean_pictures import (
    CleanPicture,
    find_pictures,
    open_picture,
    read_picture_list,
    scale_to_short_side,
)
from models.data.csv_scores import DataError

pytestmark = pytest.mark.torch
LIST = MODELS_FOLDER / "lite2.pictures.toml"


def write_picture(path: Path, *, seed: int) -> CleanPicture:
    """A small picture of noise, and its entry."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 12, 3)).astype(np.uint8)).save(path)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return CleanPicture(
        file=path.name, origin="here", author="A", licence="CC0-1.0", size_bytes=len(content), sha256=digest, seed=seed
    )


def test_pictures_are_found_by_content(tmp_path: Path) -> None:
    """Under another name and in another folder too."""
    picture = write_picture(tmp_path / "a.png", seed=1)
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "deep" / "b.PNG")
    assert find_pictures([picture], tmp_path) == {picture.sha256: tmp_path / "deep" / "b.PNG"}


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """A file of the same size with another content is not the picture."""
    pictures = [write_picture(tmp_path / name, seed=seed) for seed, name in enumerate(("a.png", "b.png"))]
    changed = tmp_path / "b.png"
    changed.write_bytes(changed.read_bytes()[:-1] + b"\0")
    with pytest.raises(DataError, match=r"1 of 2 pictures are missing(.|\n)*here: b\.png"):
        find_pictures(pictures, tmp_path)


def test_the_shipped_list_states_author_and_licence_of_every_picture() -> None:
    """No licence that forbids commercial use or derived works is among them."""
    pictures = read_picture_list(LIST)
    assert len(pictures) >= 50
    assert all(picture.author and picture.licence for picture in pictures)
    assert not [picture.file for picture in pictures if "NC" in picture.licence or "ND" in picture.licence]


def test_a_broken_list_is_refused(tmp_path: Path) -> None:
    """Unknown origins, and two entries for one picture."""
    text = LIST.read_text(encoding="utf-8")
    broken = tmp_path / "list.toml"
    broken.write_text(text.replace('origin = "pop-os"', 'origin = "elsewhere"', 1), encoding="utf-8")
    with pytest.raises(DataError, match="elsewhere"):
        read_picture_list(broken)
    entry = text[text.index("[[pictures]]") : text.index("[[pictures]]", text.index("[[pictures]]") + 1)]
    broken.write_text(text + "\n" + entry, encoding="utf-8")
    with pytest.raises(DataError, match="the same hash"):
        read_picture_list(broken)


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"a\.png: not a picture"):
        open_picture(tmp_path / "a.png")


def test_a_picture_is_scaled_to_a_short_side() -> None:
    assert scale_to_short_side(Image.new("RGB", (300, 200)), 100).shape == (100, 150, 3)
