"""How fast the pages are in a real browser: 500 streams in two renditions each, a week of history, real `vqmon web`.

`python -m bench.serving.web [--streams 500] [--every-seconds 300] [--visits 5]`. Every rendition has its newest 20
segments whole, written as the daemon writes them; the week before is rows of outcomes and minutes, one segment every
`--every-seconds`, and one stream has every 4-second segment of the week. What is read for a page does not depend on how
many segments lie between. Each visit is a new browser context with an empty cache; times are medians of the visits,
the slowest in brackets. Live is the time from the end of the write until the new value can be seen in the page.
"""

import argparse
import json
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from tests.ports import free_port
from tests.web import seed
from tests.web.test_browser import FLAGS, WEIGHT
from vqmon.core.types import QualityEvent
from vqmon.transport.history.history import History, open_history

WHOLE = 20
"""Segments of each rendition that are written whole."""

WEEK = timedelta(days=7)
RENDITIONS = ("1080p", "480p")
EXPERIMENTS = """
[experiments.ladder]
control = "480p"
question = "What does 1080p gain?"
[experiments.ladder.arms.480p]
rendition = "480p"
[experiments.ladder.arms.1080p]
rendition = "1080p"
"""
PAINT = """() => {
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  const [navigation] = performance.getEntriesByType("navigation");
  return [paint ? paint.startTime : -1, navigation.responseEnd - navigation.requestStart];
}"""

# Rows of the week before: copies of each rendition's oldest whole one, set back in time.
_OUTCOMES = """
WITH RECURSIVE back(step) AS (SELECT 1 UNION ALL SELECT step + 1 FROM back WHERE step < :steps)
INSERT INTO outcome SELECT (SELECT max(number) FROM outcome) + row_number() OVER (), randomblob(16), o.rendition_id,
  o.starts_at - step * :apart, o.observed_at - step * :apart, o.duration_seconds, NULL, o.score, o.layout_id, o.measures
FROM back, outcome o WHERE o.number IN (SELECT min(number) FROM outcome GROUP BY rendition_id)
  AND (:rendition_id IS NULL OR o.rendition_id = :rendition_id)
"""
_ROLLUPS = """
INSERT OR IGNORE INTO rollup SELECT rendition_id, starts_at - starts_at % 60000000, (SELECT min(scorer_id) FROM scorer),
  count(*), 0, sum(score), min(score), sum(score) FROM outcome WHERE score IS NOT NULL GROUP BY 1, 2
"""


def fill(path: Path, *, streams: int, every_seconds: int, now: datetime) -> int:
    """Write the history; how many outcomes it has."""
    with open_history(path, "write") as history:
        for number in range(streams):
            events = [_event(number, name, index, now=now) for index in reversed(range(WHOLE)) for name in RENDITIONS]
            pictures = {
                event.id: [(float(at), seed.picture((number + at) % 32)) for at in range(4)] for event in events[-4:]
            }
            alerts = []
            if number % 50 == 0:
                alerts = [_alert(events[-1])]
            history.publish(events, alerts=alerts, thumbnails=pictures)
        history.maintenance.roll_up()
        history.maintenance.checkpoint()
    return _add_week(path, every_seconds)


def _event(number: int, name: str, index: int, *, now: datetime) -> QualityEvent:
    level = 50 + (number * 37 % 40) + (4 if name == "1080p" else 0)
    return seed.quality_event(seed.segment(f"channel-{number:03}", name, index, end=now), level + (index * 7 % 5))


def _alert(event: QualityEvent):  # type: ignore[no-untyped-def]
    began_at = event.segment.starts_at
    return seed.alert(event, rule="score-floor", severity="ticket", began_at=began_at, resolved_at=None)


def _add_week(path: Path, every_seconds: int) -> int:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    dense = [row[0] for row in connection.execute("SELECT rendition_id FROM rendition WHERE stream_id = 'channel-000'")]
    for rendition_id, seconds in ((None, every_seconds), *((number, 4) for number in dense)):
        values = {"steps": int(WEEK.total_seconds() / seconds), "apart": seconds * 1_000_000}
        connection.execute(_OUTCOMES, {**values, "rendition_id": rendition_id})
    connection.execute(_ROLLUPS)
    connection.execute("UPDATE tip SET number = (SELECT max(number) FROM outcome) + 1")
    connection.execute("UPDATE rolled SET number = (SELECT max(number) FROM outcome)")
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    count = connection.execute("SELECT count(*) FROM outcome").fetchone()[0]
    connection.close()
    return int(count)


@contextmanager
def serving(folder: Path, history: Path) -> Iterator[str]:
    """The real command on a free port."""
    port = free_port()
    (folder / "experiments.toml").write_text(EXPERIMENTS)
    (folder / "vqmon.toml").write_text('[experiments]\npath = "experiments.toml"\n[web]\nallow_votes = true\n')
    command = [sys.executable, "-m", "vqmon", "--config", str(folder / "vqmon.toml"), "web"]
    server = subprocess.Popen([*command, "--history", str(history), "--port", str(port)])
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                httpx.get(f"{url}/healthz", timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.05)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=10)


@dataclass
class Visits:
    """What several first visits of one page took."""

    paints: list[float]
    answers: list[float]
    weight: int
    complaints: list[str]


def visit(browser: Browser, url: str, path: str, *, count: int) -> Visits:
    """Open a page with nothing in the cache, several times."""
    visits = Visits(paints=[], answers=[], weight=0, complaints=[])
    for _ in range(count):
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.on("console", lambda message: visits.complaints.append(message.text) if message.type == "error" else None)
        page.on(
            "request", lambda request: None if request.url.startswith(url) else visits.complaints.append(request.url)
        )
        page.goto(url + path)
        page.wait_for_load_state("load")
        page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length > 0")
        paint, answer = page.evaluate(PAINT)
        visits.paints.append(paint)
        visits.answers.append(answer)
        visits.weight = max(visits.weight, page.evaluate(WEIGHT))
        context.close()
    return visits


def live(page: Page, history: History, selector: str, *, count: int, after: int, now: datetime) -> list[float]:
    """Milliseconds from the end of a write until the page shows it."""
    page.wait_for_selector("#link-state[data-state=live]")
    times = []
    for number in range(after, after + count):
        time.sleep(1.5)
        value = 2.25 + number
        event = seed.quality_event(seed.segment("channel-001", "480p", -1 - number, end=now), value)
        history.publish([event])
        began = time.perf_counter()
        shown = f"{event.scores[0].value:.1f}"
        page.locator(selector, has_text=shown).first.wait_for(state="attached", timeout=20_000)
        times.append(1000 * (time.perf_counter() - began))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--every-seconds", type=int, default=300)
    parser.add_argument("--visits", type=int, default=5)
    asked = parser.parse_args()
    now = datetime.now(UTC).replace(microsecond=0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        began = time.perf_counter()
        count = fill(folder / "vqmon.db", streams=asked.streams, every_seconds=asked.every_seconds, now=now)
        size = (folder / "vqmon.db").stat().st_size
        print(
            f"{asked.streams} streams, {asked.streams * len(RENDITIONS)} renditions, a week: {count:,} outcomes, "
            f"{size / 1e6:.0f} MB, made in {time.perf_counter() - began:.0f} s"
        )
        with serving(folder, folder / "vqmon.db") as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            _first_visits(browser, url, folder / "vqmon.db", count=asked.visits)
            _live_updates(browser, url, folder / "vqmon.db", count=asked.visits, now=now)
            browser.close()


def _first_visits(browser: Browser, url: str, path: Path, *, count: int) -> None:
    event_id = httpx.get(f"{url}/api/v1/renditions?limit=1").json()["items"][0]["last_event_id"]
    alert_id = httpx.get(f"{url}/api/v1/alerts?limit=1").json()["items"][0]["id"]
    pages = {
        "fleet by stream": "/",
        "fleet by rendition": "/?by=rendition",
        "fleet filtered, sorted": "/?by=rendition&q=channel-1&sort=score",
        "stream, last hour": "/streams/channel-001",
        "stream, 7 days of 4 s": "/streams/channel-000?last=7d",
        "segment": f"/segments/{event_id}",
        "alerts": "/alerts",
        "alert": f"/alerts/{alert_id}",
        "compare, last hour": "/compare?a=channel-000/1080p&b=channel-001/480p",
        "compare, 7 days": "/compare?a=channel-000/1080p&b=channel-000/480p&last=7d",
        "experiments": "/experiments",
        "experiment, worked out": "/experiments/ladder",
    }
    # While the answer is being worked out the page must be there as fast.
    early = visit(browser, url, "/experiments/ladder", count=1)
    began = time.perf_counter()
    while httpx.get(f"{url}/api/v1/experiments/ladder", timeout=60).json()["comparison"] is None:
        time.sleep(0.2)
    print(f"experiment of {len(RENDITIONS)} arms worked out in {time.perf_counter() - began:.1f} s (in the background)")
    print(f"{'page':26} {'first paint, ms':>18} {'answer, ms':>14} {'kB sent':>9}")
    _line("experiment, not yet", early)
    for name, address in pages.items():
        _line(name, visit(browser, url, address, count=count))


def _line(name: str, visits: Visits) -> None:
    complaints = f"  {json.dumps(visits.complaints[:2])}" if visits.complaints else ""
    paint, answer = statistics.median(visits.paints), statistics.median(visits.answers)
    print(f"{name:26} {paint:10.0f} ({max(visits.paints):5.0f}) {answer:14.0f} {visits.weight / 1000:9.0f}{complaints}")


def _live_updates(browser: Browser, url: str, path: Path, *, count: int, now: datetime) -> None:
    with open_history(path, "write") as history:
        for index, (name, address, selector) in enumerate(
            (
                ("fleet of one filter", "/?by=rendition&q=channel-001", "tbody .score b"),
                ("fleet, all streams", "/?sort=score", "tbody .score b"),
                ("stream", "/streams/channel-001", "#behind td"),
            )
        ):
            page = browser.new_page()
            page.goto(url + address)
            times = live(page, history, selector, count=count, after=index * count, now=now)
            print(f"live, {name:20} {statistics.median(times):10.0f} ms ({max(times):.0f})")
            page.close()


if __name__ == "__main__":
    main()
