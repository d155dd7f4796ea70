"""Every page by keyboard alone, in a real browser: Tab reaches what can be operated, in order, and it can be seen."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import factories
from tests.media.clips import clip, x264
from tests.web import experiment_results, seed
from tests.web.conftest import Served
from tests.web.pages.test_evaluation import make_report
from tests.web.test_browser import EXPERIMENT, browser, paths
from vqmon.transport.reviews import Reviews
from vqmon.web.pages.evaluation import render_evaluation
from vqmon.web.pages.report import render_report
from vqmon.web.pages.scores import ScoredFile, render_scores

__all__ = ["browser"]

pytestmark = pytest.mark.chromium

MARK_STOPS = """() => {
  const inClosedDetails = (element) => {
    const details = element.closest("details:not([open])");
    return details && element.closest("summary")?.parentElement !== details;
  };
  const stops = [...document.querySelectorAll(
    "a[href], button, input:not([type=hidden]), select, textarea, summary, video[controls], [tabindex='0']")]
    .filter((element) => !element.disabled && element.checkVisibility({ visibilityProperty: true }))
    .filter((element) => !element.closest("dialog:not([open])") && !inClosedDetails(element))
    .filter((element) => element.type !== "radio" || element.checked);
  stops.forEach((element, number) => { element.dataset.stop = number; });
  return {
    stops: stops.map((element) => element.outerHTML.slice(0, 120)),
    positive: [...document.querySelectorAll("[tabindex]")].filter((element) => element.tabIndex > 0).length,
    unreachable: [...document.querySelectorAll("main *")].filter((element) => {
      const scrolls = ["auto", "scroll"].includes(getComputedStyle(element).overflowX)
        && element.scrollWidth > element.clientWidth + 1 && element.checkVisibility();
      return scrolls && element.tabIndex < 0;
    }).map((element) => element.outerHTML.slice(0, 120)),
  };
}"""
"""Number what Tab must reach, in the order of the document; of choices the chosen one, arrow keys reach the others."""

FOCUS = """() => {
  const element = document.activeElement;
  if (!element || element === document.body) return null;
  const style = getComputedStyle(element);
  const channels = (colour) => { 
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const luminance = (colour) => [...channels(colour)].slice(0, 3).map((value) => value / 255)
    .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  let behind = element.parentElement;
  while (behind && channels(getComputedStyle(behind).backgroundColor)[3] < 255) behind = behind.parentElement;
  const pair = [luminance(style.outlineColor), luminance(behind ? getComputedStyle(behind).backgroundColor : "white")];
  const box = element.getBoundingClientRect();
  const centre = [box.left + box.width / 2, box.top + Math.min(box.height, innerHeight - box.top) / 2];
  const top = document.elementFromPoint(...centre);
  return {
    stop: element.dataset.stop === undefined ? null : Number(element.dataset.stop),
    html: element.outerHTML.slice(0, 120),
    outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
    contrast: (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05),
    isSeen: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth
      && Boolean(top) && (element.contains(top) || top.contains(element)),
  };
}"""
"""What has the focus, and how it shows."""


def walk(page: Page) -> Iterator[dict[str, Any]]:
    """Press Tab until the focus leaves the page, or is at its beginning again."""
    for number in range(600):
        page.keyboard.press("Tab")
        focus = page.evaluate(FOCUS)
        if focus is None or (number and focus["stop"] == 0):
            return
        yield focus
    pytest.fail("the focus does not leave the page")


def check_walk(page: Page, name: str) -> None:
    """Tab reaches every stop in order; the focus has an outline of 2 px, a contrast of 3:1, and is not covered."""
    marked = page.evaluate(MARK_STOPS)
    assert (marked["positive"], marked["unreachable"]) == (0, []), name
    seen = list(walk(page))
    for focus in seen:
        assert focus["outline"] >= 2, (name, focus)
        assert focus["contrast"] >= 3, (name, focus)
        assert focus["isSeen"], (name, focus)
    numbers = [focus["stop"] for focus in seen if focus["stop"] is not None]
    assert numbers == sorted(numbers), name
    missed = set(range(len(marked["stops"]))) - set(numbers)
    assert [marked["stops"][number] for number in sorted(missed)] == [], name


@pytest.fixture(scope="module")
def reports() -> dict[str, str]:
    """Report files as HTML."""
    event = factories.event(duration_seconds=4.0)
    event = replace(event, heat_maps=(seed.half_lost("detail", frames=4, lost=(1, 2)),))
    thumbnails = [(float(number), b"\xff\xd8\xff") for number in range(4)]
    comparison = experiment_results.comparison(seed.fleet(streams=8, segments=12))
    return {
        "scores": render_scores([ScoredFile(outcome=event, thumbnails=thumbnails)], title="vqmon", now=seed.NOW),
        "compare": render_report(comparison, title="vqmon", now=seed.NOW),
        "evaluate": render_evaluation(make_report(), title="vqmon", now=seed.NOW),
    }


SCREENS = pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360), ("dark", 360)])


@SCREENS
def test_tab_reaches_everything_in_order(browser: Browser, served: Served, scheme: Any, width: int) -> None:
    with browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800}) as context:
        page = context.new_page()
        for name, path in paths(served.history).items():
            page.goto(served.url + path)
            expect(page.locator("#link-state")).to_have_attribute("data-state", "live")
            check_walk(page, name)


@SCREENS
def test_tab_reaches_everything_of_report_files(
    browser: Browser, reports: dict[str, str], scheme: Any, width: int
) -> None:
    with browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800}) as context:
        page = context.new_page()
        for name, html in reports.items():
            page.set_content(html)
            check_walk(page, name)


def test_a_focused_button_of_a_blind_review_is_pressed_by_space(browser: Browser, served: Served) -> None:
    """The key votes "no difference" only where no button has the focus; the keys of the overlay work from there too."""
    mp4 = clip(*x264(), size="160x90", seconds=1, container="mp4")
    reviews = Reviews(served.history.path.with_name("served.reviews"))
    for pair in experiment_results.comparison(served.history.seeded).answers[0].pairs_with_role("review"):
        for event_id in pair.id.split(":"):
            reviews.replace_clip(experiment_results.EXPERIMENT.name, event_id, mp4)
    with browser.new_context(viewport={"width": 1280, "height": 800}) as context:
        page = context.new_page()
        page.goto(f"{served.url}{EXPERIMENT}/sr-v2/review")
        for control in ("#flip", "#pause"):
            expect(page.locator(control)).to_be_visible()
            page.locator(control).focus()
            page.keyboard.press("Space")
            expect(page.locator(control)).to_have_attribute("aria-pressed", "true")
        page.locator("#choose-right").focus()
        page.keyboard.press("Space")
        expect(page.locator(".head")).to_contain_text("1 of")
        page.locator("#back").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#choose-right")).to_have_attribute("aria-describedby", "before")


def test_the_list_of_keys_keeps_the_focus_and_gives_it_back(browser: Browser, served: Served) -> None:
    """Opened by its button; Tab stays within, Escape closes."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(served.url)
        page.locator("#show-keys").focus()
        page.keyboard.press("Enter")
        for _ in range(3):
            page.keyboard.press("Tab")
            focus = (
                "document.activeElement === document.body || document.activeElement.closest('dialog[open]') !== null"
            )
            assert page.evaluate(focus)
        page.keyboard.press("Escape")
        expect(page.locator("#keys")).to_be_hidden()
        expect(page.locator("#show-keys")).to_be_focused()
