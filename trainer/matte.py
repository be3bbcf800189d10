"""`python -m trainer.matte train --data PAIRS --out FILE.onnx`: the network of faces/matte.py.

    photos on white (their mask is known) and photos as taken (a named network marks the person)
        -> set before rooms, near and far (matte_scenes.py) -> alpha

`evaluate` measures it beside others (matte_judge.py).
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from faces.align import COORDINATES, POINTS
from faces.colour import ramp
from faces.matte import SIDE, Matte, network_input
from faces.pictures import pictures, read
from faces.tables import held_out, read_table
from livetoon import cli
from livetoon.errors import DataError, UsageError
from trainer import small
from trainer.data import person_mask, segmenter
from trainer.layout import training_places
from trainer.matte_people import Photo
from trainer.matte_scenes import Scenes

KEPT_SIDE = 160  # px, shorter side of the photos that wait in memory
BATCH = 16  # pictures a step
AHEAD = 4  # batches made while one is learned from
STEPS = 5000  # 28 minutes of one core
RATE = 3e-3  # of AdamW at its highest
WARM_UP = 500  # steps, or a tenth of a short training
EMA = 0.998  # share that the averaged weights keep at each step; less at the beginning
KEPT_EVERY = 500  # steps between two versions of the file
EDGE = 3.0  # how much more an edge's pixels count; they are a twentieth of a picture, and all that an eye sees of it
WHITE_BORDER = 0.15  # share of a photo's border that must be background: of some photos it was not taken away
DOUBTS = (40, 215)  # alpha of a named network's mask that becomes nothing and everything
UNSURE = 0.04  # mean distance of a mask from 0 and 1, as shares, above which it teaches nothing
SAID_EVERY_S = 20.0

Segment = Callable[[np.ndarray], np.ndarray]  # (H, W, 3) uint8 RGB -> (H, W) uint8, 255 = person


def photos_on_white(folders: Sequence[Path]) -> list[Photo]:
    """The photos of data folders as `person_mask` cuts them out; those with a background left are left out.

    DataError where there are none.
    """
    found = []
    for folder in folders:
        for place in training_places(folder, ("photos",)):
            for path in pictures(place.folder) if place.domain == "photo" else ():
                picture = read(path, KEPT_SIDE)
                alpha = person_mask(picture)
                border = np.concatenate([alpha[0], alpha[:, 0], alpha[:, -1]])
                if (border < 128).mean() >= WHITE_BORDER:
                    found.append(Photo(picture, alpha))
    if not found:
        raise DataError(f"--data {', '.join(map(str, folders))}: no photo there stands on white")
    return found


def photos_as_taken(folders: Sequence[Path], segment: Segment) -> list[Photo]:
    """The photos of folders with a table.csv that may train, as `segment` cuts them out, if it is sure of itself."""
    found = []
    for folder in folders:
        rows = read_table(folder / "table.csv", COORDINATES)
        unseen = held_out([row["file"] for row in rows])
        for row in rows:
            if row["file"] in unseen:
                continue
            picture = read(folder / row["file"])
            alpha = cut_out(picture, segment)
            if np.minimum(alpha, 255 - alpha).mean() > UNSURE * 255 or not 0.05 < alpha.mean() / 255 < 0.98:
                continue
            points = np.array([[row[f"{point}_x"], row[f"{point}_y"]] for point in POINTS], np.float32)
            scale = KEPT_SIDE / min(alpha.shape)
            size = round(alpha.shape[1] * scale), round(alpha.shape[0] * scale)
            smaller = (cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in (picture, alpha))
            found.append(Photo(*smaller, (points + 0.5) * scale - 0.5))
    return found


def cut_out(picture: np.ndarray, segment: Segment) -> np.ndarray:
    """Mean of what `segment` says of a picture and of its mirror image, its doubts settled, (H, W) uint8."""
    mirrored = segment(np.ascontiguousarray(picture[:, ::-1]))[:, ::-1]
    mean = cv2.addWeighted(segment(picture), 0.5, np.ascontiguousarray(mirrored), 0.5, 0)
    return cv2.LUT(mean, ramp(*DOUBTS))


def batch_of(scenes: Scenes, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x (N, 3, 128, 128) in [-1, 1], alpha and where its edges are (N, 1, 128, 128) in [0, 1], float32."""
    drawn = [scenes(random) for _ in range(BATCH)]
    x = np.stack([network_input(picture) for picture, _ in drawn])
    edges = [cv2.morphologyEx(alpha, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)) for _, alpha in drawn]
    alphas = [alpha for _, alpha in drawn]
    return x, *(np.stack(each)[:, None].astype(np.float32) / 255 for each in (alphas, edges))


def batches(scenes: Scenes, seed: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Batches without end, the same ones for the same seed; they are made beside the learning."""
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(batch_of, scenes, np.random.default_rng((seed, number))) for number in range(AHEAD)]
        for number in count(AHEAD):
            yield waiting.pop(0).result()
            waiting.append(pool.submit(batch_of, scenes, np.random.default_rng((seed, number))))


def loss_of(logits, alpha, edge):
    """-> the sum, and (mean distance, at edges, cross entropy) as they enter it, 0-d tensors."""
    from torch.nn import functional

    distance = (logits.sigmoid() - alpha).abs()
    # A distance alone has no slope where the network is sure and wrong.
    entropy = functional.binary_cross_entropy_with_logits(logits, alpha)
    parts = distance.mean(), EDGE * (edge * distance).mean(), 0.2 * entropy
    return sum(parts), parts


def train(scenes: Scenes, steps: int, seed: int = 0, keep: Callable = lambda network: None):
    """Learn for `steps` batches; returns the averaged (EMA) network, and gives it to `keep` now and then."""
    import torch

    from trainer.matte_network import MatteNetwork

    torch.manual_seed(seed)
    network = MatteNetwork().train().to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=_averaged, use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
    said, shown = time.monotonic(), []
    for step, batch in zip(range(1, steps + 1), batches(scenes, seed), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, step / min(WARM_UP, steps / 10)) * (0.5 + 0.5 * np.cos(np.pi * step / steps))
        x, alpha, edge = (torch.from_numpy(array) for array in batch)
        loss, parts = loss_of(network(x.to(memory_format=torch.channels_last)), alpha, edge)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(network)
        shown.append([float(part.detach()) for part in parts])
        if time.monotonic() - said > SAID_EVERY_S:
            said = time.monotonic()
            whole, edge, entropy = np.mean(shown, axis=0)
            print(f"step {step} of {steps}: alpha {whole:.4f} edges {edge:.4f} entropy {entropy:.4f}", file=sys.stderr)
            shown.clear()
        if step % KEPT_EVERY == 0 and step < steps:
            keep(average.module.eval())
    return average.module.eval()


def _averaged(averages, values, count: int) -> None:
    """Move `averages`, a list of tensors, towards `values`."""
    import torch

    kept = min(EMA, (1 + int(count)) / (10 + int(count)))
    if averages[0].is_floating_point():
        torch._foreach_lerp_(averages, values, 1 - kept)
    else:  # how many batches a normalization saw
        torch._foreach_copy_(averages, values)


def export(network, out: Path) -> None:
    """Write the network: picture (1, 3, 128, 128) in [-1, 1] -> alpha (1, 1, 128, 128) in [0, 1]."""
    from torch import nn

    network = nn.Sequential(network, nn.Sigmoid()).eval()
    small.export(network, out, (1, 3, SIDE, SIDE), "picture", ["alpha"])


def arguments() -> argparse.ArgumentParser:
    """The command's options."""
    parser = cli.parser(
        "python -m trainer.matte",
        "Train or measure the network that finds the person in a picture.",
        "python -m trainer.matte train --data pairs --photos all_age_faces --masks selfie_seg.onnx --out matte.onnx",
    )
    parser.add_argument("command", choices=("train", "evaluate"))
    parser.add_argument(
        "--data", nargs="+", type=Path, default=[], metavar="DIR", help="data folders whose photos stand on white"
    )
    parser.add_argument(
        "--photos", nargs="+", type=Path, default=[], metavar="DIR", help="folders with table.csv; needs --masks"
    )
    parser.add_argument("--masks", type=Path, metavar="ONNX", help="a network that marks the person, as trainer.run's")
    parser.add_argument("--model", type=Path, metavar="MODEL", help="evaluate: a live generator, for its own alpha")
    parser.add_argument("--out", type=Path, metavar="FILE.onnx", help="train: the network; evaluate: instead of ours")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help=f"batches of {BATCH} ({STEPS})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="evaluate: write the figures there too")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(_run, arguments(), argv)


def _run(options) -> None:
    if not options.data:
        raise UsageError("--data: name at least one folder with photo/ in it")
    if options.command == "evaluate":
        from trainer.matte_judge import judge

        judge(options.data, Matte(file=options.out), options.masks, options.model, options.json)
        return
    if options.out is None:
        raise UsageError("--out: say where the network is to be written")
    if options.steps < 1:
        raise UsageError(f"--steps: expected at least 1, got {options.steps}")
    cli.check_place("--out", options.out)
    if options.photos and options.masks is None:
        raise UsageError("--photos: needs --masks ONNX, a network that marks the person in them")
    photos = photos_on_white(options.data)
    if options.photos:
        photos += photos_as_taken(options.photos, segmenter(options.masks))
    print(f"{len(photos)} photos", file=sys.stderr)
    network = train(Scenes(photos), options.steps, options.seed, lambda network: export(network, options.out))
    export(network, options.out)


if __name__ == "__main__":
    sys.exit(main())
