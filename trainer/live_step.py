"""One training step: batches in, parameters moved, figures out. No files, no clock.

Stage 1 learns the basic group. Stage 2 learns all groups with selective backpropagation (arXiv 2007.13332,
section 4.1): the rare groups' losses stop at the trunk, whose parameters they see as constants.
"""

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from livetoon.errors import TrainingError
from trainer import losses
from trainer.adversary import Adversary, surrounded, window
from trainer.checkpoint import GO_ON
from trainer.look_term import LookTerm
from trainer.presets import Preset
from trainer.qat import Rounding

MOVEMENT = ("change", "output_variance")  # figures of a step that are no loss terms


@dataclass
class Batch:
    """photo, cartoon: (N, 3, S, S) float32 in [-1, 1]; alpha: (N, 1, S, S) float32 in [0, 1].

    clean: photos without a drawing, undegraded; motion: their matrices as `affine_grid` takes them, (N, 2, 3).
    The degraded and moved forms of `clean` stand behind those of the pairs in `photo`; so do their alphas in
    `alpha`, where somebody marked the persons. real: drawings for the adversary, as many as `photo` has pictures.
    """

    photo: Tensor
    cartoon: Tensor
    alpha: Tensor
    clean: Tensor | None = None
    motion: Tensor | None = None
    real: Tensor | None = None

    @property
    def looked_at(self) -> Tensor:
        """(N, 3, S, S): whom each picture of `photo` shows, undegraded where such a photo is known."""
        return self.photo if self.clean is None else torch.cat([self.photo[: len(self.cartoon)], self.clean])

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        tensors = (getattr(self, field.name) for field in dataclasses.fields(self))
        return Batch(*(None if tensor is None else tensor.to(device, non_blocking=True) for tensor in tensors))


class Trainer:
    """What changes while a model learns: generator, its average, the optimizer.

    learned: groups whose branches had learned before this run; stage 2 goes on from them. rounding: the generator
    draws in int8 steps, and its batch statistics stay as they are. adversary: tells its drawings from real ones. looks:
    says for whom a rare group's drawings are taken.
    """

    def __init__(
        self,
        generator: nn.Module,
        preset: Preset,
        features: nn.Module | None,
        learned: Sequence[str] = (),
        rounding: Rounding | None = None,
        adversary: Adversary | None = None,
        looks: LookTerm | None = None,
    ):
        self.generator = generator.to(memory_format=torch.channels_last)
        self.ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.preset = preset
        self.features = features
        self.learned = tuple(learned)
        self.rounding = rounding
        self.adversary = adversary
        self.looks = looks
        self.optimizer = torch.optim.AdamW(generator.parameters(), lr=1.0, weight_decay=preset.weight_decay)

    def start_stage_2(self) -> None:
        """Every rare branch that has not learned before becomes a copy of the basic one; the optimizer's moments
        start anew. A branch that has learned fits the trunk a little less after stage 1, and catches up."""
        basic, *rare = self.generator.groups
        for model in (self.generator, self.ema):
            model.load_state_dict(self.ema.state_dict())
            for group in rare:
                if group not in self.learned:
                    model.branches[group].load_state_dict(self.ema.branches[basic].state_dict())
        self.optimizer = torch.optim.AdamW(self.generator.parameters(), lr=1.0, weight_decay=self.preset.weight_decay)

    def step(
        self,
        batches: dict[str, Batch],
        learning_rate: float,
        decay: float,
        corner: tuple[int, int],
        random: np.random.Generator | None = None,
    ) -> dict:
        """Move the parameters once; returns each group's loss terms, and how its drawings move (_movement).

        corner: where the feature loss looks (a crop of 3/8 of the side: seeing it all costs as much as the generator).
        random: of the views that the look term has; None: it sees drawings as they are.
        """
        basic = self.generator.groups[0]
        self.optimizer.zero_grad(set_to_none=True)
        self.generator.train()
        total, figures, faces = 0.0, {}, []
        for group, batch in batches.items():
            if self.rounding is not None:
                logits = self.rounding.logits(self.generator, batch.photo, group, constant_trunk=group != basic)
            elif group == basic:
                logits = self.generator.logits(batch.photo, group)
            else:
                logits = self._rare_logits(batch.photo, group)
            cartoon, alpha = self._targets(batch, group)
            drawing = torch.tanh(logits[:, :3])
            laid = losses.on_white(drawing, torch.sigmoid(logits[:, 3:]))
            terms = self._terms(logits, laid, cartoon, alpha, corner, self._unrounded(batch.photo, group))
            if self.looks is not None and group != basic:
                terms["looks"] = self.looks(laid, batch.looked_at, random)
            if self.adversary is not None:
                seen = window(self.preset.size, corner)
                drawn = surrounded(drawing, alpha, batch.real)[seen]
                terms["adversarial"] = self.adversary.term(drawn)
                faces.append((batch.real[seen], drawn.detach()))
            loss, terms = self._weighed(terms, rare=group != basic)
            total = total + loss
            terms |= _movement(logits.detach(), batch.photo, alpha)
            figures.update({f"{group}/{name}": value for name, value in terms.items()})
        total.backward()
        for param_group in self.optimizer.param_groups:
            param_group["lr"] = learning_rate
        self._clip()
        self.optimizer.step()
        self._average(decay)
        if self.adversary is not None:
            real, drawn = (torch.cat(each) for each in zip(*faces, strict=True))
            figures |= {f"{basic}/{name}": value for name, value in self.adversary.learn(real, drawn).items()}
        return figures

    @torch.no_grad()
    def draw(self, photo: Tensor, group: str) -> tuple[Tensor, Tensor]:
        """photo: (N, 3, S, S) in [-1, 1] -> drawing, alike, and alpha, (N, 1, S, S) in [0, 1], of the averaged weights:
        in int8 steps where those are learned."""
        logits = self.ema.logits if self.rounding is None else partial(self.rounding.logits, self.ema)
        drawn = logits(photo, group)
        return torch.tanh(drawn[:, :3]), torch.sigmoid(drawn[:, 3:])

    def _rare_logits(self, photo: Tensor, group: str) -> Tensor:
        """The trunk as a constant function, statistics included; the branch's statistics stay the basic group's,
        because a handful of pictures is no population."""
        trunk = self.generator.trunk.named_parameters()
        constants = {f"trunk.{name}": value.detach() for name, value in trunk}
        self.generator.eval()
        logits = functional_call(self.generator, constants, (photo, group), {"raw": True})
        self.generator.train()
        return logits

    @torch.no_grad()
    def _targets(self, batch: Batch, group: str) -> tuple[Tensor, Tensor]:
        """Drawings of the pairs; for photos without one, what the averaged branch draws of the clean photo, moved
        as the degraded photo was: the student learns to hold still and to see through the dark. Its alpha is
        taken likewise where the photo has none of its own."""
        if batch.clean is None:
            return batch.cartoon, batch.alpha
        drawn = self.ema(batch.clean, group)
        grid = nn.functional.affine_grid(batch.motion, list(drawn.shape), align_corners=False)
        drawn = nn.functional.grid_sample(drawn, grid, padding_mode="border", align_corners=False)
        pairs = len(batch.cartoon)
        marked = batch.alpha[pairs:]
        alpha = marked if len(marked) else drawn[:, 3:]
        cartoon = losses.on_white(drawn[:, :3], alpha)
        return torch.cat([batch.cartoon, cartoon]), torch.cat([batch.alpha[:pairs], alpha])

    @torch.no_grad()
    def _unrounded(self, photo: Tensor, group: str) -> Tensor | None:
        """What the averaged weights draw of the same photo, drawing and alpha, where rounding is to change little."""
        return self.ema(photo, group) if self.rounding is not None and self.preset.unrounded else None

    def _terms(
        self,
        logits: Tensor,
        laid: Tensor,
        cartoon: Tensor,
        alpha: Tensor,
        corner: tuple[int, int],
        unrounded: Tensor | None,
    ) -> dict[str, Tensor]:
        """What every group learns by; laid: the drawing on white by its own alpha."""
        terms = losses.live_terms(logits, cartoon, alpha)
        if unrounded is not None:
            drawn = torch.cat([torch.tanh(logits[:, :3]), torch.sigmoid(logits[:, 3:])], dim=1)
            terms["unrounded"] = (drawn - unrounded).square().mean()
        if self.features is not None:
            (y, x), side = corner, self.preset.size * 3 // 8
            part = (..., slice(y, y + side), slice(x, x + side))
            terms["feature"] = losses.feature_distance(self.features, laid[part], cartoon[part])
        return terms

    def _weighed(self, terms: dict[str, Tensor], rare: bool) -> tuple[Tensor, dict[str, float]]:
        """The loss, and its terms as figures. TrainingError names a term that is no finite number."""
        for name, term in terms.items():
            if not torch.isfinite(term):
                raise TrainingError(f"loss term `{name}` is {term.item()}: {GO_ON}")
        own = {"feature": "rare_feature"} if rare else {}
        loss = sum(getattr(self.preset, own.get(name, name)) * term for name, term in terms.items())
        return loss, {name: term.item() for name, term in terms.items()}

    def _clip(self, limit: float = 5.0) -> None:
        """Clip what the basic group moves and each rare branch apart: one norm over all would let a rare group's
        gradient scale the trunk's."""
        basic, *rare = self.generator.groups
        branches = self.generator.branches
        nn.utils.clip_grad_norm_([*self.generator.trunk.parameters(), *branches[basic].parameters()], limit)
        for group in rare:
            nn.utils.clip_grad_norm_(branches[group].parameters(), limit)

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        for kept, value in zip(self.ema.parameters(), self.generator.parameters(), strict=True):
            kept.lerp_(value, 1 - decay)
        for kept, value in zip(self.ema.buffers(), self.generator.buffers(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(value, 1 - decay)
            else:
                kept.copy_(value)


@torch.no_grad()
def _movement(logits: Tensor, photo: Tensor, alpha: Tensor) -> dict[str, float]:
    """Both are small in a collapse: how far the drawings are from their photos inside the person (in [0, 1]; the
    photo's background is no drawing's), and the variance of what is drawn on white. Every fourth pixel tells it."""
    logits, photo, alpha = (each[..., ::4, ::4] for each in (logits, photo, alpha))
    picture = torch.tanh(logits[:, :3])
    return {
        "change": losses.masked_l1(picture, photo, alpha).item() / 2,
        "output_variance": losses.on_white(picture, torch.sigmoid(logits[:, 3:])).var().item(),
    }
