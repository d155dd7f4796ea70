"""The links of the README, which is no page of the site."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_link_leads_to_a_file_and_its_heading() -> None:
    """An anchor is a heading in small letters, with dashes."""
    links = re.findall(r"\]\(([^)#:]+)(?:#([^)]+))?\)", (ROOT / "README.md").read_text(encoding="utf-8"))

    assert len(links) > 10
    assert [path for path, _ in links if not (ROOT / path).is_file()] == []
    for path, anchor in links:
        headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
        slugs = [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]
        assert not anchor or anchor in slugs, f"{path}#{anchor}"
