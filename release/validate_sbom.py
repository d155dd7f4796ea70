"""Checks a bill of materials against the schema of CycloneDX: `python -m release.validate_sbom FILE`.

Runs in the environment of `cyclonedx-py`, whose library ships the schema.
"""

import importlib
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    """Print what is wrong; returns 1 when something is."""
    schema: Any = importlib.import_module("cyclonedx.schema")
    validation: Any = importlib.import_module("cyclonedx.validation.json")
    problem = validation.JsonStrictValidator(schema.SchemaVersion.V1_6).validate_str(Path(sys.argv[1]).read_text())
    if problem is not None:
        print(f"{sys.argv[1]}: {problem}", file=sys.stderr)
        return 1
    print(f"{sys.argv[1]}: valid CycloneDX 1.6")
    return 0


if __name__ == "__main__":
    sys.exit(main())
