"""`python -m models export|verify|card` for feature networks and the scorers that join them."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnxruntime  # type: ignore[import-untyped]
import torch

from models.export import composite, owl_hidden
from models.export.assembly import published
from models.export.assembly.assembly import Assembly, Given, Source, Text
from models.export.assembly.shared_features import read_joined
from models.export.assembly.writer import DTYPES, Joined, SheetFacts, write_assembly
from models.export.graphs import ONE_FILE_BYTES
from models.export.owl_streaming import IGNORED, OPTIONAL, needed_shapes
from models.networks.owl.owl import OwlConfig
from models.verify import assembly as parts_verify
from models.weights import HuggingFace, WeightsError, check_licence, check_names, load
from vqmon.errors import ScorerError
from vqmon.scoring.scorers.clip_tokenizer import load_clip_tokenizer

HIDDEN = "q_align_hidden"
NAMES = (*published.KITS, HIDDEN)


def add_arguments(part: argparse.ArgumentParser) -> None:
    """What these scorers need to be told beside what all do."""
    group = part.add_argument_group(", ".join(NAMES))
    group.add_argument(
        "--part", action="append", default=[], metavar="NAME=FILE",
        help="what a scorer joins: weights of slowfast, fast_vqa, liqe, or q_align_hidden=SHEET.parts.json as written; "
        "--weights are the scorer's own",
    )  # fmt: skip
    group.add_argument(
        "--vocabulary", type=Path, metavar="FILE",
        help="align_iqa_generated: CLIP's list of merges, bpe_simple_vocab_16e6.txt.gz or a plain one",
    )  # fmt: skip
    group.add_argument("--scale", type=Path, metavar="FILE.toml", help="what answers mean: native_range and points")


def export(options: argparse.Namespace) -> Path:
    """Write a scorer's graphs, its sheet, and a manifest where the daemon can serve it; returns the sheet's path.

    Raises WeightsError.
    """
    facts = published.facts_of(options.name)
    check_licence(options.name, facts.licence, allow_noncommercial=options.allow_noncommercial)
    if options.name == HIDDEN:
        return export_hidden(options, facts)
    assembly, origin = prepare(options)
    options.built.mkdir(parents=True, exist_ok=True)
    joined = _joined(options, assembly)
    facts, form = _with_origin(facts, origin), form_of(options)
    sheet = write_assembly(assembly, facts, form=form, folder=options.built, joined=joined)
    if options.scale is not None or composite.is_served(sheet, options.name):
        composite.write_composite(sheet, composite.scale_of(options.name, options.scale))
    return sheet


def _joined(options: argparse.Namespace, assembly: Assembly) -> dict[str, Joined]:
    """The sheets that are named, by what they make for a scorer."""
    given, joins = dict(_named(each) for each in options.part), published.KITS[options.name].joins
    features = {each.name: each for each in assembly.sources if isinstance(each, Given)}
    return {
        made: read_joined(Path(given[name]), features[made], form=form_of(options), folder=options.built)
        for name, made in joins.items()
        if name in given
    }


def export_hidden(options: argparse.Namespace, facts: SheetFacts, config: OwlConfig | None = None) -> Path:
    config = OwlConfig() if config is None else config
    if options.weights is None:
        raise WeightsError("name the weights of Q-Align: --weights FILE, FOLDER or owner/name@commit")
    found = load(str(options.weights), hub=HuggingFace(options.cache), sha256=options.sha256)
    check_names(found.checkpoint.shapes, needed_shapes(config), optional=OPTIONAL, ignored=IGNORED)
    origin = {"weights": found.reference, **{f"sha256 of {name}": digest for name, digest in found.hashes.items()}}
    options.built.mkdir(parents=True, exist_ok=True)
    return owl_hidden.write_scorer(
        config, found.checkpoint, _with_origin(facts, origin), form=form_of(options), sheet=sheet_of(options),
        one_file_bytes=ONE_FILE_BYTES,
    )  # fmt: skip


def _with_origin(facts: SheetFacts, origin: Mapping[str, str]) -> SheetFacts:
    made = {"made by": f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}"}
    return replace(facts, provenance={**facts.provenance, **origin, **made})


def verify(options: argparse.Namespace) -> list[str]:
    """Check what was written, against torch when weights are given; raises VerifyError."""
    with_torch = options.name != HIDDEN and (options.weights is not None or options.part)
    assembly = prepare(options)[0] if with_torch else None
    return parts_verify.verify(sheet_of(options), assembly=assembly)


def card(options: argparse.Namespace) -> str:
    """A Markdown table of what the sheet says."""
    return card_of(sheet_of(options))


def card_of(sheet: Path) -> str:
    """A Markdown table of what a sheet says; raises WeightsError when it is not there."""
    if not sheet.is_file():
        raise WeightsError(f"{sheet}: no such sheet; export the scorer first, or name its folder: --built FOLDER")
    table = json.loads(sheet.read_text())
    rows = {
        "scorer": f"{table['name']}@{table['version']}",
        "says": table["description"],
        "pixels": ", ".join(_source(each) for each in parts_verify.read_sources(table, sheet.parent)),
        **{step["name"]: _step(step) for step in table["steps"]},
        "commercial use": {True: "allowed", False: "forbidden", None: "nobody has said"}[
            table["licence"]["commercial"]
        ],
        "licence": f"{table['licence']['name']}: {table['licence']['note']}",
        **table["provenance"],
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def sheet_of(options: argparse.Namespace) -> Path:
    """Where the sheet of these options lies."""
    folder: Path = options.built
    return folder / f"{options.name.replace('_', '-')}-{form_of(options)}@{options.version}.parts.json"


def form_of(options: argparse.Namespace) -> str:
    """How numbers are kept; refuses forms that only language models have."""
    if options.dtype not in DTYPES:
        raise WeightsError(f"{options.name} is written as {' or '.join(DTYPES)}, not as {options.dtype}")
    form: str = options.dtype
    return form


def prepare(options: argparse.Namespace) -> tuple[Assembly, dict[str, str]]:
    """A scorer with its weights, and where these come from."""
    kit, given = published.KITS[options.name], dict(_named(each) for each in options.part)
    own = next(iter(kit.files))
    if options.weights is not None:
        given.setdefault(own, str(options.weights))
    published.need_file(options.name, given)
    if unknown := sorted(given.keys() - kit.files.keys() - kit.joins.keys()):
        known = ", ".join((*kit.files, *kit.joins))
        raise WeightsError(f"{options.name} takes no weights of {', '.join(unknown)}; it takes {known}")
    networks, origin = {}, {}
    for key, spec in kit.files.items():
        found = load(given[key], hub=HuggingFace(options.cache))
        networks[key] = published.fill(spec, found.checkpoint, found.checkpoint.shapes)
        origin[f"weights of {key}"] = found.reference
        origin |= {f"sha256 of {name}": digest for name, digest in found.hashes.items()}
    if unpinned := [name for name in options.sha256 if name not in origin.values()]:
        raise WeightsError(f"no file has the sha256 {unpinned[0]}; it is not what was pinned")
    assembly = kit.build(networks, options.version)
    return _reading(assembly, options), origin


def _reading(assembly: Assembly, options: argparse.Namespace) -> Assembly:
    """With the list of merges that prompts are read with, where there are prompts; raises WeightsError."""
    sources = [
        replace(each, content=merges_of(options.vocabulary, ids=each.ids)) if isinstance(each, Text) else each
        for each in assembly.sources
    ]
    return replace(assembly, sources=tuple(sources))


def merges_of(file: Path | None, *, ids: int) -> bytes:
    """The merges of a published list that so many token ids need, a pair a line; raises WeightsError."""
    if file is None:
        raise WeightsError("prompts are read with CLIP's list of merges: --vocabulary bpe_simple_vocab_16e6.txt.gz")
    try:
        merges = load_clip_tokenizer(file.read_bytes(), vocabulary_size=ids).merges
    except OSError as error:
        raise WeightsError(f"--vocabulary {file}: cannot be read: {error.strerror}") from error
    except ScorerError as error:
        raise WeightsError(f"--vocabulary {file}: {error}") from error
    return "".join(f"{left} {right}\n" for left, right in merges).encode()


def _named(word: str) -> tuple[str, str]:
    name, equals, file = word.partition("=")
    if not equals:
        raise WeightsError(f"--part {word}: write NAME=FILE")
    return name, file


def _source(source: Source | Given | Text) -> str:
    if isinstance(source, Text):
        spec = source.spec
        return f"{source.name}: the segment's prompt, {spec.tokens} tokens of {spec.ids}, {spec.file}"
    if isinstance(source, Given):
        return f"{source.name}: features given {source.shape}"
    height, width = source.size
    return f"{source.name}: {source.pictures} x {height} x {width}, {source.made}"


def _step(step: dict[str, dict[str, object]]) -> str:
    graph = step["graph"]
    size = f"{float(str(graph['size_bytes'])) / 2**20:.1f} MiB"
    return f"{graph['file']}, {size}, sha256 `{graph['sha256']}`, of {', '.join(step['takes'])} per {step['each']}"
