"""The filter of system calls, run by a small interpreter of classic BPF for both instruction sets."""

import errno
import struct
from collections.abc import Sequence

import pytest

from vqmon.media.decode.sandbox.seccomp import Instruction, assemble_filter

ALLOWED, KILLED = 0x7FFF0000, 0x80000000
REFUSED, MISSING = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
PID = 4711

# asm/unistd_64.h, and asm-generic/unistd.h
NUMBERS = {
    "x86_64": {
        "read": 0, "write": 1, "open": 2, "mmap": 9, "mprotect": 10, "ioctl": 16, "socket": 41, "connect": 42,
        "sendmsg": 46, "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "kill": 62, "fcntl": 72, "rename": 82,
        "unlink": 87, "ptrace": 101, "prctl": 157, "tkill": 200, "futex": 202, "exit_group": 231, "tgkill": 234,
        "openat": 257, "unshare": 272, "prlimit64": 302, "process_vm_readv": 310, "seccomp": 317, "memfd_create": 319,
        "bpf": 321, "execveat": 322, "pidfd_send_signal": 424, "io_uring_setup": 425, "clone3": 435, "openat2": 437,
    },
    "aarch64": {
        "fcntl": 25, "ioctl": 29, "unlinkat": 35, "renameat": 38, "openat": 56, "read": 63, "write": 64,
        "exit_group": 94, "unshare": 97, "futex": 98, "ptrace": 117, "kill": 129, "tkill": 130, "tgkill": 131,
        "prctl": 167, "socket": 198, "connect": 203, "sendmsg": 211, "clone": 220, "execve": 221, "mmap": 222,
        "mprotect": 226, "prlimit64": 261, "process_vm_readv": 270, "seccomp": 277, "memfd_create": 279, "bpf": 280,
        "execveat": 281, "pidfd_send_signal": 424, "io_uring_setup": 425, "clone3": 435, "openat2": 437,
    },
}  # fmt: skip
NEEDED = ("read", "write", "futex", "exit_group")
THREAD = 0x3D0F00


def verdict(program: Sequence[Instruction], audit: int, number: int, *arguments: int) -> int:
    """What the kernel would return for a system call; the words of its data are little-endian."""
    padded = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, audit, 0, *padded)
    accumulator, position = 0, 0
    while True:
        code, jump_true, jump_false, operand = program[position]
        position += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, operand)
            case 0x15:
                position += jump_true if accumulator == operand else jump_false
            case 0x45:
                position += jump_true if accumulator & operand else jump_false
            case 0x06:
                return operand
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")


@pytest.fixture(params=["x86_64", "aarch64"])
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def call(machine: str, name: str, *arguments: int, allow_threads: bool = False) -> int:
    program = assemble_filter(machine, pid=PID, allow_threads=allow_threads)
    return verdict(program, AUDIT[machine], NUMBERS[machine][name], *arguments)


def test_what_decoding_needs_is_allowed_and_all_else_refused(machine: str) -> None:
    """Calls with conditions are below."""
    conditional = {"mmap", "mprotect", "tgkill", "clone", "clone3"}
    for name in set(NUMBERS[machine]) - conditional:
        assert call(machine, name) == (ALLOWED if name in NEEDED else REFUSED), name


def test_no_number_beyond_the_list_is_allowed(machine: str) -> None:
    """Nor one of the kernel's other tables, such as x32."""
    program = assemble_filter(machine, pid=PID, allow_threads=True)
    # tgkill and clone without the right arguments are refused, mmap and mprotect allowed
    allowed = [number for number in range(600) if verdict(program, AUDIT[machine], number) == ALLOWED]
    assert len(allowed) <= 36
    for number in (*range(600, 2000), *(0x40000000 + number for number in allowed), 0xFFFFFFFF):
        assert verdict(program, AUDIT[machine], number) == REFUSED, number


@pytest.mark.parametrize("audit", [0x40000003, 0xC00000F3, 0])
def test_a_call_by_another_convention_kills_the_process(machine: str, audit: int) -> None:
    """A 32-bit call on a 64-bit kernel has other numbers for the same calls."""
    program = assemble_filter(machine, pid=PID, allow_threads=False)
    assert verdict(program, audit, NUMBERS[machine]["read"]) == KILLED


@pytest.mark.parametrize("name", ["mmap", "mprotect"])
def test_memory_never_becomes_executable(machine: str, name: str) -> None:
    """PROT_EXEC is 4."""
    assert call(machine, name, 0, 4096, 3) == ALLOWED
    for protection in (4, 5, 7, 4 | 1 << 40):
        assert call(machine, name, 0, 4096, protection) == REFUSED


def test_signals_reach_this_process_alone(machine: str) -> None:
    """abort(3) sends one to itself."""
    assert call(machine, "tgkill", PID, PID, 6) == ALLOWED
    assert call(machine, "tgkill", PID + 1, PID, 9) == REFUSED
    assert call(machine, "tgkill", 0, 0, 9) == REFUSED


def test_threads_are_created_where_allowed_and_never_processes(machine: str) -> None:
    """clone3 is reported as missing, so that the C library falls back to clone."""
    assert call(machine, "clone", THREAD) == REFUSED
    assert call(machine, "clone", THREAD, allow_threads=True) == ALLOWED
    assert call(machine, "clone", THREAD | 0x400000, allow_threads=True) == ALLOWED
    for flags in (0, 17, 0x4111, THREAD & ~0x10000, THREAD | 0x10000000, THREAD | 0x40000000):
        assert call(machine, "clone", flags, allow_threads=True) == REFUSED, hex(flags)
    assert call(machine, "clone3", allow_threads=True) == MISSING


def test_every_jump_stays_within_the_program(machine: str) -> None:
    """The kernel refuses a program whose jumps leave it or that does not end with a return."""
    program = assemble_filter(machine, pid=PID, allow_threads=True)
    assert program[-1][0] == 0x06
    for position, (code, jump_true, jump_false, _) in enumerate(program):
        if code in (0x15, 0x45):
            assert position + 1 + max(jump_true, jump_false) < len(program)
    assert len(program) <= 4096
