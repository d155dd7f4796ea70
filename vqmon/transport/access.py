"""Who may open the file of a history, and how: one writer at a time, readers also where nothing can be written."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vqmon.errors import NoHistoryError, StoreError


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold the lock `PATH.lock`, which the end of the process frees in any case; StoreError when another holds it."""
    if not path.absolute().parent.is_dir():
        raise StoreError(f"{path}: the folder does not exist; create it or name another file")
    lock = beside(path, ".lock")
    try:
        held = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(
            f"{lock}: cannot be opened: {error.strerror}; {_user()} needs to write in its folder"
        ) from error
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(f"another vqmon writes {path}; stop it, or name another file") from error
        except OSError as error:
            raise StoreError(f"{lock}: cannot be locked: {error.strerror}") from error
        yield
    finally:
        # The file stays: taking it away would let a third one lock a new file of the same name.
        os.close(held)


def check_readable(path: Path) -> None:
    """Raise SettingsError when there is no history, StoreError when this user may not read it."""
    try:
        is_there = path.is_file()
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; {_user()} needs permission to enter its folder") from error
    if not is_there:
        raise NoHistoryError(f"{path}: no history yet; run `vqmon run` or `vqmon watch URL` first, or give --history")
    if not os.access(path, os.R_OK):
        raise StoreError(f"{path}: {_user()} needs permission to read it")
    folder = path.resolve().parent
    if os.access(folder, os.W_OK) or not beside(path, "-wal").exists():
        return
    # What is not yet in the file itself is found by way of both, and this user cannot make them.
    for part in (beside(path, "-wal"), beside(path, "-shm")):
        if not os.access(part, os.R_OK):
            raise StoreError(f"{path}: {_user()} needs permission to read {part}, or to write in {folder}")


def frozen_at(path: Path) -> tuple[int, int] | None:
    """When and how large the file was last written, where readers cannot make a log and no writer has one; else None.

    SQLite reads such a file only when told that nobody changes it: look again whether that still holds.
    """
    if os.access(path.resolve().parent, os.W_OK) or beside(path, "-wal").exists():
        return None
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def beside(path: Path, ending: str) -> Path:
    """The file of the same name with something after it, where SQLite puts it: beside what a link leads to."""
    real = path.resolve()
    return real.with_name(real.name + ending)


def _user() -> str:
    return f"user {os.geteuid()}"
