"""`python -m models export|verify|card` for feature networks and the scorers that fuse their features."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnxruntime  # type: ignore[import-untyped]
import torch

from models.checkpoints.published_files import PUBLISHED_FILES
from models.commands.quantize.scorer import INT8
from models.export import owl_hidden
from models.export.assembly import composite, published
from models.export.assembly.assembly import AssemblyInput, FeatureInput, GraphAssembly, TextInput
from models.export.assembly.shared_features import read_shared_features
from models.export.assembly.writer import DTYPES, SharedFeatures, SheetFacts, read_sheet_inputs, write_assembly
from models.export.graphs import MAX_EMBEDDED_BYTES
from models.export.owl_streaming import load_owl
from models.networks.owl.owl import OwlConfig
from models.verify.assembly import verify_assembly
from models.weights import (
    HuggingFace,
    LoadedWeights,
    WeightsError,
    check_licence,
    load_weights,
)
from vqmon.errors import ScorerError
from vqmon.scoring.scorers.clip_tokenizer import load_clip_tokenizer

_HIDDEN_STATE = "q_align_hidden"
NAMES = (*published.PUBLISHED_SCORERS, _HIDDEN_STATE)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of these scorers."""
    group = command.add_argument_group(", ".join(NAMES))
    group.add_argument(
        "--part", action="append", default=[], metavar="NAME=FILE",
        help="what a scorer fuses: weights of slowfast, fast_vqa, liqe, clip, or q_align_hidden=SHEET.parts.json; "
        "--weights are the scorer's own",
    )  # fmt: skip
    group.add_argument(
        "--vocabulary", type=Path, metavar="FILE",
        help="align_iqa_generated: the merges of CLIP's tokenizer, bpe_simple_vocab_16e6.txt.gz or a plain list",
    )  # fmt: skip
    group.add_argument(
        "--scale", type=Path, metavar="FILE.toml", help="scale of the scorer's output: native_range and points"
    )


def export(options: argparse.Namespace) -> Path:
    """Write a scorer's graphs and sheet, and a manifest if the daemon can serve it; returns the path of the sheet.

    Raises WeightsError.
    """
    facts = published.read_scorer_facts(options.name)
    check_licence(options.name, facts.licence, allow_noncommercial=options.allow_noncommercial)
    if options.name == _HIDDEN_STATE:
        return export_hidden_state(options, facts)
    assembly, origin = build_assembly(options)
    options.built.mkdir(parents=True, exist_ok=True)
    sheet = write_assembly(
        assembly,
        _with_provenance(facts, origin),
        precision=precision_of(options),
        folder=options.built,
        shared=_read_shared_sheets(options, assembly),
    )
    if options.scale is not None or composite.is_servable(sheet, options.name):
        composite.write_composite_manifest(sheet, composite.find_scale(options.name, options.scale))
    return sheet


def export_hidden_state(options: argparse.Namespace, facts: SheetFacts, config: OwlConfig | None = None) -> Path:
    """Write the graphs of Q-Align's hidden state; returns the path of the sheet. Raises WeightsError.

    `config` defaults to the published sizes.
    """
    config = OwlConfig() if config is None else config
    if options.weights is None:
        published_at = PUBLISHED_FILES["q_align"].describe()
        raise WeightsError(f"name the weights of Q-Align: --weights FILE, FOLDER or owner/name@commit; {published_at}")
    loaded = load_owl(
        str(options.weights),
        config,
        HuggingFace(options.cache),
        sha256=options.sha256,
        published=PUBLISHED_FILES["q_align"],
    )
    origin = {"weights": loaded.reference, **_hash_entries(loaded)}
    options.built.mkdir(parents=True, exist_ok=True)
    return owl_hidden.write_hidden_scorer(
        config,
        loaded.checkpoint,
        _with_provenance(facts, origin),
        precision=precision_of(options),
        sheet=_sheet_path(options),
        max_embedded_bytes=MAX_EMBEDDED_BYTES,
    )


def verify(options: argparse.Namespace) -> list[str]:
    """Verify an exported scorer, against torch too when weights are given and it is not of int8.

    Raises VerifyError or WeightsError.
    """
    is_compared = options.name != _HIDDEN_STATE and options.dtype in DTYPES
    has_weights = is_compared and (options.weights is not None or options.part)
    sheet = _existing_sheet(_sheet_path(options))
    assembly = build_assembly(options)[0] if has_weights else None
    return verify_assembly(sheet, assembly=assembly)


def card(options: argparse.Namespace) -> str:
    """A Markdown table of the sheet's facts."""
    return format_sheet_card(_sheet_path(options))


def format_sheet_card(sheet: Path) -> str:
    """A Markdown table of a sheet's facts; raises WeightsError when there is no such sheet."""
    table = json.loads(_existing_sheet(sheet).read_text())
    rows = {
        "scorer": f"{table['name']}@{table['version']}",
        "output": table["description"],
        "input": ", ".join(_describe_input(each) for each in read_sheet_inputs(table, sheet.parent)),
        **{step["name"]: _describe_step(step) for step in table["steps"]},
        "commercial use": {True: "allowed", False: "forbidden", None: "not stated"}[table["licence"]["commercial"]],
        "licence": f"{table['licence']['name']}: {table['licence']['note']}",
        **table["provenance"],
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def build_assembly(options: argparse.Namespace) -> tuple[GraphAssembly, dict[str, str]]:
    """(a scorer with its weights, provenance of the weights); raises WeightsError."""
    scorer, files = published.PUBLISHED_SCORERS[options.name], _parse_named_files(options.part)
    own_file = next(iter(scorer.files))
    if options.weights is not None:
        files.setdefault(own_file, str(options.weights))
    published.require_files(options.name, files)
    if unknown := sorted(files.keys() - scorer.files.keys() - scorer.shared_features.keys()):
        accepted = ", ".join((*scorer.files, *scorer.shared_features))
        raise WeightsError(f"{options.name} takes no weights of {', '.join(unknown)}; it takes {accepted}")
    networks, origin = {}, {}
    for key, file in scorer.files.items():
        loaded = load_weights(files[key], hub=HuggingFace(options.cache), published=file.published)
        try:
            networks[key] = published.load_network(file, loaded.checkpoint, loaded.checkpoint.shapes)
        except WeightsError as error:
            raise WeightsError(f"{files[key]}: {error}") from error
        origin[f"weights of {key}"] = loaded.reference
        origin |= _hash_entries(loaded)
    if unmatched := [digest for digest in options.sha256 if digest not in origin.values()]:
        raise WeightsError(f"no file has the sha256 {unmatched[0]} that --sha256 requires")
    assembly = scorer.assemble(networks, options.version)
    return _with_vocabulary(assembly, options), origin


def precision_of(options: argparse.Namespace) -> str:
    """The precision; raises WeightsError for one that only level scorers have."""
    if options.dtype not in DTYPES:
        remedy = "; export it as fp32, then make int8 of it by `quantize`" if options.dtype == INT8 else ""
        raise WeightsError(f"{options.name} is written as {' or '.join(DTYPES)}, not as {options.dtype}{remedy}")
    precision: str = options.dtype
    return precision


def _read_shared_sheets(options: argparse.Namespace, assembly: GraphAssembly) -> dict[str, SharedFeatures]:
    """The sheets named by --part, by the feature input that their graphs compute."""
    files = _parse_named_files(options.part)
    features = {each.name: each for each in assembly.inputs if isinstance(each, FeatureInput)}
    return {
        feature: read_shared_features(
            Path(files[name]), features[feature], precision=precision_of(options), folder=options.built
        )
        for name, feature in published.PUBLISHED_SCORERS[options.name].shared_features.items()
        if name in files
    }


def _with_provenance(facts: SheetFacts, origin: Mapping[str, str]) -> SheetFacts:
    versions = {"made by": f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}"}
    return replace(facts, provenance={**facts.provenance, **origin, **versions})


def _hash_entries(loaded: LoadedWeights) -> dict[str, str]:
    return {f"sha256 of {name}": digest for name, digest in loaded.hashes.items()}


def _with_vocabulary(assembly: GraphAssembly, options: argparse.Namespace) -> GraphAssembly:
    """The assembly with the tokenizer's merges in its text inputs, if it has any; raises WeightsError."""
    inputs = [
        replace(each, content=_read_merges(options.vocabulary, ids=each.ids)) if isinstance(each, TextInput) else each
        for each in assembly.inputs
    ]
    return replace(assembly, inputs=tuple(inputs))


def _read_merges(file: Path | None, *, ids: int) -> bytes:
    """The merges of a vocabulary of `ids` token ids, one pair per line; raises WeightsError."""
    if file is None:
        raise WeightsError("prompts need the merges of CLIP's tokenizer: --vocabulary bpe_simple_vocab_16e6.txt.gz")
    try:
        merges = load_clip_tokenizer(file.read_bytes(), vocabulary_size=ids).merges
    except OSError as error:
        raise WeightsError(f"--vocabulary {file}: cannot be read: {error.strerror}") from error
    except ScorerError as error:
        raise WeightsError(f"--vocabulary {file}: {error}") from error
    return "".join(f"{left} {right}\n" for left, right in merges).encode()


def _parse_named_files(options: list[str]) -> dict[str, str]:
    """NAME -> FILE of the values of `--part`; raises WeightsError."""
    files = {}
    for option in options:
        name, equals, file = option.partition("=")
        if not equals:
            raise WeightsError(f"--part {option}: write NAME=FILE")
        files[name] = file
    return files


def _existing_sheet(sheet: Path) -> Path:
    if not sheet.is_file():
        raise WeightsError(f"{sheet}: no such sheet; export the scorer first, or name its folder: --built FOLDER")
    return sheet


def _sheet_path(options: argparse.Namespace) -> Path:
    folder: Path = options.built
    # int8 is made by `quantize`, of what was exported
    precision = INT8 if options.dtype == INT8 else precision_of(options)
    return folder / f"{options.name.replace('_', '-')}-{precision}@{options.version}.parts.json"


def _describe_input(each: AssemblyInput) -> str:
    if isinstance(each, TextInput):
        spec = each.spec
        return f"{each.name}: the segment's prompt, {spec.tokens} tokens of {spec.ids}, {spec.file}"
    if isinstance(each, FeatureInput):
        return f"{each.name}: features of shape {each.shape}"
    height, width = each.size
    return f"{each.name}: {each.pictures} x {height} x {width}, {each.transform}"


def _describe_step(step: dict[str, dict[str, object]]) -> str:
    graph = step["graph"]
    size = f"{float(str(graph['size_bytes'])) / 2**20:.1f} MiB"
    return f"{graph['file']}, {size}, sha256 `{graph['sha256']}`, of {', '.join(step['takes'])} per {step['each']}"
