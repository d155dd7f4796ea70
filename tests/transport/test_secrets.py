"""Secrets are read from files, and never shown."""

from pathlib import Path

import pytest

from vqmon.errors import SettingsError
from vqmon.transport.secrets import read_secret


def test_a_name_is_looked_up_in_the_credentials_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As systemd provides it; an absolute path is taken as it is."""
    (tmp_path / "token").write_text("  s3cret\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_secret(Path("token"), setting="kafka.password_file") == "s3cret"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert read_secret(tmp_path / "token", setting="kafka.password_file") == "s3cret"


@pytest.mark.parametrize(("content", "message"), [(None, "No such file"), (b"\n", "empty"), (b"\xff", "not text")])
def test_an_unusable_file_is_named_without_its_content(tmp_path: Path, content: bytes | None, message: str) -> None:
    """A missing one, an empty one, and one that is not text."""
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        read_secret(tmp_path / "token", setting="kafka.password_file")


def test_without_a_credentials_directory_a_missing_name_says_where_it_was_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the whole path; an absolute path needs no such advice."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=rf"{tmp_path}/key: .*CREDENTIALS_DIRECTORY is not set"):
        read_secret(Path("key"), setting="kafka.password_file")
    with pytest.raises(SettingsError, match=r"No such file or directory$"):
        read_secret(tmp_path / "key", setting="kafka.password_file")
