"""Landlock: no file is opened, no TCP port used and no other process signalled; see landlock(7)."""

import ctypes
import os

from vqmon.media.decode.sandbox.kernel import count_threads, system_call

# the same numbers on every architecture
_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_CREATE_RULESET_VERSION = 1

_FILE_RIGHTS = ((5, (1 << 16) - 1), (3, (1 << 15) - 1), (2, (1 << 14) - 1), (1, (1 << 13) - 1))
"""(first ABI, rights that it can withdraw): ABI 2 adds moving files, 3 truncation, 5 the ioctls of devices."""
_TCP_ABI, _TCP_BIND_AND_CONNECT = 4, 0b11
_SCOPE_ABI, _ABSTRACT_SOCKETS_AND_SIGNALS = 6, 0b11


class _RulesetAttributes(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


def landlock_abi() -> int:
    """The kernel's version of the Landlock interface, at least 1; raises OSError where there is none."""
    return system_call(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)


def withdraw_files_and_ports() -> int:
    """Withdraw from this process every right that Landlock can, for good; returns the ABI. Raises OSError.

    The process must have set no-new-privileges, and have one thread: threads that run already would keep their rights.
    """
    if (threads := count_threads()) != 1:
        raise OSError(f"{threads} threads run already")
    abi = landlock_abi()
    attributes = _RulesetAttributes(
        handled_access_fs=next(rights for first_abi, rights in _FILE_RIGHTS if abi >= first_abi),
        handled_access_net=_TCP_BIND_AND_CONNECT if abi >= _TCP_ABI else 0,
        scoped=_ABSTRACT_SOCKETS_AND_SIGNALS if abi >= _SCOPE_ABI else 0,
    )
    size = 24 if abi >= _SCOPE_ABI else 16 if abi >= _TCP_ABI else 8
    ruleset = system_call(_CREATE_RULESET, ctypes.byref(attributes), size, 0)
    try:
        # a ruleset without a rule allows nothing
        system_call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return abi
