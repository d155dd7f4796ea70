"""What the keys of rules and the fields of segments have in common: limits and choices, refused with their name."""

MAX_PROMPT = 2000
"""Characters in what a generated picture was asked to show."""


def need(owner: object, *keys: str, low: float, high: float = 1e9) -> None:
    """Raise ValueError when one of the attributes lies outside low..high."""
    for key in keys:
        value = getattr(owner, key)
        if not low <= value <= high:
            limits = f"{low:g}..{high:g}" if high < 1e9 else f"{low:g} or more"
            raise ValueError(f"{key}: must be {limits}, got {value!r}")


def choose(owner: object, key: str, known: tuple[str, ...]) -> None:
    """Raise ValueError when the attribute is none of the known words."""
    if getattr(owner, key) not in known:
        raise ValueError(
            f"{key}: unknown {getattr(owner, key)!r}; known: {', '.join(word or '(none)' for word in known)}"
        )


def need_prompt(text: str) -> None:
    """Raise ValueError when a prompt is longer than any that is taken."""
    if len(text) > MAX_PROMPT:
        raise ValueError(f"prompt: {len(text)} characters; at most {MAX_PROMPT}")
