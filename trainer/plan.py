"""`--dry-run`: what a run will be: its resolved preset, parameters, memory and time, before anything is trained.

Nothing learns: one small picture passes each generator, because operations and the tensors that the backward pass needs
grow with the area (on torch's meta device norms and pools would load its compiler, for seconds). This machine's speed
is measured on a convolution, for a fraction of a second.
"""

import dataclasses
import time

import torch
from torch import Tensor, nn

from trainer.group_names import check_names
from trainer.initial import branched_network
from trainer.networks import build
from trainer.presets import Live, Preset, Translation
from trainer.translation import build_generator, build_judges

FLOAT = 4  # bytes
SIDE, JUDGED_SIDE = 64, 128  # px of the small picture: whole in every network, and a fraction of a second
MEASURED_S = 0.3  # the quickest of that time's convolutions tells the speed, of which others take some
# Convolutions reach this share of the measured one's speed: small channels, and norms and pads between them.
REACHED = 0.35


@dataclasses.dataclass
class Cost:
    """Of one forward pass: floating-point operations, and bytes kept for the backward pass."""

    operations: float = 0.0
    kept: float = 0.0


def describe(preset: Preset) -> str:
    """The lines that `--dry-run` prints."""
    lines = [f"{name:22} {_shown(value)}" for name, value in dataclasses.asdict(preset).items()]
    counted, memory, operations = _live(preset) if isinstance(preset, Live) else _translation(preset)
    lines += ["", *(f"{name:22} {count:,} parameters" for name, count in counted.items())]
    per_second = _speed()
    stages = [("stage 1", preset.stage1_steps, operations[0]), ("stage 2", preset.stage2_steps, operations[1])]
    seconds = sum(steps * each for _, steps, each in stages) / per_second
    lines += ["", f"{'memory':22} about {memory / 1e9:.1f} GB of tensors, beside the program's own 0.5 GB"]
    for name, steps, each in stages:
        if steps:
            about = f"{_seconds(each / per_second)} s ({each / 1e9:,.0f} GFLOP)"
            lines.append(f"{name:22} {steps:,} steps of about {about}")
    lines.append(f"{'time':22} about {_duration(seconds)} on this machine ({per_second / 1e9:,.0f} GFLOP/s)")
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _translation(preset: Translation) -> tuple[dict[str, int], float, tuple[float, float]]:
    check_names(preset.groups)
    one = dataclasses.replace(preset, groups=preset.groups[:1], heads=1)
    side = min(preset.size, SIDE + 2 * preset.keypoint_pads)
    small = build_generator(dataclasses.replace(one, size=side))
    generator = small
    if not preset.light:  # its weights grow with the picture
        with torch.device("meta"):
            generator = build_generator(one)
    branch = _count(generator.branches[preset.groups[0]])
    counted = {"generator, shared": _count(generator.trunk)}
    if preset.own:
        counted["generator, each group"] = branch
    judges = build_judges(preset, "cartoon")
    others = build_judges(preset, "photo") if len(preset.group_domains) == 1 else judges  # group heads on one side
    counted |= {f"{name} of drawings": _count(judge) for name, judge in judges.items()}
    counted |= {f"{name} of photos": _count(judge) for name, judge in others.items()}
    whole = _count(generator) + branch * (len(preset.groups) - 1)
    learned = 2 * whole + sum(_count(judge) for judge in (*judges.values(), *others.values()))
    if preset.keypoint:
        counted["keypoint predictor"] = _count(build("keypoints", size=preset.size))
        learned += counted["keypoint predictor"]
    counted["all that learn"] = learned
    drawn = _of_one(small, side, preset, preset.groups[0])
    judged = [_of_one(judge, min(preset.size, JUDGED_SIDE), preset) for judge in judges.values()]
    # 6 generator passes and, for both domains, 3 of each judge; a backward pass costs about two forward ones.
    operations = 3 * (6 * drawn.operations + 6 * sum(each.operations for each in judged))
    samplings = [preset.stage1_sampling] + ([preset.stage2_sampling] if preset.stage2_steps else [])
    batches = [preset.batch * (len(preset.groups) if kind == "each" else 1) for kind in samplings]
    kept = 2 * drawn.kept + sum(each.kept for each in judged)  # a fake and its reconstruction at a time
    if preset.checkpointing:
        kept *= 0.35  # what stays is what passes between the parts, and one part at a time
    weights = learned * 4 * FLOAT  # values, gradients and Adam's two moments
    averages = 2 * whole * FLOAT if preset.ema else 0
    scale = 0.6 if preset.bf16 else 1.0  # norms keep their inputs in float32
    return (
        counted,
        weights + averages + max(batches) * kept * scale,
        (*(count * preset.accumulate * operations for count in batches), 0.0)[:2],
    )


def _live(preset: Live) -> tuple[dict[str, int], float, tuple[float, float]]:
    generator, side = branched_network(dataclasses.replace(preset, groups=preset.groups[:1])), min(preset.size, SIDE)
    trunk, branch = _count(generator.trunk), _count(generator.branches[preset.groups[0]])
    whole = trunk + branch * len(preset.groups)
    counted = {"generator, shared": trunk, "generator, each group": branch, "all that learn": whole}
    drawn = _of_one(generator, side, preset, preset.groups[0])
    first = preset.batch + preset.basic_unpaired
    second = preset.basic_batch + preset.rare_batch * (len(preset.groups) - 1)
    # The feature network on 3/8 of the side, forward on both pictures and backward on one, costs about as much again.
    each = drawn.operations * 3 * (2 if preset.feature else 1)
    memory = whole * 5 * FLOAT + max(first, second) * drawn.kept * (2 if preset.feature else 1)
    return counted, memory, (first * each, second * each)


def _of_one(network: nn.Module, side: int, preset: Preset, *group: str) -> Cost:
    """Of one picture of the preset's size, from one of `side` px."""
    cost, area = _cost(network, torch.zeros(1, 3, side, side), *group), (preset.size / side) ** 2
    return Cost(cost.operations * area, cost.kept * area)


def _cost(network: nn.Module, *inputs) -> Cost:
    """Of one pass of `inputs` through `network`."""
    alive: dict[int, Tensor] = {}  # an id is only one while its object lives
    cost = Cost()

    def keep(tensor: Tensor) -> Tensor:
        alive[id(tensor.untyped_storage())] = tensor
        return tensor

    def count(layer: nn.Module, _inputs, output: Tensor) -> None:
        places = output.numel() // layer.weight.shape[1 if isinstance(layer, nn.ConvTranspose2d) else 0]
        cost.operations += 2 * places * layer.weight.numel()

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several wait for one another at each small operation where others use the cores too
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(*inputs)
    torch.set_num_threads(threads)
    for hook in hooks:
        hook.remove()
    weights = {id(parameter.untyped_storage()) for parameter in network.parameters()}
    cost.kept = sum(tensor.untyped_storage().nbytes() for key, tensor in alive.items() if key not in weights)
    return cost


def _speed() -> float:
    """Operations a second that training reaches here, from a 3x3 convolution of 64 channels."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.randn(1, 64, 128, 128, device=device)
    layer = nn.Conv2d(64, 64, 3, padding=1).to(device)
    operations = 2 * 64 * 64 * 9 * 128 * 128
    best = float("inf")
    with torch.no_grad():
        begun = time.perf_counter()
        while (start := time.perf_counter()) < begun + MEASURED_S:
            layer(x).sum().item()
            best = min(best, time.perf_counter() - start)
    return REACHED * operations / best


def _seconds(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
