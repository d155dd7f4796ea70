"""MATLAB 5 files: what is read, what is left out, what is refused."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from pipelines.commands.evaluation.matlab import read_matlab_columns
from vqmon.errors import SettingsError


def test_texts_and_numbers_are_read_and_other_kinds_left_out(tmp_path: Path) -> None:
    """Numbers of every stored type, names beyond ASCII, a structure and a cell of numbers."""
    names, numbers = np.empty((2, 1), dtype=object), np.empty((1, 2), dtype=object)
    names[:, 0], numbers[0] = ["a.mp4", "é long name.mp4"], [1.0, 2.0]
    variables = {"names": names, "mos": [1.5, 300.25], "small": np.uint8([3, 4]), "cells": numbers, "s": {"x": 1}}
    savemat(tmp_path / "x.mat", variables, do_compression=True)
    columns = read_matlab_columns(tmp_path / "x.mat")
    assert columns == {"names": ["a.mp4", "é long name.mp4"], "mos": [1.5, 300.25], "small": [3, 4]}


@pytest.mark.parametrize("content", [b"", b"MATLAB 7.3" + bytes(300), b"x" * 200])
def test_another_format_is_refused(tmp_path: Path, content: bytes) -> None:
    """With the remedy."""
    (tmp_path / "x.mat").write_bytes(content)
    with pytest.raises(SettingsError, match="not a MATLAB file of version 5"):
        read_matlab_columns(tmp_path / "x.mat")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """Cut off within its compressed content."""
    savemat(tmp_path / "x.mat", {"mos": np.arange(99.0)}, do_compression=True)
    content = bytearray((tmp_path / "x.mat").read_bytes())
    content[140:150] = bytes(10)
    (tmp_path / "x.mat").write_bytes(content)
    with pytest.raises(SettingsError, match=r"x\.mat: is damaged"):
        read_matlab_columns(tmp_path / "x.mat")
