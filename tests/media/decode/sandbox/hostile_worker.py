"""A decoder process that runs the Python text which it gets as media: what an attacker can do who has taken it over.

Started in the place of `vqmon.media.decode.worker`. The text may call the C library as `libc`, and answer by itself
through `answers` with `request_id`. Media that does not begin with `#!python` is decoded.
"""

import ctypes
import errno
import mmap
import os
import resource
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from vqmon.errors import DecodeError
from vqmon.media.decode import protocol, worker

MARK = b"#!python\n"

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
libc.mmap.restype = ctypes.c_void_p
libc.shmat.restype = ctypes.c_void_p

_scope: dict[str, Any] = {
    "ctypes": ctypes, "errno": errno, "libc": libc, "mmap": mmap, "os": os, "protocol": protocol, "resource": resource,
    "signal": signal, "socket": socket, "struct": struct, "subprocess": subprocess, "threading": threading,
}  # fmt: skip
_decode_segment = worker.decode_segment
_detach_standard_streams = worker.detach_standard_streams
_unpack_header = worker.unpack_header


def call(name: str, *arguments: object) -> int:
    """Call the C library; raises OSError when it reports an error."""
    ctypes.set_errno(0)
    result = getattr(libc, name)(*arguments)
    if result in (-1, 2**64 - 1):
        raise OSError(ctypes.get_errno(), name)
    return int(result or 0)


def _run_text(media: bytes, *arguments: Any, **options: Any) -> Any:
    if not media.startswith(MARK):
        return _decode_segment(media, *arguments, **options)
    try:
        exec(media.decode(), {**_scope, "call": call})
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, type(error).__name__)
        raise DecodeError("corrupt", f"OSError {name}") from error
    except BaseException as error:
        raise DecodeError("corrupt", f"{type(error).__name__} {error}") from error
    raise DecodeError("corrupt", "done")


def _remember_streams() -> Any:
    streams = _detach_standard_streams()
    _scope["answers"] = streams[1]
    return streams


def _remember_request(header: bytes, *, max_raw_bytes: int) -> tuple[int, int, int]:
    unpacked = _unpack_header(header, max_raw_bytes=max_raw_bytes)
    _scope["request_id"] = unpacked[0]
    return unpacked


def run(prepare: Callable[[], None] = lambda: None) -> None:
    """Run the worker with its decoder replaced, after `prepare`."""
    worker.decode_segment = _run_text
    worker.detach_standard_streams = _remember_streams
    worker.unpack_header = _remember_request
    prepare()
    worker.main()


if __name__ == "__main__":
    run()
