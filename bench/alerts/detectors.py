"""False alarms, delays, flapping and cost of the alert rules, beside other detectors.

python -m bench.alerts.detectors [--full] [--only PART ...]

Parts: shapes (false alarms, delays and intervals on 19 shapes of series, beside a threshold, an EWMA and Page-Hinkley),
river (two detectors of river on the same shapes), cost, collapse, flapping, fleet, ladder (the noise of real scores),
week (a labelled week with that noise), repeats (content that is shown again). Everything is seeded; --full
takes 100 stream-days per shape.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence

from bench.alerts import false_alarms, labelled_week, noise, repeats, tables


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", nargs="*", default=[])
    chosen = parser.parse_args(arguments)
    parts: dict[str, Callable[[], bool]] = {
        "shapes": lambda: false_alarms.main(["--series", "50" if chosen.full else "10"]) == 0,
        "repeats": lambda: repeats.main(["--series", "50" if chosen.full else "3"]) == 0,
        "cost": tables.cost,
        "collapse": lambda: tables.collapse(series_days=20 if chosen.full else 1),
        "flapping": tables.flapping,
        "fleet": lambda: tables.fleet(weeks=4 if chosen.full else 1),
        "ladder": labelled_week.ladder,
        "week": lambda: labelled_week.week(streams=4 if chosen.full else 1),
        "river": noise.river,
    }
    if unknown := set(chosen.only) - set(parts):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; known: {', '.join(parts)}")
    good = True
    for name, part in parts.items():
        if chosen.only and name not in chosen.only:
            continue
        print(f"\n== {name}", flush=True)
        began = time.perf_counter()
        good &= part()
        print(f"   ({time.perf_counter() - began:.0f} s)", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
