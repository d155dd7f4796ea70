"""The published files of weights: where each is published, and by which tensors the network in a file is recognized."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import filter as match_names
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFile:
    """A file that a scorer takes: the network in it as messages name it, and where the file is published."""

    network: str
    file: str
    location: str
    # what a TorchScript program with the same tensors is instead; empty where the file may be one
    as_program: str = ""

    def describe(self) -> str:
        """What is expected and where it is, for the end of a message."""
        return f"expected {self.locate()}"

    def locate(self) -> str:
        """The file, and where it is published."""
        return f"{self.file}, published at {self.location}"


_CLIP, _CLIP_L, _RQ_VQA, _SLOWFAST = "CLIP ViT-B or LIQE", "CLIP ViT-L", "RQ-VQA", "SlowFast"
_OWL = "mPLUG-Owl2 (OneAlign, Q-Align, Compare2Score)"
_FAST_VQA, _DOVER, _COVER, _ALIGN_IQA, _SR_VQA = "FAST-VQA or FasterVQA", "DOVER", "COVER", "Align-IQA", "SR-VQA"
_HYPER_IQA, _DB_CNN, _MUSIQ, _TOPIQ, _MANIQA = "HyperIQA", "DB-CNN", "MUSIQ", "TOPIQ without a reference", "MANIQA"
_IQA_PYTORCH = "https://huggingface.co/chaofengc/IQA-PyTorch-Weights"
_OPENAI = "the addresses in clip/clip.py of https://github.com/openai/CLIP"
_TRAINED_HERE = "no address: train your own, models/README.md says how"

PUBLISHED_FILES: Mapping[str, PublishedFile] = MappingProxyType(
    {
        "fast_vqa": PublishedFile(
            network=_FAST_VQA,
            file="FAST_VQA_B_1_4.pth or FAST_VQA_3D_1_1.pth",
            location="https://github.com/VQAssessment/FAST-VQA-and-FasterVQA/releases (v2.0.0)",
        ),
        "dover": PublishedFile(
            network=_DOVER, file="DOVER.pth", location="https://github.com/VQAssessment/DOVER/releases (v0.1.0)"
        ),
        "cover": PublishedFile(
            network=_COVER, file="COVER.pth", location="the branch release of https://github.com/vztu/COVER (Model)"
        ),
        "liqe": PublishedFile(
            network=_CLIP,
            file="LIQE.pt",
            location="the Google Drive link of https://github.com/zwx8981/LIQE",
            as_program="CLIP as OpenAI publishes it, before it was trained to be LIQE",
        ),
        "hyper_iqa": PublishedFile(
            network=_HYPER_IQA, file="HyperIQA-resnet50-koniq10k-c96c41b1.pth", location=_IQA_PYTORCH
        ),
        "db_cnn": PublishedFile(network=_DB_CNN, file="DBCNN_KonIQ10k-2de81c0a.pth", location=_IQA_PYTORCH),
        "musiq": PublishedFile(network=_MUSIQ, file="musiq_koniq_ckpt-e95806b9.pth", location=_IQA_PYTORCH),
        "topiq": PublishedFile(network=_TOPIQ, file="cfanet_nr_koniq_res50-9a73138b.pth", location=_IQA_PYTORCH),
        "maniqa": PublishedFile(
            network=_MANIQA,
            file="ckpt_koniq10k.pt",
            location=f"https://github.com/IIGROUP/MANIQA/releases (Koniq10k) and {_IQA_PYTORCH}",
        ),
        "clip": PublishedFile(network=_CLIP, file="CLIP ViT-B/32 (ViT-B-32.pt)", location=_OPENAI),
        "clip_l": PublishedFile(network=_CLIP_L, file="CLIP ViT-L/14 (ViT-L-14.pt)", location=_OPENAI),
        "slowfast": PublishedFile(
            network=_SLOWFAST,
            file="SLOWFAST_8x8_R50.pyth",
            location="https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/SLOWFAST_8x8_R50.pyth",
        ),
        "rq_vqa": PublishedFile(
            network=_RQ_VQA,
            file="one of the ten folds in ckpts.tar",
            location="the Dropbox link of https://github.com/sunwei925/RQ-VQA",
        ),
        "q_align": PublishedFile(
            network=_OWL, file="the shards of OneAlign", location="https://huggingface.co/q-future/one-align"
        ),
        "deqa_score": PublishedFile(
            network=_OWL,
            file="the shards of DeQA-Score",
            location="https://huggingface.co/zhiyuanyou/DeQA-Score-Mix3",
        ),
        "q_instruct": PublishedFile(
            network=_OWL,
            file="the shards of Q-Instruct on mPLUG-Owl2",
            location="https://huggingface.co/teowu/mplug_owl2_7b_448_qinstruct_preview_v0.2",
        ),
        "compare2score": PublishedFile(
            network=_OWL,
            file="the shards of Compare2Score",
            location="https://huggingface.co/q-future/Compare2Score",
        ),
        "align_iqa": PublishedFile(network=_ALIGN_IQA, file="a trained align_iqa", location=_TRAINED_HERE),
        "sr_vqa": PublishedFile(network=_SR_VQA, file="a trained sr_vqa", location=_TRAINED_HERE),
    }
)
"""Key of a scorer or of a part -> its file."""

_MARKS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "low-rank updates (LoRA), without the network that they change": ("*.lora_A.*", "*.lora_B.*"),
        _FAST_VQA: ("fragments_backbone.*", "vqa_head.*"),
        _COVER: ("technical_backbone.layers.*", "semantic_head.*"),
        _DOVER: ("technical_backbone.layers.*", "aesthetic_backbone.*"),
        "DOVER-Mobile": ("technical_backbone.downsample_layers.*", "aesthetic_backbone.*"),
        _CLIP_L: ("visual.class_embedding", "visual.transformer.resblocks.23.*"),
        "CLIP in the layout of transformers": ("vision_model.encoder.layers.*", "text_model.encoder.layers.*"),
        _CLIP: ("visual.class_embedding", "transformer.resblocks.*"),
        "CLIP with a ResNet": ("visual.attnpool.*", "transformer.resblocks.*"),
        _SLOWFAST: ("blocks.0.multipathway_blocks.*",),
        _RQ_VQA: ("feature_extraction.*", "bot4.*", "quality.*"),
        _OWL: ("model.visual_abstractor.*", "model.layers.*"),
        "HyperIQA in its authors' own layout": ("res.conv1.weight", "fc1w_conv.*"),
        _HYPER_IQA: ("base_model.*", "fc_w_modules.*"),
        _DB_CNN: ("features1.*", "features2.*", "fc.weight"),
        "MUSIQ for aesthetics (AVA)": ("transformer_encoder.*", "head.0.weight"),
        _MUSIQ: ("transformer_encoder.*", "conv_root.weight"),
        "TOPIQ with a Swin transformer": ("semantic_model.layers.*", "attn_pool.*"),
        "TOPIQ with a reference": ("semantic_model.*", "attn_pool.*", "weight_pool.0.0.weight"),
        _TOPIQ: ("semantic_model.*", "attn_pool.*"),
        _MANIQA: ("vit.*", "tablock1.*"),
        _ALIGN_IQA: ("aggregator.*", "injectors.*", "saliency.*"),
        _SR_VQA: ("regression.*", "spatial.backbone.*"),
        "LLaVA": ("model.mm_projector.*", "model.layers.*"),
        "a language model without a picture encoder": ("model.embed_tokens.*", "model.layers.*"),
        "SimpleVQA": ("conv1.weight", "layer4.*", "quality.*"),
        "a ResNet": ("conv1.weight", "layer4.*", "fc.weight"),
        "AlexNet or VGG": ("features.0.weight", "classifier.*"),
        "an action recognizer of mmaction": ("backbone.*", "cls_head.*"),
        "a Swin transformer": ("patch_embed.proj.weight", "layers.0.blocks.0.*"),
        "a vision transformer": ("patch_embed.proj.weight", "blocks.0.*"),
        "the heads of LPIPS": ("lin0.model.1.weight",),
        "the heads of DISTS": ("alpha", "beta"),
    }
)
"""Network -> patterns that each match a name of its tensors; of several networks that match, the first is meant."""


def recognize_network(names: Iterable[str]) -> str | None:
    """The network, as named in `PUBLISHED_FILES` or in words, that has tensors of these names; None if unknown."""
    tensors = list(names)
    matches = (network for network, marks in _MARKS.items() if all(match_names(tensors, mark) for mark in marks))
    return next(matches, None)
