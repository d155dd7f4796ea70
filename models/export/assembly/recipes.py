"""Assembles published networks into scorers: which graph takes what, and which graphs are shared."""

from dataclasses import replace

from models.export.assembly.assembly import FeatureInput, GraphAssembly, GraphPart, PixelInput, TextInput
from models.networks.align_iqa import AlignIqa, GeneratedContentScorer, NaturalContentScorer
from models.networks.backbones.clip import Clip, ClipVisual, PatchEncoder, TextEncoder
from models.networks.backbones.slowfast import FRAMES, SIDE, FastPathway, SlowFast
from models.networks.backbones.swin import Swin, SwinConfig
from models.networks.fragments import cover
from models.networks.fragments.dover import FUSIONS, AestheticFeatures, Dover, FuseSideScores
from models.networks.fragments.fast_vqa import FastVqa, FragmentFeatures, MeanScore
from models.networks.pictures.liqe import CROP_SIDE, CROPS, ExpectedQuality, Liqe
from models.networks.sr_vqa import RqVqa, SrVqa

MOTION, FRAGMENTS, WINDOWS, PICTURE = "motion", "fragments", "windows", "picture"


def motion_input(side: int = SIDE) -> PixelInput:
    """32 frames of one second, resized to a square."""
    return PixelInput(name=MOTION, transform="stretch", side=side, order="NCTHW", pictures=FRAMES)


def fragments_input(config: SwinConfig) -> PixelInput:
    """A clip of fragments at native resolution, of every second frame."""
    return PixelInput(
        name=FRAGMENTS, transform="fragments", side=config.side, order="NCTHW", pictures=config.frames, stride=2
    )


def windows_input() -> PixelInput:
    """Fifteen crops of a picture at native resolution."""
    return PixelInput(name=WINDOWS, transform="windows", side=CROP_SIDE, order="NKCHW", pictures=CROPS)


def centre_input(config: SwinConfig) -> PixelInput:
    """A picture resized to its short side and cropped at the centre."""
    return PixelInput(name=PICTURE, transform="centre", side=config.side)


def assemble_slowfast(network: SlowFast, *, side: int = SIDE, version: int = 1) -> GraphAssembly:
    """SlowFast: 2048 features of the slow pathway, then 256 of the fast one."""
    part = GraphPart(name="slowfast", network=network, takes=(MOTION,))
    return GraphAssembly(name="slowfast", version=version, inputs=(motion_input(side),), parts=(part,))


def assemble_slowfast_fast(network: FastPathway, *, side: int = SIDE, version: int = 1) -> GraphAssembly:
    """The 256 features of the fast pathway."""
    return GraphAssembly(
        name="slowfast-fast", version=version, inputs=(motion_input(side),), parts=(_fast_pathway_part(network),)
    )


def assemble_fast_vqa(network: FastVqa, *, version: int = 1) -> GraphAssembly:
    """FAST-VQA: shared feature maps, and the score of a clip."""
    score = GraphPart(name="fast-vqa-score", network=MeanScore(network.vqa_head), takes=("fast-vqa-features",))
    source = fragments_input(network.fragments_backbone.config)
    return GraphAssembly(
        name="fast-vqa", version=version, inputs=(source,), parts=(_fragment_features_part(network), score)
    )


def assemble_dover(network: Dover, *, fusion: str = "by-name", version: int = 1) -> GraphAssembly:
    """DOVER: raw scores of both sides, and the fused score 0..1 of a segment; `fusion` is a key of FUSIONS."""
    config = network.technical_backbone.config
    # the authors take these frames from the whole video; here they are the frames of the fragments
    aesthetic_input = replace(fragments_input(config), name="squeezed", transform="stretch")
    sides = (
        ("technical", FragmentFeatures(network.technical_backbone), network.technical_head, FRAGMENTS),
        ("aesthetic", AestheticFeatures(network.aesthetic_backbone), network.aesthetic_head, "squeezed"),
    )
    parts = []
    for name, backbone, head, source in sides:
        parts.append(GraphPart(name=f"dover-{name}-features", network=backbone, takes=(source,)))
        parts.append(GraphPart(name=f"dover-{name}", network=MeanScore(head), takes=(f"dover-{name}-features",)))
    fused = GraphPart(
        name="dover",
        network=FuseSideScores(FUSIONS[fusion]),
        takes=("dover-technical", "dover-aesthetic"),
        each="segment",
    )
    return GraphAssembly(
        name="dover", version=version, inputs=(fragments_input(config), aesthetic_input), parts=(*parts, fused)
    )


def assemble_cover(
    network: cover.Cover, *, clip: ClipVisual, semantic_side: int = cover.SEMANTIC_SIDE, version: int = 1
) -> GraphAssembly:
    """COVER: raw scores of its three sides, and their sum, for each clip.

    As in the authors' sampling of a video of as many frames as the clip spans, the semantic side sees the first frame
    of each pair that a step in time of the other sides stands for.
    """
    clips = fragments_input(network.technical_backbone.config)
    per_moment = cover.FRAMES_PER_MOMENT
    squeezed = replace(clips, name="squeezed", transform="stretch")
    frames = PixelInput(
        name="frames", transform="stretch", side=semantic_side, order="NKCHW", pictures=clips.pictures // per_moment,
        stride=clips.stride * per_moment,
    )  # fmt: skip
    vectors, scores = "cover-semantic-vectors", ("cover-semantic", "cover-technical", "cover-aesthetic")
    parts = [
        GraphPart(name=vectors, network=cover.SemanticVectors(clip.visual), takes=(frames.name,), each="picture"),
        GraphPart(name=scores[0], network=cover.SemanticScore(network.semantic_head), takes=(vectors,)),
    ]
    technical = cover.GatedScore(network.smtc_gate_tech, network.technical_head)
    aesthetic = cover.GatedScore(network.smtc_gate_aesc, network.aesthetic_head)
    for name, source, features, score in (
        (scores[1], clips, FragmentFeatures(network.technical_backbone), technical),
        (scores[2], squeezed, AestheticFeatures(network.aesthetic_backbone), aesthetic),
    ):
        maps = f"{name}-features"
        parts.append(GraphPart(name=maps, network=features, takes=(source.name,)))
        parts.append(GraphPart(name=name, network=score, takes=(vectors, maps)))
    parts.append(GraphPart(name="cover", network=cover.SumOfSides(), takes=scores))
    return GraphAssembly(name="cover", version=version, inputs=(clips, squeezed, frames), parts=tuple(parts))


def assemble_liqe(network: Liqe, *, version: int = 1) -> GraphAssembly:
    """LIQE: shared logits of 495 sentences, and the expected quality."""
    score = GraphPart(name="liqe-score", network=ExpectedQuality(), takes=("liqe-logits",))
    return GraphAssembly(
        name="liqe", version=version, inputs=(windows_input(),), parts=(_liqe_logits_part(network), score)
    )


def assemble_rq_vqa(
    network: RqVqa, *, fast: FastPathway, fast_vqa: FastVqa, liqe: Liqe, version: int = 1
) -> GraphAssembly:
    """RQ-VQA as released: one score per segment, from the features of all its units."""
    spatial = GraphPart(name="rq-vqa-spatial", network=network.spatial(), takes=(PICTURE,))
    takes = {"spatial": spatial.name, "fast": "slowfast-fast", "llm": "llm", "liqe": "liqe-logits"}
    fusion = GraphPart(
        name="rq-vqa",
        network=network.fusion(),
        takes=(*takes.values(), "fast-vqa-features"),
        each="segment",
    )
    parts = (spatial, _fast_pathway_part(fast), _fragment_features_part(fast_vqa), _liqe_logits_part(liqe), fusion)
    inputs = _fusion_inputs(network.feature_extraction.feature_extraction, fast_vqa)
    llm = FeatureInput(name="llm", shape=(network.features["llm"],))
    return GraphAssembly(name="rq-vqa", version=version, inputs=(*inputs, llm), parts=parts)


def assemble_sr_vqa(
    network: SrVqa, *, fast: FastPathway, fast_vqa: FastVqa, liqe: Liqe, version: int = 1
) -> GraphAssembly:
    """SR-VQA: one score per unit, from that unit's features; full or lean, as the network's features are."""
    features = network.config.features
    name = "sr-vqa" if "llm" in features else "sr-vqa-lean"
    spatial = GraphPart(name=f"{name}-spatial", network=network.spatial, takes=(PICTURE,))
    takes = {
        "spatial": spatial.name,
        "fast": "slowfast-fast",
        "llm": "llm",
        "liqe": "liqe-logits",
        "fastvqa": "fast-vqa-features",
    }
    fusion = GraphPart(name=name, network=network.regression, takes=tuple(takes[feature] for feature in features))
    llm = (FeatureInput(name="llm", shape=(features["llm"],)),) if "llm" in features else ()
    parts = (spatial, _fast_pathway_part(fast), _fragment_features_part(fast_vqa), _liqe_logits_part(liqe), fusion)
    return GraphAssembly(
        name=name, version=version, inputs=(*_fusion_inputs(network.spatial.backbone, fast_vqa), *llm), parts=parts
    )


def assemble_align_iqa(network: AlignIqa, *, version: int = 1) -> GraphAssembly:
    """Align-IQA for natural pictures, guided by saliency."""
    part = GraphPart(name="align-iqa", network=NaturalContentScorer(network), takes=(PICTURE,))
    return GraphAssembly(name="align-iqa", version=version, inputs=(centre_input(network.config.swin),), parts=(part,))


def assemble_align_iqa_generated(network: AlignIqa, *, clip: Clip, version: int = 1) -> GraphAssembly:
    """Align-IQA for generated pictures, guided by their similarity to the segment's prompt."""
    clip_input = PixelInput(name="clip_picture", transform="centre", side=clip.config.side)
    prompt = TextInput(name="prompt", ids=clip.config.vocabulary, tokens=clip.config.context)
    patches = GraphPart(name="clip-places", network=PatchEncoder(clip.visual), takes=(clip_input.name,))
    text = GraphPart(name="clip-text", network=TextEncoder(clip), takes=(prompt.name,))
    score = GraphPart(
        name="align-iqa-generated", network=GeneratedContentScorer(network), takes=(PICTURE, patches.name, text.name)
    )
    inputs = (centre_input(network.config.swin), clip_input, prompt)
    return GraphAssembly(name="align-iqa-generated", version=version, inputs=inputs, parts=(patches, text, score))


def _fusion_inputs(backbone: Swin, fast_vqa: FastVqa) -> tuple[PixelInput, ...]:
    return (
        centre_input(backbone.config),
        motion_input(),
        fragments_input(fast_vqa.fragments_backbone.config),
        windows_input(),
    )


def _fast_pathway_part(network: FastPathway) -> GraphPart:
    return GraphPart(name="slowfast-fast", network=network, takes=(MOTION,))


def _fragment_features_part(network: FastVqa) -> GraphPart:
    return GraphPart(name="fast-vqa-features", network=FragmentFeatures(network.fragments_backbone), takes=(FRAGMENTS,))


def _liqe_logits_part(network: Liqe) -> GraphPart:
    return GraphPart(name="liqe-logits", network=network, takes=(WINDOWS,))
