"""Held-out pairs for a quality run: trainer.evaluate's measure, drawn by the engines that serve a model."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.quality_figures import AT_LEAST, AT_MOST, Figure
from benchmarks.quality_people import Model, Photo
from faces.pictures import pictures, read
from trainer import evaluate, losses
from trainer.data import Group, load

GROUP, SIDE, BEHIND = "young-women", 256, 200  # the pairs' people; px; photos that stand behind
BARS = {"l1": (0.035, AT_MOST), "ssim": (0.84, AT_LEAST), "alpha_accuracy": (0.994, AT_LEAST)}
NAMES = {"l1": "L1", "ssim": "SSIM", "psnr_db": "PSNR dB", "alpha_accuracy": "alpha accuracy"}
NOTE = (
    "pairs: SSIM over squares of 7 px in RGB of range 1, which gives the baseline's published 0.783 on white (0.7828); "
    "trainer.evaluate's (Gaussian, luminance of [-1, 1]) is lower, 0.685 there"
)


@dataclass(frozen=True)
class Scene:
    """place: what is behind the people; photos: (S, S, 3) uint8 RGB."""

    place: str
    photos: list[np.ndarray]
    pairs: Group


def scenes(folder: Path, behind: Path | None, most: int | None) -> list[Scene]:
    """The pairs before white and before camera-like backgrounds; behind: photos, None for rooms and colours alone."""
    pairs = load([folder], [], [GROUP], SIDE)[GROUP]
    if most:
        pairs = Group(pairs.photos[:most], pairs.cartoons[:most], pairs.alphas[:most], names=pairs.names[:most])
    rooms = [read(path, SIDE) for path in pictures(behind)[:BEHIND]] if behind else []
    return [
        Scene(place, evaluate.composed(pairs, these), pairs)
        for place, these in (("white", None), ("camera-like", rooms))
    ]


def figures(model: Model | Photo, scenes: list[Scene]) -> list[Figure]:
    """Bars are for camera-like backgrounds."""
    found = []
    for scene in scenes:
        drawn: list[Tensor] = []

        def draw(x: Tensor, drawn=drawn) -> Tensor:
            drawn.append(torch.from_numpy(model.infer(x.numpy())))
            return drawn[-1]

        said = evaluate.measure(draw, scene.photos, scene.pairs)
        said["ssim"] = float(np.mean([similarity(*each) for each in zip(drawn, *_targets(scene), strict=True)]))
        for key, name in NAMES.items():
            bar, sense = BARS.get(key, (None, None)) if scene.place != "white" else (None, None)
            of, counts = len(scene.photos), model.name != "photo"
            found.append(
                Figure(f"pairs {name}, {scene.place}", model.name, said[key], bar, sense, None, of, None, counts)
            )
    return found


def _targets(scene: Scene) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return scene.pairs.cartoons, scene.pairs.alphas


def similarity(drawn: Tensor, cartoon: np.ndarray, alpha: np.ndarray) -> float:
    """SSIM (Wang et al. 2004) of a drawing (1, 4, S, S) on white and its cartoon (S, S, 3) uint8 on white by alpha:
    squares of 7 px, every channel, range 1."""
    from skimage.metrics import structural_similarity

    mask = torch.from_numpy(alpha.astype(np.float32) / 255)
    target = torch.from_numpy(cartoon.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    one, other = (
        ((losses.on_white(picture, weight)[0] + 1) / 2).permute(1, 2, 0).numpy()
        for picture, weight in ((drawn[:, :3], drawn[:, 3:]), (target, mask))
    )
    return float(structural_similarity(one, other, channel_axis=2, data_range=1.0, use_sample_covariance=False))
