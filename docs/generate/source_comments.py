"""The comments that stand above the fields of a class, in its source."""

import inspect
import re
from functools import cache

_FIELD = re.compile(r"    (\w+): ")
_COMMENT = re.compile(r"    # (.*)")


@cache
def field_comments(cls: type) -> dict[str, str]:
    """Field -> the comment above it, in one line; those of base classes too."""
    comments: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base is object:
            continue
        try:
            lines = inspect.getsource(base).splitlines()
        except (OSError, TypeError):
            continue
        above: list[str] = []
        for line in lines:
            if comment := _COMMENT.fullmatch(line):
                above.append(comment[1])
                continue
            if (field := _FIELD.match(line)) and above:
                comments[field[1]] = " ".join(above)
            above = []
    return comments
