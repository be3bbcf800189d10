"""A small generator with random weights and statistics, exported once; caches in a temporary folder."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from engine.export import export
from trainer.networks import build

SIZE = 64
GROUPS = ("adults", "kids")


def random_generator(name: str = "live", seed: int = 0, **settings) -> nn.Module:
    """A network whose batch statistics are as far from their defaults as trained ones are."""
    torch.manual_seed(seed)
    generator = build(name, **settings)
    for module in generator.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return generator.eval()


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch) -> Path:
    """Every test has a cache folder of its own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("LIVETOON_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def generator() -> nn.Module:
    return random_generator("live", groups=list(GROUPS), widths=(8, 16, 16, 32), blocks=(1, 1, 1))


def pictures(count: int) -> np.ndarray:
    """(count, S, S, 3) uint8 RGB: smooth colours, no two the same."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)
    return np.stack([cv2.resize(each, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) for each in coarse])


@pytest.fixture(scope="session")
def make_generator() -> Callable[..., nn.Module]:
    """`random_generator(name, seed, **settings)`, for networks other than `generator`."""
    return random_generator


@pytest.fixture(scope="session")
def exported(generator, tmp_path_factory) -> Path:
    """The model folder of `generator`; tests that alter it take `model` instead."""
    folder = tmp_path_factory.mktemp("models") / "small"
    export(generator, folder, size=SIZE, calibration=pictures(12), report=lambda line: None)
    return folder


@pytest.fixture(scope="session")
def drawing(tmp_path_factory) -> Path:
    """The model folder of a small photo2cartoon, which draws without alpha; a minute to export."""
    folder = tmp_path_factory.mktemp("models") / "drawing"
    generator = random_generator("photo2cartoon", groups=["one"], width=8, size=SIZE)
    export(generator, folder, size=SIZE, report=lambda line: None)
    return folder


@pytest.fixture
def model(exported, tmp_path) -> Path:
    """A copy of the model folder that a test may spoil."""
    return Path(shutil.copytree(exported, tmp_path / "small"))


@pytest.fixture(scope="session")
def crops() -> torch.Tensor:
    """(3, 3, S, S) float32 in [-1, 1]: exactly what uint8 pictures hold."""
    bytes_ = torch.randint(0, 256, (3, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(1))
    return bytes_.float() / 127.5 - 1
