"""`python -m trainer.groups train --data TABLE_DIR --out FILE.onnx`: the network of faces/looks.py.

    table.csv + images/ -> faces found and aligned as in live video -> first part of EfficientNet-Lite0
                        -> age, sex, glasses

Tables as faces/tables.py reads them; what a row does not say teaches nothing. The pictures that a table holds out never
train, `python -m faces.groups evaluate --held-out` measures on them; tables named `--train-only` hold none out.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from faces.align import align_matrix, crop
from faces.groups import AGE_BANDS
from faces.looks import AGES, SIDE, network_input
from faces.pictures import read
from faces.still import FaceFinder
from faces.tables import Person, people_held_out, read_people
from livetoon import cli
from livetoon.errors import DataError, TrainingError, UsageError
from trainer import small
from trainer.augment import degrade, random_motion
from trainer.augment import move as moved

KEPT_SIDE = 160  # px, side of the aligned crops that wait in memory
BLOCKS = 11  # blocks of EfficientNet-Lite0 that are used: 112 channels at a sixteenth of the size
BATCH = 32  # faces a step
AHEAD = 4  # batches made while one is learned from
KEPT_EVERY = 500  # steps between two versions of the file
KID_SEX_FROM = 4  # years: the sex of younger ones is a guess


@dataclass(frozen=True)
class Face:
    """crop: (160, 160, 3) uint8 RGB, aligned; age in years, female, glasses: None where nobody said."""

    crop: np.ndarray
    age: int | None
    female: bool | None
    glasses: bool | None


@dataclass(frozen=True)
class Batch:
    """x (N, 3, 96, 96); ages (N, 91) soft labels; female, glasses (N,) in [0, 1]; years (N,) int, -1: unknown;
    the weights of age, sex and glasses (N,): 0 where nobody said."""

    x: np.ndarray
    ages: np.ndarray
    female: np.ndarray
    glasses: np.ndarray
    years: np.ndarray
    age_weight: np.ndarray
    sex_weight: np.ndarray
    glasses_weight: np.ndarray


def people_of(tables: Sequence[Path], train_only: Sequence[Path]) -> list[Person]:
    """Everybody of the tables (CSV files, or folders of a table.csv) who may train: a picture that one of `tables`
    holds out trains in none, and what several say of one picture is put together.

    DataError when a table is missing or cannot be used.
    """
    everybody: dict[Path, Person] = {}
    unseen: set[Path] = set()
    for table in [*tables, *train_only]:
        people = read_people(table if table.suffix == ".csv" else table / "table.csv")
        if table in tables:
            unseen |= {person.path for person in people_held_out(people)}
        for person in people:
            everybody[person.path] = person.completed(everybody.get(person.path))
    return [person for path, person in everybody.items() if path not in unseen]


def load(people: Sequence[Person]) -> list[Face]:
    """Their faces; pictures in which none is found are left out."""
    finder = FaceFinder("photo")
    faces = []
    for number, person in enumerate(people, 1):
        picture = read(person.path)
        if (found := finder(picture)) is not None:
            kept = crop(picture, align_matrix(found.points, KEPT_SIDE), KEPT_SIDE)
            faces.append(Face(kept, person.age, person.female, person.glasses))
        if number % 1000 == 0 or number == len(people):
            print(f"{len(faces)} faces in {number} of {len(people)} pictures", file=sys.stderr)
    return faces


def build():
    """The network: x (N, 3, 96, 96) float32 RGB in [-1, 1] -> logits of female (N, 1), ages (N, 91), glasses (N, 1)."""
    from torch import nn

    from trainer.features import efficientnet_lite0

    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            whole = efficientnet_lite0()
            self.stem = nn.Sequential(whole._conv_stem, whole._bn0, nn.ReLU6())
            self.blocks = nn.Sequential(*whole._blocks[:BLOCKS])
            self.mix = nn.Sequential(nn.Conv2d(112, 256, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU())
            self.drop = nn.Dropout(0.3)
            self.out = nn.Linear(256, 2 + len(AGES))

        def forward(self, x):
            pooled = self.mix(self.blocks(self.stem(x))).mean(dim=(2, 3))
            y = self.out(self.drop(pooled))
            return y[:, :1], y[:, 2:], y[:, 1:2]

    return Looks()


def batch_of(faces: Sequence[Face], random: np.random.Generator) -> Batch:
    """`faces` as a webcam may see them, and what is known of them; float32."""
    return Batch(
        x=np.stack([network_input(as_seen(face.crop, random)) for face in faces]),
        ages=np.stack([_age_label(30 if face.age is None else face.age) for face in faces]),
        # A label is wrong now and then.
        female=np.array([0.98 if face.female else 0.02 for face in faces], np.float32),
        glasses=np.array([0.98 if face.glasses else 0.02 for face in faces], np.float32),
        years=np.array([-1 if face.age is None else face.age for face in faces]),
        age_weight=np.array([face.age is not None for face in faces], np.float32),
        sex_weight=np.array([_sex_known(face) for face in faces], np.float32),
        glasses_weight=np.array([face.glasses is not None for face in faces], np.float32),
    )


def as_seen(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """An aligned crop: moved, nearer or further, far from the camera, in bad light, in grey, behind a stripe."""
    side = picture.shape[0]
    picture = moved(picture, random_motion(side, random))
    if random.random() < 0.3:
        zoom = cv2.getRotationMatrix2D((side / 2, side / 2), 0, random.uniform(0.8, 1.3))
        picture = moved(picture, zoom)
    if random.random() < 0.2:
        small = int(random.integers(28, 96))
        picture = cv2.resize(cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA), (side,) * 2)
    if random.random() < 0.6:
        picture = degrade(picture, random)
    if random.random() < 0.1:
        picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    if random.random() < 0.25:  # a hand, a microphone, the picture's end
        picture = picture.copy()
        left, top = random.integers(0, side, 2)
        width, height = random.integers(side // 8, side // 2, 2)
        picture[top : top + height, left : left + width] = random.integers(0, 256, 3)
    return picture


def _age_label(age: int) -> np.ndarray:
    """(91,): a bell around the age, wider for the old, whose years are harder to tell."""
    spread = 1.0 + 0.06 * age
    bell = np.exp(-0.5 * ((AGES - min(age, int(AGES[-1]))) / spread) ** 2)
    return (bell / bell.sum()).astype(np.float32)


def _sex_known(face: Face) -> float:
    if face.female is None:
        return 0.0
    return 0.3 if face.age is not None and face.age < KID_SEX_FROM else 1.0


def loss_of(network, batch: Batch):
    """-> the sum, and (sex, age, groups, glasses) as they enter it, 0-d tensors."""
    import torch
    from torch.nn import functional

    x, ages, female, glasses, years, age_weight, sex_weight, glasses_weight = (
        torch.from_numpy(getattr(batch, field.name)) for field in fields(Batch)
    )
    sex_logit, age_logits, glasses_logit = network(x.to(memory_format=torch.channels_last))
    sex_each = functional.binary_cross_entropy_with_logits(sex_logit[:, 0], female, reduction="none")
    glasses_each = functional.binary_cross_entropy_with_logits(glasses_logit[:, 0], glasses, reduction="none")
    age_each = functional.cross_entropy(age_logits, ages, reduction="none")
    probability = age_logits.softmax(dim=1)
    known = torch.from_numpy(AGES)
    group_each = 0
    for band in AGE_BANDS:
        first, last = band
        share = probability[:, (known >= first) & (known <= last)].sum(dim=1).clamp(1e-4, 1 - 1e-4)
        inside = ((years >= first) & (years <= last)).float()
        group_each = group_each + functional.binary_cross_entropy(share, inside, reduction="none")
    parts = (
        _mean(sex_each, sex_weight),
        0.4 * _mean(age_each, age_weight),
        _mean(group_each, age_weight),
        0.5 * _mean(glasses_each, glasses_weight),
    )
    return sum(parts), parts


def _mean(each, weight):
    return (each * weight).sum() / weight.sum().clamp(min=1)


def train(faces: Sequence[Face], steps: int, seed: int = 0, keep=lambda network: None):
    """Learn for `steps` batches; returns the averaged (EMA) network, and gives it to `keep` now and then.

    DataError for fewer faces than a batch.
    """
    import torch

    if len(faces) < BATCH:
        raise DataError(f"{len(faces)} faces are too few to learn from; expected at least {BATCH}")
    torch.manual_seed(seed)
    network = build().train().to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998), use_buffers=True
    )
    head = [*network.mix.parameters(), *network.out.parameters()]
    body = [*network.stem.parameters(), *network.blocks.parameters()]
    optimizer = torch.optim.AdamW([{"params": body}, {"params": head}], weight_decay=1e-2)
    began, shown = time.monotonic(), []
    for step, batch in zip(range(1, steps + 1), batches(faces, seed), strict=False):
        rate = min(1.0, step / 100) * (0.5 + 0.5 * np.cos(np.pi * step / steps)) + 0.01
        for group, peak in zip(optimizer.param_groups, (7e-4, 2e-3), strict=True):
            group["lr"] = rate * peak
        loss, parts = loss_of(network, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        average.update_parameters(network)
        shown.append([float(part.detach()) for part in parts])
        if step % 100 == 0 or step == steps:
            sex, age, groups, glasses = np.mean(shown, axis=0)
            print(
                f"step {step} of {steps}, {time.monotonic() - began:.0f} s: sex {sex:.3f} age {age:.3f} "
                f"groups {groups:.3f} glasses {glasses:.3f}",
                file=sys.stderr,
            )
            shown.clear()
        if step % KEPT_EVERY == 0 and step < steps:
            keep(average.module.eval())
    return average.module.eval()


def batches(faces: Sequence[Face], seed: int) -> Iterator[Batch]:
    """Batches without end, the same ones for the same seed; they are made beside the learning."""
    weight = _balance(faces)

    def made(number: int) -> Batch:
        random = np.random.default_rng((seed, number))
        return batch_of([faces[pick] for pick in random.choice(len(faces), BATCH, p=weight)], random)

    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(made, number) for number in range(AHEAD)]
        for number in count(AHEAD):
            yield waiting.pop(0).result()
            waiting.append(pool.submit(made, number))


def _balance(faces: Sequence[Face]) -> np.ndarray:
    """Chance of each face: every eight years of age and both sexes count alike, softened by a root; those of whom
    somebody said whether they wear glasses come more often, because they are few."""
    keys = [(-1 if face.age is None else face.age // 8, face.female) for face in faces]
    counts = Counter(keys)
    often = [1 if face.glasses is None else 3 for face in faces]
    weight = np.array([counts[key] ** -0.5 * times for key, times in zip(keys, often, strict=True)])
    return weight / weight.sum()


def export(network, out: Path) -> None:
    """Write the network as ONNX: crop (1, 3, 96, 96) -> female (1, 1), ages (1, 91), glasses (1, 1), probabilities."""
    from torch import nn

    class Probabilities(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            female, ages, glasses = self.network(x)
            return female.sigmoid(), ages.softmax(dim=1), glasses.sigmoid()

    small.export(Probabilities().eval(), out, (1, 3, SIDE, SIDE), "crop", ("female", "ages", "glasses"))


def restored(file: Path):
    """The network of a file that `export` wrote, in its evaluating state. TrainingError: the file holds another one.

    The export folded batch normalization into the convolutions before it; here it adds their bias and no more.
    """
    import onnx
    import torch
    from google.protobuf.message import DecodeError
    from torch import nn

    network = build().eval()
    convolutions, norms = (
        [module for module in network.modules() if isinstance(module, kind)] for kind in (nn.Conv2d, nn.BatchNorm2d)
    )
    try:
        graph = onnx.load(file).graph
        given = {tensor.name: torch.tensor(onnx.numpy_helper.to_array(tensor)).float() for tensor in graph.initializer}
        halves = [node for node in graph.node if node.op_type == "Cast" and node.input[0] in given]
        given |= {node.output[0]: given[node.input[0]] for node in halves}
        layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
        *folded, (weight, bias) = [[given[name] for name in node.input[1:]] for node in layers]
        for (kernel, shift), convolution, norm in zip(folded, convolutions, norms, strict=True):
            convolution.load_state_dict({"weight": kernel})
            one, none = torch.ones_like(shift), torch.zeros_like(shift)
            told = {"weight": one, "bias": shift, "running_mean": none, "running_var": one - norm.eps}
            norm.load_state_dict(told, strict=False)
        network.out.load_state_dict({"weight": weight, "bias": bias})
    except (OSError, ValueError, KeyError, RuntimeError, DecodeError) as error:
        raise TrainingError(f"{file}: holds no network that `python -m trainer.groups train` made") from error
    return network


def arguments() -> argparse.ArgumentParser:
    """The command's options."""
    parser = cli.parser(
        "python -m trainer.groups",
        "Train the network that tells age, sex and glasses, from which faces.groups tells the groups apart.",
        "python -m trainer.groups train --data all_age_faces --train-only more_faces/utkface --out age_sex.onnx",
    )
    parser.add_argument("command", choices=("train",))
    parser.add_argument(
        "--data",
        nargs="+",
        type=Path,
        default=[],
        metavar="TABLE",
        help="tables, or folders with a table.csv; 400 pictures of each are held out, at most a fifth",
    )
    parser.add_argument("--train-only", nargs="+", type=Path, default=[], metavar="TABLE", help="nothing is held out")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.onnx", help="the network")
    parser.add_argument("--steps", type=int, default=12_000, metavar="N", help=f"batches of {BATCH} (default: 12000)")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(_run, arguments(), argv)


def _run(options) -> None:
    if not options.data:
        raise UsageError("--data: name at least one folder with a table.csv")
    if options.steps < 1:
        raise UsageError(f"--steps: expected at least 1, got {options.steps}")
    cli.check_place("--out", options.out)
    faces = load(people_of(options.data, options.train_only))
    export(train(faces, options.steps, options.seed, lambda network: export(network, options.out)), options.out)


if __name__ == "__main__":
    sys.exit(main())
