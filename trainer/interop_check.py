"""Our code beside numbers that a program recorded: every tensor of a file is loaded or compared.

    weights/<key>                   the network, told by its public keys, loaded by them
    input/image                     what it is fed
    output/<name>                   evaluation mode: image, cam_logit, heatmap; logit or patch, ...; keypoints
    output/train<n>/<name>          discriminators: the n-th of consecutive calls in training mode
    after/<key>                     discriminators: u and v of the spectral norms after those calls
    output/group<g>/<name>          networks with branches: picture g by branch g
    output/photo0_as_group<g>/..    picture 0 by branch g
    output/joint/...                all pictures in one pass, each by its branch

Files of training steps, of ADA and of the face-ID network have their own replays, in the files of those parts.
"""

import copy
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from livetoon.errors import LivetoonError, ModelError
from trainer.networks import build
from trainer.networks.discriminators import Verdict
from trainer.public_files import describe
from trainer.public_keys import any_groups, fill

# Largest absolute difference of an output, for values up to 1; of larger values that share of the largest one. Float32
# summed in another order differs by so much, measured between one and two threads and between two implementations.
TOLERANCE = {
    "ugatit": 1e-5,
    "photo2cartoon": 5e-5,  # hourglasses: 36 norms one behind another
    "cyclegan": 2e-5,
    "discriminator": 2e-6,
    "patchgan": 2e-5,  # norms on maps of 6 x 6
    "keypoints": 1e-6,
}
GROUP_LOGIT = 1e-5
TINY_MAPS = 3e-4  # photo2cartoon under 64 px: norms over 2 x 2 or 3 x 3 values, whose variance can be nearly nothing
# Deep or large networks round more often. Where one rounding of the input moves our own output by more than half of a
# tolerance, the tolerance is twice that movement, but never more than this multiple of what the table says.
MOST = 5.0


@dataclass(frozen=True)
class Row:
    """One comparison. tolerance None: a fault of the published program, named and left out."""

    name: str
    difference: float
    tolerance: float | None

    @property
    def ok(self) -> bool:
        """False for values that are no numbers."""
        return self.tolerance is None or self.difference <= self.tolerance


def run(files: list[Path], threads: int, as_json: bool) -> int:
    """Check and print every file; the exit code."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    report: dict[str, list[dict]] = {"rows": [], "files": []}
    try:
        for path in files:
            rows, error = _checked(path)
            ok = error is None and all(row.ok for row in rows)
            report["rows"] += [_as_json(path, row) for row in rows]
            report["files"].append({"file": str(path), "ok": ok, "compared": len(rows), "error": error})
            if not as_json:
                _print(path, rows, error)
    finally:
        torch.set_num_threads(before)
    if as_json:
        print(json.dumps(report, indent=2))
    return 0 if all(entry["ok"] for entry in report["files"]) else 1


def check(path: Path) -> list[Row]:
    """Every comparison of one file; ModelError names what is broken, unknown, missing or left over."""
    tensors, metadata = _read(path)
    weights = {key.removeprefix("weights/") for key in tensors if key.startswith("weights/")}
    if any(key.startswith("loss/") for key in tensors):
        from trainer.replay import check_reference

        return [Row(*row) for row in check_reference(tensors, metadata, path.parent)]
    if "conv1.conv.weight" in weights or "gdconv.depthwise.weight" in weights:
        from trainer.identity_files import check_reference

        return [Row(*row) for row in check_reference(tensors, metadata)]
    if not weights and "draws" in metadata:
        from trainer.ada_published import check_reference

        return [Row(*row) for row in check_reference(tensors, metadata)]
    if not weights:
        raise ModelError("no weights, loss terms or ADA draws in it: not a file of recorded numbers")
    return _check_network(tensors)


def _checked(path: Path) -> tuple[list[Row], str | None]:
    try:
        return check(path), None
    except LivetoonError as error:
        return [], str(error)
    except (RuntimeError, ValueError, LookupError, TypeError) as error:  # inputs that its network cannot take
        said = str(error).partition("\n")[0]
        return [], f"not laid out as the network in it needs ({type(error).__name__}: {said})"


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors with their values (float16 as float32, int8 times its scale) and the header's strings."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"not a safetensors file that can be read ({error})") from None
    try:
        scales = json.loads(metadata.get("scale", "{}"))
        for key, value in tensors.items():
            if key in scales:
                tensors[key] = value.float() * float(scales[key])
            elif value.dtype in (torch.float16, torch.bfloat16):
                tensors[key] = value.float()
            elif value.dtype == torch.int8:
                raise ModelError(f"{key} is int8, but the header gives no scale for it")
    except (ValueError, TypeError):
        raise ModelError("the header's `scale` is no JSON of numbers by key") from None
    return tensors, metadata


def _check_network(tensors: dict[str, Tensor]) -> list[Row]:
    left = dict(tensors)
    if "input/image" not in left:
        raise ModelError("input/image is missing")
    image = left.pop("input/image")
    if image.dim() != 4 or image.shape[1] != 3:
        raise ModelError(f"input/image is {tuple(image.shape)}, expected (N, 3, S, S)")
    weights = {key.removeprefix("weights/"): left.pop(key) for key in tensors if key.startswith("weights/")}
    network = _network(weights, image.shape[-1])
    wanted = [key for key in left if key.startswith(("output/", "after/"))]
    made = _compute(network, image, wanted)
    random = torch.Generator().manual_seed(0)
    nudged = image * (1 + torch.randn(image.shape, generator=random) * torch.finfo(torch.float32).eps)
    moved = _compute(network, nudged, [key for key in wanted if key.startswith("output/")])
    rows = []
    for key in sorted(wanted):
        if key not in made:
            continue
        reference, found = left.pop(key).float(), made[key]
        if reference.shape != found.shape:
            raise ModelError(f"{key} is {tuple(reference.shape)}, ours {tuple(found.shape)}")
        spread = _largest(found - moved[key]) if key in moved else 0.0
        tolerance = _tolerance(network, key, image.shape[-1], spread, _largest(reference))
        rows.append(Row(key, _largest(found - reference), tolerance))
    if not rows:
        raise ModelError("no output to compare")
    rows += [Row(f"{key} (left over: nothing loads or computes it)", math.nan, 0.0) for key in sorted(left)]
    return rows


def _network(weights: dict[str, Tensor], size: int) -> nn.Module:
    shapes = {key: value.shape for key, value in weights.items()}
    try:
        name, settings = describe(shapes, any_groups(shapes))
    except (KeyError, IndexError) as error:
        raise ModelError(f"weights: a network's keys, but not whole ({error})") from None
    if settings.get("light"):
        settings["size"] = size
    network = build(name, **settings)
    fill(network, weights, "weights")
    return network.eval()


@torch.no_grad()
def _compute(network: nn.Module, image: Tensor, wanted: list[str]) -> dict[str, Tensor]:
    """Every tensor of `wanted` that our network gives, by name."""
    if network.network_name == "keypoints":
        return {"output/keypoints": network(image)}
    if network.network_name in ("discriminator", "patchgan"):
        return _compute_discriminator(copy.deepcopy(network), image, wanted)
    groups, made = network.groups, {}

    def keep(place: str, pictures: Tensor, group) -> None:
        drawing = network(pictures, group)
        named = {"image": drawing.image, "cam_logit": drawing.cam, "heatmap": drawing.heatmap}
        made.update({f"output/{place}{name}": value for name, value in named.items() if value is not None})

    if any(re.fullmatch(r"output/\w+", key) for key in wanted):
        keep("", image, groups[0])
    for index, group in enumerate(groups):
        if any(key.startswith(f"output/group{index}/") for key in wanted):
            keep(f"group{index}/", image[index : index + 1], group)
        if any(key.startswith(f"output/photo0_as_group{index}/") for key in wanted):
            keep(f"photo0_as_group{index}/", image[:1], group)
    if any(key.startswith("output/joint/") for key in wanted):
        keep("joint/", image, groups)
        for index in range(len(groups)):
            made[f"output/joint/group{index}/image"] = made["output/joint/image"][index : index + 1]
    return made


def _compute_discriminator(network: nn.Module, image: Tensor, wanted: list[str]) -> dict[str, Tensor]:
    made = {f"output/{name}": value for name, value in _named(network(image)).items()}
    calls = [int(found[1]) for key in wanted if (found := re.match(r"output/train(\d+)/", key))]
    if not calls and any(key.startswith("after/") for key in wanted):
        calls = [2]
    network.train()
    for call in range(1, max(calls, default=0) + 1):
        made |= {f"output/train{call}/{name}": value for name, value in _named(network(image)).items()}
    state = network.state_dict()
    made |= {f"after/{key}": value for key, value in state.items() if key.endswith(("weight_u", "weight_v"))}
    return made


def _named(verdict: Verdict) -> dict[str, Tensor]:
    """Under every name that a program gives it."""
    named = {
        "logit": verdict.logit,
        "patch": verdict.logit,
        "cam_logit": verdict.cam,
        "heatmap": verdict.heatmap,
        "group_logit": verdict.groups,
        "cls_logit": verdict.groups,
    }
    return {name: value for name, value in named.items() if value is not None}


def _tolerance(network: nn.Module, key: str, side: int, spread: float, largest: float) -> float:
    """spread: how far one rounding of the input moves our output; largest: of the recorded values."""
    scale = max(1.0, largest) if math.isfinite(largest) else 1.0
    if network.network_name == "photo2cartoon" and side < 64:
        return TINY_MAPS * scale
    base = scale * (GROUP_LOGIT if key.endswith("group_logit") else TOLERANCE[network.network_name])
    return min(max(base, 2 * spread), MOST * base) if math.isfinite(spread) else base


def _largest(values: Tensor) -> float:
    return values.abs().max().item() if values.numel() else math.nan


def _as_json(path: Path, row: Row) -> dict:
    difference = row.difference if math.isfinite(row.difference) else None
    return {"file": str(path), "name": row.name, "difference": difference, "tolerance": row.tolerance, "ok": row.ok}


def _print(path: Path, rows: list[Row], error: str | None) -> None:
    print(f"{path}")
    width = max((len(row.name) for row in rows), default=0)
    for row in rows:
        if row.tolerance is None:
            print(f"  {row.name:<{width}}  a fault of the published program: left out")
        else:
            verdict = "ok" if row.ok else "FAIL"
            print(f"  {row.name:<{width}}  {row.difference:9.2e}  of {row.tolerance:8.1e}  {verdict}")
    failed = [row.name for row in rows if not row.ok]
    if error:
        print(f"  FAIL: {error}")
    elif failed:
        print(f"  FAIL: {len(failed)} of {len(rows)} beyond their tolerance, {failed[0]} the first of them")
    else:
        compared = [row for row in rows if row.tolerance is not None]
        closest = max(compared, key=lambda row: row.difference / row.tolerance if row.tolerance else 0.0)
        share = closest.difference / closest.tolerance if closest.tolerance else 0.0
        print(f"  ok: {len(compared)} within tolerance, at most {share:.0%} of it ({closest.name})")
