"""Files appear whole or not at all."""

import os
import resource
from pathlib import Path

import pytest

from vqmon.errors import SettingsError
from vqmon.whole_files import write_whole_file


def test_a_file_is_replaced_and_a_link_to_it_stays(tmp_path: Path) -> None:
    """Nothing else is left in the folder."""
    (tmp_path / "report.html").write_text("old")
    (tmp_path / "link.html").symlink_to("report.html")
    write_whole_file(tmp_path / "link.html", "naïve")
    assert (tmp_path / "link.html").is_symlink()
    assert (tmp_path / "report.html").read_bytes() == "naïve".encode()
    assert sorted(os.listdir(tmp_path)) == ["link.html", "report.html"]


def test_a_file_that_is_cut_short_is_never_seen(tmp_path: Path) -> None:
    """The old one stays, as does its folder."""
    (tmp_path / "report.html").write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(SettingsError, match=r"report\.html: cannot be written: File too large; name another file$"):
            write_whole_file(tmp_path / "report.html", bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "old"


def test_a_device_is_written_and_not_replaced() -> None:
    """A full one says what to do."""
    message = r"/dev/full: cannot be written: No space left on device; make room there, or name another file"
    with pytest.raises(SettingsError, match=message):
        write_whole_file(Path("/dev/full"), "text")
    write_whole_file(Path(os.devnull), "text")
    assert Path(os.devnull).is_char_device()


def test_a_pipe_is_written_by_the_name_of_its_descriptor() -> None:
    """As `/dev/stdout` before a `|`, which resolves to no path."""
    reader, writer = os.pipe()
    write_whole_file(Path(f"/dev/fd/{writer}"), "text")
    os.close(writer)
    with os.fdopen(reader) as read:
        assert read.read() == "text"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"missing/report\.html: cannot be written: No such file or directory"):
        write_whole_file(tmp_path / "missing" / "report.html", "text")
