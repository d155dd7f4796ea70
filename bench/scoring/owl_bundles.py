"""Writes small level scorers with random weights, to measure how they are served.

.venv-models/bin/python -m bench.scoring.owl_bundles FOLDER [--forms fp32,int8]

.venv/bin/python -m bench.scoring.scoring --folder FOLDER
"""

import argparse
from dataclasses import replace
from pathlib import Path

from bench.scoring.gpu_owl import RandomWeights
from models.export import graphs
from models.export.owl import write_level_scorer
from models.export.owl_recipes import q_align_recipe
from models.export.pair import read_manifest_facts
from models.networks.owl.abstractor import AbstractorConfig
from models.networks.owl.language import LanguageConfig
from models.networks.owl.owl import OwlConfig
from models.networks.owl.vision import VisionConfig

ROOT = Path(__file__).resolve().parents[2]
SMALL = OwlConfig(
    vision=VisionConfig(width=256, inner_width=1024, depth=6, heads=4),
    abstractor=AbstractorConfig(width=256, inner_width=704, depth=2, heads=4, vision_width=256),
    language=LanguageConfig(width=512, inner_width=1376, depth=4, heads=8),
)
"""About a sixtieth of the published parameters, with its picture size and token counts."""


def main() -> None:
    """Write one bundle per precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--forms", default="fp32,int8")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    facts = read_manifest_facts(ROOT / "models" / "q_align.facts.toml")
    recipe = replace(q_align_recipe(facts, config=SMALL), name="small-owl")
    weights = RandomWeights(SMALL)
    for precision in options.forms.split(","):
        print(
            write_level_scorer(
                recipe,
                weights,
                precision=precision,
                folder=options.folder,
                max_embedded_bytes=graphs.MAX_EMBEDDED_BYTES,
            )
        )


if __name__ == "__main__":
    main()
