"""A consistent copy of an SQLite history, taken beside its running writer."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

from vqmon.errors import StoreError
from vqmon.transport.history.backends import schema
from vqmon.transport.history.backends.sqlite import hold_writer_lock, open_read_only, sidecar_file, sqlite_problem
from vqmon.whole_files import write_problem

_STEP_PAGES = 2048
"""Pages copied by one step, 16 MiB: after each step the progress is reported and the copy can be interrupted."""

_HEADER_BYTES = 100
_APPLICATION_ID = slice(68, 72)
"""Where the header of an SQLite file has the application id, big endian (https://sqlite.org/fileformat2.html)."""


def back_up(
    source: Path,
    target: Path,
    *,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
    step_pages: int = _STEP_PAGES,
) -> int:
    """Copy a history as it is at one moment into a file, which is replaced when the copy is whole and sound.

    `on_progress(done, total)` counts pages. Returns the size of the copy in bytes. Raises StoreError when the source
    is damaged, the target is in use or is not a history, or the copy cannot be written; then the target is unchanged.
    """
    with closing(open_read_only(source)) as connection:
        _check_target(source, target)
        # The lock is taken where a history is replaced, so that no writer opens it meanwhile.
        with hold_writer_lock(target) if target.exists() else nullcontext():
            partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
            try:
                _copy(connection, partial, on_progress, step_pages=step_pages)
                shutil.copymode(source, partial)
                size_bytes = partial.stat().st_size
                _flush(partial)
                _check_target(source, target)
                for suffix in ("-wal", "-shm"):
                    # Readers leave them behind, without content.
                    sidecar_file(target, suffix).unlink(missing_ok=True)
                partial.replace(target.resolve())
                _flush(target.resolve().parent)
            except sqlite3.Error as error:
                raise StoreError(f"{target}: the copy of {source} failed: {sqlite_problem(error)}") from error
            except OSError as error:
                raise StoreError(f"{target}: the copy of {source} {write_problem(error)}") from error
            finally:
                for suffix in ("", "-journal", "-wal", "-shm"):
                    partial.with_name(partial.name + suffix).unlink(missing_ok=True)
    return size_bytes


def _copy(
    source: sqlite3.Connection, target: Path, on_progress: Callable[[int, int], object], *, step_pages: int
) -> None:
    target.unlink(missing_ok=True)
    with closing(sqlite3.connect(target, isolation_level=None)) as copy:
        # One snapshot for all steps: otherwise each commit of the writer would make the copy begin anew.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        try:
            source.backup(copy, pages=step_pages, progress=lambda status, left, total: on_progress(total - left, total))
        finally:
            source.execute("ROLLBACK")
        problems = [str(problem) for (problem,) in copy.execute("PRAGMA quick_check(1)")]
    if problems != ["ok"]:
        raise StoreError(
            f"the history is damaged ({problems[0].strip().splitlines()[-1]}), so {target.name} was not kept;"
            " `vqmon history check` says where, `vqmon history salvage` saves what can be read"
        )


def _check_target(source: Path, target: Path) -> None:
    """Raise StoreError when the target may not be replaced."""
    if not target.resolve().parent.is_dir():
        raise StoreError(f"{target}: the folder does not exist; create it or name another file")
    if not target.exists():
        return
    if target.samefile(source):
        raise StoreError(f"{target}: is the history itself; name another file")
    if not target.is_file():
        raise StoreError(f"{target}: is not a file; name another one")
    log = sidecar_file(target, "-wal")
    if log.exists() and log.stat().st_size:
        # SQLite would take it for the log of the copy.
        raise StoreError(f"{target}: is in use, or was when its machine stopped ({log} exists); name another file")
    with target.open("rb") as opened:
        header = opened.read(_HEADER_BYTES)
    if header and int.from_bytes(header[_APPLICATION_ID], "big") != schema.APPLICATION_ID:
        raise StoreError(f"{target}: exists and is not a copy of a history; name another file")


def _flush(path: Path) -> None:
    """Write a file or folder to the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
