"""Reads `best.pt` of a trained scorer: its kind, its network, the frozen networks it needs and its provenance."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.checkpoints.reading import read_saved
from models.data.csv_scores import DataError
from models.networks.lite import Lite
from models.train.features.extract import FrozenNetwork, FrozenNetworks
from models.train.features.extractors import FragmentNetwork
from models.train.features.lite_weights import LITE_ONNX, lite_config, read_lite_weights
from models.train.trainable import TRAINABLE_SCORERS, ScorerNetworkConfig

_UNKNOWN_LICENCE = "not stated"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedScorer:
    """A trained scorer with everything that exporting it needs."""

    # key of TRAINABLE_SCORERS
    kind: str
    config: ScorerNetworkConfig
    network: nn.Module
    frozen_networks: FrozenNetworks
    # predicted and human scores, both 0..1, of the validation rows
    predicted: Tensor
    target: Tensor
    # provenance for the manifest
    facts: Mapping[str, str]
    licence: str
    # what the lowest and the highest score of the training become, 0..100
    score_range: tuple[float, float] = (0.0, 100.0)


def checkpoint_facts(
    kind: str,
    config: ScorerNetworkConfig,
    *,
    frozen_networks: FrozenNetworks,
    csv: Path,
    rows: int,
    licence: str | None,
    teacher: str = "",
    score_range: tuple[float, float] = (0.0, 100.0),
) -> dict[str, Any]:
    """What `best.pt` holds beside weights and validation results."""
    needed = {spec.frozen_network for spec in TRAINABLE_SCORERS[kind].features(config) if spec.frozen_network}
    return {
        "learner": kind,
        "shape": asdict(config),
        "parts": {
            name: {"weights": frozen_networks[name].network.state_dict(), "origin": frozen_networks[name].origin}
            for name in sorted(needed)
        },
        "facts": {
            "scores": f"{csv.name}, sha256 {sha256(csv.read_bytes()).hexdigest()}",
            "rows": str(rows),
            **({"taught by": teacher} if teacher else {}),
        },
        "score_range": score_range,
        "licence": licence or _UNKNOWN_LICENCE,
    }


def read_trained_scorer(file: Path) -> TrainedScorer:
    """Read `best.pt`; raises DataError when it is not a checkpoint of a trainable scorer, or has an older format."""
    table = read_table(file)
    kind = table.get("learner", "")
    if kind not in TRAINABLE_SCORERS or "predicted" not in table:
        name = kind if kind in TRAINABLE_SCORERS else "NAME"
        raise DataError(
            f"{file}: not a best.pt of {', '.join(TRAINABLE_SCORERS)}, or of an older format; "
            f"train again: python -m models train {name} --csv scores.csv"
        )
    config = ScorerNetworkConfig(**table["shape"])
    network = TRAINABLE_SCORERS[kind].build_network(config)
    network.load_state_dict(table["weights"])
    frozen_networks = {
        name: FrozenNetwork(
            network=_load_frozen_network(name, part["weights"], where=f"{file}, part {name}"), origin=part["origin"]
        )
        for name, part in table["parts"].items()
    }
    training = {
        "steps": str(table["step"]),
        "SRCC on rows kept apart": f"{table['srcc']:.4f}, {len(table['wanted'])} rows",
    }
    return TrainedScorer(
        kind=kind, config=config, network=network.eval(), frozen_networks=frozen_networks,
        predicted=table["predicted"], target=table["wanted"], facts=table["facts"] | training,
        licence=table["licence"], score_range=tuple(table.get("score_range", (0.0, 100.0))),
    )  # fmt: skip


def read_frozen_networks(files: Mapping[str, Path]) -> FrozenNetworks:
    """Read the named frozen networks; lite comes from the shipped pair when it is not named. Raises DataError."""
    return {name: _read_frozen_network(name, file) for name, file in {"lite": LITE_ONNX, **files}.items()}


def _read_frozen_network(name: str, file: Path) -> FrozenNetwork:
    """`lite` from an exported pair or a checkpoint, `fragments` from a checkpoint."""
    if not file.is_file():
        raise DataError(f"--part {name}={file}: no such file; write NAME=FILE")
    origin = f"{file.name}, sha256 {sha256(file.read_bytes()).hexdigest()}"
    if name == "lite" and file.suffix == ".onnx":
        return FrozenNetwork(network=read_lite_weights(file, lite_config()), origin=origin)
    table = read_table(file)
    if table.get("learner", name) != name:
        raise DataError(f"--part {name}={file}: holds weights of {table['learner']}")
    network = _load_frozen_network(name, table["weights"], where=f"--part {name}={file}")
    return FrozenNetwork(network=network, origin=origin)


def _load_frozen_network(name: str, weights: Mapping[str, Tensor], *, where: str) -> nn.Module:
    builders: dict[str, Callable[[], nn.Module]] = {
        "lite": lambda: Lite(lite_config()),
        "fragments": FragmentNetwork,
    }
    if name not in builders:
        raise DataError(f"{where}: unknown network; known: {', '.join(builders)}")
    network = builders[name]()
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(f"{where}: not weights of {name}: {str(error).splitlines()[-1].strip()}") from error
    return network.eval().requires_grad_(requires_grad=False)


def read_training_state(
    file: Path, *, keys: Sequence[str] = ("average", "optimiser"), remedy: str = ""
) -> dict[str, Any]:
    """`last.pt`, from which a training goes on, or another file of a training that holds `keys`.

    Raises DataError with the remedy when the file is damaged, or is something else.
    """
    remedy = remedy or "delete it, or give --fresh, and the training begins anew"
    try:
        state = torch.load(file, weights_only=True)
    except Exception as error:  # torch raises many types for a damaged file
        raise DataError(
            f"{file}: cannot be read ({type(error).__name__}: it is damaged, or no file of torch.save); {remedy}"
        ) from error
    if not isinstance(state, dict) or not set(keys) <= state.keys():
        raise DataError(f"{file}: holds no {' and '.join(keys)}; {remedy}")
    return state


def read_table(file: Path) -> dict[str, Any]:
    """What a training run saved, `weights` and the facts beside it; raises DataError."""
    if not file.is_file():
        raise DataError(f"{file}: no such file")
    try:
        table = read_saved(file)
    except ValueError as error:
        raise DataError(f"{file}: cannot be read as a checkpoint: it {error}") from error
    if not isinstance(table, dict) or "weights" not in table:
        raise DataError(f"{file}: holds no weights; name the best.pt of a training run")
    return table
