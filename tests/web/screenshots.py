"""Takes the screenshots of the documentation: `python -m tests.web.screenshots [FOLDER]`."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import skimage.data
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from tests.web import experiment_results, incidents, input_decisions, seed
from tests.web.conftest import Served
from tests.web.stored_history import StoredHistory, open_copy, write_history
from tests.web.test_browser import FLAGS
from vqmon.core.frames import DetailGrid
from vqmon.core.scores import pack_heat_map
from vqmon.core.types import HeatMap, QualityEvent, SegmentFailure
from vqmon.media.images.signals.detail import detail_losses, measure_detail
from vqmon.web.urls import experiment_path

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
PHOTOS = ("coffee", "chelsea", "astronaut", "rocket")
SCREENS = {"": ("light", 1280, 860), "-dark": ("dark", 1280, 860), "-phone": ("light", 390, 844)}


@cache
def photo(name: str, number: int, softness: int) -> bytes:
    """A window of a photograph that moves with `number`."""
    whole = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
    width = int(whole.width * 0.8)
    left = (whole.width - width) * (number % 32) // 32
    image = whole.crop((left, 40, left + width, 40 + width * 9 // 16)).resize((416, 234))
    # what is lost, is lost in the right part of the picture
    blurred = image.resize((416 // softness, 234 // softness)).resize((416, 234), Image.Resampling.BICUBIC)
    image.paste(blurred.crop((160, 0, 416, 234)), (160, 0))
    out = BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()


def detail_map(name: str, numbers: Sequence[int], softness: int) -> HeatMap | None:
    """Where these windows lack detail, against sharp ones of the same scene."""
    shown, sharp = ([_detail(name, number % 32, soft) for number in numbers] for soft in (softness, 1))
    return pack_heat_map("detail", detail_losses(shown, earlier=sharp))


@cache
def _detail(name: str, number: int, softness: int) -> DetailGrid:
    return measure_detail(np.asarray(Image.open(BytesIO(photo(name, number, softness))).convert("L")))


def with_photos(seeded: seed.Seeded) -> seed.Seeded:
    """The same with photographs for pictures, and with heat maps of those that are not sharp."""
    positions = {outcome.id: position for position, outcome in enumerate(seeded.outcomes)}
    for event_id, pictures in seeded.thumbnails.items():
        event = seeded.outcomes[positions[event_id]]
        assert isinstance(event, QualityEvent)
        name = PHOTOS[len(event.segment.rendition.stream_id) % len(PHOTOS)]
        soft = 1 if event.scores[0].value > 60 else 4 if event.scores[0].value > 35 else 8
        numbers = [event.segment.sequence * 4 + number for number in range(len(pictures))]
        seeded.thumbnails[event_id] = [
            (at, photo(name, number, soft)) for number, (at, _) in zip(numbers, pictures, strict=True)
        ]
        heat_map = detail_map(name, numbers, soft) if soft > 1 else None
        if heat_map is not None:
            seeded.outcomes[positions[event_id]] = replace(event, heat_maps=(heat_map,))
    return seeded


def paths(history: StoredHistory) -> dict[str, str]:
    """What is worth a picture."""
    alert = next(candidate for candidate in history.store.queries.alerts() if candidate.stream_id == "cinema-4k")
    input_decisions.write(history)
    incident, _ = incidents.write_regression(history)
    experiment = experiment_path(experiment_results.EXPERIMENT.name)
    answer = experiment_results.comparison(history.seeded).answers[0]
    failure = [outcome for outcome in history.outcomes() if isinstance(outcome, SegmentFailure)][-1]
    return {
        "fleet": "/",
        "stream": "/streams/sports%20one",
        "segment": f"/segments/{alert.evidence.event_id}",
        "unscored": f"/segments/{failure.id}",
        "alerts": "/alerts",
        "inputs": "/inputs",
        "alert": f"/alerts/{incident.id}",
        "experiments": "/experiments",
        "experiment": experiment,
        "pair": f"/pairs/{answer.pairs[2].id}",
        "review": f"{experiment}/sr-v2/review",
        "compare": "/compare?a=sports one/1080p&b=sports one/480p",
    }


def shoot(browser: Browser, served: Served, folder: Path, *, is_whole: bool) -> None:
    for suffix, (scheme, width, height) in SCREENS.items():
        context = browser.new_context(
            color_scheme="dark" if scheme == "dark" else "light", viewport={"width": width, "height": height}
        )
        page = context.new_page()
        for name, path in paths(served.history).items():
            page.goto(served.url + path)
            page.wait_for_timeout(1200)
            taken = Image.open(BytesIO(page.screenshot(full_page=is_whole)))
            taken.convert("RGB").quantize(256).save(folder / f"{name}{suffix}.png", optimize=True)
        context.close()


def main(folder: Path) -> None:
    seeded = with_photos(seed.fleet(streams=8))
    with (
        TemporaryDirectory() as scratch,
        open_copy(write_history(Path(scratch) / "seed.db", seeded), seeded, Path(scratch)) as history,
        Served(history) as served,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        shoot(browser, served, folder, is_whole=folder != FOLDER)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
