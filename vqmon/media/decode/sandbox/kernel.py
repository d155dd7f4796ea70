"""Calls to the Linux kernel that Python has no function for."""

import ctypes
import os
import platform
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38


def architecture() -> str:
    """The machine's instruction set as the kernel names it, such as `x86_64` or `aarch64`."""
    return platform.machine()


def prctl(option: int, value: int) -> None:
    """prctl(2) with one argument; raises OSError."""
    _check(_libc().prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)))


def unshare(flags: int) -> None:
    """unshare(2); raises OSError."""
    _check(_libc().unshare(flags))


def system_call(number: int, *arguments: object) -> int:
    """A system call by its number; integers are passed as 64 bits. Raises OSError."""
    words = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    return _check(_libc().syscall(ctypes.c_long(number), *words))


def count_threads() -> int:
    """Threads of this process; raises OSError where /proc is missing."""
    return len(os.listdir("/proc/self/task"))


def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
