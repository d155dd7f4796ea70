"""What a decoder process takes away from itself before it touches foreign bytes."""

import contextlib
import ctypes
import os
import resource
import signal
from typing import Any, BinaryIO

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_OPEN_FILES = 32


def die_with_parent() -> None:
    """Be killed when the daemon ends, however it ends. Linux only; elsewhere the closed pipe tells."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def give_up_rights(*, memory_bytes: int, threads: int) -> None:
    """No new privileges, no core dumps, no written files, no new processes, few open files, bounded memory."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
    }
    if threads == 1:
        limits[resource.RLIMIT_NPROC] = 0
    for name, value in limits.items():
        _, hard = resource.getrlimit(name)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(name, (bound, bound))


def take_over_line() -> tuple[BinaryIO, BinaryIO]:
    """Keep the line for ourselves: whatever a library prints goes nowhere."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(0), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    return requests, answers


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        libc: Any = ctypes.CDLL(None, use_errno=True)
        libc.prctl(option, value, 0, 0, 0)
