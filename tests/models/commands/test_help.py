"""Each sub-command of `python -m models` offers the options that it reads, and no others."""

import argparse

import pytest

pytest.importorskip("torch")

from models.__main__ import build_parser

_OF_EXPORTED = {"weights", "built", "version", "dtype", "name"}
_OF_WEIGHTS = {"sha256", "cache", "allow-noncommercial"}
_OF_EXPORT = _OF_EXPORTED | {
    *_OF_WEIGHTS,
    *("anchors", "published-anchors", "scored"),
    *("part", "vocabulary", "scale", "heads", "short-side"),
}


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("data", {"folder", "biq2021", "clips", "threads", "pictures"}),
        ("order", {"folder", "events"}),
        (
            "train",
            {"folder", "biq2021", "weights", "built", "version", "threads", "fresh"}
            | {"csv", "test", "set", "part", "cache", "teacher", "clips", "name", "licence"},
        ),
        ("refit", {"folder", "weights", "threads"}),
        ("export", _OF_EXPORT),
        ("verify", _OF_EXPORT),
        ("quantize", {"clips", "data", "max-loss", "built", "version", "threads", "weights"} | _OF_WEIGHTS),
        ("card", _OF_EXPORTED),
    ],
)
def test_a_command_offers_its_own_options(command: str, options: set[str]) -> None:
    [commands] = [action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    flags = {flag for action in commands.choices[command]._actions for flag in action.option_strings}
    assert flags == {"-h", "--help", *(f"--{name}" for name in options)}
