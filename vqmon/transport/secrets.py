"""Secrets out of files of their own."""

import os
from pathlib import Path

from vqmon.errors import SettingsError


def read_secret(name: Path) -> str:
    """A secret out of a file: an absolute path, or a name in `$CREDENTIALS_DIRECTORY`; never in the message."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    file = name if name.is_absolute() or not folder else Path(folder) / name
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot read this secret: {type(error).__name__}") from None
    if not text:
        raise SettingsError(f"{file}: this secret is empty")
    return text
