"""What the trainer's tests share: a tiny data folder, presets and learners that learn in tenths of a second."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from faces.align import align_matrix, crop
from faces.still import FaceFinder
from trainer.collect import Collected, Unpaired
from trainer.identity import FaceIdentity
from trainer.networks import build
from trainer.presets import Translation, resolve
from trainer.sampling import decoded_size
from trainer.translation import TranslationLearner

os.environ["OMP_NUM_THREADS"] = "1"  # of the programs that tests start: such maps are computed sooner than handed out
torch.set_num_threads(1)

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
GROUPS = "many,few,other"


@pytest.fixture(scope="session")
def portrait_crop() -> np.ndarray:
    """(256, 256, 3) uint8 RGB: the astronaut of scikit-image (NASA, public domain)."""
    picture = data.astronaut()
    return crop(picture, align_matrix(FaceFinder("photo")(picture).points))


def draw(random: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    photo = np.full((size, size, 3), 255, np.uint8)
    cartoon = photo.copy()
    centre = tuple(int(v) for v in random.integers(size // 3, size * 2 // 3, 2))
    radius = size // 4
    cv2.circle(photo, centre, radius, random.integers(40, 200, 3).tolist(), -1)
    cv2.circle(cartoon, centre, radius, (240, 230, 235), -1)
    cv2.circle(cartoon, centre, radius, (30, 30, 40), 2)
    return photo, cartoon


@pytest.fixture(scope="session")
def pairs(tmp_path_factory) -> Path:
    """DATA/<group>/photo and cartoon, 64 px, two groups: `many` (6 pairs) and `few` (2 pairs)."""
    root = tmp_path_factory.mktemp("pairs")
    random = np.random.default_rng(3)
    for group, count in (("many", 6), ("few", 2)):
        for side in ("photo", "cartoon"):
            (root / group / side).mkdir(parents=True)
        for index in range(count):
            photo, cartoon = draw(random, 64)
            cv2.imwrite(str(root / group / "photo" / f"{index}.png"), photo)
            cv2.imwrite(str(root / group / "cartoon" / f"{index}.png"), cartoon)
    return root


@pytest.fixture(scope="session")
def reference() -> Path:
    """The reference numbers of the public systems; the tests that need them are skipped where they are not."""
    if not REFERENCE.is_dir():
        pytest.skip(f"{REFERENCE} is not there")
    return REFERENCE


def tiny_overrides(name: str, hourglasses: bool = False) -> list[str]:
    """What `--set` makes of a preset to learn in tenths of a second. Its hourglasses, which alone take seconds, give
    way to U-GAT-IT's generator unless they are asked for: what a preset is does not lie in them."""
    preset = resolve(name, [])
    small = ["width=4", "judge_width=4", "judge_layers=5,4", "keypoint_epochs=1,1", "keypoint_every=2"]
    small += [f"size={34 if preset.keypoint_pads else 32}", "stage1_steps=4", "validate_every=0"]
    small += ["stage2_steps=4"] if preset.stage2_steps else []
    if preset.network != "photo2cartoon":
        return [*small, "blocks=1"]
    if hourglasses:
        return small
    own = ["own=stem,out"] if preset.own else []
    return [*small, "network=ugatit", "blocks=1", *own]


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Translation]:
    """tiny(name, *overrides, hourglasses=False): a preset of three groups at such a size, without face ID."""

    def make(name: str, *overrides: str, hourglasses: bool = False) -> Translation:
        return resolve(name, [*tiny_overrides(name, hourglasses), "face_id=0", *overrides], groups=GROUPS)

    return make


def noise(preset: Translation, seed: int = 0, changed: Sequence[str] = ()) -> dict[str, Unpaired]:
    """Two photos, drawings and sets of points for each group; those of the groups `changed` are others."""
    side, found = decoded_size(preset), {}
    for number, group in enumerate(preset.groups):
        random = np.random.default_rng((seed, number, group in changed))
        photos, cartoons = random.integers(0, 256, (2, 2, side, side, 3), dtype=np.uint8)
        points = random.uniform(0, preset.size, (2, 10)).astype(np.float32)
        found[group] = Unpaired(list(photos), list(cartoons), list(points))
    return found


@pytest.fixture(scope="session")
def learner() -> Callable[..., TranslationLearner]:
    """learner(preset, changed=(), face_id=None): it learns from noise, the same whenever the preset is."""

    def make(preset: Translation, changed: Sequence[str] = (), face_id=None) -> TranslationLearner:
        torch.manual_seed(preset.seed)
        data = noise(preset, changed=changed)
        return TranslationLearner(preset, Collected(data, data), face_id)

    return make


@pytest.fixture(scope="session")
def face_id() -> FaceIdentity:
    """A face-ID network that knows nobody, of 32 px faces."""
    torch.manual_seed(1)
    small = build("mobilefacenet", dimensions=8, width=4, blocks=(1, 1, 1), size=32)
    return FaceIdentity(small, "published")
