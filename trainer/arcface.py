"""Learning a face-ID network: ArcFace (arXiv 1801.07698) over people, saved so that a run goes on bit for bit.

OUT.safetensors              the network, as trainer.identity_files reads it
OUT.learning/state.safetensors   the same, the persons' centres and the optimizer; the step in its metadata
"""

import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from livetoon.errors import ModelError, TrainingError, UsageError
from livetoon.files import replacing
from trainer.identity import cut_face
from trainer.identity_files import save_face_id
from trainer.lock import alone
from trainer.networks.mobilefacenet import MobileFaceNet
from trainer.people import SLACK, Faces, People, Recipe, find
from trainer.stopping import asked_to_stop

VERSION = 1
AHEAD = 3  # batches made while one is learned
SAVE_EVERY_S = 240  # what a crash may cost
TELL_EVERY_S = 10
MOST_PAIRS = 20_000  # of different people, to measure by
HEAD_PX = 256  # side of a head from which the face is cut


def arcface_loss(vectors: Tensor, centres: Tensor, labels: Tensor, margin: float = 0.5, scale: float = 64.0) -> Tensor:
    """Equation 3: softmax cross-entropy over scale * cos(angle), the right person's angle widened by `margin`.

    vectors: (N, D) unit; centres: (people, D), any length; labels: (N,) int64.
    Where angle + margin passes pi, cos(angle + margin) would fall again, and the gradient with it; there the straight
    line cos(angle) - margin * sin(margin) goes on, as the authors' programs do without "easy margin".
    """
    cosines = functional.linear(vectors, functional.normalize(centres))
    own = cosines.gather(1, labels[:, None])
    sines = (1 - own.square()).clamp_min(1e-7).sqrt()  # at 0 the root's gradient would be infinite
    widened = own * math.cos(margin) - sines * math.sin(margin)
    widened = torch.where(own > math.cos(math.pi - margin), widened, own - margin * math.sin(margin))
    return functional.cross_entropy(cosines.scatter(1, labels[:, None], widened) * scale, labels)


class Learner:
    """Network, centres and optimizer: everything that a step changes."""

    def __init__(self, recipe: Recipe, people: int, device: str = "cpu"):
        torch.manual_seed(recipe.seed)
        self.recipe, self.device = recipe, device
        self.network = MobileFaceNet(recipe.dimensions, recipe.width, size=recipe.size).to(device)
        self.centres = nn.Parameter((torch.randn(people, recipe.dimensions) * 0.01).to(device))
        parameters = [*self.network.parameters(), self.centres]
        # Norms, slopes and biases are not pulled to zero: that would not make the network simpler, only weaker.
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [each for each in parameters if each.ndim > 1], "weight_decay": recipe.decay},
                {"params": [each for each in parameters if each.ndim == 1], "weight_decay": 0.0},
            ],
            lr=recipe.rate,
        )

    def step(self, number: int, faces: np.ndarray, labels: np.ndarray) -> float:
        """One step on a batch; returns its loss. TrainingError, with nothing changed, when it is no number."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate * _share(number, self.recipe.steps)
        self.network.train()
        vectors = functional.normalize(self.network(torch.from_numpy(faces).to(self.device)))
        targets = torch.from_numpy(labels).to(self.device)
        loss = arcface_loss(vectors, self.centres, targets, self.recipe.margin, self.recipe.scale)
        if not math.isfinite(value := loss.item()):
            raise TrainingError(
                f"step {number}: the ArcFace loss is {value}; what was saved is kept, try a lower --rate"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return value

    @torch.no_grad()
    def vectors(self, faces: Faces) -> Tensor:
        """(N, D) unit vectors of all pictures, unaltered."""
        self.network.eval()
        parts = []
        for first in range(0, len(faces.paths), self.recipe.batch):
            plain = faces.plain(first, min(first + self.recipe.batch, len(faces.paths)))
            parts.append(functional.normalize(self.network(torch.from_numpy(plain).to(self.device))).cpu())
        return torch.cat(parts)


def _share(step: int, steps: int) -> float:
    """Of the highest rate: a straight rise over a tenth of the steps (1000 at most), then half a cosine to zero."""
    rise = min(1000, max(1, steps // 10))
    if step < rise:
        return (step + 1) / rise
    return 0.5 + 0.5 * math.cos(math.pi * (step - rise) / max(1, steps - rise))


def verification(vectors: Tensor, labels: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Are two pictures of one person? All pairs of one person and as many of different people, told by their cosine.

    accuracy: at the best threshold (0.5 is chance); equal_error_rate: where as many pairs of one person are refused
    as of different people are accepted; pairs: how many were told apart.
    """
    first, second = np.triu_indices(len(labels), k=1)
    same = labels[first] == labels[second]
    random = np.random.default_rng((seed, 3))
    count = min(int(same.sum()), int((~same).sum()), MOST_PAIRS)
    chosen = np.concatenate([random.permutation(np.flatnonzero(kind))[:count] for kind in (same, ~same)])
    cosines = (vectors[first[chosen]] * vectors[second[chosen]]).sum(dim=1).numpy()
    same = same[chosen]
    # Thresholds between neighbours only: equal cosines cannot be told apart.
    thresholds = np.append(np.unique(cosines), np.inf)
    own, others = np.sort(cosines[same]), np.sort(cosines[~same])
    refused = np.searchsorted(own, thresholds) / count
    accepted = 1 - np.searchsorted(others, thresholds) / count
    crossing = np.abs(refused - accepted).argmin()
    return {
        "accuracy": float(1 - ((refused + accepted) / 2).min()),
        "equal_error_rate": float((refused[crossing] + accepted[crossing]) / 2),
        "pairs": 2 * count,
    }


def learn(
    folder: Path,
    out: Path,
    recipe: Recipe,
    resume: bool = False,
    minutes: float | None = None,
    device: str = "cpu",
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, float]:
    """Learn from IN/<person>/* and write `out`; returns the step, its loss and the figures of the held-out pictures.

    Stops at the recipe's last step, after `minutes` or at Ctrl-C, saved each time (a second Ctrl-C ends at once);
    `resume` goes on.
    """
    people = find(folder, recipe.hold_out)
    place = out.with_suffix(".learning")
    state = place / "state.safetensors"
    if state.exists() and not resume:
        raise UsageError(f"--out {out}: its learning has begun; add --resume to go on, or name another file")
    if resume and not state.exists():
        raise TrainingError(f"{state}: nothing to resume there; leave --resume out to start")
    place.mkdir(parents=True, exist_ok=True)
    with alone(place), asked_to_stop(lambda: _kept(state)) as stop:
        learner = Learner(recipe, len(people.names), device)
        first = _restore(state, learner, people) if resume else 0
        cut = _cutter(recipe) if recipe.pictures == "heads" else None
        faces = Faces(people.learned, recipe.size, recipe.seed, cut)
        print(
            f"{len(people.names)} people, {len(people.learned)} pictures to learn from, {len(people.held)} held out",
            file=sys.stderr,
        )
        until = clock() + minutes * 60 if minutes else math.inf
        step, loss = _steps(learner, faces, people, state, out, first, until, stop, clock)
        figures = {"step": step} | ({} if math.isnan(loss) else {"loss": loss})  # a finished run has no step to go
        if people.held:
            held = Faces(people.held, recipe.size, recipe.seed, cut)
            figures |= verification(learner.vectors(held), held.labels, recipe.seed)
        if step < recipe.steps:
            print("stopped and saved; the same command with --resume goes on", file=sys.stderr)
    return figures


def _steps(learner, faces, people, state, out, first, until, stop, clock) -> tuple[int, float]:
    recipe = learner.recipe
    begun = saved = told = clock()
    losses: list[float] = []
    step, loss = first, math.nan
    with ThreadPoolExecutor(AHEAD) as pool:
        ready = {n: pool.submit(faces.batch, n, recipe.batch) for n in range(first, min(first + AHEAD, recipe.steps))}
        while step < recipe.steps and not stop and clock() < until:
            if step + AHEAD < recipe.steps:
                ready[step + AHEAD] = pool.submit(faces.batch, step + AHEAD, recipe.batch)
            loss = learner.step(step, *ready.pop(step).result())
            losses.append(loss)
            step += 1
            now = clock()
            if now - told > TELL_EVERY_S or step == recipe.steps:
                pace = max(now - begun, 1e-9) / (step - first)
                print(
                    f"step {step}/{recipe.steps}  loss {sum(losses) / len(losses):.4f}  "
                    f"{recipe.batch / pace:.0f} pictures/s  {pace * (recipe.steps - step) / 60:.0f} min left",
                    file=sys.stderr,
                )
                told, losses = now, []
            if now - saved > SAVE_EVERY_S:
                _save(state, learner, people, step)
                save_face_id(out, learner.network, recipe.crop)
                saved = clock()
    _save(state, learner, people, step)
    save_face_id(out, learner.network, recipe.crop)
    return step, loss


def _cutter(recipe: Recipe) -> Callable[[np.ndarray], np.ndarray]:
    """Head of any size -> face, (S, S, 3) uint8 both."""

    def cut(head: np.ndarray) -> np.ndarray:
        square = cv2.resize(head, (HEAD_PX, HEAD_PX), interpolation=cv2.INTER_AREA)
        pictures = torch.from_numpy(square.astype(np.float32)).permute(2, 0, 1)[None]
        face = cut_face(pictures, recipe.crop, round(recipe.size * SLACK))
        return face[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()

    return cut


def _kept(path: Path) -> str:
    """What is saved of the learning, as the end of a sentence."""
    if not path.exists():
        return "nothing was saved yet"
    with safe_open(path, "pt") as file:
        step = json.loads(file.metadata()["state"])["step"]
    return f"saved last: step {step}; the same command with --resume goes on from there"


def _save(path: Path, learner: Learner, people: People, step: int) -> None:
    """One file, so that no kill can leave half of a state."""
    state = learner.optimizer.state_dict()
    tensors = {f"network.{key}": value for key, value in learner.network.state_dict().items()}
    tensors["centres"] = learner.centres.detach()
    for index, slots in state["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in slots.items()}
    metadata = {
        "version": VERSION,
        "step": step,
        "recipe": dataclasses.asdict(learner.recipe),
        "people": people.fingerprint(),
        "optimizer": state["param_groups"],
    }
    try:
        with replacing(path) as temporary:
            whole = {key: value.cpu().contiguous() for key, value in tensors.items()}
            save_file(whole, temporary, {"state": json.dumps(metadata)})
    except SafetensorError as error:
        raise ModelError(f"{path}: cannot be saved, what was saved before is kept ({error})") from None


def _restore(path: Path, learner: Learner, people: People) -> int:
    """Fill the learner; returns the step to go on with. The recipe and the pictures must be those of the start."""
    try:
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            state = json.loads((file.metadata() or {})["state"])
        version, step, recipe, groups = (state[name] for name in ("version", "step", "recipe", "optimizer"))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        raise ModelError(f"{path}: not the state of a face-ID network's learning, or broken") from None
    if version != VERSION:
        raise ModelError(f"{path}: version {version}, expected {VERSION}")
    for name, value in dataclasses.asdict(learner.recipe).items():
        if recipe.get(name) != value:
            option = name.replace("_", "-")
            raise UsageError(f"--resume: --{option} is {value}, but it was begun with {recipe.get(name)}")
    if state.get("people") != people.fingerprint():
        raise UsageError("--resume: the people or their pictures are not those it was begun with")
    slots: dict[int, dict[str, Tensor]] = {}
    for key in [key for key in tensors if key.startswith("optimizer.")]:
        _, index, name = key.split(".")
        slots.setdefault(int(index), {})[name] = tensors.pop(key)
    try:
        with torch.no_grad():
            learner.centres.copy_(tensors.pop("centres"))
        learner.network.load_state_dict({key.removeprefix("network."): value for key, value in tensors.items()})
        learner.optimizer.load_state_dict({"state": slots, "param_groups": groups})
    except (KeyError, RuntimeError, ValueError) as error:
        raise ModelError(f"{path}: does not fit the network that it was begun with") from error
    return step
