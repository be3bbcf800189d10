"""Generators of named parts, each shared by all groups of people or a group's own (arXiv 2007.13332, section 3)."""

from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map
from torch.utils.checkpoint import checkpoint


class Drawing(NamedTuple):
    """What a generator gives: image (N, 3, S, S) in [-1, 1], CAM logits and heatmap where the network has them."""

    image: Tensor
    cam: Tensor | None = None
    heatmap: Tensor | None = None


class Branched(nn.Module):
    """`trunk` holds the shared parts, `branches[group]` each group's own.

    `parts` of a subclass: name -> function that makes the part. Which of them are a group's own is configuration.
    """

    def __init__(self, groups: Sequence[str], own: Sequence[str], parts: dict[str, Callable[[], nn.Module]]):
        super().__init__()
        if unknown := set(own) - set(parts):
            raise ValueError(f"own={','.join(sorted(unknown))}: expected parts of {', '.join(parts)}")
        self.groups, self.own = tuple(groups), tuple(own)
        self.parts = tuple(parts)
        self.checkpointing = False  # recompute every part's activations in the backward pass
        self.trunk = nn.ModuleDict({name: make() for name, make in parts.items() if name not in own})
        self.branches = nn.ModuleDict({group: nn.ModuleDict({name: parts[name]() for name in own}) for group in groups})

    def names_of(self, x: Tensor, group: str | Sequence[str]) -> list[str]:
        """The group of each picture of x; ValueError when their number differs."""
        names = [group] * len(x) if isinstance(group, str) else list(group)
        if len(names) != len(x):
            raise ValueError(f"{len(x)} pictures, but {len(names)} groups")
        return names

    def rows(self, names: Sequence[str], device: torch.device) -> Tensor:
        """Each group's number, as the CAM heads and the class heads count them."""
        return torch.tensor([self.groups.index(name) for name in names], device=device)

    def run(self, part: str, names: Sequence[str], constant: Collection[str], *inputs):
        """One part on a batch: the shared one once, a group's own for each run of pictures of that group.

        constant: shared parts whose parameters count as constants: no gradient reaches them.
        """
        if part not in self.own:
            module = self.trunk[part]
            if part not in constant:
                return self._call(module, *inputs)
            fixed = {name: value.detach() for name, value in module.named_parameters()}
            return self._call(lambda *x: functional_call(module, fixed, x), *inputs)
        done, outputs = 0, []
        for name, run in groupby(names):
            piece = slice(done, done := done + len(list(run)))
            cut = tree_map(lambda x, piece=piece: x[piece], inputs)
            outputs.append(self._call(self.branches[name][part], *cut))
        return tree_map(lambda *pieces: torch.cat(pieces), *outputs) if len(outputs) > 1 else outputs[0]

    def _call(self, function: Callable, *inputs):
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
        return function(*inputs)

    def copy_branches(self, source: str, kept: Collection[str] = ()) -> None:
        """Every other branch but the `kept` ones becomes a copy of the group `source`'s."""
        for group in self.groups:
            if group not in kept:
                self.branches[group].load_state_dict(self.branches[source].state_dict())


def draw(generator: nn.Module, x: Tensor, group: str | Sequence[str]) -> Tensor:
    """The picture alone, (N, 3, S, S) in [-1, 1], of any generator; one with an alpha is laid on white."""
    drawn = generator(x, group)
    if isinstance(drawn, Drawing):
        return drawn.image
    return torch.lerp(torch.ones_like(x), drawn[:, :3], drawn[:, 3:])
