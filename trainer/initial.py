"""What a run starts from: new networks, or weights of an earlier one, part by part."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from livetoon.errors import TrainingError, UsageError
from trainer.checkpoint import latest, load_generator, load_network, read_state
from trainer.group_names import check_names
from trainer.networks import build
from trainer.networks.branches import Branched
from trainer.presets import Live
from trainer.translation import TranslationLearner

GROUP_HEADS = ("conv_cls", "group_classfier")  # what tells groups apart in a discriminator: a row for each group


def branched_network(preset: Live) -> nn.Module:
    """The preset's live network, which must have a trunk and a branch for each group."""
    check_names(preset.groups)
    settings = {"own": preset.own} if preset.network == "live" else {}
    generator = build(preset.network, groups=preset.groups, **settings)
    if not hasattr(generator, "branches"):
        raise UsageError(f"--set network={preset.network}: has no branches to train; expected live")
    return generator


def start_live(generator: nn.Module, path: Path) -> list[str]:
    """Copy the weights at `path`; a group that they do not know starts from their basic group's branch.

    Returns the groups whose branches had learned: normalization that never counted a batch tells those that a run
    made and, as it ended in stage 1, never used.
    """
    weights = load_generator(path)
    if type(generator) is not type(weights):
        raise TrainingError(
            f"--init {path}: holds a {weights.network_name} network, the preset a {generator.network_name}"
        )
    for name, value in generator.settings.items():
        if name != "groups" and weights.settings.get(name) != value:
            raise TrainingError(f"--init {path}: {name} {weights.settings.get(name)}, the preset's network has {value}")
    generator.trunk.load_state_dict(weights.trunk.state_dict())
    for group in generator.groups:
        known = group if group in weights.groups else weights.groups[0]
        generator.branches[group].load_state_dict(weights.branches[known].state_dict())
    counted = {group: _batches_seen(weights.branches[group]) for group in weights.groups}
    return [group for group in generator.groups if counted.get(group)]


def _batches_seen(branch: nn.Module) -> int:
    return max(
        (layer.num_batches_tracked.item() for layer in branch.modules() if isinstance(layer, nn.BatchNorm2d)), default=0
    )


def start_translation(learner: TranslationLearner, path: Path) -> list[str]:
    """Take what fits from a run, a checkpoint folder or one generator's file: generators part by part, so that a
    basic model gives every branch its own copy, and discriminators but for a head of other groups.

    Returns the groups whose branches had learned.
    """
    if path.suffix in (".pt", ".pth"):
        raise UsageError(f"--init {path}: a public file; python -m trainer.interop convert makes a folder of it first")
    learned: list[str] = []
    folder = latest(path) or path if path.is_dir() else None
    for name, network in learner.networks.named():
        file = path if folder is None and name == "generator" else folder / f"{name}.safetensors" if folder else None
        if file is None or (folder is not None and not file.exists() and name != "generator"):
            continue
        given = load_network(file)
        if type(given) is not type(network):
            raise TrainingError(
                f"--init {file}: holds a {given.network_name} network, the preset a {network.network_name}"
            )
        if isinstance(network, Branched):
            _take_parts(network, given, file)
            learned = _learned(given, file)
        else:
            known = network.state_dict()
            state = {
                key: value
                for key, value in given.state_dict().items()
                if key.partition(".")[0] not in GROUP_HEADS or (key in known and known[key].shape == value.shape)
            }
            _take(network, state, file, strict=False)
    for average, network in zip(
        learner.ema.values(), (learner.networks.to_cartoon, learner.networks.to_photo), strict=True
    ):
        average.load_state_dict(network.state_dict())
    return [group for group in learner.preset.groups if group in learned]


def _learned(given: Branched, file: Path) -> Sequence[str]:
    """The groups whose branches in `file` are more than new: all, but for a run that stands in stage 1."""
    if not given.own:
        return ()
    in_stage_1 = (file.parent / "state.json").exists() and read_state(file.parent)["stage"] == 1
    return given.groups[:1] if in_stage_1 else given.groups


def _take_parts(network: Branched, given: Branched, file: Path) -> None:
    for part in network.parts:
        for holder, group in [(network.trunk, None), *((network.branches[group], group) for group in network.groups)]:
            if part in holder:
                known = group if group in given.groups else given.groups[0]
                source = given.branches[known] if part in given.own else given.trunk
                _take(holder[part], source[part].state_dict(), file)


def _take(module: nn.Module, state: dict, file: Path, strict: bool = True) -> None:
    try:
        module.load_state_dict(state, strict=strict)
    except RuntimeError as error:
        raise TrainingError(
            f"--init {file}: of another size than the preset's network (--set width, blocks, heads or light)"
        ) from error
