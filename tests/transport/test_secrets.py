"""Secrets are read from files, and never shown."""

from pathlib import Path

import pytest

from vqmon.errors import SettingsError
from vqmon.transport.secrets import read_secret


def test_a_name_is_looked_up_in_the_credentials_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As systemd provides it; an absolute path is taken as it is."""
    (tmp_path / "token").write_text("  s3cret\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_secret(Path("token")) == "s3cret"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert read_secret(tmp_path / "token") == "s3cret"


@pytest.mark.parametrize(("content", "message"), [(None, "FileNotFoundError"), (b"\n", "empty"), (b"\xff", "Unicode")])
def test_an_unusable_file_is_named_without_its_content(tmp_path: Path, content: bytes | None, message: str) -> None:
    """A missing one, an empty one, and one that is not text."""
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        read_secret(tmp_path / "token")
