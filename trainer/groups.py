"""`python -m trainer.groups train --data TABLE_DIR --out FILE.onnx`: the small age and sex network of faces/groups.py.

    table.csv + images/ -> faces found and aligned as in live video -> first half of EfficientNet-Lite0 -> age, sex

A table has `file`, `age` and `sex` (F/M). The 400 pictures of a table with the smallest sha256 of their name (of a
table of less than 2000, a fifth) never train, and `evaluate` measures on them; tables named `--train-only` train with
all.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from faces.align import align_matrix, crop
from faces.groups import AGES, ELDERLY_ABOVE, KIDS_BELOW, SIDE, Look, group_of, network_input, shares
from livetoon import cli
from livetoon.errors import DataError, UsageError
from livetoon.files import replacing
from trainer.augment import degrade, random_motion
from trainer.augment import move as moved
from trainer.data import held_out, read, read_table

KEPT_SIDE = 160  # px, side of the aligned crops that wait in memory
BLOCKS = 8  # blocks of EfficientNet-Lite0 that are used: 80 channels at a sixteenth of the size
BATCH = 32  # faces a step
GROUPS = ("young-women", "young-men", "kids", "elderly")  # what `evaluate` counts


@dataclass(frozen=True)
class Face:
    """crop: (160, 160, 3) uint8 RGB, aligned; age in years; female: 1.0 or 0.0."""

    crop: np.ndarray
    age: int
    female: float


def load(table: Path, held: bool | None) -> list[Face]:
    """Faces of the folder `table` (table.csv and pictures): held: True = only the held-out ones, False = only the
    others, None = all. Pictures in which no face is found are left out.

    DataError when the table is missing or cannot be used.
    """
    rows = read_table(table / "table.csv", ())
    unseen = held_out([row["file"] for row in rows]) if held is not None else set()
    wanted = [row for row in rows if held is None or (row["file"] in unseen) == held]
    aligner = Aligner()
    faces = []
    for row in wanted:
        aligned = aligner(read(table / row["file"]))
        if aligned is not None:
            faces.append(Face(aligned, row["age"], float(row["sex"] == "F")))
    print(f"{table}: {len(faces)} faces in {len(wanted)} pictures", file=sys.stderr)
    return faces


class Aligner:
    """Cuts the largest face out of a picture as live video does."""

    def __init__(self):
        from faces.track import Finders

        self._finders = Finders()

    def __call__(self, picture: np.ndarray) -> np.ndarray | None:
        """(H, W, 3) uint8 RGB -> (160, 160, 3) uint8 RGB, or None where no face is found."""
        from faces.landmarks import five

        # A face that fills the picture is found better with room around it.
        margin = max(picture.shape[:2]) // 3
        roomy = cv2.copyMakeBorder(picture, *[margin] * 4, cv2.BORDER_REPLICATE)
        found = self._finders.wide(roomy) or self._finders.near(roomy)
        if not found:
            return None
        largest = max(found, key=lambda detection: float(detection.box[2] - detection.box[0]))
        mesh = self._finders.fit_detection(roomy, largest)
        if mesh.presence < 0.5:
            return None
        return crop(roomy, align_matrix(five(mesh.points), KEPT_SIDE), KEPT_SIDE)


def build():
    """The network: x (N, 3, 80, 80) float32 RGB in [-1, 1] -> female (N, 1) and ages (N, 91), as logits."""
    from torch import nn

    from trainer.features import efficientnet_lite0

    class AgeSex(nn.Module):
        def __init__(self):
            super().__init__()
            whole = efficientnet_lite0()
            self.stem = nn.Sequential(whole._conv_stem, whole._bn0, nn.ReLU6())
            self.blocks = nn.Sequential(*whole._blocks[:BLOCKS])
            self.mix = nn.Sequential(nn.Conv2d(80, 192, 1, bias=False), nn.BatchNorm2d(192), nn.ReLU())
            self.drop = nn.Dropout(0.3)
            self.out = nn.Linear(192, 1 + len(AGES))

        def forward(self, x):
            pooled = self.mix(self.blocks(self.stem(x))).mean(dim=(2, 3))
            y = self.out(self.drop(pooled))
            return y[:, :1], y[:, 1:]

    return AgeSex()


def batch_of(faces: list[Face], picks: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, ...]:
    """x (N, 3, 80, 80), female (N, 1), ages (N, 91): augmented pictures and soft labels, float32."""
    pictures, ages = [], []
    for pick in picks:
        face = faces[pick]
        matrix = random_motion(KEPT_SIDE, random)
        picture = moved(face.crop, matrix)
        if random.random() < 0.3:  # a face far from the camera
            small = int(random.integers(28, 96))
            picture = cv2.resize(cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA), (KEPT_SIDE,) * 2)
        if random.random() < 0.6:
            picture = degrade(picture, random)
        if random.random() < 0.1:
            picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
        pictures.append(network_input(picture))
        ages.append(_age_label(face.age))
    female = np.array([[faces[pick].female] for pick in picks], np.float32)
    # A label is wrong now and then; babies' sex is a guess.
    female = female * 0.96 + 0.02
    return np.stack(pictures), female, np.stack(ages)


def _age_label(age: int) -> np.ndarray:
    """(91,): a bell around the age, wider for the old, whose years are harder to tell."""
    spread = 1.0 + 0.06 * age
    bell = np.exp(-0.5 * ((AGES - min(age, int(AGES[-1]))) / spread) ** 2)
    return (bell / bell.sum()).astype(np.float32)


def train(faces: list[Face], minutes: float, seed: int = 0):
    """Train for so many minutes of wall time; returns the averaged (EMA) network. The rate falls with the time."""
    import torch
    from torch.nn import functional

    if len(faces) < BATCH:
        raise DataError(f"{len(faces)} faces are too few to learn from; expected at least {BATCH}")
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    network = build().train().to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998), use_buffers=True
    )
    head = [*network.mix.parameters(), *network.out.parameters()]
    body = [*network.stem.parameters(), *network.blocks.parameters()]
    optimizer = torch.optim.AdamW([{"params": body}, {"params": head}], weight_decay=1e-2)
    weight = _balance(faces)
    start = last = time.monotonic()
    step, shown = 0, []
    while (done := (time.monotonic() - start) / (minutes * 60)) < 1:
        rate = min(1.0, step / 100) * (0.5 + 0.5 * np.cos(np.pi * done)) + 0.01
        for group, peak in zip(optimizer.param_groups, (7e-4, 2e-3), strict=True):
            group["lr"] = rate * peak
        picks = random.choice(len(faces), BATCH, p=weight)
        x, female, ages = (torch.from_numpy(array) for array in batch_of(faces, picks, random))
        sex_logit, age_logits = network(x)
        known = torch.tensor([[1.0 if faces[pick].age >= 4 else 0.3] for pick in picks])
        sex_loss = functional.binary_cross_entropy_with_logits(sex_logit, female, weight=known)
        age_loss = functional.cross_entropy(age_logits, ages)
        kid, old = _tails(age_logits)
        truth = torch.tensor([[faces[pick].age < KIDS_BELOW, faces[pick].age > ELDERLY_ABOVE] for pick in picks])
        tail_loss = functional.binary_cross_entropy(torch.stack([kid, old], 1).clamp(1e-4, 1 - 1e-4), truth.float())
        loss = sex_loss + 0.4 * age_loss + tail_loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        average.update_parameters(network)
        step += 1
        shown.append((float(sex_loss), float(age_loss), float(tail_loss)))
        if time.monotonic() - last > 20:
            last = time.monotonic()
            sex, age, tail = np.mean(shown, axis=0)
            print(f"{done:4.0%} step {step} sex {sex:.3f} age {age:.3f} groups {tail:.3f}", file=sys.stderr)
            shown.clear()
    return average.module.eval()


def _tails(age_logits):
    """Probability under KIDS_BELOW and over ELDERLY_ABOVE, (N,) each."""
    ages = age_logits.softmax(dim=1)
    return ages[:, AGES < KIDS_BELOW].sum(dim=1), ages[:, AGES > ELDERLY_ABOVE].sum(dim=1)


def _balance(faces: list[Face]) -> np.ndarray:
    """Chance of each face: every decade of age and both sexes count alike, softened by a root."""
    keys = [(face.age // 10, face.female) for face in faces]
    counts = {key: keys.count(key) for key in set(keys)}
    weight = np.array([counts[key] ** -0.5 for key in keys])
    return weight / weight.sum()


def export(network, out: Path) -> None:
    """Write the network as float16 ONNX: x (1, 3, 80, 80) -> female (1, 1) and ages (1, 91) as probabilities."""
    import onnx
    import torch
    from torch import nn

    class Probabilities(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            female, ages = self.network(x)
            return female.sigmoid(), ages.softmax(dim=1)

    with replacing(out) as temporary:
        torch.onnx.export(
            Probabilities().eval(),
            (torch.zeros(1, 3, SIDE, SIDE),),
            temporary,
            input_names=["crop"],
            output_names=["female", "ages"],
            opset_version=17,
            dynamo=False,
        )
        onnx.save(_half(onnx.load(temporary)), temporary)


def _half(model):
    """Weights of at least 64 values stored as float16 and cast back in the graph: half the file, same arithmetic."""
    import onnx
    from onnx import helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < 64:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name + "_half"))
        casts.append(helper.make_node("Cast", [name + "_half"], [name], to=onnx.TensorProto.FLOAT))
    for index, node in enumerate(casts):
        model.graph.node.insert(index, node)
    onnx.checker.check_model(model)
    return model


def evaluate(file: Path, faces: list[Face]) -> dict:
    """Figures of an exported network: confusion by group (rows: truth), accuracy of sex from 4 years on, age error."""
    from faces.nets import open_net

    if not faces:
        raise DataError("no faces to measure on: a table holds out a fifth of its rows, at most 400")
    net = open_net(file)
    table = np.zeros((len(GROUPS), len(GROUPS)), int)
    sex, error = [], []
    for face in faces:
        found = net(network_input(face.crop)[None])
        look = Look(float(found["female"].ravel()[0]), found["ages"].ravel().copy())
        truth = group_of(face.age, face.female > 0.5)
        if truth is not None:
            table[GROUPS.index(truth), int(shares(look, GROUPS).argmax())] += 1
        if face.age >= 4:
            sex.append((look.female > 0.5) == (face.female > 0.5))
        error.append(abs(look.age - face.age))
    return {
        "groups": GROUPS,
        "confusion": table.tolist(),
        "accuracy": round(float(np.trace(table) / table.sum()), 4),
        "sex_accuracy": round(float(np.mean(sex)), 4),
        "age_error_years": round(float(np.mean(error)), 2),
        "faces": len(faces),
    }


def arguments() -> argparse.ArgumentParser:
    """The command's options."""
    parser = cli.parser(
        "python -m trainer.groups",
        "Train or evaluate the network that tells the groups apart.",
        "python -m trainer.groups train --data all_age_faces --train-only more_faces/utkface --out age_sex.onnx",
    )
    parser.add_argument("command", choices=("train", "evaluate"))
    parser.add_argument(
        "--data",
        nargs="+",
        type=Path,
        default=[],
        metavar="DIR",
        help="folders with table.csv; 400 pictures held out, at most a fifth",
    )
    parser.add_argument(
        "--train-only", nargs="+", type=Path, default=[], metavar="DIR", help="folders with table.csv; all train"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.onnx", help="the network")
    parser.add_argument("--minutes", type=float, default=25, help="wall time of training (default: 25)")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(_run, arguments(), argv)


def _run(options) -> None:
    if not options.data:
        raise UsageError("--data: name at least one folder with a table.csv")
    if options.command == "train":
        if not options.minutes > 0:
            raise UsageError(f"--minutes: expected more than 0, got {options.minutes}")
        if not options.out.parent.is_dir():
            raise UsageError(f"--out: the folder {options.out.parent} does not exist; make it first")
        faces = [face for table in options.data for face in load(table, held=False)]
        faces += [face for table in options.train_only for face in load(table, held=None)]
        export(train(faces, options.minutes, options.seed), options.out)
    for table in options.data:
        print(json.dumps({"table": table.name, **evaluate(options.out, load(table, held=True))}))


if __name__ == "__main__":
    sys.exit(main())
