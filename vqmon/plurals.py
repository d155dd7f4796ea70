"""Counted nouns in messages."""


def plural(count: int, noun: str) -> str:
    """The count with the noun in the form that goes with it.

    >>> plural(1, "stream"), plural(0, "stream"), plural(1234, "query")
    ('1 stream', '0 streams', '1,234 queries')
    """
    if count != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else f"{noun}s"
    return f"{count:,} {noun}"
