"""`python -m bench [NAME ...]` runs the named benches one after the other, or all of them."""

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]

BENCHES = {
    "decode": "bench.decode",
    "experiments": "bench.experiments.error_rates",
    "experiment-shapes": "bench.experiments.shapes",
    "detectors": "bench.alerts.detectors",
    "groups": "bench.alerts.group_rules",
    "lite": "bench.scoring.lite",
    "mixed": "bench.scoring.mixed",
    "owl": "bench.scoring.owl",
    "references": "bench.scoring.references",
    "rich": "bench.scoring.features",
    "scoring": "bench.scoring.scoring",
    "kafka": "bench.serving.kafka",
    "low-latency": "bench.serving.low_latency",
    "notify": "bench.serving.notify",
    "short-streams": "bench.serving.short_streams",
    "store": "bench.serving.history",
    "telemetry": "bench.serving.telemetry",
    "web": "bench.serving.web",
}
"""Name of a bench -> its module."""


def main() -> int:
    """Run the named benches; returns 1 when one of them failed, 2 for an unknown name."""
    names = sys.argv[1:] or sorted(BENCHES)
    if unknown := [name for name in names if name not in BENCHES]:
        print(f"unknown bench {', '.join(unknown)}; known: {', '.join(sorted(BENCHES))}", file=sys.stderr)
        return 2
    failed = []
    for name in names:
        print(f"\n=== {name} ===", flush=True)
        if subprocess.run([sys.executable, "-m", BENCHES[name]], cwd=_ROOT, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
