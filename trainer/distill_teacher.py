"""Any generator as a teacher: photos of one side in, drawings on white of the same side out."""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from livetoon.errors import ModelError
from trainer.networks.branches import Drawing
from trainer.sampling import network_input

PICKLED = (".pt", ".pth")
USUAL_SIZE = 256  # px, where neither network nor run tell


class Teacher:
    """A generator with its side in px. groups: its branches, the basic one first; fingerprint: of its weights."""

    def __init__(self, generator: nn.Module, size: int, mirror_average: bool = False):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.fingerprint = _fingerprint(generator)
        self.generator = generator.to(self.device).eval()
        self.size, self.groups = size, tuple(generator.groups)
        self._mirror_average = mirror_average

    def branch(self, group: str) -> str:
        """The branch that draws `group`: its own, or the basic one."""
        return group if group in self.groups else self.groups[0]

    @torch.inference_mode()
    def __call__(self, photos: list[np.ndarray], branch: str) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
        """photos: (H, W, 3) uint8 RGB -> drawings (size, size, 3) uint8 RGB, and alphas (size, size) uint8 of the
        persons, None where the generator has none."""
        x = network_input(photos, self.size).to(self.device)
        image, alpha = self._drawn(x, branch)
        if self._mirror_average:
            mirrored, mirrored_alpha = self._drawn(x.flip(3), branch)
            image = (image + mirrored.flip(3)) / 2
            alpha = None if alpha is None else (alpha + mirrored_alpha.flip(3)) / 2
        drawings = list(_bytes((image.clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1).numpy())
        return drawings, None if alpha is None else list(_bytes(alpha)[:, 0].numpy())

    def _drawn(self, x: Tensor, branch: str) -> tuple[Tensor, Tensor | None]:
        drawn = self.generator(x, branch)
        if isinstance(drawn, Drawing):
            return drawn.image.float(), None
        image, alpha = drawn[:, :3], drawn[:, 3:]
        return torch.lerp(torch.ones_like(image), image, alpha), alpha


def open_teacher(path: Path, mirror_average: bool = False) -> Teacher:
    """A run (its averaged weights), a checkpoint folder, a .safetensors file, or a public .pt or .pth.

    ModelError for a file that is broken or holds no generator from photos to drawings.
    """
    if path.suffix in PICKLED:
        from trainer.public_files import read

        networks = read(path)
        if "generator" not in networks:
            raise ModelError(f"{path}: holds {', '.join(networks)}, but no generator from photos to drawings")
        generator = networks["generator"]
    else:
        from trainer.checkpoint import load_generator

        generator = load_generator(path)
    if not hasattr(generator, "groups"):
        raise ModelError(f"{path}: holds a {generator.network_name} network; expected a generator")
    return Teacher(generator, _size(generator, path), mirror_average)


def _size(generator: nn.Module, path: Path) -> int:
    """The network's side, or that of the run it lies in (a live network does not know its own)."""
    if "size" in generator.settings:
        return generator.settings["size"]
    for folder in (path, *path.resolve().parents[:3]):
        try:
            return int(json.loads((folder / "config.json").read_text(encoding="utf-8"))["preset"]["size"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return USUAL_SIZE


def _fingerprint(generator: nn.Module) -> str:
    digest = hashlib.sha256(generator.network_name.encode())
    for name, value in sorted(generator.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _bytes(share: Tensor) -> Tensor:
    return (share * 255).round().byte().cpu()
