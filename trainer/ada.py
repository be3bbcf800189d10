"""Adaptive discriminator augmentation (ADA), so that few drawings do not run dry: Karras et al. 2020, arXiv 2006.06676.

    controllers = {"photo": Controller(), "cartoon": Controller()}          one for each domain
    logits = discriminator(augment(real, controllers["cartoon"].strength, generator))
    controllers["cartoon"].feed(logits)                                     after every step

The discriminator sees real and generated pictures through random changes only, each made with the probability
`strength`; the controller raises it while the discriminator is too sure about real pictures. Changes and their
distributions are those of the paper's appendix B (flips and turns, geometry, colour; no noise, no image filters).
Outside a picture it is white (+1), as our drawings stand on white.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from livetoon.errors import TrainingError

SHIFT = 0.125  # share of the side: the largest shift by whole pixels, and the deviation of the fractional one
ZOOM_DEVIATION = 0.2 * math.log(2)  # of the logarithm of a zoom or stretch; contrast: 2.5 times that, saturation: 5
BRIGHTNESS_DEVIATION = 0.2

# Low-pass pair of the biorthogonal 9/7 wavelet (Cohen, Daubechies, Feauveau 1992; JPEG 2000, ISO 15444-1 annex F), from
# the middle outwards. The paper resamples with sym6; this pair restores a picture that has not moved as exactly, and
# being symmetric also one that was mirrored, turned by 90 degrees or shifted by whole pixels.
RISE = (1.115087052456994, 0.591271763114247, -0.057543526228500, -0.091271763114250)
FALL = (0.602949018236360, 0.266864118442875, -0.078223266528990, -0.016864118442875, 0.026748757410810)


class Controller:
    """Moves the strength of one domain's augmentation so that the discriminator neither overfits nor starves.

    Fed what the global discriminator says of REAL pictures (least squares: 1 = real, 0 = generated), it measures
    r_t = E[sign(D(real) - 0.5)] in [-1, 1] (equation 1; there the outputs are logits, here the middle is 0.5). After
    every `interval` pictures the strength rises when r_t is above `target` and falls when below, by as much as takes it
    from 0 to 1 in `ramp_kimg` thousand pictures, and stays within [0, `ceiling`].

    published: the rule of Face2Webtoon: an output of exactly 0.5 is wrong, r_t = max(0, right - wrong over n); its
    strength has no ceiling (`ceiling=math.inf`). TrainingError when a setting makes no sense.

    >>> controller = Controller(interval=2, ramp_kimg=0.01)
    >>> controller.feed(torch.full((2, 1, 6, 6), 0.9))
    0.2
    """

    def __init__(
        self,
        target: float = 0.6,
        interval: int = 256,
        ramp_kimg: float = 500,
        ceiling: float = 1,
        published: bool = False,
    ):
        if not (-1 <= target <= 1 and interval >= 1 and ramp_kimg > 0 and ceiling >= 0):
            raise TrainingError(
                f"ADA: target {target}, interval {interval}, ramp_kimg {ramp_kimg}, ceiling {ceiling}; expected a "
                "target in [-1, 1], at least 1 picture, a ramp above 0 and a ceiling of at least 0"
            )
        self.target, self.interval, self.ramp_kimg = target, interval, ramp_kimg
        self.ceiling, self.published = ceiling, published
        self.strength = 0.0
        self.heuristic = 0.0  # r_t as last measured
        self._signs, self._pictures = 0.0, 0

    def feed(self, outputs: Tensor) -> float:
        """Take in the outputs for N real pictures, (N,) or maps (N, ...); the strength from now on comes back.

        A picture counts once however large its map is: its sign is the mean over the map. Where several processes
        train, feed each the outputs of all, so that their controllers stay equal. TrainingError on NaN or infinity.
        """
        if outputs.dim() == 0 or outputs.numel() == 0:
            raise TrainingError(f"ADA: outputs of shape {tuple(outputs.shape)}, expected (N, ...) with N pictures")
        certainty = outputs.detach().cpu().double().reshape(len(outputs), -1) - 0.5
        if not certainty.isfinite().all():
            raise TrainingError("ADA: the discriminator's outputs are not finite; lower the learning rate")
        signs = torch.where(certainty > 0, 1.0, -1.0) if self.published else certainty.sign()
        total = signs.double().mean(1).sum().item()
        self._signs += total
        self._pictures += len(outputs)
        if self._pictures >= self.interval:
            measured = self._signs / self._pictures
            self.heuristic = max(0.0, measured) if self.published else measured
            direction = (self.heuristic > self.target) - (self.heuristic < self.target)
            moved = self.strength + direction * self._pictures / (self.ramp_kimg * 1000)
            self.strength = min(max(moved, 0.0), float(self.ceiling))
            self._signs, self._pictures = 0.0, 0
        return self.strength

    def state_dict(self) -> dict[str, float | int]:
        """All that changes, as JSON can hold it without loss."""
        changing = (self.strength, self.heuristic, self._signs, self._pictures)
        return dict(zip(("strength", "heuristic", "signs", "pictures"), changing, strict=True))

    def load_state_dict(self, state: dict[str, float | int]) -> None:
        """Go on from `state` exactly; TrainingError when it is not such a state."""
        names = set(self.state_dict())
        if not isinstance(state, dict) or set(state) != names:
            raise TrainingError(f"ADA: not a controller's state; expected {', '.join(sorted(names))}")
        numbers = all(isinstance(value, int | float) and math.isfinite(value) for value in state.values())
        if not numbers or not 0 <= state["strength"] <= self.ceiling or state["pictures"] < 0:
            raise TrainingError(f"ADA: a controller's state with impossible numbers ({state}); resume an older one")
        self.strength, self.heuristic = float(state["strength"]), float(state["heuristic"])
        self._signs, self._pictures = float(state["signs"]), int(state["pictures"])


@dataclass(frozen=True)
class Plan:
    """What happens to each of N pictures, in this order; float64 on the CPU, (N,) unless said otherwise.

    It does not know the pictures' size, so one plan serves tensors of several sizes.
    """

    flip: Tensor  # -1 = mirrored left to right, else 1
    quarters: Tensor  # turns by 90 degrees, 0 to 3, counter-clockwise
    shift: Tensor  # (N, 2) right, down; share of width and height, rounded to whole pixels
    zoom: Tensor  # above 1: larger
    turn_before: Tensor  # radians, counter-clockwise
    stretch: Tensor  # width times this, height divided by it
    turn_after: Tensor  # radians, counter-clockwise
    slide: Tensor  # (N, 2) right, down; share of width and height
    brightness: Tensor  # added; the whole range is 2
    contrast: Tensor  # factor about mid-grey
    luma: Tensor  # -1 = light and dark changed round, hue and saturation kept, else 1
    hue: Tensor  # radians about the grey axis
    saturation: Tensor  # factor about the grey axis


def draw(
    n: int, strength: float, generator: torch.Generator, blit: bool = True, geometry: bool = True, colour: bool = True
) -> Plan:
    """Draw what happens to `n` pictures; each change is made with probability `strength` in [0, 1] (appendix B).

    All numbers are drawn whatever is switched off, so that the generator's next numbers do not depend on it.
    """
    if not 0 <= strength <= 1:
        raise TrainingError(f"ADA: a strength of {strength}, expected 0 to 1")
    kind = {"dtype": torch.float64, "device": generator.device, "generator": generator}
    uniform, normal = iter(torch.rand(21, n, **kind).cpu()), iter(torch.randn(7, n, **kind).cpu())

    def pick(family: bool, value: Tensor, neutral: float = 0.0, chance: float = strength) -> Tensor:
        happens = next(uniform) < (chance if family else 0.0)
        return torch.where(happens if value.dim() == 1 else happens[:, None], value, neutral)

    def pair(numbers: Iterator[Tensor]) -> Tensor:
        return torch.stack([next(numbers), next(numbers)], 1)

    turning = 1 - math.sqrt(1 - strength)  # two turns, each so likely that one of them happens with `strength`
    whole_turn = 2 * math.pi
    return Plan(
        flip=pick(blit, torch.where(next(uniform) < 0.5, -1.0, 1.0).double(), 1.0),
        quarters=pick(blit, (next(uniform) * 4).floor()),
        shift=pick(blit, (pair(uniform) * 2 - 1) * SHIFT),
        zoom=pick(geometry, (next(normal) * ZOOM_DEVIATION).exp(), 1.0),
        turn_before=pick(geometry, (next(uniform) - 0.5) * whole_turn, chance=turning),
        stretch=pick(geometry, (next(normal) * ZOOM_DEVIATION).exp(), 1.0),
        turn_after=pick(geometry, (next(uniform) - 0.5) * whole_turn, chance=turning),
        slide=pick(geometry, pair(normal) * SHIFT),
        brightness=pick(colour, next(normal) * BRIGHTNESS_DEVIATION),
        contrast=pick(colour, (next(normal) * ZOOM_DEVIATION * 2.5).exp(), 1.0),
        luma=pick(colour, torch.where(next(uniform) < 0.5, -1.0, 1.0).double(), 1.0),
        hue=pick(colour, (next(uniform) - 0.5) * whole_turn),
        saturation=pick(colour, (next(normal) * ZOOM_DEVIATION * 5).exp(), 1.0),
    )


def augment(
    pictures: Tensor,
    strength: float,
    generator: torch.Generator,
    blit: bool = True,
    geometry: bool = True,
    colour: bool = True,
) -> Tensor:
    """`pictures` (N, 3, H, W) float in [-1, 1] with random changes of their own; same shape and dtype, differentiable.

    blit: mirroring, turns by 90 degrees, shifts by whole pixels. geometry: zoom, stretch, any turn, any shift. colour:
    brightness, contrast, luma, hue, saturation; values may leave [-1, 1], as in the paper. Strength 0 changes nothing.
    """
    return apply(pictures, draw(len(pictures), strength, generator, blit, geometry, colour))


def apply(pictures: Tensor, plan: Plan) -> Tensor:
    """`pictures` (N, C, H, W) float in [-1, 1] changed as planned; a picture with nothing planned stays to the bit.

    TrainingError when the plan is for another number of pictures or has colours for other than 3 channels.
    """
    if pictures.dim() != 4 or len(pictures) != len(plan.flip):
        raise TrainingError(
            f"ADA: a plan for {len(plan.flip)} pictures (N, C, H, W), got a tensor of shape {tuple(pictures.shape)}"
        )
    height, width = pictures.shape[2:]
    colours = _colours(plan)
    if pictures.shape[1] != 3 and len(_changed(colours)):
        raise TrainingError(f"ADA: colour needs pictures of 3 channels, got {pictures.shape[1]}; switch colour off")
    with torch.autocast(pictures.device.type, enabled=False):  # half precision would blur positions and filters
        pictures = _each(pictures, _positions(plan, width, height), _resample)
        return _each(pictures, colours, _paint)


def _changed(matrices: Tensor) -> Tensor:
    """Which of N matrices (N, R, C) do anything: their places, (M,)."""
    neutral = torch.eye(*matrices.shape[1:], dtype=matrices.dtype)
    return (matrices != neutral).flatten(1).any(1).nonzero().flatten()


def _each(pictures: Tensor, matrices: Tensor, operation: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """`operation` on those pictures whose matrix does anything, at once and in float32 at least."""
    changed = _changed(matrices)
    if not len(changed):
        return pictures
    places = changed.to(pictures.device)
    some = pictures[places].to(torch.promote_types(pictures.dtype, torch.float32))
    return pictures.index_copy(0, places, operation(some, matrices[changed].to(some)).to(pictures.dtype))


def _paint(pictures: Tensor, matrices: Tensor) -> Tensor:
    return torch.einsum("nij,njhw->nihw", matrices[:, :, :3], pictures) + matrices[:, :, 3, None, None]


def _positions(plan: Plan, width: int, height: int) -> Tensor:
    """(N, 3, 3) float64: where in the picture lies what a place of the result shows; pixels from the middle, right and
    down. The changes' inverses, so the first change stands leftmost."""
    zero, one = torch.zeros_like(plan.flip), torch.ones_like(plan.flip)

    def scaled(x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([x, zero, zero, zero, y, zero, zero, zero, one], 1).view(-1, 3, 3)

    def turned_back(cos: Tensor, sin: Tensor) -> Tensor:
        return torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], 1).view(-1, 3, 3)

    def shifted_back(x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([one, zero, -x, zero, one, -y, zero, zero, one], 1).view(-1, 3, 3)

    quarter = plan.quarters * (math.pi / 2)
    size = torch.tensor([width, height], dtype=torch.float64)
    steps = [
        scaled(plan.flip, one),
        turned_back(quarter.cos().round(), quarter.sin().round()),
        shifted_back(*(plan.shift * size).round().unbind(1)),
        scaled(1 / plan.zoom, 1 / plan.zoom),
        turned_back(plan.turn_before.cos(), plan.turn_before.sin()),
        scaled(1 / plan.stretch, plan.stretch),
        turned_back(plan.turn_after.cos(), plan.turn_after.sin()),
        shifted_back(*(plan.slide * size).unbind(1)),
    ]
    return functools.reduce(torch.matmul, steps)


def _colours(plan: Plan) -> Tensor:
    """(N, 3, 4) float64: what becomes of (red, green, blue, 1)."""
    one = torch.eye(3, dtype=torch.float64)
    grey = torch.full((3, 3), 1 / 3, dtype=torch.float64)  # projection onto the grey axis
    across = one - grey
    # turn about the grey axis (Rodrigues): the cross product with its direction, (1, 1, 1) / sqrt(3)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], dtype=torch.float64) / math.sqrt(3)

    def each(numbers: Tensor) -> Tensor:
        return numbers[:, None, None]

    steps = [
        grey + each(plan.saturation) * across,
        grey + each(plan.hue.cos()) * across + each(plan.hue.sin()) * cross,
        one - each(1 - plan.luma) * grey,
        each(plan.contrast) * one,
    ]
    matrix = functools.reduce(torch.matmul, steps)
    # brightness comes first, so its amount goes through all the others
    return torch.cat([matrix, matrix.sum(2, keepdim=True) * each(plan.brightness)], 2)


def _resample(pictures: Tensor, positions: Tensor) -> Tensor:
    """Every picture by its matrix: twice as fine a lattice, bilinear between its points, and back through a low-pass,
    so that neither a turn softens nor a zoom-out leaves false patterns (appendix B.1, with other filters)."""
    n, channels, height, width = pictures.shape
    rise = pictures.new_tensor(RISE[:0:-1] + RISE)
    fall = pictures.new_tensor(FALL[:0:-1] + FALL)

    def columns_then_rows(operation: Callable, x: Tensor, line: Tensor) -> Tensor:
        x = operation(x.flatten(0, 1)[:, None], line.view(1, 1, -1, 1), stride=(2, 1))
        x = operation(x, line.view(1, 1, 1, -1), stride=(1, 2))
        return x.view(n, channels, *x.shape[2:])

    ink = columns_then_rows(F.conv_transpose2d, pictures - 1, rise)  # white is 0 here, so what lies outside is white
    size = pictures.new_tensor([width, height])
    # pixels from the middle to the last point of the fine lattice, which holds what the filters carry over the border
    reach_in, reach_out = (2 * size + len(rise) - 3) / 4, (2 * size + len(fall) - 3) / 4
    linear = positions[:, :2, :2] * reach_out / reach_in[:, None]
    matrix = torch.cat([linear, positions[:, :2, 2:] / reach_in[:, None]], 2)
    shape = [n, channels, 2 * height - 2 + len(fall), 2 * width - 2 + len(fall)]
    grid = F.affine_grid(matrix, shape, align_corners=True)
    moved = F.grid_sample(ink, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return columns_then_rows(F.conv2d, moved, fall) + 1
