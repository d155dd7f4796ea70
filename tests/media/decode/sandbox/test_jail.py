"""Escapes from a decoder process: each fails in the jail and would succeed outside of it."""

import platform
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.media.decode.rig import SMALL, moving_clip, read_proc_file
from tests.media.decode.sandbox import attempts
from tests.media.decode.sandbox.hostile_worker import MARK
from vqmon.errors import SettingsError
from vqmon.media.decode import process
from vqmon.media.decode.pool import DecodeLimits, DecoderPool
from vqmon.media.decode.process import DecoderProcess
from vqmon.media.decode.protocol import DecodeRequest
from vqmon.media.decode.sandbox.jail import Isolation
from vqmon.media.decode.sandbox.landlock import landlock_abi

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the jail is one of Linux")

REFUSED = {"OSError EPERM", "OSError EACCES", "OSError ENOSYS"}
WORKERS = "tests.media.decode.sandbox."


def kernel_has_landlock() -> bool:
    try:
        return landlock_abi() > 0
    except OSError:
        return False


needs_landlock = pytest.mark.skipif(not kernel_has_landlock(), reason="the kernel has no Landlock")


async def outcomes(
    programs: Mapping[str, str], folder: Path, *, isolation: Isolation, threads: int = 1
) -> dict[str, str]:
    """What became of each attempt in one decoder process."""
    (folder / "history").write_bytes(b"outcomes")
    limits = DecodeLimits(threads=threads)
    request = DecodeRequest(views=(), limits=limits)
    worker = await DecoderProcess.start(limits, isolation=isolation)
    results = {}
    try:
        await worker.receive_facts()
        for name, program in programs.items():
            text = MARK + program.replace("FOLDER", str(folder)).encode()
            content, _ = await worker.request_decode(text, request)
            assert isinstance(content, dict)
            results[name] = content["detail"]
    finally:
        worker.kill()
        await worker.wait_for_exit()
    return results


@needs_landlock
@pytest.mark.parametrize("module", ["hostile_worker", "hostile_worker_of_a_user"])
@pytest.mark.parametrize("threads", [1, 2])
async def test_no_attempt_gets_out(module: str, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither as root nor as another user; the worker still answers after all of them."""
    monkeypatch.setattr(process, "_WORKER_MODULE", WORKERS + module)
    programs = attempts.ALL
    if platform.machine() != "x86_64":
        programs = {name: program for name, program in programs.items() if name not in attempts.X86_64}
    results = await outcomes({**programs, "harmless": "pass"}, tmp_path, isolation="full", threads=threads)

    assert results.pop("harmless") == "done"
    assert {name: result for name, result in results.items() if result not in REFUSED} == {}
    assert (tmp_path / "history").read_bytes() == b"outcomes"


async def test_each_attempt_is_let_through_outside_of_the_jail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the test before can fail."""
    monkeypatch.setattr(process, "_WORKER_MODULE", f"{WORKERS}hostile_worker")
    results = await outcomes(attempts.LET_THROUGH_OUTSIDE, tmp_path, isolation="off", threads=2)

    assert {name: result for name, result in results.items() if result in REFUSED} == {}


@needs_landlock
async def test_a_thread_is_created_only_where_the_decoder_uses_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`decode.threads` of the limits above 1."""
    monkeypatch.setattr(process, "_WORKER_MODULE", f"{WORKERS}hostile_worker")
    program = {"thread": "thread = threading.Thread(target=int); thread.start(); thread.join()"}

    assert await outcomes(program, tmp_path, isolation="full", threads=2) == {"thread": "done"}
    alone = await outcomes(program, tmp_path, isolation="full")
    assert alone["thread"].startswith("RuntimeError can't start new thread")


@needs_landlock
async def test_a_worker_works_with_nothing_but_its_socket() -> None:
    """No capability, no new privilege, no handle but the socket and /dev/null, no environment, bounded resources."""
    async with DecoderPool(1, isolation="full") as pool:
        assert set(pool.isolation.missing) <= {"namespaces"}
        assert {"limits", "no_new_privileges", "capabilities", "landlock", "seccomp"} <= set(pool.isolation.in_force)
        assert len((await pool.decode(moving_clip(), views=[SMALL], thumbnail_width=64)).thumbnails) == 3
        pid = pool.idle_pids[0]
        limits, status = read_proc_file(pid, "limits"), read_proc_file(pid, "status")
    for name, value in (("core file size", "0"), ("file size", "0"), ("open files", "32"), ("processes", "0")):
        row = next(line for line in limits.splitlines() if f"Max {name}" in line)
        assert row.removeprefix(f"Max {name}").split()[:2] == [value, value]
    address_space = next(line for line in limits.splitlines() if "Max address space" in line).split()[3]
    assert int(address_space) == DecodeLimits().memory_bytes + DecodeLimits().max_view_bytes
    for line in ("NoNewPrivs:\t1", "Seccomp:\t2", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000"):
        assert line in status


async def test_handles_and_environment_of_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the three standard ones only the socket, twice; no variable is left."""
    monkeypatch.setattr(process, "_WORKER_MODULE", f"{WORKERS}hostile_worker")
    programs = {
        "handles": "are_sockets = []\n"
        "for handle in range(3, 32):\n"
        "    try: are_sockets.append(os.fstat(handle).st_mode & 0o170000 == 0o140000)\n"
        "    except OSError: pass\n"
        "raise ValueError(are_sockets)",
        "variables": "raise ValueError(dict(os.environ), libc.getenv(b'PATH'))",
    }
    results = await outcomes(programs, tmp_path, isolation="off")

    assert results == {"handles": "ValueError [True, True]", "variables": "ValueError ({}, 0)"}


async def test_full_isolation_refuses_to_start_without_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the setting, what is missing, and what to do; `best` goes on and says what is missing."""
    monkeypatch.setattr(process, "_WORKER_MODULE", f"{WORKERS}worker_without_landlock")
    with pytest.raises(SettingsError, match=r'decode.isolation: "full" .*landlock: Function not .*"best"'):
        async with DecoderPool(1, isolation="full"):
            pass
    async with DecoderPool(1) as pool:
        assert pool.isolation.missing["landlock"] == "Function not implemented"
        assert "seccomp" in pool.isolation.in_force
        assert len((await pool.decode(moving_clip(), views=[SMALL])).times_seconds) == 3


@needs_landlock
@pytest.mark.fixtures
@pytest.mark.slow
async def test_every_fixture_has_the_same_verdict_in_the_jail(shared: Path) -> None:
    """Views, signals, thumbnails and facts to the last bit, or the same reason."""
    clips = [path for folder in ("clips", "faults") for path in sorted((shared / folder).iterdir())]
    streams = sorted((shared / "streams").rglob("*.ts"))[:4]
    verdicts: dict[Isolation, list[str]] = {"full": [], "off": []}
    for isolation, found in verdicts.items():
        limits = DecodeLimits(deadline_seconds=120)
        async with DecoderPool(2, isolation=isolation, limits=limits) as pool:
            for path in (*clips, *streams):
                found.append(await verdict(pool, path.read_bytes()))
        assert "crashed" not in pool.replacements

    assert verdicts["full"] == verdicts["off"]
    assert len(set(verdicts["full"])) > 20


async def verdict(pool: DecoderPool, media: bytes) -> str:
    """Everything that a decode gives, as text."""
    try:
        decoded = await pool.decode(media, views=[SMALL], thumbnail_width=64)
    except Exception as error:
        return repr(error)
    views = {view: hash(pixels.tobytes()) for view, pixels in decoded.views.items()}
    return repr((views, decoded.times_seconds, decoded.signals, hash(decoded.thumbnails), decoded.media, decoded.edges))
