"""The published photo2cartoon light network with weights that draw: what engines are measured on beside ours.

Random weights have other activations than trained ones, so INT8 and FP16 would be judged on what nobody runs. These
learn from pairs by the L1 distance alone, which takes minutes instead of the days of the published adversarial
training: first small pictures, then whole ones. They are stored in float16, and that is the reference.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livetoon import cli
from livetoon.files import replacing
from trainer import data
from trainer.checkpoint import save_generator
from trainer.networks import build
from trainer.networks.layers import clamp

WEIGHTS = Path(__file__).parent / "models" / "photo2cartoon-light.safetensors"
GROUP = "young-women"
PHASES = ((128, 4, 400, 1e-3), (256, 1, 160, 4e-4))  # side in px, pictures a step, steps, highest learning rate
WARM_UP = 0.1  # of a phase's steps; the rate falls to zero over the rest
REPORT_EVERY = 20


def learn(folder: Path, seed: int = 2026) -> nn.Module:
    """A photo2cartoon light generator that has learned the pairs in `folder`; a quarter of an hour on two cores."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    generator = build("photo2cartoon", groups=[GROUP]).train()
    learned = [parameter for parameter in generator.parameters() if parameter.requires_grad]
    for size, batch, steps, highest in PHASES:
        group = data.load([folder], [], [GROUP], size)[GROUP]
        optimizer = torch.optim.Adam(learned, lr=highest, betas=(0.9, 0.99))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, highest, steps, pct_start=WARM_UP)
        seen = []
        for step in range(1, steps + 1):
            chosen = random.choice(len(group.photos), batch, replace=False)
            mirror = random.random() < 0.5
            photos, cartoons = (
                _planes([each[index] for index in chosen], mirror) for each in (group.photos, group.cartoons)
            )
            loss = F.l1_loss(generator(photos, GROUP).image, cartoons)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(learned, 1.0)
            optimizer.step()
            schedule.step()
            clamp(generator)
            seen.append(loss.item())
            if step % REPORT_EVERY == 0:
                print(
                    f"{size} px, step {step} of {steps}: L1 {np.mean(seen[-REPORT_EVERY:]):.3f}",
                    file=sys.stderr,
                    flush=True,
                )
    return generator.eval()


def _planes(pictures: list[np.ndarray], mirror: bool) -> Tensor:
    """(S, S, 3) uint8 RGB each -> (N, 3, S, S) float32 in [-1, 1]."""
    planes = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return planes.flip(3) if mirror else planes


def _save_half(generator: nn.Module, path: Path) -> None:
    """Store in float16: half the file, and what is read from it is exactly what is measured."""
    generator.half()
    with replacing(path) as temporary:
        save_generator(temporary, generator)


def main(argv: list[str] | None = None) -> int:
    arguments = cli.parser(
        "python -m benchmarks.photo2cartoon",
        "Learn the weights of photo2cartoon light that the latency benchmark runs.",
        "python -m benchmarks.photo2cartoon --data DATA",
    )
    arguments.add_argument("--data", type=Path, required=True, help="folder with photo/NAME beside cartoon/NAME")
    arguments.add_argument("--out", type=Path, default=WEIGHTS, help=f"file to write (default {WEIGHTS.name})")
    return cli.run(_command, arguments, argv)


def _command(options: argparse.Namespace) -> None:
    options.out.parent.mkdir(parents=True, exist_ok=True)
    _save_half(learn(options.data), options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
