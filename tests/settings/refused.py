"""What is refused of a settings file."""

import re
from pathlib import Path

import pytest

from vqmon.errors import SettingsError
from vqmon.settings.load import load_settings


def refused_keys(folder: Path, text: str) -> list[str]:
    """The settings that the lines of the error name, in order; each line names the file first."""
    file = folder / "vqmon.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    lines = (line.removeprefix(f"{file}: ").removeprefix("unknown setting ") for line in str(caught.value).splitlines())
    return [re.split("[:;] ", line)[0].strip("'") for line in lines]
