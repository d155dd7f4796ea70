"""The scorers that are exported from published weights: their files, the networks that these fill, their assembly."""

import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor, nn

from models import MODELS_FOLDER
from models.checkpoints.published_files import PUBLISHED_FILES, PublishedFile
from models.export.assembly import recipes
from models.export.assembly.assembly import GraphAssembly
from models.export.assembly.picture_scorers import PICTURE_SCORERS, assemble_picture_scorer
from models.export.assembly.writer import SheetFacts
from models.export.graphs import Weights
from models.networks import align_iqa, sr_vqa
from models.networks.backbones import slowfast
from models.networks.backbones.bottleneck import BottleneckConfig
from models.networks.backbones.clip import NOT_IN_VISUAL, Clip, ClipConfig, ClipVisual, vit_l_14
from models.networks.backbones.convnext3d import ConvNextConfig
from models.networks.backbones.swin import SwinConfig, swin_b_384
from models.networks.fragments import cover, dover, fast_vqa
from models.networks.pictures import liqe
from models.weights import TensorShapes, WeightsError, check_published
from vqmon.scoring.manifests.frame_scorer import Licence

NetworksByFile = Mapping[str, nn.Module]
"""Key of a file -> the network that it fills."""
_SCORER_FACTS = MODELS_FOLDER / "rich.facts.toml"
# Counters of batch norms, which have no effect on outputs.
_OPTIONAL_TENSORS = ("*.num_batches_tracked",)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFile:
    """One published file: the network that has its names, and names in it that are not needed."""

    build: Callable[[], nn.Module]
    published: PublishedFile
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedScorer:
    """A scorer: the files that it takes, its own first, and how it is assembled."""

    files: Mapping[str, WeightsFile]
    assemble: Callable[[NetworksByFile, int], GraphAssembly]
    # scorer whose sheet may be named -> the feature input that it computes
    shared_features: Mapping[str, str] = field(default_factory=dict)


def _weights_file(key: str, build: Callable[[], nn.Module], ignored: tuple[str, ...] = ()) -> WeightsFile:
    return WeightsFile(build=build, published=PUBLISHED_FILES[key], ignored=ignored)


_CLIP_SIZES = ("input_resolution", "context_length", "vocab_size")
_SLOWFAST = _weights_file("slowfast", partial(slowfast.SlowFast, slowfast.SlowFastConfig()))
_FAST = _weights_file(
    "slowfast", partial(slowfast.FastPathway, slowfast.SlowFastConfig()), slowfast.NOT_IN_FAST_PATHWAY
)
_FAST_VQA = _weights_file("fast_vqa", partial(fast_vqa.FastVqa, SwinConfig()), fast_vqa.IGNORED_TENSORS)
_DOVER = _weights_file("dover", partial(dover.Dover, SwinConfig(), ConvNextConfig()), dover.IGNORED_TENSORS)
_COVER = _weights_file("cover", partial(cover.Cover, cover.cover_clips(), ConvNextConfig()), cover.IGNORED_TENSORS)
_CLIP_L = _weights_file("clip_l", partial(ClipVisual, vit_l_14()), (*NOT_IN_VISUAL, *_CLIP_SIZES))
_LIQE = _weights_file("liqe", partial(Clip, ClipConfig()), _CLIP_SIZES)
_CLIP = _weights_file("clip", partial(Clip, ClipConfig()), _CLIP_SIZES)
_ALIGN_IQA = _weights_file("align_iqa", lambda: align_iqa.AlignIqa(align_iqa.default_config()), sr_vqa.IGNORED_TENSORS)
_RQ_VQA = _weights_file("rq_vqa", partial(sr_vqa.RqVqa, swin_b_384(), BottleneckConfig()), sr_vqa.IGNORED_TENSORS)
_SR_VQA = _weights_file("sr_vqa", lambda: sr_vqa.SrVqa(sr_vqa.full_config()))
_SR_VQA_LEAN = _weights_file("sr_vqa", lambda: sr_vqa.SrVqa(sr_vqa.lean_config()))
_SHARED_FILES = {"slowfast": _FAST, "fast_vqa": _FAST_VQA, "liqe": _LIQE}
_Q_ALIGN_HIDDEN_STATE = {"q_align_hidden": "llm"}


def _build_liqe(networks: NetworksByFile) -> liqe.Liqe:
    clip = cast("Clip", networks["liqe"])
    net = liqe.Liqe(clip.config, liqe.encode_sentences(clip), clip.logit_scale.detach())
    net.visual = clip.visual
    return net


def _assemble_fused(
    assemble: Callable[..., GraphAssembly], key: str, networks: NetworksByFile, version: int
) -> GraphAssembly:
    return assemble(
        networks[key], fast=networks["slowfast"], fast_vqa=networks["fast_vqa"], liqe=_build_liqe(networks),
        version=version,
    )  # fmt: skip


def _assemble_single(
    assemble: Callable[..., GraphAssembly], key: str, networks: NetworksByFile, version: int
) -> GraphAssembly:
    return assemble(networks[key], version=version)


PUBLISHED_SCORERS: Mapping[str, PublishedScorer] = MappingProxyType(
    {
        "slowfast": PublishedScorer(
            files={"slowfast": _SLOWFAST}, assemble=partial(_assemble_single, recipes.assemble_slowfast, "slowfast")
        ),
        "slowfast_fast": PublishedScorer(
            files={"slowfast": _FAST}, assemble=partial(_assemble_single, recipes.assemble_slowfast_fast, "slowfast")
        ),
        "fast_vqa": PublishedScorer(
            files={"fast_vqa": _FAST_VQA}, assemble=partial(_assemble_single, recipes.assemble_fast_vqa, "fast_vqa")
        ),
        "dover": PublishedScorer(
            files={"dover": _DOVER}, assemble=partial(_assemble_single, recipes.assemble_dover, "dover")
        ),
        "cover": PublishedScorer(
            files={"cover": _COVER, "clip": _CLIP_L},
            assemble=lambda nets, version: recipes.assemble_cover(
                cast("cover.Cover", nets["cover"]), clip=cast("ClipVisual", nets["clip"]), version=version
            ),
        ),
        "liqe": PublishedScorer(
            files={"liqe": _LIQE},
            assemble=lambda nets, version: recipes.assemble_liqe(_build_liqe(nets), version=version),
        ),
        **{
            name: PublishedScorer(
                files={name: _weights_file(name, each.build, each.ignored)},
                assemble=partial(_assemble_single, partial(assemble_picture_scorer, name), name),
            )
            for name, each in PICTURE_SCORERS.items()
        },
        "rq_vqa": PublishedScorer(
            files={"rq_vqa": _RQ_VQA, **_SHARED_FILES},
            assemble=partial(_assemble_fused, recipes.assemble_rq_vqa, "rq_vqa"),
            shared_features=_Q_ALIGN_HIDDEN_STATE,
        ),
        "sr_vqa": PublishedScorer(
            files={"sr_vqa": _SR_VQA, **_SHARED_FILES},
            assemble=partial(_assemble_fused, recipes.assemble_sr_vqa, "sr_vqa"),
            shared_features=_Q_ALIGN_HIDDEN_STATE,
        ),
        "sr_vqa_lean": PublishedScorer(
            files={"sr_vqa_lean": _SR_VQA_LEAN, **_SHARED_FILES},
            assemble=partial(_assemble_fused, recipes.assemble_sr_vqa, "sr_vqa_lean"),
        ),
        "align_iqa": PublishedScorer(
            files={"align_iqa": _ALIGN_IQA}, assemble=partial(_assemble_single, recipes.assemble_align_iqa, "align_iqa")
        ),
        "align_iqa_generated": PublishedScorer(
            files={"align_iqa": _ALIGN_IQA, "clip": _CLIP},
            assemble=lambda nets, version: recipes.assemble_align_iqa_generated(
                cast("align_iqa.AlignIqa", nets["align_iqa"]), clip=cast("Clip", nets["clip"]), version=version
            ),
        ),
    }
)


def read_scorer_facts(name: str) -> SheetFacts:
    """The scorer's table of `rich.facts.toml`."""
    table = tomllib.loads(_SCORER_FACTS.read_text())[name]
    licence = Licence(commercial=table["licence"].pop("commercial", None), **table["licence"])
    return SheetFacts(description=table["description"], licence=licence, provenance=table["provenance"])


def load_network(file: WeightsFile, weights: Weights, shapes: TensorShapes) -> nn.Module:
    """A network with a file's tensors in float32.

    Raises WeightsError naming what is missing, unknown, misshapen or no finite number, or the network that the file is
    of.
    """
    network = file.build()
    needed = network.state_dict()
    prefix = _common_prefix(shapes, needed)
    own_shapes = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    expected = {name: tuple(tensor.shape) for name, tensor in needed.items()}
    check_published(own_shapes, expected, file.published, optional=_OPTIONAL_TENSORS, ignored=file.ignored)
    table: dict[str, Tensor] = {}
    for name in needed:
        if name in own_shapes:
            tensor = weights[prefix + name]
            if problem := _describe_numbers(tensor, needed[name]):
                raise WeightsError(f"{name} {problem}; {file.published.describe()}")
            table[name] = tensor.float() if tensor.is_floating_point() else tensor
    network.load_state_dict(table, strict=False, assign=True)
    return network.eval().requires_grad_(requires_grad=False)


def _common_prefix(names: Iterable[str], needed: Collection[str]) -> str:
    """What stands before every name of the network's where a trainer wrapped it (`model.` of Lightning), else empty.

    Raises WeightsError for a file of several such networks, as of a student and its teacher.
    """
    given = set(names)
    if not given.isdisjoint(needed):
        return ""
    first = next(iter(needed))
    counts = {
        prefix: sum(prefix + name in given for name in needed)
        for prefix in (name.removesuffix(first) for name in given if name.endswith(f".{first}"))
    }
    fullest = sorted(prefix for prefix, count in counts.items() if count == max(counts.values()))
    if len(fullest) > 1:
        raise WeightsError(
            f"holds {len(fullest)} networks ({', '.join(fullest)}): save a file of the one that is meant"
        )
    return fullest[0] if fullest else ""


def _describe_numbers(tensor: Tensor, needed: Tensor) -> str | None:
    """Why a tensor's numbers cannot be those of a parameter; None where they can."""
    if not needed.is_floating_point():
        return None
    if not tensor.is_floating_point():
        return f"is of {str(tensor.dtype).removeprefix('torch.')}, as in a quantized network: need float32 or float16"
    return None if bool(tensor.float().isfinite().all()) else "holds numbers that are not finite: its training failed"


def random_networks(name: str, *, seed: int = 0) -> dict[str, nn.Module]:
    """Every network of a scorer with random weights, to measure speed and to check graphs."""
    torch.manual_seed(seed)
    made = {
        key: file.build().eval().requires_grad_(requires_grad=False)
        for key, file in PUBLISHED_SCORERS[name].files.items()
    }
    for network in made.values():
        randomize_weights(network)
    return made


def randomize_weights(network: nn.Module) -> None:
    """Draw every weight anew so that each shows in the output; matrices keep the scale of their input."""
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


def require_files(name: str, given: Mapping[str, object]) -> None:
    """Raise WeightsError when a file that a scorer takes is not named."""
    files = PUBLISHED_SCORERS[name].files
    own = next(iter(files))
    if missing := [key for key in files if key not in given]:
        options = (
            f"{'--weights FILE' if key == own else f'--part {key}=FILE'}: {files[key].published.locate()}"
            for key in missing
        )
        raise WeightsError(f"{name} needs weights that are not named: {'; '.join(options)}")
