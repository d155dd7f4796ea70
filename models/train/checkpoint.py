"""What `best.pt` of a scorer that was trained here says: its kind and shape, what it looks through, its data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.data.csv_scores import DataError
from models.networks.lite import Lite
from models.train.features.extract import Frozen, Parts
from models.train.features.extractors import FragmentNet
from models.train.features.lite_weights import PAIR, lite_config, read_pair
from models.train.learners import LEARNERS, Shape

UNSAID = "nobody has said"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A trained scorer as its checkpoint keeps it; whoever has that file needs no other."""

    learner: str
    shape: Shape
    network: nn.Module
    parts: Parts
    # of the rows that chose the checkpoint: what was predicted, and people's scores brought to 0..1
    predicted: Tensor
    wanted: Tensor
    # what a manifest says of its making
    facts: Mapping[str, str]
    licence: str


def kept_facts(
    learner: str, shape: Shape, *, parts: Parts, csv: Path, rows: int, licence: str | None
) -> dict[str, Any]:
    """What a checkpoint keeps beside weights and results."""
    through = {look.through for look in LEARNERS[learner].looks(shape) if look.through}
    return {
        "learner": learner,
        "shape": asdict(shape),
        "parts": {
            name: {"weights": parts[name].network.state_dict(), "origin": parts[name].origin}
            for name in sorted(through)
        },
        "facts": {"scores": f"{csv.name}, sha256 {sha256(csv.read_bytes()).hexdigest()}", "rows": str(rows)},
        "licence": licence or UNSAID,
    }


def read_trained(file: Path) -> Trained:
    """Read `best.pt`; raises DataError when it is none, or one of another kind or an older form."""
    table = _load(file)
    learner = table.get("learner")
    if learner not in LEARNERS or "predicted" not in table:
        raise DataError(
            f"{file}: is no best.pt of {', '.join(LEARNERS)}, or one of an older form; "
            f"train again: python -m models train {learner if learner in LEARNERS else 'NAME'} --csv scores.csv"
        )
    shape = Shape(**table["shape"])
    network = LEARNERS[learner].network(shape)
    network.load_state_dict(table["weights"])
    parts = {
        name: Frozen(network=_part(name, part["weights"], where=f"{file}, part {name}"), origin=part["origin"])
        for name, part in table["parts"].items()
    }
    said = {"steps": str(table["step"]), "SRCC on rows kept apart": f"{table['srcc']:.4f}, {len(table['wanted'])} rows"}
    return Trained(
        learner=learner, shape=shape, network=network.eval(), parts=parts, predicted=table["predicted"],
        wanted=table["wanted"], facts=table["facts"] | said, licence=table["licence"],
    )  # fmt: skip


def read_part(name: str, file: Path) -> Frozen:
    """A network that is looked through: lite of its exported pair or of a training, fragments of a training.

    Raises DataError.
    """
    if not file.is_file():
        raise DataError(f"--part {name}={file}: no such file; write NAME=FILE")
    origin = f"{file.name}, sha256 {sha256(file.read_bytes()).hexdigest()}"
    if name == "lite" and file.suffix == ".onnx":
        return Frozen(network=read_pair(file, lite_config()), origin=origin)
    table = _load(file)
    if table.get("learner", name) != name:
        raise DataError(f"--part {name}={file}: holds weights of {table['learner']}")
    return Frozen(network=_part(name, table["weights"], where=f"--part {name}={file}"), origin=origin)


def read_parts(given: Mapping[str, Path]) -> Parts:
    """The networks that are named, and lite of the shipped pair where it is not. Raises DataError."""
    return {name: read_part(name, file) for name, file in {"lite": PAIR, **given}.items()}


def _part(name: str, weights: Mapping[str, Tensor], *, where: str) -> nn.Module:
    made = {"lite": lambda: Lite(lite_config()), "fragments": FragmentNet}
    if name not in made:
        raise DataError(f"{where}: known are {', '.join(made)}")
    network: nn.Module = made[name]()
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(f"{where}: are no weights of {name}: {str(error).splitlines()[-1].strip()}") from error
    return network.eval().requires_grad_(requires_grad=False)


def _load(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise DataError(f"{file}: no such file")
    try:
        table = torch.load(file, weights_only=True)
    except Exception as error:  # torch has many words for "not mine"
        raise DataError(f"{file}: cannot be read as a checkpoint: {error!s:.200}") from error
    if not isinstance(table, dict) or "weights" not in table:
        raise DataError(f"{file}: holds no weights; name the best.pt of a training")
    return table
