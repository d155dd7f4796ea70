"""Privileges that a decoder process drops before it reads untrusted bytes."""

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


def kill_when_parent_exits() -> None:
    """Ask the kernel for SIGKILL when the daemon exits. Linux only; elsewhere the worker ends at end of input."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def drop_privileges(*, memory_bytes: int, threads: int) -> None:
    """No new privileges, core dumps or written files, no new processes, few open files, bounded address space."""
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


def detach_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Return (requests, answers) on the socket behind standard input, and point the standard streams to /dev/null.

    So nothing that a library prints can get into the answers.
    """
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(0), "wb")
    null_device = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null_device, descriptor)
    return requests, answers


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        libc: Any = ctypes.CDLL(None, use_errno=True)
        libc.prctl(option, value, 0, 0, 0)
