"""How Sphinx builds the site: `make docs`."""

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

project = "vqmon"
html_title = "vqmon"
extensions = ["myst_parser"]
exclude_patterns = ["_build", "generate"]

# Anchors of headings as GitHub makes them, so that links between pages work in both places.
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]

html_theme = "furo"
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
smartquotes = False
html_show_sphinx = False
html_show_copyright = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
nitpicky = True

_ROOT = Path(__file__).parents[1]
_PAGES_OF_FILES = {
    "models/README.md": "model-cards.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "README.md": "index.md",
}
"""Files outside `docs/` whose text is a page of the site, or which a page stands for."""

_INCLUDED = re.compile(r"```\{include\} (?P<path>\S+)\n```\n")
_LINK = re.compile(r"\]\((?P<path>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")


def _read_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put in a file that the page includes, and let links to files that are pages lead to these."""
    folder = (Path(app.srcdir) / docname).parent
    if included := _INCLUDED.fullmatch(source[0]):
        file = (folder / included["path"]).resolve()
        source[0] = _with_links(file.read_text(encoding="utf-8"), from_folder=file.parent, to_folder=folder)
    else:
        source[0] = _with_links(source[0], from_folder=folder, to_folder=folder)


def _with_links(text: str, *, from_folder: Path, to_folder: Path) -> str:
    """The text, written in one folder, with links as they must be in another."""

    def replace(link: re.Match[str]) -> str:
        target = (from_folder / link["path"]).resolve()
        if target.is_relative_to(_ROOT) and (page := _PAGES_OF_FILES.get(str(target.relative_to(_ROOT)))):
            target = _ROOT / "docs" / page
        return f"]({os.path.relpath(target, to_folder)}{link['anchor'] or ''})"

    return _LINK.sub(replace, text)


def setup(app: Sphinx) -> None:
    app.connect("source-read", _read_page)
