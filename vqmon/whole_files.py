"""Files that are written as a whole or not at all, with errors that say what to do."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from vqmon.errors import SettingsError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_problem(error: OSError) -> str:
    """Why a file cannot be written, and what to do about it."""
    remedy = "make room there, or name another file" if error.errno in _FULL else "name another file"
    return f"cannot be written: {error.strerror or error}; {remedy}"


@contextmanager
def whole_file(file: Path) -> Iterator[IO[bytes]]:
    """Write a temporary file next to `file` that replaces it when complete, and is deleted after an error.

    A symbolic link stays one; pipes and devices are written directly. Raises SettingsError for an OSError, also for
    one in the context.
    """
    try:
        if file.exists() and not file.is_file():
            # not what it resolves to: /dev/stdout is then a pipe without a path
            with file.open("wb") as sink:
                yield sink
            return
        target = file.resolve()
        unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with unfinished.open("wb") as sink:
                yield sink
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(f"{file}: {write_problem(error)}") from error


def write_whole_file(file: Path, content: str | bytes) -> None:
    """Write bytes, or text as UTF-8, as a whole or not at all; raises SettingsError."""
    with whole_file(file) as sink:
        sink.write(content.encode() if isinstance(content, str) else content)
