"""Namespaces of its own, no capabilities and resource limits for a decoder process."""

import ctypes
import resource
from collections.abc import Mapping

from vqmon.media.decode.sandbox.kernel import architecture, system_call, unshare

_CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWNET = 0x08000000, 0x10000000, 0x40000000
_CAPGET = {"x86_64": 125, "aarch64": 90}
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522
_OPEN_FILES = 32


def enter_namespaces() -> str:
    """Move this process, of one thread, into namespaces of its own; returns which. Raises OSError where not allowed.

    In its user namespace it has no user id, and its network namespace holds nothing but a loopback that is down. Root
    may be denied a user namespace and have the others.
    """
    try:
        unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC)
    except OSError:
        unshare(_CLONE_NEWNET | _CLONE_NEWIPC)
        return "network, IPC"
    return "user, network, IPC"


def drop_capabilities() -> None:
    """Give up every capability, which only root and the creator of a user namespace has; raises OSError."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    # effective, permitted and inheritable, of the low and of the high capabilities
    sets = (ctypes.c_uint32 * 6)()
    system_call(_CAPGET[architecture()], header, sets)
    # a unit may refuse capset to who has none
    if any(sets):
        ctypes.memset(sets, 0, ctypes.sizeof(sets))
        system_call(_CAPSET[architecture()], header, sets)


def set_limits(*, memory_bytes: int, threads: int) -> None:
    """No core dumps or written files, few open files, bounded address space, no new processes; raises OSError."""
    limits: Mapping[int, int] = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
        **({resource.RLIMIT_NPROC: 0} if threads == 1 else {}),
    }
    refused = []
    for name, value in limits.items():
        _, hard = resource.getrlimit(name)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(name, (bound, bound))
        except (ValueError, OSError) as error:
            refused.append(str(error))
    if refused:
        raise OSError(", ".join(refused))
