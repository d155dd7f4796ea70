"""The pages in a real browser."""

import hashlib
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.conftest import need
from tests.media.clips import clip, x264
from tests.web import experiment_results, incidents, input_decisions, seed
from tests.web.conftest import Served
from tests.web.pages.test_evaluation import make_report
from tests.web.stored_history import StoredHistory, open_copy, write_history
from vqmon.core.types import QualityEvent, SegmentFailure
from vqmon.transport.reviews import Reviews
from vqmon.web.pages.evaluation import render_evaluation
from vqmon.web.urls import experiment_path, stream_path

pytestmark = pytest.mark.chromium

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
COLOURS = """() => {
  const canvas = document.querySelector("#chart canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const seen = new Set();
  for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200) seen.add([...data.slice(i, i + 3)].join());
  return [...seen];
}"""
"""Every opaque colour of the chart."""

WEIGHT = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
  .reduce((sum, entry) => sum + entry.encodedBodySize, 0)"""
"""Bytes of a first visit, as sent."""

ATTACK = """() => {
  const script = document.createElement("script");
  script.textContent = "window.pwned = 1";
  const image = document.createElement("img");
  image.setAttribute("onerror", "window.pwned = 2");
  image.src = "/static/nothing.png";
  document.body.append(script, image);
}"""
"""What someone would try who got markup into a page."""

EXPERIMENT = experiment_path(experiment_results.EXPERIMENT.name)

LAYERS_SHOWN = """() => [...document.querySelectorAll("svg.heat")]
  .filter((layer) => getComputedStyle(layer).display !== "none").map((layer) => layer.classList[1])"""
"""The slots of the heat maps that can be seen."""

TABLES_WIDER_THAN_THEIR_BOX = """() => [...document.querySelectorAll("main table")]
  .map((table) => [table, table.closest(".scroll, .card")])
  .filter(([table, box]) => table.offsetWidth > box.clientWidth && (table.matches(".fold") || !box.matches(".scroll")))
  .map(([table]) => table.textContent.slice(0, 80))"""

NAVIGATION_IS_WHOLE = """() => [...document.querySelectorAll("header nav")]
  .every((nav) => nav.scrollWidth <= nav.clientWidth)"""

CLIPS_ARE_BETWEEN = """([least, most]) => {
  const times = [...document.querySelectorAll(".frames video")].map((clip) => clip.currentTime);
  const areWithin = times.every((time) => least <= time && time <= most);
  return times.length === 2 && areWithin && Math.abs(times[0] - times[1]) < 0.15;
}"""
"""Whether both clips show a moment of this range, the same one."""

AXE = ("axe-core@4.14.1", "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


class Watched:
    """A page whose every complaint and every request is noted."""

    def __init__(self, context: BrowserContext, served: Served) -> None:
        self.render_page = context.new_page()
        self.history = served.history
        self.url = served.url
        self.complaints: list[str] = []
        self.render_page.on(
            "console", lambda message: self.complaints.append(message.text) if message.type == "error" else None
        )
        self.render_page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.render_page.on("request", lambda request: self._note(request.url))

    def _note(self, url: str) -> None:
        if not url.startswith(self.url):
            self.complaints.append(f"asked another host: {url}")

    def open(self, path: str, *, live: bool = True) -> Page:
        self.render_page.goto(self.url + path)
        if live:
            expect(self.render_page.locator("#link-state")).to_have_attribute("data-state", "live")
        return self.render_page


@pytest.fixture
def watched(browser: Browser, served: Served) -> Iterator[Watched]:
    """One page; at the end it must not have complained."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    watched = Watched(context, served)
    yield watched
    context.close()
    assert watched.complaints == []


def paths(history: StoredHistory) -> dict[str, str]:
    """One address of every kind."""
    outcomes = history.outcomes()
    input_decisions.write(history)
    return {
        "fleet": "/",
        "inputs": "/inputs",
        "stream": stream_path("sports one"),
        "unscored": stream_path("kids"),
        "segment": f"/segments/{[outcome for outcome in outcomes if isinstance(outcome, QualityEvent)][-1].id}",
        "failure": f"/segments/{[outcome for outcome in outcomes if isinstance(outcome, SegmentFailure)][-1].id}",
        "alerts": "/alerts",
        "alert": f"/alerts/{history.store.queries.alerts()[0].id}",
        "incident": f"/alerts/{incidents.write_regression(history)[0].id}",
        "streams": "/?by=stream",
        "compare": "/compare?a=sports one/1080p&b=sports one/480p",
        "experiments": "/experiments",
        "experiment": EXPERIMENT,
        "review": f"{EXPERIMENT}/sr-v2/review",
        "pair": f"/pairs/{experiment_results.comparison(history.seeded).answers[0].pairs[0].id}",
    }


def test_every_page_fits_every_screen(watched: Watched) -> None:
    """Nothing is wider than the screen, nothing complains, nothing asks another host; tables fold on a phone."""
    for width in (1280, 360, 320):
        watched.render_page.set_viewport_size({"width": width, "height": 800})
        for path in paths(watched.history).values():
            page = watched.open(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
            assert width == 1280 or page.evaluate(TABLES_WIDER_THAN_THEIR_BOX) == [], (path, width)
            assert width == 320 or page.evaluate(NAVIGATION_IS_WHOLE), (path, width)


def test_the_tables_of_a_report_fold_on_a_phone(browser: Browser, tmp_path: Path) -> None:
    """Each cell has its label; nothing is wider than the screen."""
    file = tmp_path / "report.html"
    file.write_text(render_evaluation(make_report(), title="vqmon", now=seed.NOW), encoding="utf-8")
    page = browser.new_page(viewport={"width": 360, "height": 800})
    page.goto(file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every((box) => box.scrollWidth <= box.clientWidth)")
    assert page.evaluate("[...document.querySelectorAll('.fold td')].every((cell) => cell.dataset.label)")
    page.close()


def test_chart_is_drawn(watched: Watched) -> None:
    """The canvas holds lines in the colours of the legend, and the points that the history has."""
    page = watched.open(stream_path("sports one"))
    expect(page.locator("#chart")).to_have_attribute("data-points", "90")
    colours = page.evaluate(COLOURS)
    assert {"11,106,148", "176,79,22"} <= set(colours)


def test_chart_by_keyboard(watched: Watched) -> None:
    """Arrow keys walk along the points and say them; Enter opens the segment."""
    page = watched.open(stream_path("weather"))
    chart = page.locator("#chart")
    expect(chart).to_have_attribute("data-points", "90")
    chart.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    expect(chart).to_have_attribute("aria-valuetext", re.compile(r"14:29:52 UTC · 1080p 85\.\d · 480p \d\d\.\d"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/segments/*")
    expect(page.locator("h1")).to_have_text("Segment 9999")


def test_table_behind_the_chart(watched: Watched) -> None:
    """The toggle opens by keyboard, and a live update leaves it open."""
    page = watched.open(stream_path("weather"))
    page.locator("#table-toggle summary").focus()
    page.keyboard.press("Enter")
    rows = page.locator("#table-toggle tbody tr")
    expect(rows).to_have_count(90)
    watched.history.write(seed.next_event("weather", "480p", 31.4))
    expect(rows).to_have_count(91)
    expect(rows.first).to_be_visible()


def test_fleet_updates_without_reload(watched: Watched) -> None:
    """A new verdict and a new alert appear without a reload; only the alert is announced."""
    page = watched.open("/")
    page.evaluate("window.sameDocument = true")
    event = seed.next_event("weather", "480p", 12.3)
    watched.history.write(event)
    row = page.locator("tbody tr", has_text="weather").filter(has_text="480p")
    expect(row.locator(".score b")).to_have_text("12.3")
    expect(row.locator(".badge")).to_have_text("failing")
    expect(page.locator("#announce")).to_have_text("")
    begins = event.segment.starts_at
    watched.history.write(seed.alert(event, rule="score-floor", severity="page", began_at=begins, resolved_at=None))
    expect(page.locator("#announce")).to_have_text(f"Alert: {seed.SCORER} of weather 480p is below 40")
    expect(page.locator("#open-count")).to_contain_text("3")
    assert page.evaluate("window.sameDocument")


def test_decisions_appear_without_reload(watched: Watched) -> None:
    """g and i open the page; a decision is there with the next verdict, and j reaches it."""
    page = watched.open("/")
    page.keyboard.press("g")
    page.keyboard.press("i")
    page.wait_for_url("**/inputs")
    expect(page.locator("#link-state")).to_have_attribute("data-state", "live")
    expect(page.locator(".empty")).to_contain_text("No decision was made yet")
    page.evaluate("window.sameDocument = true")
    input_decisions.write(watched.history)
    watched.history.write(seed.next_event("weather", "480p", 71.2))
    row = page.locator("tbody tr", has_text="news/hd").first
    expect(row).to_contain_text("expired")
    page.keyboard.press("j")
    expect(page.locator(".row-link").first).to_be_focused()
    assert page.evaluate("window.sameDocument")


def test_page_reconnects_after_a_restart(browser: Browser, history: StoredHistory) -> None:
    """What was written while the server was away is told once it is back, without a reload."""
    context = browser.new_context()
    with Served(history) as served:
        page = Watched(context, served).open("/")
        page.evaluate("window.sameDocument = true")
    expect(page.locator("#link-state")).to_have_attribute("data-state", "lost")
    history.write(seed.next_event("weather", "480p", 12.3))
    with Served(history, port=served.port):
        row = page.locator("tbody tr", has_text="weather").filter(has_text="480p")
        expect(row.locator(".score b")).to_have_text("12.3", timeout=20_000)
        expect(page.locator("#link-state")).to_have_attribute("data-state", "live")
        assert page.evaluate("window.sameDocument")
        context.close()


def test_chart_grows(watched: Watched) -> None:
    """A new verdict is appended to the chart."""
    page = watched.open(stream_path("weather"))
    expect(page.locator("#chart")).to_have_attribute("data-points", "90")
    watched.history.write(seed.next_event("weather", "480p", 31.4), seed.next_event("news/hd", "480p", 31.4))
    expect(page.locator("#chart")).to_have_attribute("data-points", "91")


def test_filter_while_typing(watched: Watched) -> None:
    """The table narrows as one types, the address follows, and the text field is not disturbed."""
    page = watched.open("/")
    page.keyboard.press("/")
    page.keyboard.type("kids 480")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("#q")).to_be_focused()
    expect(page).to_have_url(re.compile("q=kids(%20|[+])480"))
    watched.history.write(seed.next_event("kids", "480p", 61.4))
    expect(page.locator("tbody .score b")).to_have_text("61.4")
    expect(page.locator("tbody tr")).to_have_count(1)


def test_rows_by_keyboard(watched: Watched) -> None:
    """j and k walk along the rows, a live update keeps the focus, Enter opens."""
    page = watched.open("/")
    for key in "jjjk":
        page.keyboard.press(key)
    second = page.locator(".row-link").nth(1)
    expect(second).to_be_focused()
    watched.history.write(seed.next_event("weather", "480p", 71.2))
    expect(page.locator("tbody tr", has_text="weather").filter(has_text="71.2")).to_have_count(1)
    expect(second).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/streams/**")


def test_segments_by_keyboard(watched: Watched) -> None:
    """k and j go to the previous and the next segment; the arrow keys do too."""
    line = [outcome.id for outcome in watched.history.outcomes("weather", "480p")]
    page = watched.open(f"/segments/{line[-1]}")
    for key, at in (("k", -2), ("ArrowLeft", -3), ("ArrowRight", -2), ("j", -1)):
        page.keyboard.press(key)
        page.wait_for_url(f"**/segments/{line[at]}")
        expect(page.locator("#link-state")).to_have_attribute("data-state", "live")


def test_skip_link_and_help(watched: Watched) -> None:
    """The first stop of the Tab key skips to the content; ? shows the keys and Escape hides them."""
    page = watched.open("/")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()


def test_pictures_are_shown(watched: Watched) -> None:
    """The frames of a segment are really pictures to the browser."""
    page = watched.open(paths(watched.history)["segment"])
    for image in page.locator(".film img").all():
        image.scroll_into_view_if_needed()
        expect(image).to_have_js_property("naturalWidth", 416)


def test_the_security_policy_blocks_inline_code(watched: Watched) -> None:
    """Whatever gets into a page as script text is stopped by the content security policy."""
    page = watched.open("/")
    page.evaluate(ATTACK)
    page.wait_for_timeout(200)
    assert page.evaluate("window.pwned") is None
    assert any("Content Security Policy" in complaint for complaint in watched.complaints)
    watched.complaints.clear()


def test_everything_can_be_read_without_javascript(browser: Browser, served: Served) -> None:
    """Without JavaScript the pages hold the same words and numbers, and the filter is a form."""
    context = browser.new_context(java_script_enabled=False)
    watched = Watched(context, served)
    page = watched.open("/", live=False)
    page.fill("#q", "weather")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    page.click(".row-link >> nth=0")
    page.click("#table-toggle summary")
    expect(page.locator("#table-toggle tbody tr")).to_have_count(90)
    context.close()
    assert watched.complaints == []


def test_five_hundred_streams(browser: Browser, tmp_path: Path) -> None:
    """A big fleet is shown by stream under 200 kB, goes on with a link, is as small by rendition, and updates live."""
    many = seed.fleet(streams=500, segments=4)
    with open_copy(write_history(tmp_path / "many.db", many), many, tmp_path) as history, Served(history) as served:
        context = browser.new_context()
        watched = Watched(context, served)
        for path in ("/", "/?by=rendition"):
            page = watched.open(path)
            expect(page.locator("tbody tr")).to_have_count(250)
            assert page.evaluate(WEIGHT) < 200_000
        page = watched.open("/?sort=score&order=desc&q=channel")
        history.write(seed.next_event("channel-100", "480p", 3.0))
        expect(page.locator("#chip-failing b")).not_to_have_text("63")
        page.click("text=Next →")
        expect(page.locator("tbody tr")).to_have_count(242)
        assert "q=channel" in page.url
        context.close()
    assert watched.complaints == []


# ---- experiments


def test_every_page_loads_less_than_200_kB(watched: Watched) -> None:
    """A first visit with all that is loaded without scrolling, pictures of the page included."""
    for path in paths(watched.history).values():
        page = watched.open(path)
        page.wait_for_load_state("load")
        assert page.evaluate(WEIGHT) < 200_000, path


def test_a_result_appears_when_it_is_computed(browser: Browser, history: StoredHistory) -> None:
    """The page of an experiment comes at once, and shows the answer by itself, wipe included."""
    results = experiment_results.FixedResults(experiment_results.comparison(history.seeded), is_running=True)
    with Served(history, results=results) as served:
        context = browser.new_context()
        watched = Watched(context, served)
        page = watched.open(EXPERIMENT)
        expect(page.locator("#wait")).to_contain_text("being computed")
        results.is_running = False
        expect(page.locator("#verdict-title")).to_contain_text("sr-v2 is better than sr-v1")
        expect(page.locator(".wipe .slider")).to_be_visible()
        context.close()
    assert watched.complaints == []


def test_wipe_by_keyboard(watched: Watched) -> None:
    """Arrow keys move the edge; the buttons change how the two are laid together and which moment is shown."""
    page = watched.open(paths(watched.history)["pair"])
    frames = page.locator(".frames").first
    page.get_by_label("Share of A that is shown").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert frames.evaluate("frame => frame.style.getPropertyValue('--edge')") == "60%"
    left = page.locator(".frames .left img").first
    assert left.evaluate("image => getComputedStyle(image).clipPath") == "inset(0px 40% 0px 0px)"
    page.get_by_role("button", name="difference").focus()
    page.keyboard.press("Enter")
    right = page.locator(".frames .right img").first
    assert right.evaluate("image => getComputedStyle(image).mixBlendMode") == "difference"
    expect(page.locator(".slider")).to_be_hidden()
    page.get_by_role("button", name="2.0 s").click()
    expect(page.locator(".frames").nth(2)).to_be_visible()
    expect(frames).to_be_hidden()


def test_blind_review_by_keyboard(watched: Watched) -> None:
    """Left, space and right vote; Backspace goes back; the votes are kept; the end tells the arms.

    Clips of both sides begin together, again and again; keys show stills, lay one side over the other, and pause.
    """
    reviews = Reviews(watched.history.path.with_name("served.reviews"))
    mp4 = clip(*x264(), size="160x90", seconds=1, container="mp4")
    for pair in experiment_results.comparison(watched.history.seeded).answers[0].pairs_with_role("review"):
        for event_id in pair.id.split(":"):
            reviews.replace_clip(experiment_results.EXPERIMENT.name, event_id, mp4)
    page = watched.open(paths(watched.history)["review"])
    expect(page.locator("#motion")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".frames img").first).to_be_hidden()
    for least, most in ((0.5, 1.1), (0.01, 0.4), (0.5, 1.1)):
        page.wait_for_function(CLIPS_ARE_BETWEEN, arg=[least, most], polling=20)
    page.keyboard.press("f")
    page.keyboard.press("x")
    expect(page.locator(".frames video").last).to_be_visible()
    page.keyboard.press("x")
    expect(page.locator(".frames video").last).to_be_hidden()
    page.keyboard.press("p")
    assert page.evaluate("() => [...document.querySelectorAll('video')].every((clip) => clip.paused && clip.muted)")
    page.keyboard.press("m")
    expect(page.locator(".frames img").first).to_be_visible()
    expect(page.locator("#pause")).to_be_hidden()
    count = page.locator("text=0 of").inner_text().rsplit(" ", 1)[-1]
    for number in range(int(count)):
        expect(page.locator("text=Which looks better?")).to_be_visible()
        expect(page.locator(".head")).to_contain_text(f"{number} of {count}")
        for image in page.locator(".frames img").all():
            expect(image).to_have_js_property("complete", True)
        page.keyboard.press(["ArrowLeft", "Space", "ArrowRight"][number % 3])
        if number == 1:
            expect(page.locator(".head")).to_contain_text(f"2 of {count}")
            page.keyboard.press("Backspace")
            page.wait_for_url("**pair=*")
            expect(page.locator("#before")).to_be_visible()
            page.go_back()
    expect(page.locator(".empty")).to_contain_text(f"You have seen all {count} pairs")
    assert len(reviews.votes(experiment_results.EXPERIMENT.name)) == int(count)


def test_compare_from_a_form(watched: Watched) -> None:
    """Two names typed give the page, whose address can be shared; Enter on a pair shows it."""
    page = watched.open("/compare")
    page.get_by_label("A", exact=True).fill("weather/1080p")
    page.get_by_label("B", exact=True).fill("weather/480p")
    page.keyboard.press("Enter")
    page.wait_for_url("**a=weather%2F1080p**")
    expect(page.locator("#caption")).to_contain_text("weather/1080p is")
    page.locator(".row-link").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/pairs/**")
    expect(page.locator(".frames").first).to_be_visible()


# ---- accessibility


@pytest.fixture(scope="module")
def axe(pytestconfig: pytest.Config) -> str:
    """The source of axe-core, fetched once and checked."""
    name, digest = AXE
    folder = Path(pytestconfig.cache.mkdir("axe"))  # type: ignore[union-attr]
    packed = folder / f"{name.replace('@', '-')}.tgz"
    if not packed.is_file() and shutil.which("npm"):
        fetch = ["npm", "pack", name, "--silent", "--ignore-scripts", "--pack-destination", str(folder)]
        subprocess.run(fetch, check=False, capture_output=True, timeout=60, cwd=folder)
    need("axe", present=packed.is_file(), remedy="install npm and let it reach its registry once")
    assert hashlib.sha256(packed.read_bytes()).hexdigest() == digest
    with tarfile.open(packed) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, served: Served, axe: str, scheme: str) -> None:
    """No finding of axe-core that is serious or critical, on any page, in light and dark."""
    # The policy of the pages would not let the test's own script in; everything else stays as it is.
    context = browser.new_context(bypass_csp=True, color_scheme="dark" if scheme == "dark" else "light")
    page = context.new_page()
    for path in [*paths(served.history).values(), "/nothing"]:
        page.goto(served.url + path)
        page.evaluate(axe)
        violations = page.evaluate("async () => (await axe.run()).violations")
        serious = [
            (violation["id"], [node["html"][:200] for node in violation["nodes"]][:3])
            for violation in violations
            if violation["impact"] in ("serious", "critical")
        ]
        assert serious == [], json.dumps([path, serious], indent=1)
    context.close()


def test_a_heat_map_is_chosen_and_a_moment_leads_to_its_frame(browser: Browser, served: Served) -> None:
    """By the style sheet alone: one map at a time or none, and the frame of the moment is enlarged."""
    ssim, detail = (seed.half_lost(name, frames=4, lost=(2,)) for name in ("ssim", "detail"))
    event = replace(seed.next_event("weather", "480p", 61.0), heat_maps=(ssim, detail))
    served.history.write(event)
    context = browser.new_context(java_script_enabled=True)
    page = context.new_page()
    page.goto(f"{served.url}/segments/{event.id}")
    assert page.evaluate(LAYERS_SHOWN) == ["m0"]
    page.get_by_role("radio", name="detail").check()
    assert page.evaluate(LAYERS_SHOWN) == ["m1"]
    page.get_by_role("radio", name="off").check()
    assert page.evaluate(LAYERS_SHOWN) == []
    page.locator(".timeline a").nth(2).click()
    assert page.evaluate("document.querySelector('li:target').id") == "frame-2"
    context.close()
