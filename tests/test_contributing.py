"""The worked examples of CONTRIBUTING.md: each is applied to a copy of the tree and must then do what it says."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.media import clips

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "CONTRIBUTING.md"
BLOCK = re.compile(r"^`(?P<path>[^`]+)`(?P<new> \(new\))?:\n\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
COLOUR = "color={name}:size={{size}}:rate={{rate}}:duration={{seconds}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One file of an example: the whole text of a new file, or a diff without line numbers."""

    path: str
    is_new: bool
    text: str

    def hunks(self) -> list[list[str]]:
        """The changes of a diff, each a list of lines that begin with a space, + or -."""
        return [hunk.splitlines() for hunk in re.split(r"^@@\n", self.text, flags=re.MULTILINE) if hunk]

    def changed_lines(self) -> int:
        """Lines to write."""
        lines = self.text.splitlines()
        return len([line for line in lines if line]) if self.is_new else sum(line.startswith("+") for line in lines)


def read_examples() -> dict[str, list[Block]]:
    """The blocks of each worked example, by its heading."""
    examples = {}
    for section in GUIDE.read_text(encoding="utf-8").split("\n## ")[1:]:
        blocks = [
            Block(path=match["path"], is_new=match["new"] is not None, text=match["text"])
            for match in BLOCK.finditer(section)
        ]
        if blocks:
            examples[section.partition("\n")[0]] = blocks
    return examples


def apply(block: Block, root: Path) -> None:
    """Write a new file, or apply each change where its lines stand exactly once."""
    file = root / block.path
    if block.is_new:
        assert not file.exists(), f"{block.path} exists already"
        file.write_text(block.text, encoding="utf-8")
        return
    source = file.read_text(encoding="utf-8")
    for hunk in block.hunks():
        before = "\n".join(line[1:] for line in hunk if not line.startswith("+"))
        after = "\n".join(line[1:] for line in hunk if not line.startswith("-"))
        assert source.count(before) == 1, f"{block.path} holds these lines {source.count(before)} times:\n{before}"
        source = source.replace(before, after)
    file.write_text(source, encoding="utf-8")


EXAMPLES = read_examples()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the parts of the tree that the examples change."""
    for folder in ("vqmon", "pipelines", "models", "config"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run(copy: Path, *arguments: str) -> str:
    """The output of this Python on the copy."""
    environment = {**os.environ, "PYTHONPATH": f"{copy}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("title", EXAMPLES)
def test_an_example_is_small(title: str) -> None:
    """At most two existing files and 40 lines, templates and manifests included."""
    blocks = EXAMPLES[title]

    assert sum(not block.is_new for block in blocks) <= 2
    assert sum(block.changed_lines() for block in blocks) <= 40


def test_the_examples_pass_the_checks(copy: Path) -> None:
    """Format, lint and types, as `make check` wants them."""
    shutil.copy(ROOT / "pyproject.toml", copy)
    for blocks in EXAMPLES.values():
        for block in blocks:
            apply(block, copy)
    files = {block.path for blocks in EXAMPLES.values() for block in blocks if block.path.endswith(".py")}

    run(copy, "-m", "ruff", "format", "--check", *files)
    run(copy, "-m", "ruff", "check", *files)
    run(copy, "-m", "mypy", *(file for file in files if not file.startswith("models/")))


def test_a_signal_is_measured(copy: Path, tmp_path: Path) -> None:
    """A white clip has the new signal at 1 in every frame of its event."""
    for block in EXAMPLES["Add a signal"]:
        apply(block, copy)
    clip = tmp_path / "white.mp4"
    clip.write_bytes(clips.clip(*clips.x264(), source=COLOUR.format(name="white"), seconds=2))

    event = json.loads(run(copy, "-m", "vqmon", "score", "--json", str(clip)))

    assert event["data"]["signals"]["clipping"]["frame_values"] == [1.0, 1.0]


CONDITION = """
from dataclasses import replace
from tests import factories
from vqmon.core.alerts.judge import Judge
from vqmon.settings.rules_file import parse_rules
from vqmon.transport.wire.alert_states.states import pack_state, unpack_state

rules = parse_rules('[rules.small]\\nkind = "downscaled"\\nseverity = "ticket"')
judge = Judge(rules)
alerts = judge.judge(factories.event(sequence=0))
alerts += judge.judge(factories.event(sequence=1, rendition=replace(factories.RENDITION, height=2160)))
stored = {key: unpack_state(pack_state(state)) for key, state in judge.states().items()}
alerts += Judge(rules, stored).judge(factories.event(sequence=2))
for alert in alerts:
    print(f"{alert.state}: {alert.summary}")
"""


def test_a_condition_opens_and_resolves(copy: Path) -> None:
    """1080 lines instead of 2160 open an alert; it resolves with the right size, also when its state was stored."""
    for block in EXAMPLES["Add an alert condition"]:
        apply(block, copy)

    alerts = run(copy, "-c", CONDITION)

    assert alerts.splitlines() == [
        "open: 1080 lines instead of 2160 for 4 s",
        "resolved: 1080 lines instead of 2160 for 4 s; over after 4 s",
    ]


PAGE = """
import anyio, httpx
from datetime import timedelta
from pathlib import Path
from tests import factories
from vqmon.transport.history.history import open_history
from vqmon.web.app import create_app

event = factories.event()
with open_history(Path("history.db"), "write") as history:
    history.publish([event])
    app = create_app(history.queries, now=lambda: event.observed_at + timedelta(minutes=11))

    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return await client.get("/quiet")

    answer = anyio.run(ask)
print(answer.status_code, answer.text)
"""


def test_a_page_is_served(copy: Path) -> None:
    """A rendition whose last outcome is eleven minutes old stands on the page, and the page in the navigation."""
    for block in EXAMPLES["Add a page"]:
        apply(block, copy)

    page = run(copy, "-c", PAGE)

    assert page.startswith("200 ")
    assert "news-1 1080p" in page
    assert '<a href="/quiet" aria-current="page">Quiet</a>' in page
