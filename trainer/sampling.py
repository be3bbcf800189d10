"""Which pictures a training step sees. Every choice follows from (seed, stage, step, position): nothing is kept."""

import numpy as np
import torch

from faces.pictures import resized
from trainer.collect import Unpaired
from trainer.presets import Translation
from trainer.step import Pictures

JITTER = 30  # px: a picture is this much larger than its random crop


class Sampler:
    """Batches of any step of any stage, from decoded pictures.

    part, parts: of several processes; each takes every `parts`-th position of the joint batch.
    """

    def __init__(self, data: dict[str, Unpaired], preset: Translation, part: int = 0, parts: int = 1):
        self.data, self.preset, self.part, self.parts = data, preset, part, parts

    def micro_batches(self, stage: int, step: int) -> list[Pictures]:
        """The batches whose gradients make one step."""
        return [self._batch(stage, step * self.preset.accumulate + turn) for turn in range(self.preset.accumulate)]

    def _batch(self, stage: int, step: int) -> Pictures:
        preset = self.preset
        kind = preset.stage1_sampling if stage == 1 else preset.stage2_sampling
        basic, *rare = preset.groups
        if kind == "each":
            slots = [(group, [group]) for group in preset.groups for _ in range(preset.batch)]
        elif kind == "turns":
            group = preset.groups[step % len(preset.groups)]
            slots = [(group, [group])] * preset.batch
        else:
            pools = {"basic": [basic], "mixed": [basic, *rare], "mixed-rare": rare, "rare": rare[:1]}
            slots = [(basic, pools[kind])] * preset.batch  # mixed groups have no branches of their own
        mine = [(position, *slot) for position, slot in enumerate(slots) if position % self.parts == self.part]
        photos, cartoons, points = [], [], []
        for position, _, pool in mine:
            random = np.random.default_rng((preset.seed, stage, step, position))
            photo, marks = self._photo(pool, random, step)
            photos.append(photo)
            points.append(marks)
            cartoons.append(self._cartoon(pool, random, step))
        return Pictures(
            _tensor(photos),
            _tensor(cartoons),
            [group for _, group, _ in mine],
            torch.from_numpy(np.stack(points)) if preset.keypoint else None,
        )

    def _photo(self, pool: list[str], random: np.random.Generator, step: int):
        sets = [(self.data[group].photo, self.data[group].points) for group in pool]
        photos = [(photo, marks) for pictures, points in sets for photo, marks in zip(pictures, points, strict=True)]
        if self.preset.keypoint:
            photos = [each for each in photos if each[1] is not None]
        photo, marks = photos[self._index(len(photos), random, step)]
        return self._jittered(photo, random), marks

    def _cartoon(self, pool: list[str], random: np.random.Generator, step: int) -> np.ndarray:
        cartoons = [cartoon for group in pool for cartoon in self.data[group].cartoon]
        return self._jittered(cartoons[self._index(len(cartoons), random, step)], random)

    def _index(self, count: int, random: np.random.Generator, step: int) -> int:
        return step % count if self.preset.pairing == "index" else int(random.integers(count))

    def _jittered(self, picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
        size = self.preset.size
        if not self.preset.jitter:
            return picture
        if random.random() < 0.5:
            picture = picture[:, ::-1]
        y, x = random.integers(0, picture.shape[0] - size + 1, 2)
        return picture[y : y + size, x : x + size]

    def with_points(self) -> int:
        """Photos of the basic group whose five points are known."""
        return sum(marks is not None for marks in self.data[self.preset.groups[0]].points)


def stage_pools(preset: Translation, stage: int) -> list[tuple[str, ...]]:
    """What a stage's steps draw their pictures from: groups that are seen by themselves, and groups that are mixed."""
    basic, *rare = preset.groups
    alone = [(group,) for group in preset.groups]
    pools = {
        "basic": alone[:1], "each": alone, "turns": alone, "mixed": [(basic, *rare)], "mixed-rare": [tuple(rare)],
        "rare": alone[1:2],
    }  # fmt: skip
    return pools[preset.stage1_sampling if stage == 1 else preset.stage2_sampling]


def needed_pools(preset: Translation) -> list[tuple[str, ...]]:
    """The pools of every stage that there is. Each must have photos and drawings; of mixed groups, some may have
    none."""
    stages = [1, 2] if preset.stage2_steps else [1]
    return list(dict.fromkeys(pool for stage in stages for pool in stage_pools(preset, stage)))


def decoded_size(preset: Translation) -> int:
    """Side at which pictures are kept: what the random crop is cut from."""
    return preset.size + JITTER if preset.jitter else preset.size


def network_input(pictures: list[np.ndarray], size: int) -> torch.Tensor:
    """(S, S, 3) uint8 RGB of any side -> (N, 3, size, size) float32 in [-1, 1]."""
    return _tensor([resized(picture, size) for picture in pictures])


def _tensor(pictures: list[np.ndarray]) -> torch.Tensor:
    stacked = torch.from_numpy(np.ascontiguousarray(np.stack(pictures)))
    return stacked.permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()
