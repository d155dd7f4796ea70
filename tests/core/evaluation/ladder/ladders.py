"""Made-up ladders whose truth is known: quality falls with CRF and with size."""

from collections.abc import Callable, Mapping

from vqmon.core.evaluation.ladder.encodes import AlteredForm, Encode, Ladder, Subject

CRFS = (20, 27, 34, 41)
SIZES = (1080, 720, 480)
AV1_RATE_SHARE = 2 ** (-7 / 6)
"""One step of CRF: "av1" at one CRF has the rate of "h264" at the next."""

Scorer = Callable[[str, int, int], float]
"""(codec, lines, CRF) -> points."""

FORMS = (
    ("source", 0.0, 100.0),
    ("soft", 0.0, 70.0),
    ("sharpened", 0.7, 68.0),
    ("sharpened", 3.0, 50.0),
    ("noise", 6.0, 80.0),
    ("noise", 30.0, 40.0),
)
"""Kind, amount, truth."""


def truth(codec: str, lines: int, crf: int) -> float:
    """0..100; the codec "av1" has the same quality at 45 % of the rate."""
    return 100 - 1.6 * (crf - 18) - 0.03 * (1080 - lines)


def make_ladder(
    scorer: Scorer = truth,
    *,
    forms: Mapping[tuple[str, float], float] | None = None,
    measures: bool = True,
    sizes: tuple[int, ...] = SIZES,
) -> Ladder:
    """The ladder of a scorer; `forms` are its values of some altered forms, by default the truth."""
    subjects = [Subject(name="lite@1", is_scorer=True)]
    if measures:
        subjects.append(Subject(name="psnr", is_scorer=False, unit="dB"))
        subjects.append(Subject(name="gmsd", is_scorer=False, higher_is_better=False, unit=""))

    def values(score: float, true: float) -> dict[str, float]:
        measured = {"psnr": 20 + true / 4, "gmsd": 0.3 - true / 400} if measures else {}
        return {"lite@1": score, **measured}

    return Ladder(
        subjects=subjects,
        encodes=[
            Encode(
                codec=codec,
                lines=lines,
                setting=f"CRF {crf}",
                rate_kbps=lines * 2 ** ((41 - crf) / 6) * (AV1_RATE_SHARE if codec == "av1" else 1.0),
                values=values(scorer(codec, lines, crf), truth(codec, lines, crf)),
            )
            for codec in ("h264", "av1")
            for lines in sizes
            for crf in CRFS
        ],
        forms=[
            AlteredForm(kind=kind, amount=amount, values=values((forms or {}).get((kind, amount), true), true))
            for kind, amount, true in FORMS
        ],
    )
