"""Reads secrets, such as passwords and tokens, from files."""

import os
from pathlib import Path

from vqmon.errors import SettingsError


def read_secret(path: Path) -> str:
    """Read a secret from a file and strip white space around it.

    A relative path is looked up in `$CREDENTIALS_DIRECTORY` if that is set. Raises SettingsError, which names the file
    but never shows its text, when the file cannot be read or is empty.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    file = path if path.is_absolute() or not folder else Path(folder) / path
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot read this secret: {type(error).__name__}") from None
    if not text:
        raise SettingsError(f"{file}: this secret is empty")
    return text
