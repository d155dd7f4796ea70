"""One parser under Atheris, guided by coverage: `python -m tests.fuzz.guided NAME [options of libFuzzer] FOLDER`."""

import importlib
import sys
from random import Random
from typing import Any

from tests.fuzz.mutations import several

_INSTRUMENTED = [
    *(
        f"vqmon.media.{name}"
        for name in ("sources", "fetch", "sound", "decode.bitstream", "decode.stills", "decode.protocol")
    ),
    "vqmon.transport.wire",
    "m3u8",
]


def main() -> None:
    """Run until the options of libFuzzer, or a finding, end it."""
    # only in the environment of `make fuzz`
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=_INSTRUMENTED):
        targets = importlib.import_module("tests.fuzz.targets")
    target = targets.TARGETS[sys.argv[1]]

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        return several(target.mutation, bytes(data), Random(seed))[:max_size]

    atheris.Setup([sys.argv[0], *sys.argv[2:]], lambda data: targets.verdict(target, data), custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
