"""The limits under which decoder processes run."""

import sys

import pytest

from tests.media.decode.rig import read_proc_file
from vqmon.media.decode.pool import DecodeLimits, DecoderPool


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are read from /proc")
async def test_workers_run_with_dropped_privileges() -> None:
    """No core dumps, no written files, few open files, bounded memory, no new privileges."""
    async with DecoderPool(1) as pool:
        pid = pool.idle_pids[0]
        limits, status = read_proc_file(pid, "limits"), read_proc_file(pid, "status")
    for name, value in (("core file size", "0"), ("file size", "0"), ("open files", "32"), ("processes", "0")):
        row = next(line for line in limits.splitlines() if f"Max {name}" in line)
        assert row.removeprefix(f"Max {name}").split()[:2] == [value, value]
    address_space = next(line for line in limits.splitlines() if "Max address space" in line).split()[3]
    assert int(address_space) == DecodeLimits().memory_bytes + DecodeLimits().max_view_bytes
    assert "NoNewPrivs:\t1" in status
