"""The augmentation of Face2Webtoon (sangyun884), change by change, and its replay from recorded numbers.

Training uses `trainer.ada`; this is the published order of work, one picture at a time, every change with a resampling
of its own: shifts and turns take the nearest pixel and fill with 0, zooms are bilinear, and at the end every value that
is exactly 0 becomes white. Its five colour changes draw a number each and do nothing. Pictures are (C, H, W) float in
[-1, 1], all functions are pure: what is random comes in as an argument.
"""

import json
import math
import random
import re
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from livetoon.errors import ModelError, TrainingError
from trainer.ada import SHIFT, ZOOM_DEVIATION, Controller

QUARTERS = (0.0, -90.0, -180.0, 90.0)  # degrees, counter-clockwise
COLOUR_GATES = 5
LARGEST_ZOOM = 8  # 15 deviations of the published distribution: what lies beyond is no drawn number
LARGEST_BLOCK = 1_000_000  # outputs between two adjustments in a file's header; a real one has 256
TOLERANCE = 2e-6  # of a bilinear zoom in float32, values in [-1, 1]
TOLERANCE_RULE = 1e-9  # of sums in float64
Draw = tuple[str, float]  # what was drawn (the names of the reference files) and the number


def flip(picture: Tensor, flipped: float) -> Tensor:
    """Mirror left to right when `flipped` is 1."""
    return picture.flip(-1) if flipped else picture


def rotate(picture: Tensor, angle: float) -> Tensor:
    """Turn counter-clockwise about the middle by `angle` degrees; nearest pixel, 0 outside."""
    back = math.radians(-angle)
    return _nearest(picture, [math.cos(back), math.sin(back), 0.0, -math.sin(back), math.cos(back), 0.0])


def shift(picture: Tensor, right: float, down: float, whole: bool) -> Tensor:
    """Move by shares of width and height, `whole`: by whole pixels, towards zero; nearest pixel, 0 outside."""
    x, y = right * picture.shape[-1], down * picture.shape[-2]
    if whole:
        x, y = int(x), int(y)
    return _nearest(picture, [1.0, 0.0, -float(x), 0.0, 1.0, -float(y)])


def zoom(picture: Tensor, factor: float, wide: bool = True, high: bool = True) -> Tensor:
    """Enlarge width and/or height and cut out the middle; a `factor` below 1 becomes 2 - factor: never smaller."""
    if not 0 < factor <= LARGEST_ZOOM:
        raise ModelError(f"ADA: a zoom by {factor}, expected above 0 and at most {LARGEST_ZOOM}")
    height, width = picture.shape[-2:]
    factor = 2 - factor if factor < 1 else factor
    size = [int(height * factor) if high else height, int(width * factor) if wide else width]
    large = F.interpolate(picture[None], size, mode="bilinear", align_corners=False, antialias=True)[0]
    top, left = round((size[0] - height) / 2), round((size[1] - width) / 2)
    return large[:, top : top + height, left : left + width]


def white(picture: Tensor) -> Tensor:
    """Every value that is exactly 0, meant as what lies outside, becomes +1."""
    return torch.where(picture == 0, 1.0, picture)


def _nearest(picture: Tensor, back: list[float]) -> Tensor:
    """Sample at `back`, a (2, 3) matrix from result to picture in pixels from the middle. Computed as torchvision does
    (one float32 product of places and matrix over half the size), since near a tie the last bit chooses the pixel."""
    height, width = picture.shape[-2:]
    x = torch.linspace(-width * 0.5 + 0.5, width * 0.5 - 0.5, width).expand(height, width)
    y = torch.linspace(-height * 0.5 + 0.5, height * 0.5 - 0.5, height)[:, None].expand(height, width)
    places = torch.stack([x, y, torch.ones_like(x)], -1).view(1, -1, 3)
    matrix = torch.tensor(back).view(1, 2, 3).transpose(1, 2) / torch.tensor([0.5 * width, 0.5 * height])
    grid = places.bmm(matrix).view(1, height, width, 2).to(picture)
    return F.grid_sample(picture[None], grid, mode="nearest", padding_mode="zeros", align_corners=False)[0]


def draw_published(strength: float, source: random.Random) -> list[Draw]:
    """Numbers for one picture at `strength` in [0, 1], in the order and with the names of the reference files.

    >>> [name for name, _ in draw_published(0.0, random.Random(1))][:3]
    ['flipped', 'random', 'random']
    """
    _check(strength)
    draws: list[Draw] = [("flipped", float(source.random() < strength))]

    def gate(chance: float) -> bool:
        draws.append(("random", source.random()))
        return draws[-1][1] > 1 - chance

    def shares() -> None:
        draws.extend(("uniform", source.uniform(-SHIFT, SHIFT)) for _ in range(2))

    turning = 1 - math.sqrt(1 - strength)
    if gate(strength):
        draws.append(("choice", source.choice(QUARTERS)))
    if gate(strength):
        shares()
    if gate(2 * strength):
        draws.append(("lognormal", source.lognormvariate(0, ZOOM_DEVIATION)))
    if gate(turning):
        draws.append(("angle", source.uniform(-180, 180)))
    if gate(strength):
        draws.extend([("lognormal", source.lognormvariate(0, ZOOM_DEVIATION)), ("random", source.random())])
    if gate(turning):
        draws.append(("angle", source.uniform(-180, 180)))
    if gate(strength):
        shares()
    draws.extend(("random", source.random()) for _ in range(COLOUR_GATES))
    return draws


def published_geometry(picture: Tensor, strength: float, draws: Sequence[Draw]) -> Tensor:
    """The whole chain on one picture (C, H, W). `draws` in the order of drawing; a change happens when its `random` is
    above 1 - its probability, and only then are its other numbers there. ModelError when they do not fit the chain."""
    _check(strength)
    drawn = _Drawn(draws)
    picture = flip(picture, drawn.take("flipped"))
    turning = 1 - math.sqrt(1 - strength)
    changes = [
        ("random_rotation90", strength),
        ("integer_translation", strength),
        ("isotropic_scaling", 2 * strength),
        ("arbitrary_rotation", turning),
        ("anisotropic_scaling", strength),
        ("arbitrary_rotation", turning),
        ("fractional_translation", strength),
    ]
    for name, chance in changes:
        picture = _change(picture, name, chance, drawn)
    for _ in range(COLOUR_GATES):
        drawn.take("random")
    drawn.end()
    return white(picture)


def published_change(picture: Tensor, name: str, draws: Sequence[Draw]) -> Tensor:
    """One change by its published name, at strength 1; ModelError for an unknown name or numbers that do not fit."""
    drawn = _Drawn(draws)
    picture = flip(picture, drawn.take("flipped")) if name == "x_flip" else _change(picture, name, 1.0, drawn)
    drawn.end()
    return picture


def _change(picture: Tensor, name: str, chance: float, drawn: "_Drawn") -> Tensor:
    if drawn.take("random") <= 1 - chance:
        return picture
    if name == "random_rotation90":
        return rotate(picture, drawn.take("choice"))
    if name == "arbitrary_rotation":
        return rotate(picture, drawn.take("angle"))
    if name in ("integer_translation", "fractional_translation"):
        return shift(picture, drawn.take("uniform"), drawn.take("uniform"), whole=name == "integer_translation")
    if name == "isotropic_scaling":
        return zoom(picture, drawn.take("lognormal"))
    if name == "anisotropic_scaling":
        factor, wide = drawn.take("lognormal"), drawn.take("random") < 0.5
        return zoom(picture, factor, wide=wide, high=not wide)
    raise ModelError(f"ADA: no change is called {name!r}")


def _check(strength: float) -> None:
    if not 0 <= strength <= 1:
        raise ModelError(f"ADA: a strength of {strength}, expected 0 to 1")


class _Drawn:
    """Recorded numbers, taken one by one under the name they should have."""

    def __init__(self, draws: Sequence[Draw]):
        self._left: Iterator = iter(draws)

    def take(self, name: str) -> float:
        drawn = next(self._left, None)
        if not isinstance(drawn, Sequence) or len(drawn) != 2 or drawn[0] != name:
            raise ModelError(f"ADA draws: expected a number `{name}`, found {drawn or 'the end'}")
        value = drawn[1]
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ModelError(f"ADA draws: {name} is {value!r}, expected a number")
        return value

    def end(self) -> None:
        if (drawn := next(self._left, None)) is not None:
            raise ModelError(f"ADA draws: {drawn} is left over")


def check_reference(tensors: dict[str, Tensor], metadata: dict[str, str]) -> list[tuple[str, float, float]]:
    """Replay a file of reference outputs: (tensor's name, largest absolute difference, tolerance) for each of them.

    tensors: `input/image` (C, H, W) float, `output/<change>/<i>`, `output/padwhite_of_<change>_<i>`,
    `output/pipeline/<i>` of its shape and `output/strength_rule` (N, 3); metadata: `draws`, JSON of the numbers drawn
    for each. Shifts and turns are exact, bilinear zooms so on one machine and within TOLERANCE on others; a place that
    lies on a tie between two pixels in float32 may choose the other one where a matrix product rounds differently.
    ModelError when a tensor is of no such kind, malformed, or without its numbers.
    """
    image = tensors.get("input/image")
    if image is None:
        raise ModelError("ADA reference: input/image is missing")
    _check_picture("input/image", image, None)
    draws = _read_draws(metadata)
    results = []
    for name, wanted in tensors.items():
        kind = name.removeprefix("output/")
        if name == "input/image":
            continue
        if kind == name:
            raise ModelError(f"ADA reference: {name} is left over; expected input/image and output/...")
        if kind == "strength_rule":
            results.append((name, _replay_rule(wanted, metadata.get("columns_strength_rule", "")), TOLERANCE_RULE))
            continue
        _check_picture(name, wanted, image)
        results.append((name, _difference(_replay(image, kind, draws), wanted), TOLERANCE))
    return results


def _replay(image: Tensor, kind: str, draws: dict) -> Tensor:
    if whitened := re.fullmatch(r"padwhite_of_(\w+)_(\d+)", kind):
        return white(_replay(image, "/".join(whitened.groups()), draws))
    entry = draws.get(kind)
    if kind.startswith("pipeline/"):
        if not isinstance(entry, dict) or not isinstance(entry.get("strength"), int | float):
            raise ModelError(
                f"ADA reference: {kind} is left over, the header's draws have no strength and draws for it"
            )
        return published_geometry(image, entry["strength"], entry.get("draws") or [])
    if not isinstance(entry, list):
        raise ModelError(f"ADA reference: {kind} is left over, the header's draws have none for it")
    return published_change(image, kind.partition("/")[0], entry)


def _replay_rule(table: Tensor, columns: str) -> float:
    """Feed the controller blocks with the recorded shares of outputs above 0.5; the largest difference of the table."""
    if table.dim() != 2 or table.shape[1] != 3 or not table.is_floating_point() or not table.isfinite().all():
        raise ModelError(f"ADA reference: strength_rule is {tuple(table.shape)} {table.dtype}, expected (N, 3) floats")

    def setting(name: str, default: float) -> float:
        found = re.search(name + r" (\d+(?:\.\d+)?)", columns)
        return float(found[1]) if found else default

    block, kimg, target = int(setting("block of", 256)), setting("tune_kimg", 500), setting("target", 0.6)
    if not 1 <= block <= LARGEST_BLOCK:
        raise ModelError(
            f"ADA reference: strength_rule is said to be of blocks of {block}, up to {LARGEST_BLOCK} expected"
        )
    try:
        controller = Controller(target, block, kimg, ceiling=math.inf, published=True)
    except TrainingError as error:
        raise ModelError(f"ADA reference: columns_strength_rule, {error}") from None
    rows = []
    for share in table[:, 0].tolist():
        right = round(share * block)
        if abs(right - share * block) > 1e-3 or not 0 <= right <= block:
            raise ModelError(f"ADA reference: strength_rule has a share of {share}, expected a count out of {block}")
        controller.feed(torch.cat([torch.ones(right), torch.zeros(block - right)]))
        rows.append([right / block, controller.heuristic, controller.strength])
    return _difference(torch.tensor(rows, dtype=torch.float64).view(-1, 3), table.double())


def _difference(ours: Tensor, wanted: Tensor) -> float:
    return (ours - wanted).abs().max().item() if wanted.numel() else 0.0


def _check_picture(name: str, picture: Tensor, image: Tensor | None) -> None:
    shape = picture.shape if image is None else image.shape
    fits = picture.dim() == 3 and picture.numel() and picture.dtype == torch.float32 and picture.shape == shape
    if not fits or not picture.isfinite().all():
        expected = "(C, H, W)" if image is None else tuple(shape)
        raise ModelError(
            f"ADA reference: {name} is {tuple(picture.shape)} {picture.dtype}, expected {expected} finite float32"
        )


def _read_draws(metadata: dict[str, str]) -> dict:
    try:
        draws = json.loads(metadata["draws"])
    except (KeyError, ValueError):
        draws = None
    if not isinstance(draws, dict):
        raise ModelError("ADA reference: the header has no `draws` in JSON")
    return draws
