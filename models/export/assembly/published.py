"""From published files to scorers of several graphs: what each needs, under which names, and what is made of it."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from models import MODELS_FOLDER
from models.export.assembly import recipes
from models.export.assembly.assembly import Assembly
from models.export.assembly.writer import SheetFacts
from models.export.graphs import Weights
from models.networks import align_iqa, dover, fast_vqa, liqe, sr_vqa
from models.networks.backbones import slowfast
from models.networks.backbones.bottleneck import BotConfig
from models.networks.backbones.clip import Clip, ClipConfig
from models.networks.backbones.convnext3d import ConvNextConfig
from models.networks.backbones.swin import SwinConfig, swin_b_384
from models.weights import Shapes, WeightsError, check_names, shapes_of
from vqmon.scoring.manifests.frame_scorer import Licence

Networks = Mapping[str, nn.Module]
"""Name of a file -> the network that it fills."""
Kind = TypeVar("Kind", bound=nn.Module)
_FACTS = MODELS_FOLDER / "rich.facts.toml"
# Counters that say nothing of a network.
_OPTIONAL = ("*.num_batches_tracked",)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSpec:
    """One published file: the network whose names it has, and names in it that nobody needs."""

    make: Callable[[], nn.Module]
    ignored: tuple[str, ...] = ()
    # in front of every name, in files written by several GPUs
    prefix: str = "module."


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """A scorer: the files that it takes, its own first, and how it is put together."""

    files: Mapping[str, FileSpec]
    build: Callable[[Networks, int], Assembly]
    # a scorer whose sheet may be named -> what is given where it is not
    joins: Mapping[str, str] = field(default_factory=dict)


_SLOWFAST = FileSpec(make=partial(slowfast.SlowFast, slowfast.SlowFastConfig()))
_FAST = FileSpec(make=partial(slowfast.FastPathway, slowfast.SlowFastConfig()), ignored=slowfast.NOT_FAST)
_FAST_VQA = FileSpec(make=partial(fast_vqa.FastVqa, SwinConfig()), ignored=fast_vqa.IGNORED)
_DOVER = FileSpec(make=partial(dover.Dover, SwinConfig(), ConvNextConfig()), ignored=dover.IGNORED)
_LIQE = FileSpec(make=partial(Clip, ClipConfig()), ignored=("input_resolution", "context_length", "vocab_size"))
_ALIGN_IQA = FileSpec(make=lambda: align_iqa.AlignIqa(align_iqa.published_sizes()), ignored=sr_vqa.IGNORED)
_RQ_VQA = FileSpec(make=partial(sr_vqa.RqVqa, swin_b_384(), BotConfig()), ignored=sr_vqa.IGNORED)
_SHARED = {"slowfast": _FAST, "fast_vqa": _FAST_VQA, "liqe": _LIQE}
_HIDDEN = {"q_align_hidden": "llm"}


def _liqe_of(networks: Networks) -> liqe.Liqe:
    clip = cast("Clip", networks["liqe"])
    net = liqe.Liqe(clip.config, liqe.sentence_matrix(clip), clip.logit_scale.detach())
    net.visual = clip.visual
    return net


def _build_fused(make: Callable[..., Assembly], own: str, networks: Networks, version: int) -> Assembly:
    return make(
        networks[own], fast=networks["slowfast"], clips=networks["fast_vqa"], sentences=_liqe_of(networks),
        version=version,
    )  # fmt: skip


def _one(make: Callable[..., Assembly], own: str, networks: Networks, version: int) -> Assembly:
    return make(networks[own], version=version)


KITS: Mapping[str, Kit] = MappingProxyType(
    {
        "slowfast": Kit(files={"slowfast": _SLOWFAST}, build=partial(_one, recipes.slowfast, "slowfast")),
        "slowfast_fast": Kit(files={"slowfast": _FAST}, build=partial(_one, recipes.slowfast_fast, "slowfast")),
        "fast_vqa": Kit(files={"fast_vqa": _FAST_VQA}, build=partial(_one, recipes.fast_vqa, "fast_vqa")),
        "dover": Kit(files={"dover": _DOVER}, build=partial(_one, recipes.dover, "dover")),
        "liqe": Kit(files={"liqe": _LIQE}, build=lambda nets, version: recipes.liqe(_liqe_of(nets), version=version)),
        "rq_vqa": Kit(
            files={"rq_vqa": _RQ_VQA, **_SHARED},
            build=partial(_build_fused, recipes.rq_vqa, "rq_vqa"),
            joins=_HIDDEN,
        ),
        "sr_vqa": Kit(
            files={"sr_vqa": FileSpec(make=lambda: sr_vqa.SrVqa(sr_vqa.full())), **_SHARED},
            build=partial(_build_fused, recipes.sr_vqa, "sr_vqa"),
            joins=_HIDDEN,
        ),
        "sr_vqa_lean": Kit(
            files={"sr_vqa_lean": FileSpec(make=lambda: sr_vqa.SrVqa(sr_vqa.lean())), **_SHARED},
            build=partial(_build_fused, recipes.sr_vqa, "sr_vqa_lean"),
        ),
        "align_iqa": Kit(files={"align_iqa": _ALIGN_IQA}, build=partial(_one, recipes.align_iqa, "align_iqa")),
        "align_iqa_generated": Kit(
            files={"align_iqa": _ALIGN_IQA, "clip": _LIQE},
            build=lambda nets, version: recipes.align_iqa_generated(
                cast("align_iqa.AlignIqa", nets["align_iqa"]), clip=cast("Clip", nets["clip"]), version=version
            ),
        ),
    }
)


def facts_of(name: str) -> SheetFacts:
    """The facts written by hand in `rich.facts.toml`."""
    table = tomllib.loads(_FACTS.read_text())[name]
    licence = Licence(commercial=table["licence"].pop("commercial", None), **table["licence"])
    return SheetFacts(description=table["description"], licence=licence, provenance=table["provenance"])


def fill(spec: FileSpec, weights: Weights, shapes: Shapes) -> nn.Module:
    """A network with a file's tensors in float32; raises WeightsError naming what is missing, unknown or misshapen."""
    start = spec.prefix if shapes and all(name.startswith(spec.prefix) for name in shapes) else ""
    network = spec.make()
    needed = shapes_of(network)
    bare = {name.removeprefix(start): shape for name, shape in shapes.items()}
    check_names(bare, needed, optional=_OPTIONAL, ignored=spec.ignored)
    table: dict[str, Tensor] = {}
    for name in needed:
        if name in bare:
            tensor = weights[start + name]
            table[name] = tensor.float() if tensor.is_floating_point() else tensor
    network.load_state_dict(table, strict=False, assign=True)
    return network.eval().requires_grad_(requires_grad=False)


def random_networks(name: str, *, seed: int = 0) -> dict[str, nn.Module]:
    """Every network that a scorer needs, with lively random weights: to measure speed and to check graphs."""
    torch.manual_seed(seed)
    made = {key: spec.make().eval().requires_grad_(requires_grad=False) for key, spec in KITS[name].files.items()}
    for network in made.values():
        enliven(network)
    return made


def enliven(network: nn.Module) -> None:
    """Draw every weight anew so that each detail shows in the answer; matrices keep the size of what goes through."""
    for name, tensor in network.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if name.endswith("running_var"):
            tensor.uniform_(1, 1.2)
        elif name.endswith(("table", "rel_height", "rel_width")):
            tensor.normal_(std=0.1)
        elif tensor.dim() > 1 and "embedding" not in name:
            tensor.normal_(std=tensor[0].numel() ** -0.5)
        elif name.endswith("logit_scale"):
            tensor.fill_(4.6)
        else:
            tensor.normal_(std=0.05).add_(1.0 if name.endswith(("weight", "gamma")) and tensor.dim() == 1 else 0.0)


def need_file(name: str, given: Mapping[str, object]) -> None:
    """Refuse when a file that a scorer takes is not named."""
    if missing := [key for key in KITS[name].files if key not in given]:
        raise WeightsError(f"{name} needs weights of {', '.join(missing)}: --part {missing[0]}=FILE")
