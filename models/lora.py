"""Low-rank updates of linear layers (Hu et al., LoRA, ICLR 2022): trained apart, then added to the weights."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class LowRank(nn.Module):
    """A frozen linear layer plus `alpha / rank` times a product of two thin matrices; the same as before at first."""

    def __init__(self, base: nn.Linear, *, rank: int, alpha: float) -> None:
        super().__init__()
        if not 0 < rank <= min(base.in_features, base.out_features):
            raise ValueError(f"rank {rank} does not fit a layer of {base.in_features} x {base.out_features}")
        self.base = base.requires_grad_(requires_grad=False)
        self.scale = alpha / rank
        self.down = nn.Parameter(torch.empty(rank, base.in_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        change = functional.linear(functional.linear(tokens, self.down), self.up)
        found: Tensor = self.base(tokens) + self.scale * change
        return found

    def merged(self) -> nn.Linear:
        """A plain layer that gives the same."""
        with torch.no_grad():
            self.base.weight += (self.scale * (self.up @ self.down)).to(self.base.weight.dtype)
        return self.base


def add_low_rank(network: nn.Module, chosen: Callable[[str], bool], *, rank: int, alpha: float) -> list[str]:
    """Freeze a network and put low-rank updates on the linear layers that `chosen` picks by name; gives their names.

    Raises ValueError when none is picked.
    """
    network.requires_grad_(requires_grad=False)
    names = [name for name, part in network.named_modules() if isinstance(part, nn.Linear) and chosen(name)]
    if not names:
        raise ValueError("no linear layer was chosen")
    for name in names:
        place, _, last = name.rpartition(".")
        owner = network.get_submodule(place)
        setattr(owner, last, LowRank(getattr(owner, last), rank=rank, alpha=alpha))
    return names


def merge(network: nn.Module) -> None:
    """Put plain layers back in place of low-rank ones, so that all names are the published ones again."""
    for name, part in list(network.named_modules()):
        if isinstance(part, LowRank):
            place, _, last = name.rpartition(".")
            setattr(network.get_submodule(place), last, part.merged())
