"""`python -m tests.fuzz [NAME ...]`: fuzzes each parser, and the decoder processes, for FUZZ_SECONDS each.

Findings are written to tests/fuzz/corpus/NAME; what is right for each goes into tests/fuzz/corpus/expected.json, from
which a test keeps it mended. The inputs that reach new code are kept in build/fuzz/NAME, where the next run goes on.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz.targets import TARGETS

_ROOT = Path(__file__).resolve().parents[2]
_CORPUS = _ROOT / "tests" / "fuzz" / "corpus"
_WORK = _ROOT / "build" / "fuzz"
_STATISTICS = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+)")


def main() -> int:
    """Fuzz what was named, or everything; returns 1 when something was found, 2 for an unknown name."""
    seconds = int(os.environ.get("FUZZ_SECONDS", "60"))
    every = [*TARGETS, "decoder"]
    names = sys.argv[1:] or every
    if unknown := [name for name in names if name not in every]:
        print(f"unknown target {', '.join(unknown)}; known: {', '.join(every)}", file=sys.stderr)
        return 2
    found = [name for name in names if not (_run_decoder(seconds) if name == "decoder" else _run(name, seconds))]
    if found:
        print(f"\nfindings: {', '.join(found)}; the files are in {_CORPUS.relative_to(_ROOT)}", file=sys.stderr)
    return int(bool(found))


def _run(name: str, seconds: int) -> bool:
    """Fuzz one parser; whether nothing was found."""
    work, findings = _WORK / name, _CORPUS / name
    work.mkdir(parents=True, exist_ok=True)
    findings.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds()):
        (work / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-max_len=65536",
        "-print_final_stats=1",
    ]
    command = [sys.executable, "-m", "tests.fuzz.guided", name, *options, f"-artifact_prefix={findings}/"]
    run = subprocess.run([*command, str(work), str(findings)], cwd=_ROOT, capture_output=True, text=True, check=False)
    statistics = _STATISTICS.findall(run.stderr)
    runs, edges = statistics[-1] if statistics else ("0", "0")
    print(
        f"{name:10} {int(runs):,} inputs, {int(edges):,} edges, {'FOUND' if run.returncode else 'nothing found'}",
        flush=True,
    )
    if run.returncode:
        print("\n".join(run.stderr.splitlines()[-25:]), flush=True)
    if not any(findings.iterdir()):
        findings.rmdir()
    return run.returncode == 0


def _run_decoder(seconds: int) -> bool:
    command = [
        sys.executable,
        "-m",
        "tests.fuzz.decoder",
        str(seconds),
        str(_CORPUS / "decoder"),
        str(int(time.time())),
    ]
    return subprocess.run(command, cwd=_ROOT, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
