"""`python -m trainer.evaluate MODEL... --data DIR`: how close a model draws to held-out pairs.

Photos are composed over white and over camera-like backgrounds (fixed by a seed, the same for every model). The
drawing, laid on white by its own alpha, is compared with the cartoon, laid on white by the mask of the photo.
L1 and SSIM are measured as two of the losses are (`composed` and `structure` in the preset); PSNR, alpha accuracy and
identity enter no loss.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from livetoon import cli
from livetoon.errors import DataError, ModelError, UsageError
from livetoon.files import write_json
from trainer import augment, losses
from trainer.checkpoint import load_generator
from trainer.data import Group, load, open_network, pictures, read

# Where the five points of the 256 px crop lie in the 112 px face that recognition networks are fed (ArcFace's
# template, arXiv 1801.07698): a fixed similarity, because both templates are fixed.
TO_RECOGNITION = np.array([[0.6463, 0.0036, -27.24], [-0.0036, 0.6463, -24.07]], np.float32)


def arguments():
    """The command's options."""
    parser = cli.parser(
        "python -m trainer.evaluate",
        "Measure models on held-out pairs: L1 and PSNR (value range 1), SSIM, alpha accuracy, identity.",
        "python -m trainer.evaluate runs/mine --data pairs/test",
    )
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help="run folders or .safetensors files")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with photo/ and cartoon/")
    parser.add_argument("--group", help="branch that draws (default: the model's first)")
    parser.add_argument("--behind", type=Path, metavar="DIR", help="photos to stand in front of, out of focus")
    parser.add_argument("--identity", type=Path, metavar="ONNX", help="face recognition network, 112 px, for identity")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(_run, arguments(), argv)


def _run(options) -> None:
    if (options.data / "train").is_dir():
        raise UsageError(f"--data {options.data}: holds train/, whose pictures train; name the folder of the others")
    embed = _recognition(options.identity) if options.identity else None
    behind = _behind(options.behind) if options.behind else []
    measured = options.group or "young-women"
    pairs = load([options.data], [], [measured], 256)[measured]
    rows = []
    for path in options.models:
        generator = load_generator(path)
        if not generator.network_name.startswith("live"):
            raise ModelError(
                f"{path}: a {generator.network_name} network draws no alpha; only live models are measured"
            )
        if options.group and options.group not in generator.groups:
            raise UsageError(f"--group {options.group}: {path} has {', '.join(generator.groups)}")
        group = options.group or generator.groups[0]
        for place in ("white", "camera-like"):
            photos = composed(pairs, behind if place == "camera-like" else None)
            figures = measure(lambda x, g=generator, name=group: g(x, name), photos, pairs, embed)
            rows.append({"model": str(path), "background": place, "pairs": len(photos), **figures})
            print(f"{path} {place:12}" + "".join(f"  {k} {v:.4f}" for k, v in figures.items()), flush=True)
    if options.json:
        write_json(options.json, {"rows": rows})


def composed(pairs: Group, behind: list[np.ndarray] | None) -> list[np.ndarray]:
    """The photos of `pairs` over white (behind is None) or over backgrounds; the same at every call."""
    if behind is None:
        return pairs.photos
    photos = []
    for index, (photo, alpha) in enumerate(zip(pairs.photos, pairs.alphas, strict=True)):
        random = np.random.default_rng((20, index))
        photos.append(augment.compose(photo, alpha, augment.background(photo.shape[0], behind, random)))
    return photos


@torch.inference_mode()
def measure(
    draw: Callable[[Tensor], Tensor],
    photos: list[np.ndarray],
    pairs: Group,
    embed: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str, float]:
    """Mean figures of `draw` ((N, 3, S, S) in [-1, 1] -> (N, 4, S, S)) over photos (S, S, 3) uint8 RGB."""
    totals = {"l1": 0.0, "ssim": 0.0, "psnr_db": 0.0, "alpha_accuracy": 0.0}
    embeddings: list[list[np.ndarray]] = [[], []]
    for photo, cartoon, alpha in zip(photos, pairs.cartoons, pairs.alphas, strict=True):
        drawn = draw(_picture(photo))
        mask = torch.from_numpy(alpha.astype(np.float32) / 255)
        laid, target = losses.on_white(drawn[:, :3], drawn[:, 3:]), losses.on_white(_picture(cartoon), mask)
        totals["l1"] += (laid - target).abs().mean().item() / 2
        totals["ssim"] += losses.ssim(losses.luminance(laid), losses.luminance(target)).item()
        totals["psnr_db"] += -10 * math.log10(max(1e-10, ((laid - target) / 2).square().mean().item()))
        totals["alpha_accuracy"] += ((drawn[0, 3] >= 0.5) == (mask >= 0.5)).float().mean().item()
        if embed is not None:
            embeddings[0].append(embed(photo))
            embeddings[1].append(embed(((laid[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()))
    figures = {name: total / len(photos) for name, total in totals.items()}
    if embed is not None:
        similarity = np.stack(embeddings[0]) @ np.stack(embeddings[1]).T
        same = np.eye(len(photos), dtype=bool)
        figures["identity_same"] = float(similarity[same].mean())
        figures["identity_others"] = float(similarity[~same].mean())
        figures["found_as_nearest"] = float((similarity.argmax(axis=0) == np.arange(len(photos))).mean())
    return figures


def _picture(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(picture.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]


def _behind(folder: Path) -> list[np.ndarray]:
    paths = pictures(folder)
    if not paths:
        raise DataError(f"--behind {folder}: no pictures there")
    return [read(path, 256) for path in paths[:200]]


def _recognition(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """(256, 256, 3) uint8 RGB crop -> unit vector, by an ONNX network that takes (1, 3, 112, 112) in ImageNet scale."""
    import cv2

    session = open_network("--identity", path)
    entry = session.get_inputs()[0]
    if entry.shape[1:] != [3, 112, 112]:
        raise ModelError(f"--identity {path}: takes {entry.shape}, expected (1, 3, 112, 112)")
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

    def embed(crop: np.ndarray) -> np.ndarray:
        face = cv2.warpAffine(crop, TO_RECOGNITION, (112, 112), flags=cv2.INTER_LINEAR, borderValue=(255, 255, 255))
        x = ((face / 255 - mean) / deviation).transpose(2, 0, 1)[None].astype(np.float32)
        vector = session.run(None, {entry.name: x})[0][0]
        return vector / np.linalg.norm(vector)

    return embed


if __name__ == "__main__":
    sys.exit(main())
