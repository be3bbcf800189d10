"""The key of each weight in the published files, and what a set of keys is.

One table for each network family: our prefix of a part -> the published prefix. Everything behind the prefix has the
same name on both sides.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from livetoon.errors import ModelError

_U_GAT_IT = {
    "stem.1": "DownBlock.1",
    "down.1": "DownBlock.5",
    "down.5": "DownBlock.9",
    "encode.{i}": "DownBlock.{12+i}",
    "cam": "",
    "style": "",
    "decode.blocks.{i}": "UpBlock1_{1+i}",
    "up.0.2": "UpBlock2.2",
    "up.0.3": "UpBlock2.3",
    "up.1.2": "UpBlock2.7",
    "up.1.3": "UpBlock2.8",
    "out.1": "UpBlock2.11",
}
_KEYPOINT = _U_GAT_IT | {  # two pads fewer, so the numbers behind them move
    "up.0.2": "UpBlock2.1",
    "up.0.3": "UpBlock2.2",
    "up.1.2": "UpBlock2.5",
    "up.1.3": "UpBlock2.6",
    "out.1": "UpBlock2.9",
}
_PHOTO2CARTOON = {
    "stem.1": "ConvBlock1.1",
    "hourglass{n}": "HourGlass{n}",
    "down{n}": "DownBlock{n}",
    "encode.blocks.{i}": "EncodeBlock{1+i}",
    "cam": "",
    "style": "",
    "decode.blocks.{i}": "DecodeBlock{1+i}",
    "up{n}": "UpBlock{n}",
    "out.1": "ConvBlock2.1",
}
_CYCLEGAN = {
    "stem.1": "model.1",
    "down.0": "model.4",
    "down.3": "model.7",
    "encode.{i}": "model.{10+i}",
    "up.0": "model.{10+blocks}",
    "up.3": "model.{13+blocks}",
    "out.1": "model.{17+blocks}",
}
_ECE285 = {
    "stem.1": "generator_block.0.conv_block.0",
    "down.0": "generator_block.1.conv_block.0",
    "down.3": "generator_block.2.conv_block.0",
    "encode.{i}.conv_block.1": "generator_block.{3+i}.conv_block.0",
    "encode.{i}.conv_block.5": "generator_block.{3+i}.conv_block.3",
    "up.0": "generator_block.{3+blocks}.conv_block.0",
    "up.3": "generator_block.{4+blocks}.conv_block.0",
    "out.1": "generator_block.{5+blocks}.conv_block.0",
}
_ECE285_PATCHGAN = {
    "model.0": "discriminator_block.0.conv_block.0",
    "model.2": "discriminator_block.1.conv_block.0",
    "model.5": "discriminator_block.2.conv_block.0",
    "model.8": "discriminator_block.3.conv_block.0",
    "model.11": "discriminator_block.4",
}


def public_names(network: nn.Module) -> dict[str, str]:
    """Our key -> published key, for every entry of the network's state_dict."""
    keys = list(network.state_dict())
    name, settings = network.network_name, network.settings
    if name == "patchgan" and settings["variant"] == "ece285":
        return {key: _renamed(key, _ECE285_PATCHGAN, 0) for key in keys}
    tables = {"ugatit": _U_GAT_IT, "photo2cartoon": _PHOTO2CARTOON, "cyclegan": _CYCLEGAN}
    if name not in tables:
        return {key: key for key in keys}  # discriminators, predictor, MobileFaceNet: the same names
    table = tables[name]
    if settings.get("variant") == "ece285":
        table = _ECE285
    elif settings.get("keypoint_pads"):
        table = _KEYPOINT
    return {key: _of_part(key, table, network) for key in keys}


def _of_part(key: str, table: dict[str, str], network: nn.Module) -> str:
    where, _, rest = key.partition(".")
    suffix = ""
    if where == "branches":
        group, _, rest = rest.partition(".")
        suffix = f"_{number}" if (number := network.groups.index(group)) else ""
    public = _renamed(rest, table, network.settings.get("blocks", 0))
    if network.settings.get("heads", 1) > 1:
        public = re.sub(r"^(g[am]p_fc)", r"\1_new", public)
    return re.sub(r"^\w+", lambda found: found[0] + suffix, public, count=1)


def _renamed(key: str, table: dict[str, str], blocks: int) -> str:
    for ours, public in table.items():
        pattern = re.escape(ours).replace(r"\{i\}", r"(?P<i>\d+)").replace(r"\{n\}", r"(?P<n>\d+)")
        if found := re.match(rf"{pattern}(\.|$)", key):
            values = {"blocks": blocks, **{name: int(value) for name, value in found.groupdict().items()}}
            prefix = re.sub(r"\{(?:(\d+)\+)?(\w+)\}", lambda m, v=values: str(int(m[1] or 0) + v[m[2]]), public)
            return f"{prefix}.{key[found.end() :]}".strip(".")
    raise ModelError(f"{key}: no published name for it")


def generator_settings(
    shapes: Mapping[str, Sequence[int]], size: int = 256, groups: Sequence[str] | None = None
) -> tuple[str, dict]:
    """The network family and its settings, found out from published keys and shapes.

    size: needed by keys alone only where a full network's columns do not tell it, and by nobody else. groups: names
    for the groups; by default young-women, young-men, kids, elderly (the order of the few-shot release).
    """
    names = tuple(groups or ("young-women", "young-men", "kids", "elderly"))
    if "DownBlock.1.weight" in shapes:
        width = shapes["DownBlock.1.weight"][0]
        return "ugatit", {
            "groups": list(names[:1]), "width": width, "blocks": _count(shapes, r"UpBlock1_(\d+)\."),
            "keypoint_pads": "UpBlock2.1.weight" in shapes, **_style(shapes, width * 4, size),
        }  # fmt: skip
    if "ConvBlock1.1.weight" in shapes:
        width = shapes["ConvBlock1.1.weight"][0]
        settings = {"width": width, **_style(shapes, width * 4, size)}
        if "gap_fc_new.weight" not in shapes:
            return "photo2cartoon", {"groups": list(names[:1]), **settings}
        heads = shapes["gap_fc_new.weight"][0]
        if heads > len(names):
            raise ModelError(f"a checkpoint of {heads} groups, but {len(names)} names: give a name for each")
        own = [part for part, key in _OWN.items() if f"{key}_1" in {name.split(".")[0] for name in shapes}]
        return "photo2cartoon", {"groups": list(names[:heads]), "heads": heads, "own": own, **settings}
    if "model.10.conv_block.1.weight" in shapes:
        blocks = _count(shapes, r"model\.(\d+)\.conv_block\.")
        return "cyclegan", {"groups": list(names[:1]), "width": shapes["model.1.weight"][0], "blocks": blocks}
    if "generator_block.0.conv_block.0.weight" in shapes:
        blocks = _count(shapes, r"generator_block\.(\d+)\.conv_block\.3\.weight")
        width = shapes["generator_block.0.conv_block.0.weight"][0]
        return "cyclegan", {"groups": list(names[:1]), "width": width, "blocks": blocks, "variant": "ece285"}
    raise ModelError("keys of no generator that is known (U-GAT-IT, photo2cartoon, few-shot, CycleGAN, ECE285)")


def any_groups(shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """A name for each group of a generator, where nobody reads them: of recorded numbers."""
    rows = shapes["gap_fc_new.weight"][0] if "gap_fc_new.weight" in shapes else 1
    return [f"group{row}" for row in range(rows)]


_OWN = {"stem": "ConvBlock1", "hourglass1": "HourGlass1", "hourglass4": "HourGlass4", "out": "ConvBlock2"}


def discriminator_settings(shapes: Mapping[str, Sequence[int]]) -> tuple[str, dict]:
    """The same for a discriminator."""
    if "model.1.weight_orig" in shapes:
        settings = {
            "layers": _count(shapes, r"model\.(\d+)\.weight_orig") + 1,
            "width": shapes["model.1.weight_orig"][0],
        }
        for head, key in (("linear", "group_classfier.weight_orig"), ("convolution", "conv_cls.weight_orig")):
            if key in shapes:
                settings |= {"head": head, "groups": shapes[key][0]}
        return "discriminator", settings
    for variant, key in (("cyclegan", "model.0.weight"), ("ece285", "discriminator_block.0.conv_block.0.weight")):
        if key in shapes:
            return "patchgan", {"width": shapes[key][0], "variant": variant}
    raise ModelError("keys of no discriminator that is known (U-GAT-IT family, CycleGAN, ECE285)")


def _style(shapes: Mapping[str, Sequence[int]], deep: int, size: int) -> dict:
    columns = shapes["FC.0.weight"][1]
    if columns == deep:
        return {"light": True, "size": size}
    side = round((columns / deep) ** 0.5)
    return {"light": False, "size": side * 4}


def _count(keys: Iterable[str], pattern: str) -> int:
    return len({found[1] for key in keys if (found := re.match(pattern, key))})


def our_state(network: nn.Module, tensors: Mapping[str, Tensor], source: str = "the file") -> dict[str, Tensor]:
    """Published tensors under our keys, in the network's precision; ModelError names what is left over, missing or of
    another shape.

    Running statistics of instance norms, which old CycleGAN releases stored and never used, are passed over.
    """
    names = public_names(network)
    known, unused = set(names.values()), set()
    if network.network_name in ("cyclegan", "patchgan"):
        unused = {key for key in tensors if re.search(r"\.(running_mean|running_var|num_batches_tracked)$", key)}
    if left := sorted(set(tensors) - known - unused):
        raise ModelError(f"{source}: {len(left)} keys do not fit {network.network_name}, {left[0]} the first of them")
    if missing := sorted(known - set(tensors)):
        raise ModelError(f"{source}: {len(missing)} keys are missing, {missing[0]} the first of them")
    state = {}
    for ours, value in network.state_dict().items():
        given = tensors[names[ours]]
        if given.shape != value.shape:
            raise ModelError(f"{source}: {names[ours]} is {tuple(given.shape)}, expected {tuple(value.shape)}")
        state[ours] = given.to(value.dtype)
    return state


def fill(network: nn.Module, tensors: Mapping[str, Tensor], source: str = "the file") -> None:
    """Load published tensors by key; see our_state."""
    network.load_state_dict(our_state(network, tensors, source))


def public_state(network: nn.Module) -> dict[str, Tensor]:
    """The network's state_dict under the published keys."""
    names = public_names(network)
    return {names[key]: value for key, value in network.state_dict().items()}
