"""What the keys of rules have in common: limits and choices, refused with the key's name."""


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
