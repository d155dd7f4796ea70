"""Reads secrets, such as passwords and tokens, from files."""

import os
from pathlib import Path

from vqmon.errors import SettingsError


def read_secret(path: Path, *, setting: str) -> str:
    """Read a secret from the file that a setting names, and strip white space around it.

    A relative path is looked up in `$CREDENTIALS_DIRECTORY`, or without that in the working folder; those of a settings
    file are absolute by then. Raises SettingsError, which names setting and file but never shows the text, when the
    file cannot be read or is empty.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    file = path if path.is_absolute() or not folder else Path(folder) / path
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        problem = getattr(error, "strerror", None) or "it is not text"
        remedy = "" if path.is_absolute() or folder else "; looked up here, as $CREDENTIALS_DIRECTORY is not set"
        raise SettingsError(f"{setting}: {file.absolute()}: cannot read this secret: {problem}{remedy}") from None
    if not text:
        raise SettingsError(f"{setting}: {file}: this secret is empty")
    return text
