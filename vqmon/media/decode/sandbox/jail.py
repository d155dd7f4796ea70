"""The jail as a whole: each protection in its order, which of them are in force, and why others are not."""

import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Literal

from vqmon.media.decode.sandbox.kernel import PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, prctl
from vqmon.media.decode.sandbox.landlock import withdraw_files_and_ports
from vqmon.media.decode.sandbox.privileges import drop_capabilities, enter_namespaces, set_limits
from vqmon.media.decode.sandbox.seccomp import install_filter

Isolation = Literal["full", "best", "off"]
"""`full`: refuse to work without seccomp and Landlock. `best`: what the kernel has. `off`: resource limits alone."""

PROTECTIONS = ("limits", "no_new_privileges", "namespaces", "capabilities", "landlock", "seccomp")
"""Every protection, in the order in which they are put in force."""

_OPTIONAL = ("namespaces",)
"""Protections that a container or a unit may deny, and that seccomp and Landlock make good for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolationReport:
    """The protections that are in force, with a detail or "", and why the others are not."""

    in_force: Mapping[str, str]
    missing: Mapping[str, str]

    @property
    def is_full(self) -> bool:
        """Whether nothing is missing that `full` asks for."""
        return not set(self.missing) - set(_OPTIONAL)


def enter_jail(isolation: Isolation, *, memory_bytes: int, threads: int) -> IsolationReport:
    """Put every protection in force that the kernel has; nothing can be opened or undone afterwards.

    What the process needs must be imported and open by now, and it must have one thread. `memory_bytes` bounds its
    address space; `threads` above 1 lets it create threads.
    """
    os.environ.clear()
    protections: dict[str, Callable[[], object]] = {
        "limits": lambda: set_limits(memory_bytes=memory_bytes, threads=threads),
        "no_new_privileges": _forbid_new_privileges,
    }
    if isolation != "off":
        protections |= {
            "namespaces": enter_namespaces,
            "capabilities": drop_capabilities,
            "landlock": lambda: f"ABI {withdraw_files_and_ports()}",
            "seccomp": lambda: install_filter(allow_threads=threads > 1),
        }
    in_force: dict[str, str] = {}
    missing = dict.fromkeys(set(PROTECTIONS) - set(protections), "decode.isolation is off")
    for name, put_in_force in protections.items():
        if name == "capabilities":
            # entering a user namespace clears it
            _kill_when_parent_exits()
        try:
            in_force[name] = str(put_in_force() or "")
        except (OSError, AttributeError, KeyError) as error:
            missing[name] = getattr(error, "strerror", None) or str(error)
    if isolation == "off":
        _kill_when_parent_exits()
    return IsolationReport(in_force=in_force, missing=missing)


def stay_outside(reason: str) -> IsolationReport:
    """Put no protection in force; the process still ends with its parent."""
    _kill_when_parent_exits()
    return IsolationReport(in_force={}, missing=dict.fromkeys(PROTECTIONS, reason))


def detach_standard_streams() -> tuple[BinaryIO, BinaryIO]:
    """Return (requests, answers) on the socket behind standard input, and point the standard streams to /dev/null.

    So nothing that a library prints can get into the answers. Every other handle is closed, also that which
    `mmap.mmap` keeps of the shared memory.
    """
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(0), "wb")
    null_device = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null_device, descriptor)
    os.close(null_device)
    return requests, answers


def _forbid_new_privileges() -> None:
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_DUMPABLE, 0)


def _kill_when_parent_exits() -> None:
    """Ask the kernel for SIGKILL when the daemon exits; elsewhere than on Linux the worker ends at end of input."""
    with contextlib.suppress(OSError, AttributeError):
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
