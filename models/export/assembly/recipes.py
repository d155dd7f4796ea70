"""How feature networks become scorers: which graph takes what, and which graphs are shared."""

from dataclasses import replace

from models.export.assembly.assembly import Assembly, Given, Part, Source, Text
from models.networks.align_iqa import AlignIqa, Generated, Natural
from models.networks.backbones.clip import Clip, Places, Texts
from models.networks.backbones.slowfast import FRAMES, SIDE, FastPathway, SlowFast
from models.networks.backbones.swin import Swin, SwinConfig
from models.networks.dover import FUSIONS, Dover, Fuse, Squeezed
from models.networks.fast_vqa import FastVqa, Fragments, PlacesToScore
from models.networks.liqe import CROP, CROPS, Liqe, QualityOf
from models.networks.sr_vqa import RqVqa, SrVqa

MOTION, FRAGMENTS, WINDOWS, PICTURE = "motion", "fragments", "windows", "picture"


def motion(side: int = SIDE) -> Source:
    """32 frames of a second, squeezed to a square."""
    return Source(name=MOTION, made="stretch", side=side, order="NCTHW", pictures=FRAMES)


def pieces(config: SwinConfig) -> Source:
    """A clip of fragments at native size, of every second frame."""
    return Source(name=FRAGMENTS, made="fragments", side=config.side, order="NCTHW", pictures=config.frames, stride=2)


def windows() -> Source:
    """Fifteen windows of a picture at native size."""
    return Source(name=WINDOWS, made="windows", side=CROP, order="NKCHW", pictures=CROPS)


def centre(config: SwinConfig) -> Source:
    """A picture scaled to its short side, and of that the centre."""
    return Source(name=PICTURE, made="centre", side=config.side)


def slowfast(network: SlowFast, *, side: int = SIDE, version: int = 1) -> Assembly:
    """2048 features of the slow pathway and 256 of the fast one."""
    part = Part(name="slowfast", network=network, takes=(MOTION,))
    return Assembly(name="slowfast", version=version, sources=(motion(side),), parts=(part,))


def slowfast_fast(network: FastPathway, *, side: int = SIDE, version: int = 1) -> Assembly:
    """The 256 features alone."""
    return Assembly(name="slowfast-fast", version=version, sources=(motion(side),), parts=(_fast(network),))


def fast_vqa(network: FastVqa, *, version: int = 1) -> Assembly:
    """Features of every place, to be shared, and the score of a clip."""
    score = Part(name="fast-vqa-score", network=PlacesToScore(network.vqa_head), takes=("fast-vqa-features",))
    source = pieces(network.fragments_backbone.config)
    return Assembly(name="fast-vqa", version=version, sources=(source,), parts=(_fragments(network), score))


def dover(network: Dover, *, fusion: str = "by-name", version: int = 1) -> Assembly:
    """Raw scores of both sides, and both in one of 0..1 per segment."""
    config = network.technical_backbone.config
    # the authors take these frames from all over the video; ours are those of the fragments
    squeezed = replace(pieces(config), name="squeezed", made="stretch")
    sides = (
        ("technical", Fragments(network.technical_backbone), network.technical_head, FRAGMENTS),
        ("aesthetic", Squeezed(network.aesthetic_backbone), network.aesthetic_head, "squeezed"),
    )
    parts = []
    for name, backbone, head, source in sides:
        parts.append(Part(name=f"dover-{name}-features", network=backbone, takes=(source,)))
        parts.append(Part(name=f"dover-{name}", network=PlacesToScore(head), takes=(f"dover-{name}-features",)))
    both = Part(
        name="dover", network=Fuse(FUSIONS[fusion]), takes=("dover-technical", "dover-aesthetic"), each="segment"
    )
    return Assembly(name="dover", version=version, sources=(pieces(config), squeezed), parts=(*parts, both))


def liqe(network: Liqe, *, version: int = 1) -> Assembly:
    """Logits of 495 sentences, to be shared, and the expected quality."""
    score = Part(name="liqe-score", network=QualityOf(), takes=("liqe-logits",))
    return Assembly(name="liqe", version=version, sources=(windows(),), parts=(_liqe(network), score))


def rq_vqa(network: RqVqa, *, fast: FastPathway, clips: FastVqa, sentences: Liqe, version: int = 1) -> Assembly:
    """As released: one score per segment, from the features of all its units at once."""
    spatial = Part(name="rq-vqa-spatial", network=network.spatial(), takes=(PICTURE,))
    takes = {"spatial": spatial.name, "fast": "slowfast-fast", "llm": "llm", "liqe": "liqe-logits"}
    fusion = Part(
        name="rq-vqa",
        network=network.fusion(),
        takes=(*takes.values(), "fast-vqa-features"),
        each="segment",
    )
    parts = (spatial, _fast(fast), _fragments(clips), _liqe(sentences), fusion)
    sources = _sources(network.feature_extraction.feature_extraction, clips)
    llm = Given(name="llm", shape=(network.features["llm"],))
    return Assembly(name="rq-vqa", version=version, sources=(*sources, llm), parts=parts)


def sr_vqa(network: SrVqa, *, fast: FastPathway, clips: FastVqa, sentences: Liqe, version: int = 1) -> Assembly:
    """A score per unit from that unit's features alone; full or lean as the network's features say."""
    features = network.config.features
    name = "sr-vqa" if "llm" in features else "sr-vqa-lean"
    spatial = Part(name=f"{name}-spatial", network=network.spatial, takes=(PICTURE,))
    takes = {
        "spatial": spatial.name,
        "fast": "slowfast-fast",
        "llm": "llm",
        "liqe": "liqe-logits",
        "fastvqa": "fast-vqa-features",
    }
    fusion = Part(name=name, network=network.regression, takes=tuple(takes[feature] for feature in features))
    llm = (Given(name="llm", shape=(features["llm"],)),) if "llm" in features else ()
    parts = (spatial, _fast(fast), _fragments(clips), _liqe(sentences), fusion)
    return Assembly(name=name, version=version, sources=(*_sources(network.spatial.backbone, clips), *llm), parts=parts)


def align_iqa(network: AlignIqa, *, version: int = 1) -> Assembly:
    """Quality of natural pictures, guided by where people look."""
    part = Part(name="align-iqa", network=Natural(network), takes=(PICTURE,))
    return Assembly(name="align-iqa", version=version, sources=(centre(network.config.swin),), parts=(part,))


def align_iqa_generated(network: AlignIqa, *, clip: Clip, version: int = 1) -> Assembly:
    """Quality of generated pictures, guided by their likeness to the segment's prompt."""
    seen = Source(name="clip_picture", made="centre", side=clip.config.side)
    prompt = Text(name="prompt", ids=clip.config.vocabulary, tokens=clip.config.context)
    places = Part(name="clip-places", network=Places(clip.visual), takes=(seen.name,))
    asked = Part(name="clip-text", network=Texts(clip), takes=(prompt.name,))
    last = Part(name="align-iqa-generated", network=Generated(network), takes=(PICTURE, places.name, asked.name))
    sources = (centre(network.config.swin), seen, prompt)
    return Assembly(name="align-iqa-generated", version=version, sources=sources, parts=(places, asked, last))


def _sources(backbone: Swin, clips: FastVqa) -> tuple[Source, ...]:
    return centre(backbone.config), motion(), pieces(clips.fragments_backbone.config), windows()


def _fast(network: FastPathway) -> Part:
    return Part(name="slowfast-fast", network=network, takes=(MOTION,))


def _fragments(network: FastVqa) -> Part:
    return Part(name="fast-vqa-features", network=Fragments(network.fragments_backbone), takes=(FRAGMENTS,))


def _liqe(network: Liqe) -> Part:
    return Part(name="liqe-logits", network=network, takes=(WINDOWS,))
