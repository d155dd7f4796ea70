"""A seccomp filter: the system calls that decoding needs, and no others; see seccomp(2).

The filter is a program of classic BPF over `struct seccomp_data`: number, architecture, instruction pointer, six
arguments of 64 bits. Decoding reads requests from a socket that is open, writes answers to it, and uses memory; so no
call is allowed that opens, connects, executes, creates a process, or reaches another process.
"""

import ctypes
import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vqmon.media.decode.sandbox.kernel import architecture, system_call

Instruction = tuple[int, int, int, int]
"""`struct sock_filter`: code, jump if true, jump if false, operand."""

# BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_JMP|JSET|K, BPF_RET|K
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET, _ARGUMENTS_OFFSET = 0, 4, 16
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_PROT_EXEC = 0x4
_THREAD_FLAGS = 0x7D0F00
"""The flags with which glibc (0x3d0f00) and musl create a thread; a process or a namespace needs others."""
_CLONE_THREAD = 0x10000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    """What differs between instruction sets: the audit number, seccomp's own number and those of the calls."""

    audit_architecture: int
    seccomp: int
    mmap: int
    mprotect: int
    tgkill: int
    clone: int
    allowed: Mapping[str, int]


_CLONE3 = 435

_MACHINES = {
    "x86_64": _Machine(
        audit_architecture=0xC000003E,
        seccomp=317,
        mmap=9,
        mprotect=10,
        tgkill=234,
        clone=56,
        allowed={
            "read": 0, "write": 1, "close": 3, "fstat": 5, "lseek": 8, "munmap": 11, "brk": 12, "rt_sigaction": 13,
            "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24, "mremap": 25, "madvise": 28, "nanosleep": 35,
            "getpid": 39, "exit": 60, "gettimeofday": 96, "getrusage": 98, "sysinfo": 99, "sigaltstack": 131,
            "gettid": 186, "time": 201, "futex": 202, "sched_getaffinity": 204, "restart_syscall": 219,
            "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231,
            "set_robust_list": 273, "getcpu": 309, "getrandom": 318, "rseq": 334,
        },
    ),
    "aarch64": _Machine(
        audit_architecture=0xC00000B7,
        seccomp=277,
        mmap=222,
        mprotect=226,
        tgkill=131,
        clone=220,
        allowed={
            "close": 57, "lseek": 62, "read": 63, "write": 64, "fstat": 80, "exit": 93, "exit_group": 94, "futex": 98,
            "set_robust_list": 99, "nanosleep": 101, "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115,
            "sched_getaffinity": 123, "sched_yield": 124, "restart_syscall": 128, "sigaltstack": 132,
            "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "getrusage": 165, "getcpu": 168,
            "gettimeofday": 169, "getpid": 172, "gettid": 178, "sysinfo": 179, "brk": 214, "munmap": 215,
            "mremap": 216, "madvise": 233, "getrandom": 278, "rseq": 293,
        },
    ),
}  # fmt: skip


def install_filter(*, allow_threads: bool) -> None:
    """Allow this process, for good, the system calls of decoding alone; raises OSError.

    A refused call fails with EPERM. Memory never becomes executable, and signals reach this process only. The process
    must have set no-new-privileges.
    """
    machine = _MACHINES.get(architecture())
    if machine is None:
        raise OSError(f"no list of system calls for {architecture()}")
    program = assemble_filter(architecture(), pid=os.getpid(), allow_threads=allow_threads)
    instructions = (_SockFilter * len(program))(*(_SockFilter(*instruction) for instruction in program))
    filter_program = _SockFprog(len(program), instructions)
    thread_id = system_call(machine.seccomp, _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(filter_program))
    if thread_id:
        raise OSError(f"thread {thread_id} has a filter of its own")


def assemble_filter(instruction_set: str, *, pid: int, allow_threads: bool) -> Sequence[Instruction]:
    """The program for `x86_64` or `aarch64`, for a process that may send signals to `pid`, itself."""
    machine = _MACHINES[instruction_set]
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE_OFFSET),
        *_unless_equal(machine.audit_architecture, [(_RETURN, 0, 0, _KILL_PROCESS)]),
        (_LOAD, 0, 0, _NUMBER_OFFSET),
    ]
    for number in machine.allowed.values():
        program += _when_equal(number, [(_RETURN, 0, 0, _ALLOW)])
    for number in (machine.mmap, machine.mprotect):
        program += _when_equal(number, _allow_without_bits(argument=2, bits=_PROT_EXEC))
    program += _when_equal(machine.tgkill, _allow_value(argument=0, value=pid))
    if allow_threads:
        program += _when_equal(machine.clone, _allow_new_thread())
    # glibc falls back from clone3, whose flags a filter cannot read, to clone
    program += _when_equal(_CLONE3, [_error(errno.ENOSYS)])
    program.append(_error(errno.EPERM))
    return program


class _SockFilter(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _SockFprog(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.POINTER(_SockFilter)))


def _when_equal(value: int, then: Sequence[Instruction]) -> list[Instruction]:
    """Run `then`, which must return, when the loaded word has a value."""
    return [(_JUMP_IF_EQUAL, 0, len(then), value), *then]


def _unless_equal(value: int, then: Sequence[Instruction]) -> list[Instruction]:
    return [(_JUMP_IF_EQUAL, len(then), 0, value), *then]


def _allow_without_bits(*, argument: int, bits: int) -> list[Instruction]:
    """Allow when none of these bits is set in the low word of an argument, else EPERM."""
    load = (_LOAD, 0, 0, _ARGUMENTS_OFFSET + 8 * argument)
    return [load, (_JUMP_IF_ANY_BIT, 0, 1, bits), _error(errno.EPERM), (_RETURN, 0, 0, _ALLOW)]


def _allow_value(*, argument: int, value: int) -> list[Instruction]:
    """Allow when the low word of an argument has a value; the kernel reads a process id as 32 bits."""
    load = (_LOAD, 0, 0, _ARGUMENTS_OFFSET + 8 * argument)
    return [load, *_when_equal(value, [(_RETURN, 0, 0, _ALLOW)]), _error(errno.EPERM)]


def _allow_new_thread() -> list[Instruction]:
    return [
        (_LOAD, 0, 0, _ARGUMENTS_OFFSET),
        (_JUMP_IF_ANY_BIT, 2, 0, ~_THREAD_FLAGS & 0xFFFFFFFF),
        (_JUMP_IF_ANY_BIT, 0, 1, _CLONE_THREAD),
        (_RETURN, 0, 0, _ALLOW),
        _error(errno.EPERM),
    ]


def _error(number: int) -> Instruction:
    return (_RETURN, 0, 0, _ERRNO | number)
