"""`python -m models export|verify|card` for learned reference measures: LPIPS and DISTS, from the owner's weights."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import onnxruntime  # type: ignore[import-untyped]
import torch
from torch import nn

from models import MODELS_FOLDER
from models.export.reference_measure import read_measure_facts, write_measure
from models.networks.measures.dists import Dists
from models.networks.measures.lpips import Lpips
from models.verify.reference_measure import verify_measure
from models.weights import (
    HuggingFace,
    LoadedWeights,
    WeightsError,
    check_state_dict,
    load_weights,
    state_dict_shapes,
)
from vqmon.scoring.manifests.reference_measure import load_reference_spec

_FACTS = MODELS_FOLDER / "reference_measures.facts.toml"
_IGNORED_TENSORS = ("classifier.*",)


@dataclass(frozen=True, slots=True, kw_only=True)
class _PublishedMeasure:
    """A measure: its network, and the files that the options --weights and --heads name."""

    build: Callable[[], nn.Module]
    trunk: str
    heads: str


_VGG16 = "torchvision's VGG16, vgg16-397923af.pth"
_MEASURES: Mapping[str, _PublishedMeasure] = {
    "lpips_alex": _PublishedMeasure(
        build=lambda: Lpips("alex"),
        trunk="torchvision's AlexNet, alexnet-owt-7be5be79.pth",
        heads="lpips/weights/v0.1/alex.pth of the PyPI package lpips",
    ),
    "lpips_vgg": _PublishedMeasure(
        build=lambda: Lpips("vgg"), trunk=_VGG16, heads="lpips/weights/v0.1/vgg.pth of the PyPI package lpips"
    ),
    "dists": _PublishedMeasure(build=Dists, trunk=_VGG16, heads="weights.pt of the PyPI package DISTS-pytorch"),
}
NAMES = tuple(_MEASURES)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of these measures."""
    group = command.add_argument_group(", ".join(NAMES))
    group.add_argument("--heads", type=Path, metavar="FILE", help="the authors' weights; --weights is the trunk")
    group.add_argument(
        "--short-side", type=int, metavar="PX",
        help="size at which pictures are compared, 0 = the canvas; default: 256 for dists, else 0",
    )  # fmt: skip


def export(options: argparse.Namespace) -> Path:
    """Write the graph and the manifest of a measure; returns the path of the manifest. Raises WeightsError."""
    network, origin = _load_network(options)
    facts = read_measure_facts(_FACTS, options.name)
    versions = {"made by": f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}"}
    facts = replace(facts, provenance={**facts.provenance, **origin, **versions})
    if options.short_side is not None:
        facts = replace(facts, short_side=options.short_side)
    options.built.mkdir(parents=True, exist_ok=True)
    return write_measure(
        network, _bundle_name(options), version=options.version, facts=facts, folder=options.built
    )  # fmt: skip


def _load_network(options: argparse.Namespace) -> tuple[nn.Module, dict[str, str]]:
    """(the network with its weights, provenance of the weights); raises WeightsError."""
    measure = _MEASURES[options.name]
    if options.weights is None or options.heads is None:
        raise WeightsError(f"{options.name} needs two files: --weights of {measure.trunk}, and --heads {measure.heads}")
    files = [
        load_weights(str(path), hub=HuggingFace(options.cache), sha256=options.sha256)
        for path in (options.weights, options.heads)
    ]
    network = measure.build()
    trunk, heads = files
    shapes = state_dict_shapes(network)
    trunk_shapes = {name: shape for name, shape in shapes.items() if name.startswith("features.")}
    _check(trunk, trunk_shapes, f"--weights: this is not {measure.trunk}")
    _check(
        heads, {name: shapes[name] for name in shapes.keys() - trunk_shapes}, f"--heads: this is not {measure.heads}"
    )
    network.load_state_dict(
        {name: file.checkpoint[name] for file in files for name in file.checkpoint if name in shapes}
    )
    origin = {"weights": f"{trunk.reference}, {heads.reference}"}
    origin |= {f"sha256 of {name}": digest for file in files for name, digest in file.hashes.items()}
    return network.eval().requires_grad_(requires_grad=False), origin


def _check(loaded: LoadedWeights, shapes: Mapping[str, tuple[int, ...]], problem: str) -> None:
    try:
        check_state_dict(loaded.checkpoint.shapes, shapes, ignored=_IGNORED_TENSORS)
    except WeightsError as error:
        raise WeightsError(f"{problem}: {error}") from error


def verify(options: argparse.Namespace) -> list[str]:
    """Verify an exported measure, against torch too when weights are given; raises VerifyError or WeightsError."""
    network = None if options.weights is None else _load_network(options)[0]
    return verify_measure(_manifest(options), network=network)


def card(options: argparse.Namespace) -> str:
    """A Markdown table of the manifest's facts; raises WeightsError when there is no such manifest."""
    manifest = _manifest(options)
    if not manifest.is_file():
        raise WeightsError(
            f"{manifest}: no such manifest; export the measure first, or name its folder: --built FOLDER"
        )
    spec = load_reference_spec(manifest)
    rows = {
        "measure": spec.id,
        "output": spec.description,
        "file": f"{spec.graph.size_bytes / 2**20:.1f} MiB, sha256 `{spec.graph.sha256}`",
        "pictures": f"{spec.preprocessing_id}, from {spec.min_side_px} px",
        "commercial use": {True: "allowed", False: "forbidden", None: "not stated"}[spec.licence.commercial],
        "licence": f"{spec.licence.name}: {spec.licence.note}",
        **spec.provenance,
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _bundle_name(options: argparse.Namespace) -> str:
    name: str = options.name
    return name.replace("_", "-")


def _manifest(options: argparse.Namespace) -> Path:
    folder: Path = options.built
    return folder / f"{_bundle_name(options)}@{options.version}.json"
