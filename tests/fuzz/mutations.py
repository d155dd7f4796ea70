"""Mutations that know the structure of what they change: boxes, packets, lines, elements, JSON values.

Each takes bytes and a source of chance and gives other bytes, of at most `_MAX_BYTES`.
"""

import json
import re
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

_MAX_BYTES = 1 << 16

Mutation = Callable[[bytes, Random], bytes]

_NUMBERS = (0, 1, 2, 7, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
_TEXTS = (
    "0",
    "-1",
    "1e999",
    "nan",
    "9" * 30,
    "0x10",
    "",
    " ",
    '"',
    "\u2100",
    "\ud7ff",
    "{$x}",
    "../a?b#c",
    "data:,x",
    "PT1E9S",
    "1-",
)
_PACKET = 188
_CONTAINERS = frozenset(
    {
        b"moov",
        b"trak",
        b"mdia",
        b"minf",
        b"stbl",
        b"moof",
        b"traf",
        b"mvex",
        b"edts",
        b"dinf",
        b"sinf",
        b"schi",
        b"iprp",
        b"ipco",
    }
)


def mutate_bytes(data: bytes, chance: Random) -> bytes:
    """Flip, overwrite, insert, delete, repeat or move bytes; write numbers at the borders of their types."""
    changed = bytearray(data or b"\0")
    at = chance.randrange(len(changed))
    match chance.randrange(7):
        case 0:
            changed[at] ^= 1 << chance.randrange(8)
        case 1:
            form, size = chance.choice(((">B", 1), (">H", 2), (">I", 4), (">Q", 8), ("<I", 4)))
            changed += bytes(max(0, size - len(changed)))
            struct.pack_into(form, changed, min(at, len(changed) - size), chance.choice(_NUMBERS) % 256**size)
        case 2:
            changed[at:at] = chance.randbytes(chance.randrange(1, 9))
        case 3:
            del changed[at : at + chance.randrange(1, 33)]
        case 4:
            part = changed[at : at + chance.randrange(1, 65)]
            changed[at:at] = part * chance.randrange(1, 5)
        case 5:
            del changed[at:]
        case _:
            other = chance.randrange(len(changed))
            changed[at : at + 16], changed[other : other + 16] = changed[other : other + 16], changed[at : at + 16]
    return bytes(changed[:_MAX_BYTES])


def mutate_boxes(data: bytes, chance: Random) -> bytes:
    """Change one box of an ISO file, at any depth: its size, its name, its content; remove, repeat, nest or move it."""
    boxes = list(_boxes(data, 0, len(data)))
    if not boxes or chance.random() < 0.2:
        return mutate_bytes(data, chance)
    start, end = chance.choice(boxes)
    box = data[start:end]
    match chance.randrange(7):
        case 0:
            box = struct.pack(">I", chance.choice(_NUMBERS) % 2**32) + box[4:]
        case 1:
            box = struct.pack(">I4sQ", 1, box[4:8], chance.choice(_NUMBERS)) + box[8:]
        case 2:
            box = (
                box[:4]
                + chance.choice(sorted(_CONTAINERS | {data[first + 4 : first + 8] for first, _ in boxes}))
                + box[8:]
            )
        case 3:
            box = b""
        case 4:
            box *= chance.randrange(2, 5)
        case 5:
            box = struct.pack(">I4s", len(box) + 8, chance.choice((b"moov", b"trak", b"meta", b"udta"))) + box
        case _:
            box = box[:8] + mutate_bytes(box[8:], chance)
            box = struct.pack(">I", len(box)) + box[4:]
    return (data[:start] + box + data[end:])[:_MAX_BYTES]


def mutate_packets(data: bytes, chance: Random) -> bytes:
    """Change one packet of a transport stream (header, adaptation field, payload), or lose, repeat or move packets."""
    packets = [data[start : start + _PACKET] for start in range(0, len(data), _PACKET)]
    if len(packets) < 2 or chance.random() < 0.1:
        return mutate_bytes(data, chance)
    # tables come first, and are rare
    at = chance.randrange(min(4, len(packets))) if chance.random() < 0.5 else chance.randrange(len(packets))
    match chance.randrange(5):
        case 0:
            header = bytearray(packets[at][:12])
            header[chance.randrange(len(header))] = chance.randrange(256)
            packets[at] = bytes(header) + packets[at][12:]
        case 1:
            packets[at] = (packets[at][:4] + mutate_bytes(packets[at][4:], chance))[:_PACKET].ljust(_PACKET, b"\xff")
        case 2:
            del packets[at : at + chance.randrange(1, 5)]
        case 3:
            packets[at:at] = packets[at : at + 1] * chance.randrange(1, 4)
        case _:
            packets.insert(chance.randrange(len(packets)), packets.pop(at))
    return b"".join(packets)[:_MAX_BYTES]


def mutate_lines(data: bytes, chance: Random) -> bytes:
    """Change one line of a playlist: its value, an attribute, a number; remove, repeat, move or cut it."""
    lines = data.split(b"\n")
    at = chance.randrange(len(lines))
    match chance.randrange(6):
        case 0:
            lines[at] = _with_text(lines[at], rb"[^:,=]*$", chance)
        case 1:
            lines[at] = _with_text(lines[at], rb'(?<=[=:,])("[^"]*"|[^,]*)', chance)
        case 2:
            lines[at] = _with_text(lines[at], rb"-?\d+(\.\d+)?", chance)
        case 3:
            del lines[at]
        case 4:
            lines.insert(chance.randrange(len(lines) + 1), lines[at])
        case _:
            lines[at] = mutate_bytes(lines[at], chance)
    return b"\n".join(lines)[:_MAX_BYTES]


def mutate_xml(data: bytes, chance: Random) -> bytes:
    """Change one attribute, number, name or element of an XML document; elements may be repeated or lost."""
    match chance.randrange(6):
        case 0:
            return _with_text(data, rb'(?<==")[^"]*(?=")', chance)
        case 1:
            return _with_text(data, rb"\d+(\.\d+)?", chance)
        case 2:
            names = re.findall(rb"<(\w+)", data) or [b"MPD"]
            old, new = chance.choice(names), chance.choice(names)
            return re.sub(rb"(</?)" + re.escape(old) + rb"\b", rb"\g<1>" + new, data)
        case 3:
            return _changed(data, rb'\s[\w:]+="[^"]*"', lambda match: b"", chance)
        case 4:
            return _changed(
                data,
                rb"<(\w+)[^<>]{0,400}/>|<(\w+)[^<>]{0,400}>[^<]{0,400}</\2>",
                lambda match: match * chance.randrange(4),
                chance,
            )
        case _:
            return mutate_bytes(data, chance)


def mutate_json(data: bytes, chance: Random) -> bytes:
    """Change one value of a JSON document, at any depth, to one of another type or size; or its bytes."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return mutate_bytes(data, chance)
    if chance.random() < 0.15:
        return mutate_bytes(data, chance)
    places = list(_places(document))
    if not places:
        return json.dumps(_any_value(chance)).encode()
    parent, key = chance.choice(places)
    match chance.randrange(4):
        case 0:
            del parent[key]
        case 1:
            other_parent, other_key = chance.choice(places)
            parent[key] = json.loads(json.dumps(other_parent[other_key]))
        case _:
            parent[key] = _any_value(chance)
    return json.dumps(document).encode()[:_MAX_BYTES]


def several(mutation: Mutation, data: bytes, chance: Random) -> bytes:
    """One to four mutations, one after the other."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        data = mutation(data, chance)
    return data


def _boxes(data: bytes, start: int, end: int, depth: int = 0) -> Sequence[tuple[int, int]]:
    """(start, end) of every box, those within containers too."""
    found: list[tuple[int, int]] = []
    while start + 8 <= end and len(found) < 1000:
        size = int.from_bytes(data[start : start + 4], "big")
        last = start + size if 8 <= size <= end - start else end
        found.append((start, last))
        if data[start + 4 : start + 8] in _CONTAINERS and depth < 8:
            found += _boxes(data, start + 8, last, depth + 1)
        start = last
    return found


def _with_text(data: bytes, pattern: bytes, chance: Random) -> bytes:
    text = chance.choice(_TEXTS) if chance.random() < 0.6 else str(chance.choice(_NUMBERS) * chance.choice((1, -1)))
    return _changed(data, pattern, lambda match: text.encode(), chance)


def _changed(data: bytes, pattern: bytes, replace: Callable[[bytes], bytes], chance: Random) -> bytes:
    """The data with one match of the pattern replaced."""
    matches = list(re.finditer(pattern, data))
    if not matches:
        return mutate_bytes(data, chance)
    match = chance.choice(matches)
    return (data[: match.start()] + replace(match[0]) + data[match.end() :])[:_MAX_BYTES]


def _places(value: Any) -> Sequence[tuple[Any, Any]]:
    """(container, key or index) of every value in a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    places = [(value, key) for key, _ in items]
    return [*places, *(place for container, key in places for place in _places(container[key]))]


def _any_value(chance: Random) -> Any:
    values: tuple[Any, ...] = (
        None,
        True,
        [],
        {},
        "",
        [[]],
        {"a": {}},
        0.5,
        -1,
        1e308,
        float("inf"),
        float("nan"),
        "\ud800",
        "x" * 5000,
    )
    return chance.choice((*values, chance.choice(_NUMBERS), chance.choice(_TEXTS), -chance.choice(_NUMBERS)))
